"""Socket options: which numbers mean what, and how their values look on either side.

Times are seconds in the stack, whole seconds or milliseconds in Linux's interface. Numbers are
the platform's where it has them, else Linux's.
"""

from __future__ import annotations

import errno
import socket as std
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from netstack.socket.errno import os_error
from netstack.transport.tcp.congestion import ALGORITHMS

if TYPE_CHECKING:
    from collections.abc import Callable

SOL_SOCKET = std.SOL_SOCKET
IPPROTO_IP = 0
IPPROTO_TCP = 6
SO_ERROR = std.SO_ERROR
SO_TYPE = std.SO_TYPE
SO_ACCEPTCONN = getattr(std, "SO_ACCEPTCONN", 30)
SO_REUSEADDR = std.SO_REUSEADDR
SO_REUSEPORT = getattr(std, "SO_REUSEPORT", 15)
SO_BROADCAST = std.SO_BROADCAST
SO_LINGER = std.SO_LINGER
SO_KEEPALIVE = std.SO_KEEPALIVE
SO_SNDBUF = std.SO_SNDBUF
SO_OOBINLINE = std.SO_OOBINLINE
SO_RCVBUF = std.SO_RCVBUF
TCP_NODELAY = std.TCP_NODELAY
TCP_CORK = getattr(std, "TCP_CORK", 3)
TCP_QUICKACK = getattr(std, "TCP_QUICKACK", 12)
TCP_KEEPIDLE = getattr(std, "TCP_KEEPIDLE", 4)
TCP_KEEPINTVL = getattr(std, "TCP_KEEPINTVL", 5)
TCP_KEEPCNT = getattr(std, "TCP_KEEPCNT", 6)
TCP_USER_TIMEOUT = getattr(std, "TCP_USER_TIMEOUT", 18)
TCP_FASTOPEN = getattr(std, "TCP_FASTOPEN", 23)
TCP_FASTOPEN_CONNECT = getattr(std, "TCP_FASTOPEN_CONNECT", 30)
TCP_INFO = getattr(std, "TCP_INFO", 11)
TCP_CONGESTION = getattr(std, "TCP_CONGESTION", 13)
IP_TOS = getattr(std, "IP_TOS", 1)
IP_TTL = getattr(std, "IP_TTL", 2)


class Option(NamedTuple):
    """An option: the stack's name for it, its value before any was set, and the two ways."""

    name: str
    default: Any
    decode: Callable[[Any], Any]
    encode: Callable[[Any], int | bytes]


def _integer(value: Any) -> int:
    if isinstance(value, int):
        return int(value)
    octets = bytes(value)
    if len(octets) < 4:
        raise os_error(errno.EINVAL)
    return int(struct.unpack_from("i", octets)[0])


def _positive(value: Any) -> int:
    number = _integer(value)
    if number < 1:
        raise os_error(errno.EINVAL)
    return number


def _count(value: Any) -> int:
    number = _integer(value)
    if number < 0:
        raise os_error(errno.EINVAL)
    return number


def _switch(value: Any) -> bool:
    number = _integer(value)
    if number not in (0, 1):
        raise os_error(errno.EINVAL)
    return bool(number)


def _ttl(value: Any) -> int | None:
    number = _integer(value)
    if number != -1 and not 1 <= number <= 255:
        raise os_error(errno.EINVAL)
    return None if number == -1 else number


def _linger(value: Any) -> float | None:
    octets = bytes(value)
    if len(octets) < 8:
        raise os_error(errno.EINVAL)
    on, seconds = struct.unpack_from("ii", octets)
    return float(seconds) if on else None


def _flag(value: Any) -> bool:
    return bool(_integer(value))


def _always(value: Any) -> bool:
    """RFC 6093 6: urgent data is part of the stream, there is no other way."""
    if not _integer(value):
        raise os_error(errno.EINVAL)
    return True


def _pack_linger(seconds: float | None) -> bytes:
    return struct.pack("ii", seconds is not None, int(seconds or 0))


def _user_timeout(value: Any) -> float | None:
    milliseconds = _integer(value)
    if milliseconds < 0:
        raise os_error(errno.EINVAL)
    return milliseconds / 1000 or None


_CONGESTION_NAME_LENGTH = 16  # TCP_CA_NAME_MAX
_LINUX_NAMES = {"newreno": "reno"}  # RFC 5681 and 6582 by the name Linux has for them


def _congestion(value: Any) -> str:
    name = value if isinstance(value, str) else bytes(value).split(b"\0")[0].decode("latin-1")
    name = next((ours for ours, linux in _LINUX_NAMES.items() if linux == name), name)
    if name not in ALGORITHMS:
        raise os_error(errno.ENOENT)
    return name


def _pack_congestion(name: str) -> bytes:
    octets = _LINUX_NAMES.get(name, name).encode()
    return octets[: _CONGESTION_NAME_LENGTH - 1].ljust(_CONGESTION_NAME_LENGTH, b"\0")


IGNORED = frozenset(
    {(SOL_SOCKET, SO_REUSEADDR), (SOL_SOCKET, SO_REUSEPORT), (SOL_SOCKET, SO_OOBINLINE)}
)
"""Kept and told, without effect: TIME-WAIT never keeps a listener of this stack from its port,
and two sockets never share one."""

COMMON: dict[tuple[int, int], Option] = {
    (SOL_SOCKET, SO_REUSEADDR): Option("reuse_address", False, _flag, int),
    (SOL_SOCKET, SO_REUSEPORT): Option("reuse_port", False, _flag, int),
    (SOL_SOCKET, SO_RCVBUF): Option("receive_buffer", None, _positive, int),
    (SOL_SOCKET, SO_SNDBUF): Option("send_buffer", None, _positive, int),
    (IPPROTO_IP, IP_TTL): Option("ttl", None, _ttl, int),
    (IPPROTO_IP, IP_TOS): Option("traffic_class", 0, lambda value: _integer(value) & 0xFF, int),
}

STREAM: dict[tuple[int, int], Option] = {
    **COMMON,
    (SOL_SOCKET, SO_KEEPALIVE): Option("keepalive", False, _flag, int),
    (SOL_SOCKET, SO_OOBINLINE): Option("oob_inline", True, _always, int),
    (SOL_SOCKET, SO_LINGER): Option("linger", None, _linger, _pack_linger),
    (IPPROTO_TCP, TCP_NODELAY): Option("nodelay", False, _flag, int),
    (IPPROTO_TCP, TCP_CORK): Option("cork", False, _flag, int),
    (IPPROTO_TCP, TCP_QUICKACK): Option("quickack", False, _flag, int),
    (IPPROTO_TCP, TCP_KEEPIDLE): Option("keepalive_idle", None, _positive, int),
    (IPPROTO_TCP, TCP_KEEPINTVL): Option("keepalive_interval", None, _positive, int),
    (IPPROTO_TCP, TCP_KEEPCNT): Option("keepalive_probes", None, _positive, int),
    (IPPROTO_TCP, TCP_FASTOPEN): Option("fast_open", None, _count, int),
    (IPPROTO_TCP, TCP_FASTOPEN_CONNECT): Option("fast_open_connect", False, _switch, int),
    (IPPROTO_TCP, TCP_CONGESTION): Option("congestion", None, _congestion, _pack_congestion),
    (IPPROTO_TCP, TCP_USER_TIMEOUT): Option(
        "user_timeout", None, _user_timeout, lambda seconds: round((seconds or 0) * 1000)
    ),
}

DATAGRAM: dict[tuple[int, int], Option] = {
    **COMMON,
    (SOL_SOCKET, SO_BROADCAST): Option("broadcast", False, _flag, int),
}
