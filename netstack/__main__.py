"""``python -m netstack`` is the command ``netstack``."""

from __future__ import annotations

import sys

from netstack.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
