"""Worlds to look at: the built-in internet, later labs of whole systems."""
