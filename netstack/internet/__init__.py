"""The internet layer: IPv4 and ICMPv4, behind a face that IPv6 fits too.

The module is also callable: ``netstack.internet()`` is the public name of the built-in internet,
and importing this layer puts the module under that name.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType


class _Callable(ModuleType):
    """This module, with the meaning of ``netstack.labs.internet.internet`` when called."""

    def __call__(self, *, seed: int = 0) -> object:
        return import_module("netstack.labs.internet").internet(seed=seed)


sys.modules[__name__].__class__ = _Callable
