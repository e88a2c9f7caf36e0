"""What a connection may send now (RFC 9293 3.7.4, 3.8.6.2; RFC 5681 3; RFC 5682; RFC 3042).

``next_range`` answers by the sender's variables and changes none but F-RTO's step; what was lost
goes ahead of new data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netstack.core.trace import Reason

if TYPE_CHECKING:
    from netstack.transport.tcp.scoreboard import SentRange
    from netstack.transport.tcp.sender import Sender


class Transmission:
    """What to send next: sequence numbers ``start .. end``, SYN and FIN counted."""

    __slots__ = ("end", "reason", "retransmitted", "start")

    def __init__(
        self, start: int, end: int, reason: Reason, retransmitted: SentRange | None = None
    ) -> None:
        self.start = start
        self.end = end
        self.reason = reason
        self.retransmitted = retransmitted


def next_range(sender: Sender, now: float, limit: int) -> Transmission | None:
    """Return what may be sent now, ``limit`` octets of payload at most, or None."""
    if sender.queue.lost_octets:
        recovery = sender.recovery
        if recovery is not None and recovery.frto == 2:
            # RFC 5682 3.1 step 2: after the first ACK new octets go, to see what comes back.
            probing = sender.snd_nxt - recovery.recover
            if probing < 2 * sender.mss:
                new = _next_new(sender, now, min(limit, 2 * sender.mss - probing))
                if new is not None:
                    return new
            if probing:
                return None  # step 3: the next ACK decides
            recovery.frto = 0
        lost = _next_retransmission(sender, limit)
        if lost is not None:
            return lost
        if not sender.recovering:
            return None  # after a timeout, new data waits behind what was lost
    if sender.snd_nxt == sender.iss:
        return None  # the SYN goes by itself
    return _next_new(sender, now, limit)


def _next_retransmission(sender: Sender, limit: int) -> Transmission | None:
    sent = sender.queue.first_lost()
    if sent is None:
        return None
    window: int = sender.congestion.cwnd + sender.inflation - sender.flight_size
    size: int = sent.end - sent.start
    # RFC 5681 3.2: the segment that starts recovery goes whatever the window says; so does
    # one when nothing is in flight.
    if window < min(size, sender.mss) and sent.start != sender.snd_una:
        return None
    bound = sender.mss if sender.timeouts or window < 2 * sender.mss else min(window, limit)
    if bound < size:
        size = max(bound - bound % sender.mss, sender.mss)
    end = sent.start + min(size, sent.end - sent.start)
    reason = sender.recovery.reason if sender.recovery is not None else Reason.PMTU
    return Transmission(sent.start, end, reason, sent)


def _next_new(sender: Sender, now: float, limit: int) -> Transmission | None:
    data_end, snd_nxt = sender.data_end, sender.snd_nxt
    queued = data_end - snd_nxt
    if queued <= 0:
        if sender.fin_queued and snd_nxt == data_end and _fin_fits(sender):
            return Transmission(snd_nxt, snd_nxt + 1, Reason.FIN)
        return None
    usable = sender.snd_una + sender.snd_wnd - snd_nxt
    inflation, flight_size = sender.inflation, sender.flight_size
    window: int = sender.congestion.cwnd + inflation - flight_size
    octets: int = min(queued, usable, limit)
    mss = sender.mss
    if window < min(octets, mss) and flight_size > 0:
        return None
    octets = min(octets, max(window, mss))
    if octets <= 0:
        return None
    if octets >= mss:
        tail = octets % mss
        if tail and not (octets == queued and _tail_may_go(sender, usable)):
            octets -= tail
    elif not _short_segment_may_go(sender, octets, queued, usable):
        return None
    end = snd_nxt + octets
    if sender.fin_queued and end == data_end and octets < usable:
        end += 1
    reason = Reason.NEW_DATA
    if inflation and not sender.recovering:
        reason = Reason.LIMITED_TRANSMIT
    return Transmission(snd_nxt, end, reason)


def _fin_fits(sender: Sender) -> bool:
    # A closed window takes no FIN, but nothing would probe for it: it goes once all data is
    # acknowledged, and the retransmission timer repeats it.
    return sender.snd_wnd > sender.snd_nxt - sender.snd_una or sender.snd_una == sender.snd_nxt


def _tail_may_go(sender: Sender, usable: int) -> bool:
    """Nagle in Minshall's form (RFC 9293 3.7.4): one short segment in flight at a time."""
    if sender.cork is not None:
        return sender.fin_queued or sender.data_end <= sender.cork
    return sender.nodelay or sender.fin_queued or sender.small_end <= sender.snd_una


def _short_segment_may_go(sender: Sender, octets: int, queued: int, usable: int) -> bool:
    """Sender's silly-window avoidance, RFC 9293 3.8.6.2.1, rules 2 and 3."""
    if octets == queued <= usable and _tail_may_go(sender, usable):
        return True
    # Not all that is queued: only the window can be the reason to send less.
    idle = sender.snd_nxt == sender.snd_una
    return (idle or sender.nodelay) and octets == usable >= (sender.max_window + 1) // 2


def needs_persist(sender: Sender) -> bool:
    """Return whether data waits for the window alone, so that it must be probed."""
    if sender.cork is not None and sender.cork < sender.data_end < sender.snd_nxt + sender.mss:
        return False  # it waits for the cork
    return (
        sender.snd_nxt == sender.snd_una
        and sender.snd_nxt > sender.iss
        and sender.data_end > sender.snd_nxt
    )


def probe(sender: Sender) -> Transmission:
    """Return the zero-window probe: one octet of new data, or what a tiny window takes.

    RFC 9293 3.8.6.1. The octet is in flight from then on, but repeated by the persist timer.
    """
    if sender.queue:
        first = sender.queue[0]
        return Transmission(first.start, min(first.end, first.start + 1), Reason.PROBE, first)
    usable = max(sender.snd_una + sender.snd_wnd - sender.snd_nxt, 1)
    octets = min(usable, sender.data_end - sender.snd_nxt, sender.mss)
    return Transmission(sender.snd_nxt, sender.snd_nxt + octets, Reason.PROBE)
