"""Errors of the network as transports see them, without naming the IP version.

ICMP types and codes are translated once, in ``icmpv4``; nothing above knows them.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class ErrorKind(Enum):
    """What went wrong on the way; the value is a phrase for a message."""

    NO_ROUTE = "no route to host"
    NETWORK_UNREACHABLE = "network is unreachable"
    HOST_UNREACHABLE = "host is unreachable"
    PROTOCOL_UNREACHABLE = "protocol is not available"
    PORT_UNREACHABLE = "nobody listens on the port"
    PACKET_TOO_BIG = "packet is too big for the path"
    PROHIBITED = "communication is administratively prohibited"
    TIME_EXCEEDED = "time to live exceeded"
    PARAMETER_PROBLEM = "a header field was not understood"
    SOURCE_ROUTE_FAILED = "source route failed"

    @property
    def hard(self) -> bool:
        """Whether trying again cannot help (RFC 1122 4.2.3.9).

        Protocol and port unreachable are; codes that RFC 1122 calls soft are not, and
        PACKET_TOO_BIG is advice.
        """
        return self in _HARD


_HARD = frozenset((ErrorKind.PROTOCOL_UNREACHABLE, ErrorKind.PORT_UNREACHABLE))


class NetworkError(NamedTuple):
    """An error about a packet of ours, told by a router, the peer or the link.

    ``local`` and ``remote`` are packed addresses, ``local`` the one we sent from. The ports and
    ``seq`` (TCP's sequence number; None for other protocols) are quoted from that packet.
    ``mtu`` is given for PACKET_TOO_BIG only, and ``reported_mtu`` as it was before our floor was
    applied. ``reporter`` is None if this host found out itself.
    """

    kind: ErrorKind
    local: bytes
    remote: bytes
    local_port: int
    remote_port: int
    seq: int | None = None
    mtu: int = 0
    reporter: bytes | None = None
    reported_mtu: int = 0
