"""Layer 1: where frames come from and go to."""
