"""One captured packet: its octets, its time, and views of its layers, made when asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netstack.capture.layers import Layers, LinkType

if TYPE_CHECKING:
    from netstack.wire.ethernet import EthernetHeader
    from netstack.wire.ipv4 import IPv4Header
    from netstack.wire.ipv6 import IPv6Header
    from netstack.wire.tcp import TcpHeader
    from netstack.wire.udp import UdpHeader


class Packet:
    """A packet of a capture. A layer that is absent, or can't be read, is None.

    ``time_ns`` counts nanoseconds since 1970, ``time`` is the same in seconds; ``length`` are
    the octets that the packet had, ``data`` those that were captured. Asking for a layer raises
    ``UnknownLinkType`` if the capture's link type isn't known here.
    """

    __slots__ = ("_layers", "comment", "data", "interface", "length", "linktype", "time_ns")

    def __init__(
        self,
        time_ns: int,
        data: memoryview,
        length: int,
        *,
        interface: int = 0,
        linktype: int = LinkType.ETHERNET,
        comment: str | None = None,
    ) -> None:
        self.time_ns = time_ns
        self.data = data
        self.length = length
        self.interface = interface
        self.linktype = linktype
        self.comment = comment
        self._layers: Layers | None = None

    def __repr__(self) -> str:
        return f"<Packet {self.time:.6f} {self.captured} of {self.length} octets>"

    @property
    def time(self) -> float:
        """Seconds since 1970."""
        return self.time_ns / 1e9

    @property
    def captured(self) -> int:
        """The octets that the capture holds."""
        return len(self.data)

    @property
    def inconsistent(self) -> bool:
        """Whether the capture claims to hold more octets than the packet had."""
        return len(self.data) > self.length

    @property
    def layers(self) -> Layers:
        """All layers at once."""
        layers = self._layers
        if layers is None:
            cut = len(self.data) < self.length
            layers = self._layers = Layers(self.linktype, self.data, cut)
        return layers

    @property
    def ethernet(self) -> EthernetHeader | None:
        """The Ethernet header."""
        return self.layers.ethernet

    @property
    def ipv4(self) -> IPv4Header | None:
        """The IPv4 header."""
        return self.layers.ipv4

    @property
    def ipv6(self) -> IPv6Header | None:
        """The IPv6 header."""
        return self.layers.ipv6

    @property
    def tcp(self) -> TcpHeader | None:
        """The TCP header."""
        return self.layers.tcp

    @property
    def udp(self) -> UdpHeader | None:
        """The UDP header."""
        return self.layers.udp

    @property
    def payload(self) -> memoryview:
        """What follows the innermost header that could be read, without padding."""
        return self.layers.payload
