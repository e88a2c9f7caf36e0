"""From a captured frame to the headers in it: which link types are known, and where IP begins.

Captures hold what a stack would drop: cut packets, wrong lengths, nested tags. What can't be
read is absent, never an exception; the walk is a loop with a bound, never a recursion.
"""

from __future__ import annotations

from enum import IntEnum

from netstack.capture.errors import UnknownLinkType
from netstack.core.errors import ParseError
from netstack.wire import udp
from netstack.wire.ethernet import VLAN_TYPES, EthernetHeader, EtherType
from netstack.wire.ipv4 import IPv4Header, Protocol
from netstack.wire.ipv6 import IPv6Header, skip_extensions
from netstack.wire.tcp import TcpHeader
from netstack.wire.udp import UdpHeader

MAX_TAGS = 8  # VLAN tags walked, IEEE 802.1ad nests two


class LinkType(IntEnum):
    """What a capture's frames begin with (IANA's PCAP LINKTYPE registry): those known here."""

    NULL = 0
    ETHERNET = 1
    RAW_BSD = 12
    RAW_OPENBSD = 14
    RAW = 101
    LOOP = 108
    LINUX_SLL = 113
    IPV4 = 228
    IPV6 = 229
    LINUX_SLL2 = 276


_RAW = frozenset({LinkType.RAW_BSD, LinkType.RAW_OPENBSD, LinkType.RAW})
_FAMILIES = {2: EtherType.IPV4} | dict.fromkeys((10, 24, 28, 30), EtherType.IPV6)
"""Address families as the hosts number them that write NULL and LOOP captures."""


class Layers:
    """The headers of one packet; what is absent or can't be read is None."""

    __slots__ = ("ethernet", "ipv4", "ipv6", "payload", "tcp", "udp")

    def __init__(self, linktype: int, data: memoryview, cut: bool) -> None:
        """Take ``data`` apart; ``cut``: the capture holds only the packet's beginning.

        Raises: UnknownLinkType.
        """
        self.ethernet: EthernetHeader | None = None
        self.ipv4: IPv4Header | None = None
        self.ipv6: IPv6Header | None = None
        self.tcp: TcpHeader | None = None
        self.udp: UdpHeader | None = None
        self.payload = data
        try:
            ethertype = self._read_link(linktype)
            if ethertype == EtherType.IPV4:
                self._read_ipv4(cut)
            elif ethertype == EtherType.IPV6:
                self._read_ipv6(cut)
        except UnknownLinkType:
            raise
        except ParseError:
            return  # ``payload`` is what follows the last header that could be read

    def _read_link(self, linktype: int) -> int:
        """Skip the link header; return the EtherType of what follows, 0 if none is known."""
        data = self.payload
        if linktype == LinkType.ETHERNET:
            self.ethernet, self.payload = EthernetHeader.parse(data)
            return self._skip_tags(self.ethernet.ethertype)
        if linktype in _RAW:
            version = data[0] >> 4 if len(data) else 0
            return {4: EtherType.IPV4, 6: EtherType.IPV6}.get(version, 0)
        if linktype == LinkType.IPV4:
            return EtherType.IPV4
        if linktype == LinkType.IPV6:
            return EtherType.IPV6
        if linktype in (LinkType.NULL, LinkType.LOOP):
            self._skip(4)
            # NULL is in the writing host's octet order: the family is the octet that isn't zero.
            return _FAMILIES.get(data[0] | data[3], 0)
        if linktype == LinkType.LINUX_SLL:
            self._skip(16)
            return self._skip_tags(int.from_bytes(data[14:16], "big"))
        if linktype == LinkType.LINUX_SLL2:
            self._skip(20)
            return self._skip_tags(int.from_bytes(data[:2], "big"))
        raise UnknownLinkType(f"link type {linktype} is not known here")

    def _skip(self, count: int) -> None:
        if len(self.payload) < count:
            raise ParseError(f"{count} octets needed, {len(self.payload)} there")
        self.payload = self.payload[count:]

    def _skip_tags(self, ethertype: int) -> int:
        for _ in range(MAX_TAGS):
            if ethertype not in VLAN_TYPES:
                return ethertype
            ethertype = int.from_bytes(self.payload[2:4], "big")
            self._skip(4)
        return 0

    def _read_ipv4(self, cut: bool) -> None:
        header, self.payload = IPv4Header.parse(self.payload, truncated=cut)
        self.ipv4 = header
        if header.fragment_offset == 0:
            self._read_transport(header.protocol, cut or header.more_fragments)

    def _read_ipv6(self, cut: bool) -> None:
        self.ipv6, self.payload = IPv6Header.parse(self.payload, truncated=cut)
        protocol, rest, offset = skip_extensions(self.ipv6.next_header, self.payload)
        fragment = rest.nbytes != self.payload.nbytes and self.ipv6.next_header == 44
        self.payload = rest
        if offset == 0:
            self._read_transport(protocol, cut or fragment)

    def _read_transport(self, protocol: int, cut: bool) -> None:
        if protocol == Protocol.TCP:
            self.tcp, self.payload = TcpHeader.parse(self.payload)
        elif protocol == Protocol.UDP and not cut:
            self.udp, self.payload = UdpHeader.parse(self.payload)
        elif protocol == Protocol.UDP and len(self.payload) >= udp.HEADER_LENGTH:
            # The length field speaks of more than is here.
            self.udp = UdpHeader(*udp.HEADER.unpack_from(self.payload))
            self.payload = self.payload[udp.HEADER_LENGTH : max(8, self.udp.length)]
