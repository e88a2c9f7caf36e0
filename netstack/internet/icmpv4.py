"""ICMP for IPv4: echo, errors in both directions, path MTU (RFC 792, RFC 1122 3.2.2, RFC 1191).

Errors climb as ``NetworkError`` to the transport that the quoted packet belongs to; a path MTU
is stored only if that transport says that it knows the packet (RFC 5927). Not answered, and
counted: timestamp, address mask, information and router messages (RFC 6918 deprecates them).
Not believed: redirects, which would let anybody on the link choose our routes, and source
quench (RFC 6633).
"""

from __future__ import annotations

from struct import unpack_from
from typing import TYPE_CHECKING, NamedTuple

from netstack.core.address import IPAddress
from netstack.core.checksum import internet_checksum, internet_sum
from netstack.core.errors import ParseError, Unreachable
from netstack.core.trace import Reason
from netstack.device.base import HEADROOM, Frame
from netstack.device.offload import complete_checksum
from netstack.internet.addresses import SPECIAL
from netstack.internet.errors import ErrorKind, NetworkError
from netstack.internet.pmtu import MIN_PMTU, next_plateau
from netstack.internet.rate_limit import ErrorLimiter
from netstack.wire.icmpv4 import (
    HEADER_LENGTH,
    QUERY_TYPES,
    IcmpType,
    ICMPv4Header,
    ParameterProblemCode,
    TimeExceededCode,
    UnreachableCode,
)
from netstack.wire.ipv4 import (
    HEADER,
    MIN_HEADER_LENGTH,
    MIN_MTU,
    OFFSET_MASK,
    IPv4Header,
    Protocol,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from netstack.core.context import Context
    from netstack.internet.addresses import LocalAddresses
    from netstack.internet.ipv4 import Ipv4
    from netstack.internet.packet import ReceivedPacket
    from netstack.internet.pathfinder import Pathfinder

MAX_ERROR_LENGTH = 576  # octets of the packet that carries an error, RFC 1812 4.3.2.3
ERROR_TRAFFIC_CLASS = 0xC0  # precedence "internetwork control", RFC 1812 4.3.2.5

_UNREACHABLE = {
    UnreachableCode.NETWORK: ErrorKind.NETWORK_UNREACHABLE,
    UnreachableCode.HOST: ErrorKind.HOST_UNREACHABLE,
    UnreachableCode.PROTOCOL: ErrorKind.PROTOCOL_UNREACHABLE,
    UnreachableCode.PORT: ErrorKind.PORT_UNREACHABLE,
    UnreachableCode.FRAGMENTATION_NEEDED: ErrorKind.PACKET_TOO_BIG,
    UnreachableCode.SOURCE_ROUTE_FAILED: ErrorKind.SOURCE_ROUTE_FAILED,
    UnreachableCode.NETWORK_UNKNOWN: ErrorKind.NETWORK_UNREACHABLE,
    UnreachableCode.HOST_UNKNOWN: ErrorKind.HOST_UNREACHABLE,
    UnreachableCode.SOURCE_HOST_ISOLATED: ErrorKind.HOST_UNREACHABLE,
    UnreachableCode.NETWORK_PROHIBITED: ErrorKind.PROHIBITED,
    UnreachableCode.HOST_PROHIBITED: ErrorKind.PROHIBITED,
    UnreachableCode.NETWORK_TOS: ErrorKind.NETWORK_UNREACHABLE,
    UnreachableCode.HOST_TOS: ErrorKind.HOST_UNREACHABLE,
    UnreachableCode.COMMUNICATION_PROHIBITED: ErrorKind.PROHIBITED,
    UnreachableCode.HOST_PRECEDENCE_VIOLATION: ErrorKind.PROHIBITED,
    UnreachableCode.PRECEDENCE_CUTOFF: ErrorKind.PROHIBITED,
}

_MESSAGE: dict[ErrorKind, tuple[int, int]] = {
    ErrorKind.NO_ROUTE: (IcmpType.DESTINATION_UNREACHABLE, UnreachableCode.NETWORK),
    ErrorKind.NETWORK_UNREACHABLE: (IcmpType.DESTINATION_UNREACHABLE, UnreachableCode.NETWORK),
    ErrorKind.HOST_UNREACHABLE: (IcmpType.DESTINATION_UNREACHABLE, UnreachableCode.HOST),
    ErrorKind.PROTOCOL_UNREACHABLE: (IcmpType.DESTINATION_UNREACHABLE, UnreachableCode.PROTOCOL),
    ErrorKind.PORT_UNREACHABLE: (IcmpType.DESTINATION_UNREACHABLE, UnreachableCode.PORT),
    ErrorKind.PACKET_TOO_BIG: (
        IcmpType.DESTINATION_UNREACHABLE,
        UnreachableCode.FRAGMENTATION_NEEDED,
    ),
    ErrorKind.PROHIBITED: (
        IcmpType.DESTINATION_UNREACHABLE,
        UnreachableCode.COMMUNICATION_PROHIBITED,
    ),
    ErrorKind.TIME_EXCEEDED: (IcmpType.TIME_EXCEEDED, TimeExceededCode.TTL),
    ErrorKind.PARAMETER_PROBLEM: (IcmpType.PARAMETER_PROBLEM, ParameterProblemCode.POINTER),
    ErrorKind.SOURCE_ROUTE_FAILED: (
        IcmpType.DESTINATION_UNREACHABLE,
        UnreachableCode.SOURCE_ROUTE_FAILED,
    ),
}


class Quote(NamedTuple):
    """What an error says about the packet it is about."""

    header: IPv4Header
    local_port: int
    remote_port: int
    seq: int | None


def parse_quote(data: memoryview) -> Quote:
    """Return the quoted IP header and the first 8 octets of its transport's.

    For an echo request, ``local_port`` is the identifier and ``seq`` the sequence number.

    Raises: ParseError if the quotation is shorter, is about a later fragment, or about an ICMP
    message that is no echo request.
    """
    header, payload = IPv4Header.parse(data, truncated=True)
    if header.fragment_offset:
        raise ParseError("quotes a later fragment")
    if len(payload) < 8:
        raise ParseError(f"quotes {len(payload)} octets of the transport header")
    if header.protocol == Protocol.ICMP:
        if payload[0] != IcmpType.ECHO_REQUEST:
            raise ParseError(f"quotes ICMP type {payload[0]}")
        identifier, sequence = unpack_from("!HH", payload, 4)
        return Quote(header, identifier, 0, sequence)
    local_port, remote_port, seq = unpack_from("!HHI", payload)
    return Quote(header, local_port, remote_port, seq if header.protocol == Protocol.TCP else None)


class Icmpv4:
    """Receives and sends ICMP messages for one host.

    ``error_handlers`` maps protocol numbers to what takes errors about their packets; it returns
    whether it knows the packet. ``on_echo_reply`` gets the replies.
    """

    def __init__(
        self, context: Context, addresses: LocalAddresses, paths: Pathfinder, ipv4: Ipv4
    ) -> None:
        self._context = context
        self._addresses = addresses
        self._paths = paths
        self._ipv4 = ipv4
        self._limiter = ErrorLimiter(context)
        self.error_handlers: dict[int, Callable[[NetworkError], bool]] = {}
        self.on_echo_reply: Callable[[ReceivedPacket, ICMPv4Header, bytes], None] | None = None

    # Going up

    def receive_message(self, packet: ReceivedPacket) -> None:
        """Take an ICMP message."""
        data = packet.octets()
        if len(data) < HEADER_LENGTH:
            self._drop("icmpv4.short_header", packet)
            return
        if internet_sum(data) != 0xFFFF:
            self._drop("icmpv4.bad_checksum", packet)
            return
        header, payload = ICMPv4Header.parse(data)
        self._context.count("icmpv4.messages_received")
        if header.type == IcmpType.ECHO_REQUEST:
            self._answer_echo(packet, data)
        elif header.type == IcmpType.ECHO_REPLY:
            if self.on_echo_reply is not None:
                self.on_echo_reply(packet, header, bytes(payload))
        elif header.is_error:
            self._receive_error(packet, header, payload)
        elif header.type in QUERY_TYPES:
            self._drop("icmpv4.query_ignored", packet)
        else:
            self._drop("icmpv4.unknown_type", packet)

    def _answer_echo(self, packet: ReceivedPacket, request: bytes) -> None:
        """Send back what came, once (RFC 1122 3.2.2.6)."""
        if packet.group and not self._context.config.ipv4.reply_to_broadcast_echo:
            self._drop("icmpv4.broadcast_echo", packet)
            return
        source = None if packet.group else IPAddress(packet.destination)
        reply = bytearray(request)
        reply[0] = IcmpType.ECHO_REPLY
        frame = _message_frame(reply)
        frame.reason = Reason.ECHO_REPLY
        self._send(IPAddress(packet.source), source, frame, packet.traffic_class)

    def _receive_error(
        self, packet: ReceivedPacket, header: ICMPv4Header, payload: memoryview
    ) -> None:
        if packet.group:
            self._drop("icmpv4.error_to_group", packet)
            return
        kind, mtu = _meaning(header)
        if kind is None:
            self._drop("icmpv4.error_ignored", packet)
            return
        try:
            quote = parse_quote(payload)
        except ParseError:
            self._drop("icmpv4.bad_quote", packet)
            return
        quoted = quote.header
        # The packet came back to whom it is from; anything else is a forgery or a mistake.
        if quoted.source.packed != packet.destination:
            self._drop("icmpv4.bad_quote", packet)
            return
        if kind is ErrorKind.PACKET_TOO_BIG:
            mtu = self._plausible_mtu(quoted, mtu)
            if not mtu:
                self._drop("icmpv4.bad_mtu", packet)
                return
        self._climb(packet, kind, quote, mtu)

    def _plausible_mtu(self, quoted: IPv4Header, mtu: int) -> int:
        """Return the MTU that a "fragmentation needed" means, 0 if it can't be true.

        RFC 1191 5: an old router says 0, then the next plateau below the quoted length is taken.
        RFC 5927 7.2: a packet not longer than the MTU needed no fragmentation.
        """
        if mtu == 0:
            mtu = next_plateau(quoted.total_length)
        if not MIN_MTU <= mtu < quoted.total_length:
            return 0
        return mtu

    def _climb(self, packet: ReceivedPacket, kind: ErrorKind, quote: Quote, mtu: int) -> None:
        quoted = quote.header
        handler = self.error_handlers.get(quoted.protocol)
        error = NetworkError(
            kind,
            quoted.source.packed,
            quoted.destination.packed,
            quote.local_port,
            quote.remote_port,
            quote.seq,
            max(mtu, MIN_PMTU) if mtu else 0,
            packet.source,
            mtu,
        )
        if handler is None or not handler(error):
            self._drop("icmpv4.error_not_believed", packet)
            return
        if kind is ErrorKind.PACKET_TOO_BIG:
            known = self._paths.pmtu.get(error.remote)
            if known is None or mtu < known.mtu:
                self._paths.pmtu.update(error.remote, mtu)

    # Going down

    def send_echo_request(
        self,
        remote: IPAddress,
        identifier: int,
        sequence: int,
        payload: bytes,
        *,
        hop_limit: int | None = None,
    ) -> None:
        """Send an echo request.

        Raises: Unreachable if there is no route.
        """
        path = self._paths.path(remote)
        header = ICMPv4Header(IcmpType.ECHO_REQUEST, 0, identifier << 16 | sequence)
        frame = _message_frame(bytearray(header.build() + payload))
        frame.reason = Reason.ECHO_REQUEST
        self._context.count("icmpv4.messages_sent")
        self._ipv4.send(path, Protocol.ICMP, frame, hop_limit=hop_limit)

    def send_error(self, packet: ReceivedPacket, kind: ErrorKind, value: int = 0) -> None:
        """Tell the source of ``packet`` that it could not be delivered, if that is allowed.

        ``value``: for PACKET_TOO_BIG the MTU, for PARAMETER_PROBLEM the index of the faulty octet,
        for TIME_EXCEEDED the code. Never about what RFC 1122 3.2.2 lists; a plain header without
        options in any case.
        """
        reason = self._unanswerable(packet)
        if reason is None and not self._limiter.allow(packet.source):
            reason = "icmpv4.rate_limited"
        if reason is not None:
            self._context.count(reason)
            return
        type_, code = _MESSAGE[kind]
        rest = 0
        if kind is ErrorKind.PACKET_TOO_BIG:
            rest = min(value, 0xFFFF)
        elif kind is ErrorKind.PARAMETER_PROBLEM:
            rest = value << 24
        elif kind is ErrorKind.TIME_EXCEEDED:
            code = value
        header = ICMPv4Header(type_, code, rest)
        frame = _message_frame(bytearray(header.build() + _quotation(packet)))
        frame.reason = Reason.ICMP_ERROR
        local = self._addresses.is_local(packet.destination)
        source = IPAddress(packet.destination) if local else None
        self._send(IPAddress(packet.source), source, frame, ERROR_TRAFFIC_CLASS)

    def _unanswerable(self, packet: ReceivedPacket) -> str | None:
        """Return why no error may be sent about ``packet`` (RFC 1122 3.2.2), or None."""
        header = packet.frame.header
        source = packet.source
        special = SPECIAL[source[0]] and packet.interface is not self._addresses.loopback
        if special or source in self._addresses.broadcasts:
            return "icmpv4.no_error_to_source"
        if packet.group or self._addresses.is_group(packet.destination):
            return "icmpv4.no_error_about_group"
        if HEADER.unpack_from(header, packet.header_start)[4] & OFFSET_MASK:
            return "icmpv4.no_error_about_fragment"
        if packet.protocol == Protocol.ICMP:
            known_query = packet.length > 0 and header[packet.start] in QUERY_TYPES
            if not known_query:
                return "icmpv4.no_error_about_error"
        return None

    def _send(
        self, remote: IPAddress, source: IPAddress | None, frame: Frame, traffic_class: int
    ) -> None:
        try:
            path = self._paths.path(remote, source)
        except Unreachable:
            self._context.drop("icmpv4.no_route")
            return
        self._context.count("icmpv4.messages_sent")
        self._ipv4.send(path, Protocol.ICMP, frame, traffic_class=traffic_class)

    def _drop(self, reason: str, packet: ReceivedPacket) -> None:
        self._context.drop(reason, packet.frame.segments, packet.frame.id)


def _meaning(header: ICMPv4Header) -> tuple[ErrorKind | None, int]:
    """Return what an error message says, and the MTU if it says one."""
    if header.type == IcmpType.DESTINATION_UNREACHABLE:
        kind = _UNREACHABLE.get(header.code)  # type: ignore[call-overload]
        return kind, header.mtu if kind is ErrorKind.PACKET_TOO_BIG else 0
    if header.type == IcmpType.TIME_EXCEEDED:
        return ErrorKind.TIME_EXCEEDED, 0
    if header.type == IcmpType.PARAMETER_PROBLEM:
        return ErrorKind.PARAMETER_PROBLEM, 0
    return None, 0


def _message_frame(message: bytearray) -> Frame:
    """Return a frame of ``message`` with its checksum filled in."""
    message[2:4] = b"\0\0"
    message[2:4] = internet_checksum(message).to_bytes(2, "big")
    return Frame(bytearray(HEADROOM) + message[:HEADER_LENGTH], (message[HEADER_LENGTH:],),
                 start=HEADROOM)  # fmt: skip


def _quotation(packet: ReceivedPacket) -> bytes:
    """Return as much of ``packet`` as an error of 576 octets holds (RFC 1812 4.3.2.3).

    Of a super-segment the first wire packet is quoted: its total length, and its checksum.
    """
    frame = packet.frame
    if not frame.gso_size:
        complete_checksum(frame)  # the host that sent it will look at it
    limit = MAX_ERROR_LENGTH - MIN_HEADER_LENGTH - HEADER_LENGTH
    end = packet.start + packet.length
    quoted = bytearray(frame.header[packet.header_start : min(packet.header_start + limit, end)])
    for piece in frame.payload:
        quoted += memoryview(piece)[: limit - len(quoted)]
    header_length = packet.start - packet.header_start
    if frame.gso_size:
        tcp_length = (quoted[header_length + 12] >> 4) * 4
        total_length = header_length + tcp_length + frame.gso_size
        quoted[2:4] = total_length.to_bytes(2, "big")
        quoted[10:12] = b"\0\0"
        quoted[10:12] = internet_checksum(quoted[:header_length]).to_bytes(2, "big")
        del quoted[total_length:]
    return bytes(quoted)
