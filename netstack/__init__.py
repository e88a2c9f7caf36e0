"""The network inside a Python process: a complete TCP/IP stack, Ethernet to HTTP.

Public names are resolved at first use, by string, so that ``import netstack`` costs next to
nothing and a program that needs only the sans-IO ``Stack`` loads no thread, no socket, no clock.
"""

from __future__ import annotations

from importlib import import_module

from netstack._ext import choose
from netstack._version import __version__

TYPE_CHECKING = False  # checkers know the name; `typing` would be most of what the import costs
if TYPE_CHECKING:
    from netstack.api import Link, Network, Recorder, Switch, fetch, run, tap
    from netstack.app.http.headers import Headers
    from netstack.app.http.response import Response, StatusError, Timings
    from netstack.core.config import (
        Config,
        DnsConfig,
        Ipv4Config,
        NeighbourConfig,
        TcpConfig,
        UdpConfig,
    )
    from netstack.core.errors import (
        Aborted,
        BodyTooLarge,
        Deadlock,
        DeviceError,
        Livelock,
        LocalProtocolError,
        NameNotFound,
        NameServerError,
        NetstackError,
        ParseError,
        Refused,
        RemoteProtocolError,
        Reset,
        TimedOut,
        TooManyRedirects,
        Unreachable,
    )
    from netstack.core.trace import TraceEvent
    from netstack.device.base import Device, Frame
    from netstack.device.queue import QueueDevice
    from netstack.driver.base import Task
    from netstack.host import Host, Socket
    from netstack.labs.internet import internet
    from netstack.socket.server import Server
    from netstack.stack import Stack
    from netstack.transport.events import (
        Accepted,
        Closed,
        Connected,
        Event,
        PeerClosed,
        Readable,
        Writable,
    )
    from netstack.transport.tcp.connection import Connection
    from netstack.transport.tcp.forwarder import Incoming
    from netstack.transport.tcp.info import ConnectionInfo
    from netstack.transport.tcp.listener import Listener
    from netstack.transport.udp import Datagrams

choose.install()  # before any module is loaded that may be compiled

# The same once more, for the interpreter: a name and the module that holds it.
_MODULES = {
    "netstack.api": "Link Network Recorder Switch fetch run tap",
    "netstack.app.http.headers": "Headers",
    "netstack.app.http.response": "Response StatusError Timings",
    "netstack.core.config": "Config DnsConfig Ipv4Config NeighbourConfig TcpConfig UdpConfig",
    "netstack.core.errors": (
        "Aborted BodyTooLarge Deadlock DeviceError Livelock LocalProtocolError "
        "NameNotFound NameServerError NetstackError ParseError Refused RemoteProtocolError "
        "Reset TimedOut TooManyRedirects Unreachable"
    ),
    "netstack.core.trace": "TraceEvent",
    "netstack.device.base": "Device Frame",
    "netstack.device.queue": "QueueDevice",
    "netstack.driver.base": "Task",
    "netstack.host": "Host Socket",
    "netstack.labs.internet": "internet",
    "netstack.socket.server": "Server",
    "netstack.stack": "Stack",
    "netstack.transport.events": "Accepted Closed Connected Event PeerClosed Readable Writable",
    "netstack.transport.tcp.connection": "Connection",
    "netstack.transport.tcp.forwarder": "Incoming",
    "netstack.transport.tcp.info": "ConnectionInfo",
    "netstack.transport.tcp.listener": "Listener",
    "netstack.transport.udp": "Datagrams",
}
_PUBLIC = {name: module for module, names in _MODULES.items() for name in names.split()}

__all__ = [
    "Aborted",
    "Accepted",
    "BodyTooLarge",
    "Closed",
    "Config",
    "Connected",
    "Connection",
    "ConnectionInfo",
    "Datagrams",
    "Deadlock",
    "Device",
    "DeviceError",
    "DnsConfig",
    "Event",
    "Frame",
    "Headers",
    "Host",
    "Incoming",
    "Ipv4Config",
    "Link",
    "Listener",
    "Livelock",
    "LocalProtocolError",
    "NameNotFound",
    "NameServerError",
    "NeighbourConfig",
    "NetstackError",
    "Network",
    "ParseError",
    "PeerClosed",
    "QueueDevice",
    "Readable",
    "Recorder",
    "Refused",
    "RemoteProtocolError",
    "Reset",
    "Response",
    "Server",
    "Socket",
    "Stack",
    "StatusError",
    "Switch",
    "Task",
    "TcpConfig",
    "TimedOut",
    "Timings",
    "TooManyRedirects",
    "TraceEvent",
    "UdpConfig",
    "Unreachable",
    "Writable",
    "__version__",
    "fetch",
    "internet",
    "run",
    "tap",
]


if not TYPE_CHECKING:  # a checker that sees it takes any name for an object

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
