"""The network inside a Python process: a complete TCP/IP stack, Ethernet to HTTP.

Public names are resolved at first use, by string, so that ``import netstack`` costs next to
nothing and a program that needs only the sans-IO ``Stack`` loads no thread, no socket, no clock.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from netstack._version import __version__

if TYPE_CHECKING:
    from netstack.api import Network, fetch, run, tap
    from netstack.app.http.response import Response
    from netstack.core.config import Config
    from netstack.core.errors import NetstackError
    from netstack.device.queue import QueueDevice
    from netstack.host import Host
    from netstack.labs.internet import internet
    from netstack.stack import Stack

_PUBLIC = {
    "Config": "netstack.core.config",
    "Frame": "netstack.device.base",
    "Host": "netstack.host",
    "Network": "netstack.api",
    "QueueDevice": "netstack.device.queue",
    "Response": "netstack.app.http.response",
    "Stack": "netstack.stack",
    "fetch": "netstack.api",
    "internet": "netstack.labs.internet",
    "run": "netstack.api",
    "tap": "netstack.api",
} | dict.fromkeys(
    (
        "BodyTooLarge",
        "Deadlock",
        "DeviceError",
        "Livelock",
        "LocalProtocolError",
        "NameNotFound",
        "NameServerError",
        "NetstackError",
        "ParseError",
        "Refused",
        "RemoteProtocolError",
        "Reset",
        "TimedOut",
        "TooManyRedirects",
        "Unreachable",
    ),
    "netstack.core.errors",
)

__all__ = [
    "Config",
    "Host",
    "NetstackError",
    "Network",
    "QueueDevice",
    "Response",
    "Stack",
    "__version__",
    "fetch",
    "internet",
    "run",
    "tap",
]


def __getattr__(name: str) -> object:
    try:
        module = _PUBLIC[name]
    except KeyError:
        raise AttributeError(f"module 'netstack' has no attribute {name!r}") from None
    value: object = getattr(import_module(module), name)
    # `internet` is also the folder of a layer: once loaded, that module is found first and is
    # callable with the same meaning.
    globals().setdefault(name, value)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
