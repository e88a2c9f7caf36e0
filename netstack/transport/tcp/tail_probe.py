"""Tail loss probes: what nothing later can show to be lost is asked for (RFC 8985 section 7).

Theory of operation. After two round trips of silence the next segment goes, or the last again;
its acknowledgment shows by SACK what is missing before it, without a timeout. If that gets lost
too, it is repeated after twice and then four times as long, always before the retransmission
timeout, which runs from the first probe on. During recovery, and where the tail has arrived
already, the head is what goes again.

A segment that was repeated may itself have repaired the only loss, which nobody else notices.
So each repetition waits to be explained by a D-SACK; if data sent later is acknowledged first,
something was lost, and the window shrinks once (RFC 8985 7.4). Recovery and timeouts shrink it
themselves.

Deviation from RFC 8985 7.3: probes go during recovery too and more than one at a time, backed off
as RFC 9002 6.2 has it. A window of few segments that is lost as a whole, retransmissions included,
leaves nothing that RACK could learn from, and the timeout is a thousand round trips away on a
short path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netstack.core.timers import NEVER
from netstack.core.trace import Reason
from netstack.transport.tcp.recovery import Phase
from netstack.transport.tcp.transmission import Transmission

if TYPE_CHECKING:
    from netstack.transport.tcp.sender import Sender

MAX_PROBES = 3  # without any delivery in between
MAX_ACK_DELAY = 0.2  # seconds, TLP.max_ack_delay of RFC 8985 7.2
MIN_PROBE_TIMEOUT = 0.002  # seconds, as Linux's two ticks: below, work put off there decides


class TailProbe:
    """What was probed: made by the first probe, forgotten when all of it is explained."""

    __slots__ = ("count", "end", "flight_size", "start", "unexplained")

    def __init__(self) -> None:
        self.count = 0  # probes since the last delivery
        self.unexplained = 0  # segments repeated of which no D-SACK has told
        self.start = 0  # of the first octet repeated
        self.end = 0  # SND.NXT then
        self.flight_size = 0  # then

    def on_repeated(self, start: int, sender: Sender) -> None:
        """The segment at ``start`` goes again."""
        if not self.unexplained:
            self.start = start
            self.flight_size = sender.flight_size
        self.start = min(self.start, start)
        self.end = sender.snd_nxt
        self.unexplained += 1

    def on_dsack(self, left: int, right: int) -> None:
        """The peer got ``left .. right`` twice (RFC 2883)."""
        if self.unexplained and self.start <= left and right <= self.end:
            self.unexplained -= 1


def deadline(sender: Sender, now: float) -> float:
    """Return when to probe if nothing is delivered or sent until then (RFC 8985 7.2), or NEVER."""
    recovery, srtt = sender.recovery, sender.rtt.srtt
    if (
        not sender.sack_on
        or not srtt
        or sender.timeouts
        or (recovery is not None and recovery.frto)
        or sender.snd_nxt <= sender.snd_una
    ):
        return NEVER
    timeout = 2 * srtt
    if sender.flight_size <= sender.mss and not sender.queue.sacked_octets:
        timeout += MAX_ACK_DELAY  # beyond a gap, no acknowledgment is delayed
    timeout = max(timeout, MIN_PROBE_TIMEOUT)
    probe, rto = sender.tail_probe, sender.rto_deadline
    if probe is None or not probe.count:
        # No later than the retransmission timer, and then in its place.
        return min(now + timeout, rto)
    if probe.count >= MAX_PROBES:
        return NEVER
    again = now + timeout * (1 << probe.count)
    return again if again < rto else NEVER


def next_probe(sender: Sender, now: float) -> Transmission | None:
    """Return the probe: new octets the first time if there are any, else a segment again."""
    probe = sender.tail_probe
    if probe is None:
        probe = sender.tail_probe = TailProbe()
    elif not probe.count and sender.snd_una >= probe.end:
        _respond(sender, probe, now)  # two round trips of data since, and no D-SACK
    probe.count += 1
    queue = sender.queue
    repairing = _repairing(sender)
    if repairing or queue.sacked_octets:  # the tail itself may have arrived
        head = queue[0]
        if head.sacked:
            return None
        if not repairing:
            probe.on_repeated(head.start, sender)
        return Transmission(head.start, min(head.end, head.start + sender.mss), Reason.TLP, head)
    usable = sender.snd_una + sender.snd_wnd - sender.snd_nxt
    octets = min(sender.data_end - sender.snd_nxt, usable, sender.mss)
    if octets > 0 and probe.count == 1:
        return Transmission(sender.snd_nxt, sender.snd_nxt + octets, Reason.TLP)
    last = queue.last_segment()
    if last is None or last.lost:
        return None
    probe.on_repeated(last.start, sender)
    return Transmission(last.start, last.end, Reason.TLP, last)


def on_ack(
    sender: Sender, probe: TailProbe, dsack: tuple[int, int] | None, now: float, *, news: bool
) -> None:
    """Take in an acknowledgment; ``news``: something was delivered (RFC 8985 7.4)."""
    if dsack is not None:
        probe.on_dsack(*dsack)
    if _repairing(sender):
        probe.unexplained = 0
    elif probe.unexplained and sender.snd_una > probe.end:
        _respond(sender, probe, now)
    if news:
        probe.count = 0
    if not probe.count and not probe.unexplained:
        sender.tail_probe = None


def _repairing(sender: Sender) -> bool:
    return sender.recovery is not None and sender.recovery.phase is not Phase.OPEN


def _respond(sender: Sender, probe: TailProbe, now: float) -> None:
    if probe.unexplained:
        probe.unexplained = 0
        sender.congestion.on_loss(now, min(probe.flight_size, sender.congestion.cwnd))
