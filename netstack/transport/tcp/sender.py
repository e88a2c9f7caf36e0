"""The sending half of a connection: what may be sent now, what was lost, what was acknowledged.

Theory of operation. Sequence numbers are unwrapped integers (``core.seqnum.unwrap``); stream
offset ``d`` has sequence number ``iss + 1 + d``. What is in flight is a queue of ranges, never of
frames: a range remembers when it was sent and in pieces of which size, and a retransmission
builds new segments with today's ACK, window and timestamp. A range that is thought lost leaves
the flight and is sent again, ahead of new data, when the congestion window allows.

``next_range`` answers what to transmit next and ``on_sent`` records that it was; the connection
builds the segment in between. ``on_ack`` takes in an acknowledgment, ``on_duplicate_ack`` a
duplicate (RFC 5681, 6582), ``on_timeout`` the timer's expiry (RFC 6298).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from netstack.core.buffer import SendBuffer
from netstack.core.trace import Reason

if TYPE_CHECKING:
    from netstack.core.config import TcpConfig
    from netstack.transport.tcp.congestion.base import CongestionControl
    from netstack.transport.tcp.rtt import RttEstimator

DUPLICATE_ACK_THRESHOLD = 3  # RFC 5681 3.2
MAX_SUPER_SEGMENT = 65_535 - 40 - 40  # octets of payload: IP total length less all headers


class SentRange:
    """Octets in flight, or lost: ``start .. end`` sent in pieces of ``gso_size`` octets."""

    __slots__ = (
        "ambiguous", "end", "gso_size", "lost", "sacked", "sent_at", "start", "transmissions",
    )  # fmt: skip

    def __init__(self, start: int, end: int, sent_at: float, gso_size: int) -> None:
        self.start = start
        self.end = end
        self.sent_at = sent_at
        self.gso_size = gso_size
        self.transmissions = 1
        self.ambiguous = False  # an acknowledgment may be of an earlier transmission
        self.sacked = False
        self.lost = False

    def split(self, at: int) -> SentRange:
        """Cut at ``at``; keep the front, return the rest with the same history."""
        rest = SentRange(at, self.end, self.sent_at, self.gso_size)
        rest.transmissions = self.transmissions
        rest.ambiguous = self.ambiguous
        rest.sacked, rest.lost = self.sacked, self.lost
        self.end = at
        return rest


class Transmission(NamedTuple):
    """What to send next: sequence numbers ``start .. end``, SYN and FIN counted."""

    start: int
    end: int
    reason: Reason
    retransmitted: SentRange | None = None


class Acknowledged(NamedTuple):
    """What an acknowledgment brought: octets, and a round-trip time if one can be told."""

    octets: int
    rtt: float | None


class Sender:
    """``SND`` variables of RFC 9293 3.3.1, the send buffer and the retransmission queue."""

    __slots__ = (
        "_recovery_reason",
        "buffer",
        "buffer_size",
        "congestion",
        "duplicate_acks",
        "fin_queued",
        "inflation",
        "iss",
        "last_progress",
        "last_sent",
        "lost_octets",
        "max_window",
        "mss",
        "nodelay",
        "persist",
        "queue",
        "recover",
        "recovering",
        "retransmitted_segments",
        "rtt",
        "shift",
        "small_end",
        "snd_max",
        "snd_nxt",
        "snd_una",
        "snd_wl1",
        "snd_wl2",
        "snd_wnd",
        "taken",
        "timer_deadline",
        "timer_kind",
        "timeouts",
    )

    def __init__(
        self, iss: int, config: TcpConfig, congestion: CongestionControl, rtt: RttEstimator
    ) -> None:
        self.iss = iss
        self.snd_una = iss
        self.snd_nxt = iss
        self.snd_max = iss  # highest SND.NXT ever; a probe's octet may be taken back
        self.snd_wnd = 0
        self.snd_wl1 = 0
        self.snd_wl2 = 0
        self.max_window = 0
        self.shift = 0  # the peer's window scale
        self.mss = congestion.mss  # effective: what one wire segment carries
        self.congestion = congestion
        self.rtt = rtt
        self.buffer: SendBuffer | None = None
        self.taken = 0  # octets that the application has handed over
        self.buffer_size = config.send_buffer
        self.queue: deque[SentRange] = deque()
        self.lost_octets = 0
        self.fin_queued = False
        self.nodelay = not config.nagle
        self.small_end = iss  # end of the last short segment sent
        self.duplicate_acks = 0
        self.recovering = False  # fast recovery
        self.recover = iss  # RFC 6582 3.2
        self.inflation = 0  # octets cwnd is inflated by duplicate ACKs
        self._recovery_reason = Reason.FAST_RETRANSMIT
        self.timer_deadline: float | None = None
        self.timer_kind = ""  # "rto" or "persist"
        self.persist = False
        self.timeouts = 0  # expiries since the last progress
        self.retransmitted_segments = 0
        self.last_progress = 0.0
        self.last_sent = 0.0

    # ---- what there is ---------------------------------------------------------------------

    @property
    def data_end(self) -> int:
        """Sequence number one past the last queued octet."""
        return self.iss + 1 + self.taken

    @property
    def end(self) -> int:
        """Sequence number one past all that is to be sent, FIN included."""
        return self.data_end + self.fin_queued

    @property
    def flight_size(self) -> int:
        """Octets believed to be in the network."""
        return self.snd_nxt - self.snd_una - self.lost_octets

    @property
    def fin_acknowledged(self) -> bool:
        """Whether the peer has acknowledged our FIN."""
        return self.fin_queued and self.snd_una > self.data_end

    def room(self) -> int:
        """Return how many octets the send buffer still takes."""
        used = len(self.buffer) if self.buffer is not None else 0
        return max(self.buffer_size - used, 0)

    def take(self, data: bytes | bytearray | memoryview) -> int:
        """Queue what fits of ``data``; return how many octets that was."""
        length = min(len(data), self.room())
        if length:
            if self.buffer is None:
                self.buffer = SendBuffer()
            self.buffer.append(data, length)
            self.taken += length
        return length

    # ---- what may be sent ------------------------------------------------------------------

    def next_range(self, now: float, limit: int) -> Transmission | None:
        """Return what may be sent now, ``limit`` octets of payload at most, or None."""
        if self.lost_octets:
            lost = self._next_retransmission(limit)
            if lost is not None:
                return lost
            if not self.recovering:
                return None  # after a timeout, new data waits behind what was lost
        if self.snd_nxt == self.iss:
            return None  # the SYN goes by itself
        return self._next_new(now, limit)

    def _next_retransmission(self, limit: int) -> Transmission | None:
        window = self.congestion.cwnd + self.inflation - self.flight_size
        for sent in self.queue:
            if sent.lost:
                break
        else:
            return None
        size = sent.end - sent.start
        # RFC 5681 3.2: the segment that starts recovery goes whatever the window says; so does
        # one when nothing is in flight.
        if window < min(size, self.mss) and sent.start != self.snd_una:
            return None
        bound = self.mss if self.timeouts or window < 2 * self.mss else min(window, limit)
        if bound < size:
            size = max(bound - bound % self.mss, self.mss)
        end = sent.start + min(size, sent.end - sent.start)
        return Transmission(sent.start, end, self._recovery_reason, sent)

    def _next_new(self, now: float, limit: int) -> Transmission | None:
        queued = self.data_end - self.snd_nxt
        if queued <= 0:
            if self.fin_queued and self.snd_nxt == self.data_end and self._fin_fits():
                return Transmission(self.snd_nxt, self.snd_nxt + 1, Reason.FIN)
            return None
        usable = self.snd_una + self.snd_wnd - self.snd_nxt
        window = self.congestion.cwnd + self.inflation - self.flight_size
        octets = min(queued, usable, limit)
        mss = self.mss
        if window < min(octets, mss) and self.flight_size > 0:
            return None
        octets = min(octets, max(window, mss))
        if octets <= 0:
            return None
        if octets >= mss:
            tail = octets % mss
            if tail and not (octets == queued and self._tail_may_go(usable)):
                octets -= tail
        elif not self._short_segment_may_go(octets, queued, usable):
            return None
        end = self.snd_nxt + octets
        if self.fin_queued and end == self.data_end and octets < usable:
            end += 1
        reason = Reason.NEW_DATA
        if self.inflation and not self.recovering:
            reason = Reason.LIMITED_TRANSMIT
        return Transmission(self.snd_nxt, end, reason)

    def _fin_fits(self) -> bool:
        # A closed window takes no FIN, but nothing would probe for it: it goes once all data is
        # acknowledged, and the retransmission timer repeats it.
        return self.snd_wnd > self.snd_nxt - self.snd_una or self.snd_una == self.snd_nxt

    def _tail_may_go(self, usable: int) -> bool:
        """Nagle in Minshall's form (RFC 9293 3.7.4): one short segment in flight at a time."""
        return self.nodelay or self.fin_queued or self.small_end <= self.snd_una

    def _short_segment_may_go(self, octets: int, queued: int, usable: int) -> bool:
        """Sender's silly-window avoidance, RFC 9293 3.8.6.2.1, rules 2 and 3."""
        if octets == queued <= usable and self._tail_may_go(usable):
            return True
        # Not all that is queued: only the window can be the reason to send less.
        idle = self.snd_nxt == self.snd_una
        return (idle or self.nodelay) and octets == usable >= (self.max_window + 1) // 2

    def needs_persist(self) -> bool:
        """Return whether data waits for the window alone, so that it must be probed."""
        return (
            self.snd_nxt == self.snd_una
            and self.snd_nxt > self.iss
            and self.data_end > self.snd_nxt
        )

    def probe(self) -> Transmission:
        """Return the zero-window probe: one octet of new data, or what a tiny window takes.

        RFC 9293 3.8.6.1. The octet is in flight from then on, but repeated by the persist timer.
        """
        if self.queue:
            first = self.queue[0]
            return Transmission(first.start, min(first.end, first.start + 1), Reason.PROBE, first)
        usable = max(self.snd_una + self.snd_wnd - self.snd_nxt, 1)
        octets = min(usable, self.data_end - self.snd_nxt, self.mss)
        return Transmission(self.snd_nxt, self.snd_nxt + octets, Reason.PROBE)

    # ---- what was sent ---------------------------------------------------------------------

    def on_sent(self, transmission: Transmission, now: float) -> None:
        """Record that ``transmission`` left."""
        start, end, _, sent = transmission
        self.last_sent = now
        if not self.queue:
            self.last_progress = now  # nothing was owed before: R2 counts from here
        if sent is None:
            self.queue.append(SentRange(start, end, now, self.mss))
            self.snd_nxt = end
            self.snd_max = max(self.snd_max, end)
            if (end - start) % self.mss:
                self.small_end = end
        else:
            self._on_resent(sent, end, now)
        if transmission.reason is not Reason.PROBE:
            self.persist = False
        if self.timer_kind != "rto" or self.timer_deadline is None:
            self.restart_timer(now)

    def _on_resent(self, sent: SentRange, end: int, now: float) -> None:
        if end < sent.end:
            self.queue.insert(self.queue.index(sent) + 1, sent.split(end))
        if sent.lost:
            sent.lost = False
            self.lost_octets -= sent.end - sent.start
        # What was sent more than an MSL ago is in the network no more (RFC 9293 3.4.3). Without
        # this, a sender that repeats all it has stays backed off for ever.
        sent.ambiguous = now - sent.sent_at <= self.rtt.config.msl
        sent.sent_at = now
        sent.gso_size = self.mss
        sent.transmissions += 1
        self.retransmitted_segments += -(-(sent.end - sent.start) // self.mss)

    def restart_timer(self, now: float) -> None:
        """Let the timer run for one timeout, as it stands, from ``now`` on."""
        self.timer_kind = "persist" if self.persist else "rto"
        self.timer_deadline = now + self.rtt.timeout()

    def start_persist(self, now: float) -> None:
        """Data waits for the window alone: probe it from one timeout on (RFC 9293 3.8.6.1)."""
        self.persist = True
        self.last_progress = now  # nothing was owed before: R2 counts from here
        self.restart_timer(now)

    def wait(self, now: float) -> None:
        """Nothing can leave, for want of a route or of room below: try again, not forever."""
        if self.timer_deadline is None and (self.queue or self.end > self.snd_nxt):
            if not self.queue:
                self.last_progress = now
            self.restart_timer(now)

    def discard(self) -> None:
        """Forget what is queued and in flight: nothing is sent any more."""
        self.queue.clear()
        self.lost_octets = 0
        self.buffer = None
        self.persist = False
        self.timer_deadline = None

    # ---- what came back --------------------------------------------------------------------

    def on_ack(self, ack: int, now: float, timestamp_rtt: float | None) -> Acknowledged:
        """Take in ``ack`` > SND.UNA: free octets, measure, let the window grow."""
        octets = ack - self.snd_una
        flight = self.flight_size
        rtt, sent_once = self._remove_acknowledged(ack, now)
        if rtt is None:
            rtt = timestamp_rtt
        if rtt is not None:
            self.rtt.on_sample(rtt)
        elif sent_once or self.persist:
            # RFC 8961 4 (3): data that was sent once got through, or a probe was answered.
            self.rtt.backoff = 0
        self.snd_una = ack
        self.snd_nxt = max(self.snd_nxt, ack)
        if self.buffer is not None:
            self.buffer.release(min(ack - self.iss - 1, self.buffer.end))
        self.timeouts = 0
        self.last_progress = now
        if self.recovering:
            self._on_ack_in_recovery(ack, octets, now)
        else:
            self.duplicate_acks = 0
            self.inflation = 0
            self.congestion.on_ack(now, octets, flight, self.rtt.srtt)
        self.persist = False
        self.timer_deadline = None
        if self.queue:
            self.restart_timer(now)  # RFC 6298 5.3
        return Acknowledged(octets, rtt)

    def _remove_acknowledged(self, ack: int, now: float) -> tuple[float | None, bool]:
        """Drop ranges up to ``ack``; return the RTT of the last one, if each was sent once.

        Also whether any of them was sent once only.

        Karn: lost means sent again or about to be, which makes the acknowledgment ambiguous;
        and what came behind a hole waited for it to be filled.
        """
        queue = self.queue
        rtt = None
        ambiguous = sent_once = False
        while queue and queue[0].start < ack:
            sent = queue[0]
            if sent.lost:
                self.lost_octets -= min(sent.end, ack) - sent.start
            if sent.end > ack:
                sent.start = ack
                break
            ambiguous = ambiguous or sent.ambiguous or sent.lost
            sent_once = sent_once or sent.transmissions == 1
            rtt = now - sent.sent_at
            queue.popleft()
        return None if ambiguous else rtt, sent_once

    def _on_ack_in_recovery(self, ack: int, octets: int, now: float) -> None:
        if ack >= self.recover:  # full acknowledgment, RFC 6582 3.2 step 3
            self.recovering = False
            self.duplicate_acks = 0
            self.inflation = 0
            self.congestion.on_recovery_end(now, self.flight_size)
            return
        # Partial acknowledgment: the next hole, and the window deflated by what is gone.
        self.inflation = max(self.inflation - octets, 0)
        if octets >= self.mss:
            self.inflation += self.mss
        self._recovery_reason = Reason.PARTIAL_ACK
        self._mark_first_lost()

    def on_duplicate_ack(self, now: float, segments: int = 1) -> None:
        """Take in a duplicate acknowledgment (RFC 5681 3.2, RFC 6582, RFC 3042)."""
        if not self.queue:
            return
        self.duplicate_acks += segments
        if self.recovering:
            # No more than was in flight when recovery began can have left the network: what is
            # sent since must not pay for more (Savage 1999).
            self.inflation = min(self.inflation + self.mss, self.recover - self.snd_una)
        elif self.lost_octets:
            return  # a timeout's recovery is under way
        elif self.duplicate_acks >= DUPLICATE_ACK_THRESHOLD:
            if self.snd_una >= self.recover:  # RFC 6582 3.2 step 1
                self._enter_recovery(now)
        else:
            self.inflation = self.duplicate_acks * self.mss  # RFC 3042

    def _enter_recovery(self, now: float) -> None:
        self.recovering = True
        self.recover = self.snd_nxt
        self.congestion.on_loss(now, self.flight_size)
        self.inflation = DUPLICATE_ACK_THRESHOLD * self.mss
        self._recovery_reason = Reason.FAST_RETRANSMIT
        self._mark_first_lost()
        self.restart_timer(now)

    def _mark_first_lost(self) -> None:
        """Mark the first wire segment in flight lost; split only at multiples of its size."""
        first = self.queue[0]
        if first.lost:
            return
        # A cumulative ACK may have cut the range inside a wire segment; pieces count from it.
        if first.end - first.start > first.gso_size:
            self.queue.insert(1, first.split(first.start + first.gso_size))
        first.lost = True
        self.lost_octets += first.end - first.start

    def mark_larger_than(self, mss: int) -> None:
        """Mark what is in flight in pieces larger than ``mss`` lost: the path got narrower.

        No congestion response: nothing was dropped for want of capacity (RFC 1191 6.4).
        """
        for sent in self.queue:
            if min(sent.gso_size, sent.end - sent.start) > mss and not sent.lost:
                sent.lost = True
                self.lost_octets += sent.end - sent.start
                self._recovery_reason = Reason.PMTU

    def on_mss(self, mss: int) -> None:
        """Use ``mss`` octets a wire segment from the next transmission on."""
        self.mss = mss
        self.congestion.on_mss(mss)

    def on_timeout(self, now: float) -> None:
        """The retransmission timer expired: all in flight counts as lost (RFC 6298 5.4-5.6)."""
        self.congestion.on_timeout(now, self.flight_size + self.lost_octets, not self.timeouts)
        self.timeouts += 1
        self.rtt.back_off()
        self.recovering = False
        self._recovery_reason = Reason.RTO
        self.duplicate_acks = 0
        self.inflation = 0
        self.recover = self.snd_nxt  # RFC 6582 3.2 step 6
        self._mark_all_lost()
        self.restart_timer(now)  # also if nothing can leave now

    def _mark_all_lost(self) -> None:
        for sent in self.queue:
            sent.lost = True
        self.lost_octets = self.snd_nxt - self.snd_una

    def on_window(self, window: int, *, grew: bool) -> None:
        """The peer advertises ``window`` octets from SND.UNA on; ``grew``: more than before."""
        closed = self.snd_wnd == 0
        self.snd_wnd = window
        self.max_window = max(self.max_window, window)
        if not grew:
            return
        if self.persist:
            # The probe's octet may have been refused: it goes again with what follows.
            self.persist = False
            self.timer_deadline = None
            self.rtt.backoff = 0
            self.queue.clear()
            self.lost_octets = 0
            self.snd_nxt = self.snd_una
            self.small_end = self.snd_una
        elif closed and self.timeouts:
            # The closed window, not the network, refused what was repeated: it goes now.
            self.timeouts = 0
            self.rtt.backoff = 0
            self._mark_all_lost()
