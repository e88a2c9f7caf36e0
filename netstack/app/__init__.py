"""Applications: HTTP, DNS servers and the small services of ``Host.serve``."""
