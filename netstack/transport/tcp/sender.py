"""The sending half of a connection: what was sent, what was lost, what was acknowledged.

Theory of operation. Sequence numbers are unwrapped integers (``core.seqnum.unwrap``); stream
offset ``d`` has sequence number ``iss + 1 + d``. What is in flight is a queue of ranges, never of
frames (``scoreboard``): a retransmission builds new segments with today's ACK, window and
timestamp. A range that is thought lost leaves the flight and is sent again, ahead of new data,
when the congestion window allows; what is thought lost is decided in ``recovery``.

``transmission.next_range`` answers what to transmit next and ``on_sent`` records that it was;
``output`` builds the segment in between. ``on_ack`` takes in an acknowledgment, SACK blocks
included, ``on_duplicate_ack`` a duplicate without them, ``on_timeout`` the retransmission timer's
expiry (RFC 6298). The timer has kinds: "rto", "persist", "tlp" (tail loss probe) and "reorder".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netstack.core.buffer import SendBuffer
from netstack.core.seqnum import unwrap
from netstack.core.timers import NEVER
from netstack.core.trace import Reason
from netstack.transport.tcp import tail_probe
from netstack.transport.tcp.autotuning import send_sizes
from netstack.transport.tcp.delivery_rate import DeliveryRate
from netstack.transport.tcp.limits import FLOOR
from netstack.transport.tcp.recovery import (
    Delivery,
    Phase,
    Recovery,
    RenoRecovery,
    SackRecovery,
)
from netstack.transport.tcp.scoreboard import Scoreboard, SentRange

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netstack.core.config import TcpConfig
    from netstack.transport.tcp.congestion.base import CongestionControl
    from netstack.transport.tcp.memory import Memory
    from netstack.transport.tcp.rtt import RttEstimator
    from netstack.transport.tcp.tail_probe import TailProbe
    from netstack.transport.tcp.transmission import Transmission


class Sender:
    """``SND`` variables of RFC 9293 3.3.1, the send buffer and the retransmission queue."""

    __slots__ = (
        "_reorder_deadline",
        "acked_size",
        "buffer",
        "buffer_limit",
        "buffer_size",
        "congestion",
        "cork",
        "delivered",
        "fin_queued",
        "flight_sent",
        "iss",
        "last_progress",
        "last_sent",
        "max_window",
        "memory",
        "mss",
        "nodelay",
        "persist",
        "queue",
        "rate",
        "recovery",
        "retransmitted_octets",
        "retransmitted_segments",
        "rto_deadline",
        "rtt",
        "sack_on",
        "shift",
        "small_end",
        "snd_max",
        "snd_nxt",
        "snd_una",
        "snd_wl1",
        "snd_wl2",
        "snd_wnd",
        "tail_probe",
        "taken",
        "timer_deadline",
        "timer_kind",
        "timeouts",
    )

    def __init__(
        self,
        iss: int,
        config: TcpConfig,
        congestion: CongestionControl,
        rtt: RttEstimator,
        memory: Memory | None = None,
    ) -> None:
        self.iss = iss
        self.snd_una = iss
        self.snd_nxt = iss
        self.snd_max = iss  # highest SND.NXT ever; a probe's octet may be taken back
        self.snd_wnd = 0
        self.snd_wl1 = 0
        self.snd_wl2 = 0
        self.max_window = 0
        self.flight_sent = 0  # the flight just after the last transmission
        self.shift = 0  # the peer's window scale
        self.mss: int = congestion.mss  # effective: what one wire segment carries
        self.congestion = congestion
        self.rtt = rtt
        self.buffer: SendBuffer | None = None
        self.acked_size = 0  # of the largest segment that was acknowledged
        self.taken = 0  # octets that the application has handed over
        self.buffer_size: int
        self.buffer_limit: int
        self.buffer_size, self.buffer_limit = send_sizes(config)
        self.memory = memory  # what the host has for all; None: no bound
        self.queue = Scoreboard()
        self.sack_on = False  # negotiated (RFC 2018 2)
        self.recovery: Recovery | None = None  # made at the first sign of loss
        self.fin_queued = False
        self.nodelay: bool = not config.nagle
        self.cork: int | None = None  # corked: short segments may end here at most
        self.small_end = iss  # end of the last short segment sent
        self.timer_deadline: float = NEVER
        self.timer_kind = ""
        self.rto_deadline: float = NEVER
        self._reorder_deadline: float = NEVER
        self.tail_probe: TailProbe | None = None  # made by the first, until all are explained
        self.persist = False
        self.timeouts = 0  # expiries since the last progress
        self.retransmitted_segments = 0
        self.retransmitted_octets = 0
        self.delivered = 0  # octets acknowledged or sacked
        self.rate: DeliveryRate | None = None  # made once more than a segment is in flight
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
        queue = self.queue
        return self.snd_nxt - self.snd_una - queue.lost_octets - queue.sacked_octets

    @property
    def lost_octets(self) -> int:
        """Octets that wait to be sent again."""
        return self.queue.lost_octets

    @property
    def inflation(self) -> int:
        """Octets that the congestion window is inflated by duplicate ACKs (RFC 6582)."""
        return self.recovery.inflation if self.recovery is not None else 0

    @property
    def recovering(self) -> bool:
        """Whether losses shown by acknowledgments are being repaired."""
        return self.recovery is not None and self.recovery.phase is Phase.RECOVERY

    @property
    def fin_acknowledged(self) -> bool:
        """Whether the peer has acknowledged our FIN."""
        return self.fin_queued and self.snd_una > self.data_end

    def room(self) -> int:
        """Return how many octets the send buffer still takes."""
        buffer = self.buffer
        used = buffer.end - buffer.start if buffer is not None else 0
        size = self.buffer_size
        if self.memory is not None and self.memory.tight:
            size = min(size, max(used + self.memory.left, FLOOR))
        return max(size - used, 0)

    def take(self, data: bytes | bytearray | memoryview) -> int:
        """Queue what fits of ``data``; return how many octets that was."""
        length = min(len(data), self.room())
        if length:
            if self.buffer is None:
                self.buffer = SendBuffer()
            self.buffer.append(data, length)
            self.taken += length
        return length

    # ---- what was sent ---------------------------------------------------------------------

    def on_sent(self, transmission: Transmission, now: float) -> None:
        """Record that ``transmission`` left."""
        start, end, sent = transmission.start, transmission.end, transmission.retransmitted
        self.last_sent = now
        queue = self.queue
        if not queue.ranges:
            self.last_progress = now  # nothing was owed before: R2 counts from here
            if self.rate is not None:
                self.rate.restart(now, self.delivered, self.rtt.srtt)
        recovery = self.recovery
        if sent is None:
            queue.append(start, end, now, self.mss)
            self.snd_nxt = end
            self.snd_max = max(self.snd_max, end)
            if (end - start) % self.mss and start != self.iss:
                self.small_end = end  # a SYN by itself is none of Nagle's segments
        else:
            queue.resent(sent, end, now, self.mss, self.rtt.config.msl)
            if start == self.snd_una and transmission.reason is not Reason.TLP:
                # As Linux does: what the timer waits for has only now left again.
                self.rto_deadline = NEVER
            self.retransmitted_segments += sent.segments
            self.retransmitted_octets += end - start
        self.flight_sent = self.snd_nxt - self.snd_una - queue.lost_octets - queue.sacked_octets
        if recovery is not None:
            recovery.on_sent(end - start, now, again=sent is not None)
        if self.persist and transmission.reason is not Reason.PROBE:
            self.persist = False
        self._arm(now)  # RFC 8985 7.2: each transmission puts the tail probe off

    def restart_timer(self, now: float) -> None:
        """Let the timer run for one timeout, as it stands, from ``now`` on."""
        self.rto_deadline = now + self.rtt.timeout()
        self._arm(now)

    def _arm(self, now: float) -> None:
        """Set the one deadline: persist, or the earliest of RTO, reordering and tail probe."""
        if self.persist:
            self.timer_kind, self.timer_deadline = "persist", now + self.rtt.timeout()
            return
        if self.rto_deadline == NEVER:
            self.rto_deadline = now + self.rtt.timeout()
        self.timer_kind, self.timer_deadline = "rto", self.rto_deadline
        if self._reorder_deadline != NEVER:
            if self._reorder_deadline < self.rto_deadline:
                self.timer_kind, self.timer_deadline = "reorder", self._reorder_deadline
        else:
            probe_at = tail_probe.deadline(self, now)
            if probe_at != NEVER:
                self.timer_kind, self.timer_deadline = "tlp", probe_at

    def start_persist(self, now: float) -> None:
        """Data waits for the window alone: probe it from one timeout on (RFC 9293 3.8.6.1)."""
        self.persist = True
        self.last_progress = now  # nothing was owed before: R2 counts from here
        self.restart_timer(now)

    def wait(self, now: float) -> None:
        """Nothing can leave, for want of a route or of room below: try again, not forever."""
        if self.timer_deadline == NEVER and (self.queue or self.end > self.snd_nxt):
            if not self.queue:
                self.last_progress = now
            self.restart_timer(now)

    def discard(self) -> None:
        """Forget what is queued and in flight: nothing is sent any more."""
        self.queue.clear()
        self.recovery = self.tail_probe = None
        self.buffer = None
        self.persist = False
        self._stop_timer()

    def _stop_timer(self) -> None:
        self.timer_deadline = self.rto_deadline = self._reorder_deadline = NEVER

    # ---- what came back --------------------------------------------------------------------

    def on_ack(
        self,
        ack: int,
        now: float,
        timestamp_rtt: float | None,
        blocks: Sequence[tuple[int, int]] = (),
    ) -> None:
        """Take in an ACK that advances SND.UNA or carries SACK ``blocks`` (as on the wire)."""
        queue = self.queue
        octets = ack - self.snd_una
        # Of several acknowledgments in a burst, each finds the flight that the window allowed:
        # nothing could be sent between them.
        sacked_before = queue.sacked_octets
        flight = max(
            self.snd_nxt - self.snd_una - queue.lost_octets - sacked_before, self.flight_sent
        )
        gone = queue.acknowledge(ack) if octets else []
        rtt = _round_trip(gone, now)
        ranges = [sent for sent in gone if not sent.sacked]
        dsack = self._take_blocks(blocks, ack, ranges) if blocks else None
        if rtt is None:
            if octets:
                rtt = timestamp_rtt
            elif ranges and ranges[-1].transmissions == 1:
                rtt = now - ranges[-1].sent_at
        if rtt is not None:
            self.rtt.on_sample(rtt)
        elif self.persist or _any_sent_once(ranges):
            # RFC 8961 4 (3): data that was sent once got through, or a probe was answered.
            self.rtt.backoff = 0
        if octets:
            self._advance(ack, now, gone)
        delivered = octets + queue.sacked_octets - sacked_before
        self.delivered += delivered
        rate = self.rate
        if (flight > self.mss) if rate is None else (now >= rate.due):
            self._sample_rate(now)
        if self.recovery is not None or queue.sacked_octets:
            recovery = self.recovery or self._make_recovery()
            recovery.on_ack(
                Delivery(
                    now, ack, self.snd_nxt, octets, delivered, ranges, flight, rtt,
                    _sent_at(now, timestamp_rtt), dsack,
                )
            )  # fmt: skip
        elif octets:
            self.congestion.on_ack(now, octets, flight, self.rtt.srtt, rtt)
        if self.tail_probe is not None:
            tail_probe.on_ack(self, self.tail_probe, dsack, now, news=bool(octets or ranges))
        if octets or ranges:
            self._restart_timers(now, advanced=octets > 0)

    def _restart_timers(self, now: float, *, advanced: bool) -> None:
        """Something was delivered, so all timers start over (RFC 6298 5.3)."""
        self.persist = False
        self._reorder_deadline = NEVER
        timeout = self.recovery.reorder_timeout if self.recovery is not None else None
        if timeout is not None:
            self._reorder_deadline = now + timeout
        if advanced:
            self._stop_rto()
        elif self.rto_deadline != NEVER:
            # What was backed off for a silence that is over waits no longer than it would now.
            self.rto_deadline = min(self.rto_deadline, now + self.rtt.timeout())
        if self.queue.ranges:
            self._arm(now)

    def _sample_rate(self, now: float) -> None:
        if self.rate is None:
            self.rate = DeliveryRate(now, self.delivered)
            return
        limited = self.data_end <= self.snd_nxt
        self.rate.sample(now, self.delivered, self.rtt.srtt, limited=limited)

    def _stop_rto(self) -> None:
        self.rto_deadline = NEVER
        self.timer_deadline = NEVER

    def _advance(self, ack: int, now: float, gone: list[SentRange]) -> None:
        if gone and self.acked_size < self.mss:
            for sent in gone:
                size = min(sent.end - sent.start, sent.gso_size)
                self.acked_size = max(self.acked_size, size)
        self.snd_una = ack
        self.snd_nxt = max(self.snd_nxt, ack)
        buffer = self.buffer
        if buffer is not None:
            buffer.release(min(ack - self.iss - 1, buffer.end))
        self.timeouts = 0
        self.last_progress = now

    def _take_blocks(
        self, blocks: Sequence[tuple[int, int]], ack: int, ranges: list[SentRange]
    ) -> tuple[int, int] | None:
        """Enter SACK blocks (RFC 2018); return the D-SACK block if the first is one (RFC 2883).

        What lies outside of what is in flight is ignored: forged, or from an old connection. The
        latest block stands first (RFC 2018 4); what they tell of is taken in the order in which
        it was sent, or each block behind another would look overtaken by it.
        """
        dsack = None
        found: list[tuple[int, int]] = []
        for index, block in enumerate(blocks):
            left: int = unwrap(block[0], ack)
            right: int = unwrap(block[1], ack)
            if left >= right or right > self.snd_max:
                continue
            if index == 0 and (right <= ack or _within(left, right, blocks[1:2], ack)):
                if left >= ack - self.max_window and left > self.iss:
                    dsack = (left, right)
                continue
            if left >= ack:
                found.append((left, right))
        found.sort()
        for left, right in found:
            ranges.extend(self.queue.sack(left, right))
        return dsack

    def _make_recovery(self) -> Recovery:
        kind = SackRecovery if self.sack_on else RenoRecovery
        self.recovery = kind(self.queue, self.congestion, self.rtt, self.iss)
        return self.recovery

    def on_duplicate_ack(self, now: float) -> None:
        """Take in a duplicate acknowledgment of a peer without SACK (RFC 5681 3.2)."""
        recovery = self.recovery
        if recovery is None:
            if not self.queue:
                return
            recovery = self._make_recovery()
        was_recovering = self.recovering
        recovery.on_duplicate_ack(now, self.snd_una, self.snd_nxt)
        if self.recovering and not was_recovering:
            self.restart_timer(now)

    # ---- timers ----------------------------------------------------------------------------

    def on_reorder_timer(self, now: float) -> None:
        """What may have been overtaken has had its time (RFC 8985 6.2)."""
        self._reorder_deadline = NEVER
        if self.recovery is not None:
            flight = max(self.flight_size, self.flight_sent)
            self.recovery.on_reorder_timer(now, self.snd_nxt, flight)
            timeout = self.recovery.reorder_timeout
            if timeout is not None:
                self._reorder_deadline = now + timeout
        if self.tail_probe is not None and self.recovering:
            self.tail_probe.unexplained = 0  # recovery slows down already
        if self.queue:
            self._arm(now)

    def on_probed(self, now: float, *, sent: bool) -> None:
        """The tail was to be probed: ``sent`` or not.

        RFC 8985 7.3: the timeout runs anew from the first probe, later ones run against it.
        """
        if sent and self.tail_probe is not None and self.tail_probe.count == 1:
            self.restart_timer(now)
        elif self.queue:
            self._arm(now)

    def mark_larger_than(self, mss: int) -> None:
        """Mark what is in flight in pieces larger than ``mss`` lost: the path got narrower.

        No congestion response: nothing was dropped for want of capacity (RFC 1191 6.4).
        """
        for sent in self.queue.ranges:
            if min(sent.gso_size, sent.end - sent.start) > mss:
                self.queue.mark_lost(sent)

    def resend(self, reason: Reason) -> None:
        """Mark all that is in flight lost, without congestion response."""
        recovery = self.recovery if self.recovery is not None else self._make_recovery()
        recovery.reason = reason
        for sent in self.queue.ranges:
            self.queue.mark_lost(sent)
        self.small_end = self.snd_una  # Nagle doesn't wait for what went too early

    def on_mss(self, mss: int) -> None:
        """Use ``mss`` octets a wire segment from the next transmission on."""
        self.mss = mss
        self.congestion.on_mss(mss)

    def use_congestion(self, congestion: CongestionControl) -> None:
        """Let ``congestion`` decide from now on; windows and a recovery under way go on."""
        congestion.take_over(self.congestion)
        self.congestion = congestion
        if self.recovery is not None:
            self.recovery.congestion = congestion

    def on_timeout(self, now: float) -> None:
        """The retransmission timer expired (RFC 6298 5.4-5.6)."""
        recovery = self.recovery if self.recovery is not None else self._make_recovery()
        recovery.on_timeout(now, self.snd_nxt, first=not self.timeouts)
        self.timeouts += 1
        self.rtt.back_off()
        self.tail_probe = None
        self._reorder_deadline = NEVER
        self.restart_timer(now)  # also if nothing can leave now

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
            self._stop_timer()
            self.rtt.backoff = 0
            self.queue.clear()
            self.snd_nxt = self.snd_una
            self.small_end = self.snd_una
        elif closed and self.timeouts:
            # The closed window, not the network, refused what was repeated: it goes now.
            self.timeouts = 0
            self.rtt.backoff = 0
            for sent in self.queue.ranges:
                self.queue.mark_lost(sent)


def _sent_at(now: float, timestamp_rtt: float | None) -> float | None:
    """Return when that was sent whose timestamp an acknowledgment echoes; None without one."""
    return None if timestamp_rtt is None else now - timestamp_rtt


def _round_trip(gone: list[SentRange], now: float) -> float | None:
    """Return the RTT of the last range acknowledged, if each was sent once.

    Karn: lost means sent again or about to be, which makes the acknowledgment ambiguous; and
    what came behind a hole waited for it to be filled.
    """
    if not gone:
        return None
    for sent in gone:
        if sent.ambiguous or sent.lost:
            return None
    last = gone[-1]
    return None if last.sacked else now - last.sent_at


def _any_sent_once(ranges: list[SentRange]) -> bool:
    for sent in ranges:  # noqa: SIM110 - C has no generators
        if sent.transmissions == 1:
            return True
    return False


def _within(left: int, right: int, block: Sequence[tuple[int, int]], ack: int) -> bool:
    if not block:
        return False
    return unwrap(block[0][0], ack) <= left and right <= unwrap(block[0][1], ack)
