"""Octets to immutable headers and back, one module a protocol; nothing here decides anything."""
