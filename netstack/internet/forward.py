"""Passing on what is for others (RFC 1812 5): time to live, route, MTU.

A router changes the time to live and the header checksum and nothing else; IP options go on as
they are (neither record route nor timestamp is filled in). Source routes were dropped before.
Directed broadcasts end at the router (RFC 2644), and redirects are not sent. All decisions about
a super-segment are made for the wire packets that it stands for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netstack.core.address import IPAddress
from netstack.core.checksum import fold
from netstack.core.trace import Reason
from netstack.device.base import HEADROOM, Checksum, Frame
from netstack.device.offload import segment
from netstack.internet.errors import ErrorKind
from netstack.internet.ipv4 import wire_length
from netstack.wire.ipv4 import FLAG_DONT_FRAGMENT, HEADER

if TYPE_CHECKING:
    from collections.abc import Callable

    from netstack.core.context import Context
    from netstack.internet.ipv4 import Ipv4
    from netstack.internet.packet import ReceivedPacket
    from netstack.internet.route import Routes

_TTL = 8  # offsets in the IPv4 header
_CHECKSUM = 10


class Forwarder:
    """Sends packets that arrived for others on towards them."""

    def __init__(
        self,
        context: Context,
        routes: Routes,
        ipv4: Ipv4,
        on_error: Callable[[ReceivedPacket, ErrorKind, int], None],
    ) -> None:
        self._context = context
        self._routes = routes
        self._ipv4 = ipv4
        self._on_error = on_error

    def forward(self, packet: ReceivedPacket) -> None:
        """Send ``packet`` on, or tell its source why that is impossible."""
        destination = IPAddress(packet.destination)
        if packet.hop_limit <= 1:
            self._refuse(packet, "ipv4.ttl_expired", ErrorKind.TIME_EXCEEDED)
            return
        route = self._routes.lookup(destination)
        if route is None:
            self._refuse(packet, "ipv4.no_route", ErrorKind.NO_ROUTE)
            return
        received = packet.frame
        total_length = packet.start - packet.header_start + packet.length
        mtu = route.interface.mtu
        length = wire_length(received.header, packet.header_start, total_length, received.gso_size)
        flags = HEADER.unpack_from(received.header, packet.header_start)[4]
        if length > mtu and flags & FLAG_DONT_FRAGMENT:
            self._refuse(packet, "ipv4.exceeds_mtu", ErrorKind.PACKET_TOO_BIG, mtu)
            return
        frame = _outgoing(packet, total_length)
        self._context.count("ipv4.packets_forwarded", frame.segments)
        next_hop = route.gateway or destination
        # Each pair of hosts takes its turns in the output queue, so that none fills it alone.
        flow = packet.source + packet.destination
        if length <= mtu:
            self._ipv4.transmit(frame, route.interface, next_hop, flow)
            return
        for wire_frame in segment(frame):
            self._ipv4.send_fragments(wire_frame, mtu, route.interface, next_hop, flow)

    def _refuse(self, packet: ReceivedPacket, reason: str, kind: ErrorKind, mtu: int = 0) -> None:
        self._context.drop(reason, packet.frame.segments, packet.frame.id)
        self._on_error(packet, kind, mtu)


def _outgoing(packet: ReceivedPacket, total_length: int) -> Frame:
    """Return a frame with headroom and one hop less; octets of the header buffer are copied."""
    received = packet.frame
    start = packet.header_start
    header = bytearray(HEADROOM) + received.header[start : start + total_length]
    header[HEADROOM + _TTL] -= 1
    # RFC 1624: the word that holds the TTL became smaller by 0x0100, so its complement's sum
    # grows by that much.
    field = HEADROOM + _CHECKSUM
    checksum = fold(int.from_bytes(header[field : field + 2], "big") + 0x0100)
    header[field : field + 2] = checksum.to_bytes(2, "big")
    frame = Frame(header, received.payload, start=HEADROOM)
    frame.gso_size = received.gso_size
    frame.gso_type = received.gso_type
    frame.segments = received.segments
    frame.checksum = received.checksum
    if received.gso_size or received.checksum is Checksum.PARTIAL:
        frame.checksum_start = received.checksum_start - start + HEADROOM
        frame.checksum_offset = received.checksum_offset
    frame.received_at = received.received_at
    frame.reason = Reason.FORWARDED
    frame.id = received.id
    return frame
