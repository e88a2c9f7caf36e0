"""The authoritative name server: zone files and answers from them, without I/O."""
