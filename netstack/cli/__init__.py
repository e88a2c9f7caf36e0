"""The command line, ``netstack``: what people run. ``main.main`` is its entry."""
