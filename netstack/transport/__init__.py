"""Layer 4: end to end, port to port."""
