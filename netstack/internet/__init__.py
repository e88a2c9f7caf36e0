"""The internet layer: IPv4 and ICMPv4 behind a face that does not name the version."""
