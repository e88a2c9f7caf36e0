"""What the internet layer hands up: one packet, validated, its transport header located."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from netstack.device.base import Frame
    from netstack.link.interface import Interface


class ReceivedPacket:
    """A packet for this host, or one that an ICMP error is to be sent about.

    ``header_start`` and ``start`` are indices into ``frame.header`` of the IP and the transport
    header. ``length`` counts the octets of transport header and payload; what lies behind them
    in the frame is link padding and no part of the packet. ``source`` and ``destination`` are
    packed. ``group``: sent to a broadcast or multicast address, of the link or of IP.
    """

    __slots__ = (
        "destination",
        "frame",
        "group",
        "header_start",
        "hop_limit",
        "interface",
        "length",
        "protocol",
        "source",
        "start",
        "traffic_class",
        "version",
    )

    def __init__(
        self,
        version: int,
        source: bytes,
        destination: bytes,
        protocol: int,
        hop_limit: int,
        traffic_class: int,
        frame: Frame,
        header_start: int,
        start: int,
        length: int,
        interface: Interface,
        group: bool,
    ) -> None:
        self.version = version
        self.source = source
        self.destination = destination
        self.protocol = protocol
        self.hop_limit = hop_limit
        self.traffic_class = traffic_class
        self.frame = frame
        self.header_start = header_start
        self.start = start
        self.length = length
        self.interface = interface
        self.group = group

    def octets(self) -> bytes:
        """Return a copy of the transport header and payload, without padding."""
        frame = self.frame
        head = memoryview(frame.header)[self.start : self.start + self.length]
        if not frame.payload:
            return bytes(head)
        return b"".join((head, *frame.payload))[: self.length]
