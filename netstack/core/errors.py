"""Every error that netstack raises, under one root.

Errors that a socket's user meets also inherit the matching builtin and carry its errno, so that
``except ConnectionRefusedError`` works. A bad packet from the network is not an error: it is
dropped and counted.
"""

from __future__ import annotations

import errno

__all__ = [
    "Aborted",
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
]


class NetstackError(Exception):
    """The root of all errors of this package."""


class ParseError(NetstackError, ValueError):
    """Octets that are no legal header or message of their protocol."""


class LocalProtocolError(NetstackError):
    """The caller asked for something that the protocol forbids."""


class RemoteProtocolError(NetstackError):
    """The peer broke the protocol."""


class NameNotFound(NetstackError):
    """The name, or the type asked for under it, does not exist."""


class NameServerError(NetstackError):
    """No name server gave a usable answer."""


class TooManyRedirects(NetstackError):
    """An HTTP redirect chain was too long, or led back to itself."""


class BodyTooLarge(NetstackError):
    """A body exceeded the size that the caller allowed."""


class Deadlock(NetstackError):
    """Simulation: every task waits, and nothing that could wake one is under way."""


class Livelock(NetstackError):
    """Simulation: a million events passed without the clock moving."""


class _OSNetstackError(NetstackError, OSError):
    """An error with an errno: ``str()`` is the message alone."""

    code: int = errno.EIO

    def __init__(self, message: str = "", code: int | None = None) -> None:
        super().__init__(self.code if code is None else code, message)

    def __reduce__(self) -> tuple[type, tuple[str, int]]:
        # Else a copy would take ``args``, which are the other way round.
        return type(self), (self.args[1], self.args[0])

    def __str__(self) -> str:
        return str(self.args[1]) or str(errno.errorcode.get(self.args[0], self.args[0]))


class Refused(_OSNetstackError, ConnectionRefusedError):
    """The peer answered a connection attempt with RST, or a datagram with port unreachable."""

    code = errno.ECONNREFUSED


class Reset(_OSNetstackError, ConnectionResetError):
    """The peer reset an established connection."""

    code = errno.ECONNRESET


class Aborted(_OSNetstackError, ConnectionAbortedError):
    """The connection was ended by an internal error on this side."""

    code = errno.ECONNABORTED


class TimedOut(_OSNetstackError, TimeoutError):
    """No answer within the time allowed; the message says in which phase."""

    code = errno.ETIMEDOUT


class Unreachable(_OSNetstackError):
    """No route, or a router or neighbour said that the destination cannot be reached."""

    code = errno.EHOSTUNREACH


class DeviceError(_OSNetstackError):
    """A device could not be opened or failed."""

    code = errno.ENODEV
