"""Connections to addresses that are not ours: tunnels, honeypots, gateways.

A forwarder sees every SYN that no listener wants, whatever its destination. The SYN,ACK leaves
only after it accepts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netstack.core.address import IPAddress

if TYPE_CHECKING:
    from netstack.internet.packet import ReceivedPacket
    from netstack.transport.tcp.connection import Connection
    from netstack.transport.tcp.protocol import Tcp
    from netstack.wire.tcp import Segment


class Incoming:
    """A SYN that waits for a decision: call ``accept`` or ``reject`` once, now or later."""

    __slots__ = ("_destination", "_key", "_segment", "_source", "_tcp")

    def __init__(self, tcp: Tcp, packet: ReceivedPacket, key: bytes, segment: Segment) -> None:
        self._tcp = tcp
        self._source = packet.source
        self._destination = packet.destination
        self._key = key
        self._segment: Segment | None = segment

    @property
    def local(self) -> tuple[str, int]:
        """The address and port that the peer wants."""
        return str(IPAddress(self._destination)), int.from_bytes(self._key[-2:], "big")

    @property
    def remote(self) -> tuple[str, int]:
        """The peer."""
        return str(IPAddress(self._source)), int.from_bytes(self._key[-4:-2], "big")

    def accept(self, now: float) -> Connection | None:
        """Answer with SYN,ACK; None if it was decided before, or a retransmitted SYN won."""
        self._tcp.enter(now)
        segment, self._segment = self._segment, None
        if segment is None or self._key in self._tcp.connections:
            return None
        connection = self._tcp.open_passive(self._source, self._destination, self._key, segment)
        self._tcp.current = None
        return connection

    def reject(self, now: float) -> None:
        """Answer with RST."""
        self._tcp.enter(now)
        segment, self._segment = self._segment, None
        if segment is not None:
            self._tcp.answer_with_reset(self._source, self._destination, self._key, segment)
