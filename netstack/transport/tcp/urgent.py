"""Urgent data (RFC 9293 3.8.5, RFC 6093): a mark in the stream, not a second stream.

The urgent pointer names the octet after the urgent data (MUST-62), of any length (MUST-31). What
is urgent stays in its place and is read in its order, as with SO_OOBINLINE; the user is told when
a mark was announced, how far it is, and when it is reached: no read goes beyond it. A segment
that carries the pointer is never a super-segment, since the pointer counts from its own start.
Nothing of this is kept unless urgent data is sent or announced.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netstack.transport.events import UrgentData
from netstack.transport.tcp.state import CAN_RECEIVE_TEXT

if TYPE_CHECKING:
    from netstack.transport.tcp.connection import Connection
    from netstack.wire.tcp import Segment


class Urgent:
    """Both marks: ``send_up`` is SND.UP, ``receive_up`` RCV.UP; None without one."""

    __slots__ = ("receive_up", "send_up")

    def __init__(self) -> None:
        self.send_up: int | None = None
        self.receive_up: int | None = None

    def pointer(self, connection: Connection, seq: int) -> int:
        """Return the urgent pointer of a segment at ``seq``; 0: no URG."""
        if self.send_up is None:
            return 0
        if connection.sender.snd_una >= self.send_up:
            self.send_up = None  # the peer has it all
            return 0
        # Farther than the field reaches: as far as it does, later segments move it on.
        return min(max(self.send_up - seq, 0), 0xFFFF)

    def clip(self, connection: Connection, limit: int) -> int:
        """Return how much of ``limit`` octets may be read without going beyond the mark."""
        if self.receive_up is None:
            return limit
        ahead = self.receive_up - position(connection)
        if ahead <= 0:
            self.receive_up = None
            return limit
        return min(limit, ahead)


def _of(connection: Connection) -> Urgent:
    if connection.urgent is None:
        connection.urgent = Urgent()
    return connection.urgent


def position(connection: Connection) -> int:
    """Return the sequence number of the octet that the user reads next."""
    receiver = connection.receiver
    held = receiver.buffer.length if receiver.buffer is not None else 0
    return receiver.rcv_nxt - receiver.peer_closed - held


def mark_end(connection: Connection) -> None:
    """What was queued up to now is urgent."""
    _of(connection).send_up = connection.sender.data_end


def take(connection: Connection, segment: Segment, seq: int) -> None:
    """RFC 9293 3.10.7.4, sixth: RCV.UP <- max(RCV.UP, SEG.UP), and tell the user (MUST-32)."""
    up = seq + segment.urgent_pointer
    state = connection.urgent
    known = state.receive_up if state is not None else None
    if connection.state not in CAN_RECEIVE_TEXT or up <= (known or position(connection)):
        connection.tcp.context.count("tcp.urgent_ignored")
        return
    _of(connection).receive_up = up
    connection.tcp.context.count("tcp.urgent_received")
    if connection.listener is None and not connection.orphan:
        connection.tcp.post(UrgentData(connection))
