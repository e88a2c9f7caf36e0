"""The compiled parts: kernels with the switch that selects them, and modules (``choose``).

``COMPILED`` is decided once: true when every kernel imports and ``NETSTACK_PURE`` is not set.
``NETSTACK_PURE=stack`` leaves them on and concerns the modules only.
``REASON`` says why not. Each kernel has a readable twin in the module that uses it.
"""

from __future__ import annotations

import os

COMPILED = False
REASON = ""

if os.environ.get("NETSTACK_PURE", "") not in ("", "0", "stack"):
    REASON = "NETSTACK_PURE is set"
else:
    try:
        import netstack._ext.checksum
        import netstack._ext.coalesce
        import netstack._ext.io
        import netstack._ext.pulse
        import netstack._ext.segment  # noqa: F401
    except ModuleNotFoundError:
        REASON = "kernels not built"
    except ImportError as error:
        REASON = str(error)
    else:
        COMPILED = True
