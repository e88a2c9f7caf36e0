"""Name resolution without I/O: hosts table, cache, stub and iterative resolver (RFC 1034 5)."""
