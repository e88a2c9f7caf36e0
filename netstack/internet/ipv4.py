"""IPv4: packets in and out (RFC 791, RFC 1122 3.2.1, RFC 1812 for what routers refuse).

Theory of operation. Receiving has a fast path, one condition that is true for nearly every
packet, and a slow path that asks the same questions one by one, each with a counter of its own,
and besides knows options, fragments, broadcast, loopback and forwarding. Whatever the fast path
takes, the slow path would take too (tests run both).

Policies. Source routes are dropped (RFC 7126 4.3, 4.4; a deviation from RFC 1122 3.2.1.8 that
all of today's hosts share). Other options are checked for form and otherwise ignored; a router
passes them on as they are. The reserved flag is ignored, and DF on a fragment means nothing to
its receiver. A packet whose total length is less than what arrived has link padding, which is
cut; one whose total length is more was cut off itself and is dropped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netstack.core.address import IPAddress
from netstack.core.checksum import internet_sum
from netstack.core.trace import PacketSent
from netstack.device.base import Checksum
from netstack.internet.addresses import SPECIAL
from netstack.internet.errors import ErrorKind
from netstack.internet.fragmentation import fragment
from netstack.internet.packet import ReceivedPacket
from netstack.wire.ipv4 import (
    FLAG_DONT_FRAGMENT,
    FLAG_MORE_FRAGMENTS,
    HEADER,
    MAX_TOTAL_LENGTH,
    MIN_HEADER_LENGTH,
    OFFSET_MASK,
    BadOption,
    OptionType,
    parse_options,
)
from netstack.wire.layout import folded, header_sum, ipv4_fields, octets_at, put_ipv4, same, u8

if TYPE_CHECKING:
    from collections.abc import Callable

    from netstack.core.context import Context, Counter
    from netstack.device.base import Frame
    from netstack.internet.addresses import LocalAddresses
    from netstack.internet.path import Path
    from netstack.internet.reassembly import Reassembler
    from netstack.link.interface import Interface

_unpack = HEADER.unpack_from
_CHECKSUM_VALID = Checksum.VALID
_SOURCE_ROUTES = (OptionType.LOOSE_SOURCE_ROUTE, OptionType.STRICT_SOURCE_ROUTE)
_FRAGMENT = FLAG_MORE_FRAGMENTS | OFFSET_MASK


def wire_length(packet: memoryview | bytes | bytearray, start: int, total_length: int,
                gso_size: int) -> int:  # fmt: skip
    """Return the octets of the longest packet on the wire that a frame stands for.

    ``packet[start:]`` begins with the IPv4 header; a super-segment carries TCP.
    """
    if not gso_size:
        return total_length
    tcp = start + (u8(packet, start) & 0x0F) * 4
    return tcp - start + (u8(packet, tcp + 12) >> 4) * 4 + gso_size


class _Pair:
    """Source and destination of a packet, and whether nothing at all is special about them."""

    __slots__ = ("changes", "destination", "octets", "source", "usual")

    def __init__(self, octets: bytes, addresses: LocalAddresses) -> None:
        self.octets = octets
        self.changes = addresses.changes
        source = self.source = octets[:4]
        destination = self.destination = octets[4:]
        self.usual: bool = (
            destination in addresses.local
            and not SPECIAL[source[0]]
            and source not in addresses.refused
            and not SPECIAL[destination[0]]
        )


class Ipv4:
    """Receives and sends IPv4 packets for one host.

    ``handlers`` maps protocol numbers to what takes their packets. ``forward`` gets what is for
    others, if this host forwards. ``on_error`` sends an ICMP error about a packet.
    """

    def __init__(
        self,
        context: Context,
        addresses: LocalAddresses,
        reassembler: Reassembler,
        on_error: Callable[[ReceivedPacket, ErrorKind, int], None],
    ) -> None:
        self._context = context
        self._default_ttl: int = context.config.ipv4.default_ttl
        self._addresses = addresses
        self._pair: _Pair | None = None  # the last packet's: most often the next one has it too
        self._reassembler = reassembler
        self._on_error = on_error
        self.handlers: dict[int, Callable[[ReceivedPacket], None]] = {}
        self.forward: Callable[[ReceivedPacket], None] | None = None
        self.intercepted: set[int] = set()  # protocols taken whatever the destination
        self._received: Counter = context.counter("ipv4.packets_received")
        self._sent: Counter = context.counter("ipv4.packets_sent")

    # Going up

    def receive_packet(self, frame: Frame, offset: int, interface: Interface) -> None:
        """Take the packet at ``frame.header[offset:]`` that arrived through ``interface``."""
        header = frame.header
        available = len(header) - offset
        if available < MIN_HEADER_LENGTH:
            self._drop("ipv4.short_header", frame)
            return
        first, traffic_class, total_length, _, flags, ttl, protocol = ipv4_fields(header, offset)
        if frame.payload:
            available = len(frame) - (offset - frame.start)
        addresses, pair = self._addresses, self._pair
        if (
            pair is None
            or pair.changes != addresses.changes
            or not same(header, offset + 12, pair.octets)
        ):
            pair = self._pair = _Pair(octets_at(header, offset + 12, 8), addresses)
        handler = self.handlers.get(protocol)
        if (
            first == 0x45
            and not flags & _FRAGMENT
            and pair.usual
            and handler is not None
            and MIN_HEADER_LENGTH <= total_length <= available
            and not frame.group
            and (header_sum(header, offset, MIN_HEADER_LENGTH) == 0xFFFF or _verified(frame))
        ):
            self._received.value += frame.segments
            handler(
                ReceivedPacket(
                    4,
                    pair.source,
                    pair.destination,
                    protocol,
                    ttl,
                    traffic_class,
                    frame,
                    offset,
                    offset + MIN_HEADER_LENGTH,
                    total_length - MIN_HEADER_LENGTH,
                    interface,
                    False,
                )
            )
            return
        self._receive_slowly(frame, offset, available, interface)

    def _receive_slowly(
        self, frame: Frame, offset: int, available: int, interface: Interface
    ) -> None:
        packet = self._parse(frame, offset, available, interface)
        if packet is None:
            return
        reason = self._refuse_addresses(packet)
        if reason is not None:
            self._drop(reason, frame)
            return
        if not self._accept_options(packet):
            return
        self._received.value += frame.segments
        if self._is_for_us(packet):
            self._take(packet)
        elif self.forward is not None and not packet.group:
            self.forward(packet)
        else:
            self._drop("ipv4.not_for_us", frame)

    def _parse(
        self, frame: Frame, offset: int, available: int, interface: Interface
    ) -> ReceivedPacket | None:
        """Check version, lengths and checksum (RFC 1122 3.2.1.1, 3.2.1.2)."""
        header = frame.header
        (first, traffic_class, total_length, _, _, ttl, protocol, _, source,
         destination) = _unpack(header, offset)  # fmt: skip
        header_length = (first & 0x0F) * 4
        reason = None
        if first >> 4 != 4:
            reason = "ipv4.bad_version"
        elif not MIN_HEADER_LENGTH <= header_length <= len(header) - offset:
            reason = "ipv4.bad_header_length"
        elif not header_length <= total_length <= available:
            reason = "ipv4.bad_total_length"
        elif internet_sum(header[offset : offset + header_length]) != 0xFFFF and not _verified(
            frame
        ):
            reason = "ipv4.bad_checksum"
        if reason is not None:
            self._drop(reason, frame)
            return None
        group = frame.group or self._addresses.is_group(destination)
        return ReceivedPacket(
            4, source, destination, protocol, ttl, traffic_class, frame, offset,
            offset + header_length, total_length - header_length, interface, group,
        )  # fmt: skip

    def _refuse_addresses(self, packet: ReceivedPacket) -> str | None:
        """Return why no packet has these addresses (RFC 1122 3.2.1.3), or None."""
        addresses = self._addresses
        source, destination = packet.source, packet.destination
        if addresses.is_martian(source, packet.interface):
            # LAND and its relatives end here too: our own address comes only from loopback.
            return "ipv4.martian_source"
        special = SPECIAL[destination[0]] and not packet.group
        if special and not (destination[0] == 127 and packet.interface is addresses.loopback):
            return "ipv4.martian_destination"
        if packet.frame.group and not addresses.is_group(destination):
            return "ipv4.unicast_in_broadcast"  # RFC 1122 3.3.6
        return None

    def _accept_options(self, packet: ReceivedPacket) -> bool:
        """Check the options' form; drop source routes."""
        if packet.start - packet.header_start == MIN_HEADER_LENGTH:
            return True
        frame = packet.frame
        view = memoryview(frame.header)[packet.header_start + MIN_HEADER_LENGTH : packet.start]
        try:
            options = parse_options(view)
        except BadOption as bad:
            self._drop("ipv4.bad_option", frame)
            self._on_error(packet, ErrorKind.PARAMETER_PROBLEM, bad.position)
            return False
        if any(option.type in _SOURCE_ROUTES for option in options):
            self._drop("ipv4.source_route", frame)
            return False
        return True

    def _is_for_us(self, packet: ReceivedPacket) -> bool:
        destination = packet.destination
        addresses = self._addresses
        return (
            addresses.is_local(destination)
            or destination in addresses.broadcasts
            or destination in addresses.groups
            or (packet.protocol in self.intercepted and not packet.group)
        )

    def _take(self, packet: ReceivedPacket) -> None:
        flags = HEADER.unpack_from(packet.frame.header, packet.header_start)[4]
        if flags & _FRAGMENT:
            whole = self._reassembler.add(packet)
            if whole is None:
                return
            packet = whole
        handler = self.handlers.get(packet.protocol)
        if handler is None:
            self._drop("ipv4.unknown_protocol", packet.frame)
            self._on_error(packet, ErrorKind.PROTOCOL_UNREACHABLE, 0)
            return
        handler(packet)

    def _drop(self, reason: str, frame: Frame) -> None:
        self._context.drop(reason, frame.segments, frame.id)

    # Going down

    def send(
        self,
        path: Path,
        protocol: int,
        frame: Frame,
        *,
        hop_limit: int | None = None,
        traffic_class: int = 0,
        dont_fragment: bool = False,
        flow: object = None,
    ) -> bool:
        """Put an IPv4 header in front of ``frame.start`` and send the packet along ``path``.

        What is longer than the path's MTU is fragmented, or with ``dont_fragment`` refused.
        A super-segment is refused if what it is cut into does not fit. Returns False if the
        packet was refused here (counted); it is then not sent at all, or as a fragment missing.
        """
        total_length = len(frame) + MIN_HEADER_LENGTH
        if total_length > MAX_TOTAL_LENGTH:
            self._drop("ipv4.too_long", frame)
            return False
        start = frame.start = frame.start - MIN_HEADER_LENGTH
        header = frame.header
        assert isinstance(header, bytearray)  # going down, a frame has headroom to write to
        counter = path.identification
        identification = counter.value
        counter.value = (identification + frame.segments) & 0xFFFF
        flags = FLAG_DONT_FRAGMENT if dont_fragment and not path.fragment else 0
        ttl: int = self._default_ttl if hop_limit is None else hop_limit
        # The checksum is the sum of nine words, of which four, the addresses', are known.
        total = folded(
            path.pseudo_header_sum + (0x4500 | traffic_class) + total_length + identification
            + flags + (ttl << 8 | protocol)
        )  # fmt: skip
        put_ipv4(
            header, start, traffic_class, total_length, identification, flags, ttl, protocol,
            total ^ 0xFFFF, path.addresses,
        )  # fmt: skip
        if total_length > path.mtu:
            gso_size = frame.gso_size
            # A super-segment's headers lie in frame.header whole.
            if wire_length(header, start, total_length, gso_size) > path.mtu:
                return self._send_too_big(path, frame, flags, flow)
        return self.transmit(frame, path.interface, path.next_hop, flow)

    def _send_too_big(self, path: Path, frame: Frame, flags: int, flow: object) -> bool:
        if flags or frame.gso_size:
            self._drop("ipv4.exceeds_path_mtu", frame)
            return False
        return self.send_fragments(frame, path.mtu, path.interface, path.next_hop, flow)

    def send_fragments(
        self,
        frame: Frame,
        mtu: int,
        interface: Interface,
        next_hop: IPAddress,
        flow: object = None,
    ) -> bool:
        """Send the packet at ``frame.start`` in fragments of at most ``mtu`` octets."""
        pieces = fragment(frame, mtu)
        self._context.count("ipv4.fragments_sent", len(pieces))
        sent = True
        for piece in pieces:
            # Without one fragment the others are of no use.
            sent = sent and self.transmit(piece, interface, next_hop, flow)
            if not sent:
                self._drop("ipv4.fragment_refused", piece)
        return sent

    def transmit(
        self, frame: Frame, interface: Interface, next_hop: IPAddress, flow: object = None
    ) -> bool:
        """Hand the finished packet at ``frame.start`` to the link."""
        context = self._context
        self._sent.value += frame.segments
        if context.trace is not None:
            fields = _unpack(frame.header, frame.start)
            if not frame.id:
                frame.id = context.trace.frame_id()
            source, destination = IPAddress(fields[8]), IPAddress(fields[9])
            context.trace.emit(
                PacketSent(
                    context.now,
                    context.name,
                    "ipv4",
                    str(source),
                    str(destination),
                    fields[6],
                    fields[2],
                    frame.reason,
                    frame.id,
                )
            )
        return interface.send_packet(next_hop, frame, flow)


def _verified(frame: Frame) -> bool:
    """Return whether this is several wire packets merged, each of which was verified."""
    return frame.segments > 1 and frame.checksum is _CHECKSUM_VALID
