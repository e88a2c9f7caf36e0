"""Explicit congestion notification (RFC 3168): routers mark packets instead of dropping them.

Negotiated by ECE and CWR on the SYN and ECE on the SYN,ACK. New data then goes as ECT(0); a
router that is congested makes it CE. The receiver says so with ECE on all it sends until a CWR
comes; the sender reduces its window once a round trip, as for a loss, and says CWR on the next
new data. Retransmissions, window probes and bare ACKs are not ECT (6.1.4-6.1.6). A connection
has this state only once ECN was agreed on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netstack.core.trace import Reason
from netstack.transport.tcp.recovery import Phase
from netstack.wire.tcp import ACK, CWR, ECE, SYN

if TYPE_CHECKING:
    from netstack.core.config import TcpConfig
    from netstack.transport.tcp.connection import Connection
    from netstack.wire.tcp import Segment

ECT_0 = 2  # RFC 3168 5, figure 1: ECN-capable transport
CE = 3  # congestion experienced
SETUP = ECE | CWR


class Ecn:
    """Both directions of a connection that uses ECN."""

    __slots__ = ("_bound", "_recover", "_reduced", "echo")

    def __init__(self) -> None:
        self.echo = False  # CE arrived, and no CWR since
        self._reduced = False  # the peer is still to be told
        self._recover = 0  # SND.NXT at the last reduction: no other before it is acknowledged
        self._bound = 0  # the window does not grow beyond while the peer says ECE

    def mark(self, flags: int, traffic_class: int, *, fresh: bool) -> tuple[int, int]:
        """Return the flags and traffic class of a segment; ``fresh``: it carries new data."""
        if self.echo:
            flags |= ECE
        if not fresh:
            return flags, traffic_class
        if self._reduced:
            self._reduced = False
            flags |= CWR  # 6.1.2: of a super-segment, on the first cut only
        return flags, traffic_class & ~3 | ECT_0

    def on_segment(self, connection: Connection, segment: Segment, now: float) -> None:
        """Take in the bits of a segment whose sequence number and ACK are good."""
        if segment.flags & CWR and segment.length:
            self.echo = False
        if segment.ecn == CE:
            connection.tcp.context.count("tcp.ce_received", segment.segments)
            if not self.echo:
                self.echo = True
                connection.set_ack(Reason.ACK)
        if segment.flags & ECE:
            self._on_echo(connection, now)

    def _on_echo(self, connection: Connection, now: float) -> None:
        """6.1.2: reduce once a round trip; what a loss reduced already is told all the same."""
        sender = connection.sender
        congestion, recovery = sender.congestion, sender.recovery
        recovering = recovery is not None and recovery.phase is not Phase.OPEN
        if sender.snd_una > self._recover:
            connection.tcp.context.count("tcp.ecn_reductions")
            if not recovering:
                # Of the window, not of what is in flight: that has just been acknowledged.
                congestion.on_loss(now, congestion.cwnd)
            self._reduced = True
            self._recover = sender.snd_nxt
            self._bound = congestion.cwnd
        elif not recovering and self._bound:
            congestion.cwnd = min(congestion.cwnd, self._bound)


def asks(connection: Connection) -> bool:
    """Return whether our SYN asks for ECN: not again once it was lost (6.1.1.1)."""
    sender = connection.sender
    lost = sender.timeouts or sender.retransmitted_segments
    return connection.tcp.config.ecn == "on" and not lost


def agreeable(config: TcpConfig, syn: Segment) -> bool:
    """Return whether ``syn`` asks for ECN and may have it."""
    # A SYN is not ECT itself; one that is was meddled with on its way.
    return syn.flags & SETUP == SETUP and not syn.ecn and config.ecn != "off"


def negotiate(connection: Connection, segment: Segment) -> None:
    """Look at the bits of the peer's SYN or SYN,ACK (6.1.1)."""
    bits = segment.flags & SETUP
    if segment.flags & ACK:
        agreed = bits == ECE and asks(connection)  # both bits: somebody reflects what we sent
    else:
        agreed = agreeable(connection.tcp.config, segment)
    connection.ecn = Ecn() if agreed else None


def on_repeated_syn(connection: Connection, segment: Segment) -> None:
    """The peer's SYN came again, perhaps without asking: then it will not use ECN (6.1.1.1)."""
    if not segment.flags & ACK and segment.flags & SETUP != SETUP:
        connection.ecn = None


def syn_flags(connection: Connection, flags: int) -> int:
    """Return the flags of our SYN or SYN,ACK."""
    if flags & (SYN | ACK) == SYN:
        return flags | SETUP if asks(connection) else flags
    return flags | ECE if connection.ecn is not None else flags
