"""What happens between the first sign of a loss and its repair.

Theory of operation. A connection has no recovery object until something looks lost; then one is
made and kept. ``phase`` is OPEN, RECOVERY (losses shown by acknowledgments) or LOSS (the
retransmission timer expired). With SACK, RACK marks what is lost (RFC 8985) and PRR says how much
may go (RFC 9937); without, duplicate ACKs are counted (RFC 5681, 6582). Each episode remembers
the windows from before: if it proves spurious, by an ACK that echoes a timestamp older than the
first retransmission (Eifel, RFC 3522), by DSACKs for all retransmissions (RFC 3708), or, after a
timeout, by the delivery of octets that were never sent again (F-RTO, RFC 5682), they come back.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from netstack.core.trace import Reason
from netstack.transport.tcp.prr import ProportionalRateReduction
from netstack.transport.tcp.rack import Rack

if TYPE_CHECKING:
    from netstack.transport.tcp.congestion.base import CongestionControl
    from netstack.transport.tcp.rtt import RttEstimator
    from netstack.transport.tcp.scoreboard import Scoreboard, SentRange

DUPLICATE_ACK_THRESHOLD = 3  # RFC 5681 3.2
_TICK = 0.001  # seconds: the timestamp clock's, below which it can't tell two times apart


class Phase(IntEnum):
    """Where the sender stands."""

    OPEN = 0
    RECOVERY = 1
    LOSS = 2


class Delivery:
    """What one acknowledgment brought.

    ``octets`` SND.UNA advanced by, ``delivered`` of all kinds for the first time, ``ranges`` with
    their history. ``flight_size`` was in flight when something was last sent; ``echoed_at`` is
    the time of sending that the ACK's timestamp echoes, None without one.
    """

    __slots__ = (
        "delivered",
        "dsack",
        "echoed_at",
        "flight_size",
        "now",
        "octets",
        "ranges",
        "rtt",
        "snd_nxt",
        "snd_una",
    )

    def __init__(
        self,
        now: float,
        snd_una: int,
        snd_nxt: int,
        octets: int,
        delivered: int,
        ranges: list[SentRange],
        flight_size: int,
        rtt: float | None,
        echoed_at: float | None,
        dsack: tuple[int, int] | None,
    ) -> None:
        self.now = now
        self.snd_una = snd_una
        self.snd_nxt = snd_nxt
        self.octets = octets
        self.delivered = delivered
        self.ranges = ranges
        self.flight_size = flight_size
        self.rtt = rtt
        self.echoed_at = echoed_at
        self.dsack = dsack


class Recovery:
    """Base: phases, and undoing what was for nothing."""

    __slots__ = (
        "_eifel_armed",
        "_first_retransmit_at",
        "_prior",
        "_retransmitted",
        "board",
        "congestion",
        "frto",
        "inflation",
        "phase",
        "reason",
        "recover",
        "reorder_timeout",
        "rtt",
    )

    def __init__(
        self, board: Scoreboard, congestion: CongestionControl, rtt: RttEstimator, recover: int
    ) -> None:
        self.board = board
        self.congestion = congestion
        self.rtt = rtt
        self.phase = Phase.OPEN
        self.recover = recover  # SND.NXT when the episode began
        self.inflation = 0  # octets that cwnd is inflated by (RFC 6582)
        self.reason = Reason.FAST_RETRANSMIT
        self.reorder_timeout: float | None = None
        self.frto = 0
        self._prior: tuple[int, int] | None = None
        self._first_retransmit_at: float | None = None
        self._eifel_armed = False
        self._retransmitted = 0  # octets sent again in this episode and not DSACKed

    # ---- what the sender tells -------------------------------------------------------------

    def on_ack(self, delivery: Delivery) -> None:
        """Take in an acknowledgment that delivered something, or advanced."""
        raise NotImplementedError

    def on_duplicate_ack(self, now: float, snd_una: int, snd_nxt: int) -> None:
        """Take in a duplicate acknowledgment without SACK information."""

    def on_sent(self, octets: int, now: float, *, again: bool) -> None:
        """``octets`` left."""
        if again:
            self._retransmitted += octets
            if self._first_retransmit_at is None:
                self._first_retransmit_at = now
                self._eifel_armed = True

    def on_timeout(self, now: float, snd_nxt: int, *, first: bool) -> None:
        """The retransmission timer expired (RFC 6298 5.4, RFC 5681 3.1)."""
        if self.phase is Phase.OPEN:
            self._remember()
        flight_size = self._outstanding()
        self._mark_on_timeout(now)
        self.congestion.on_timeout(now, flight_size, first)
        self.phase = Phase.LOSS
        self.reason = Reason.RTO
        self.inflation = 0
        self.recover = snd_nxt

    def on_reorder_timer(self, now: float, snd_nxt: int, flight_size: int) -> None:
        """What might have been reordered has had its time (RFC 8985 6.2)."""

    # ---- for the kinds of recovery ---------------------------------------------------------

    def _outstanding(self) -> int:
        board = self.board
        return board[-1].end - board[0].start - board.sacked_octets if board else 0

    def _mark_on_timeout(self, now: float) -> None:
        raise NotImplementedError

    def _remember(self) -> None:
        """An episode begins: keep what a spurious one gives back."""
        self._prior = (self.congestion.cwnd, self.congestion.ssthresh)
        self._first_retransmit_at = None
        self._eifel_armed = False
        self._retransmitted = 0

    def _enter(self, now: float, snd_nxt: int, flight_size: int) -> None:
        self._remember()
        self.phase = Phase.RECOVERY
        self.recover = snd_nxt
        self.reason = Reason.FAST_RETRANSMIT
        self.congestion.on_loss(now, flight_size)

    def _end(self) -> None:
        self.phase = Phase.OPEN
        self.inflation = 0
        self.frto = 0

    def _undo(self) -> None:
        """Loss was only apparent: windows come back, nothing is sent again."""
        if self._prior is not None:
            self.congestion.undo(*self._prior)
            self._prior = None
        self.board.unmark_lost()
        self._end()

    def forgive(self) -> None:
        """The only loss was that of a large probe: it shows no congestion (RFC 4821 7.6.2)."""
        if self.phase is Phase.RECOVERY and self._first_retransmit_at is None and self._prior:
            self.congestion.undo(*self._prior)
            self._prior = None
            self._end()

    def _proved_spurious(self, delivery: Delivery) -> bool:
        if self._prior is None or self._first_retransmit_at is None:
            return False
        if delivery.octets and self._eifel_armed and delivery.echoed_at is not None:
            # Eifel: the ACK answers something sent before the first retransmission.
            if delivery.echoed_at + _TICK < self._first_retransmit_at:
                return True
            self._eifel_armed = False
        if delivery.dsack is not None and self._retransmitted > 0:
            left, right = delivery.dsack
            self._retransmitted -= right - left
            return self._retransmitted <= 0
        return False


class RenoRecovery(Recovery):
    """Without SACK: duplicate ACKs, fast retransmit, NewReno's partial ACKs."""

    __slots__ = ("duplicate_acks",)

    def __init__(
        self, board: Scoreboard, congestion: CongestionControl, rtt: RttEstimator, recover: int
    ) -> None:
        super().__init__(board, congestion, rtt, recover)
        self.duplicate_acks = 0

    def on_ack(self, delivery: Delivery) -> None:
        """RFC 6582 3.2 step 3; slow start after a timeout."""
        if self._proved_spurious(delivery):
            self._undo()
        if self.phase is Phase.RECOVERY:
            self._on_ack_in_recovery(delivery)
            return
        if self.phase is Phase.LOSS and delivery.snd_una >= self.recover:
            self._end()
        self.duplicate_acks = 0
        self.inflation = 0
        self.congestion.on_ack(
            delivery.now, delivery.octets, delivery.flight_size, self.rtt.srtt, delivery.rtt
        )

    def _on_ack_in_recovery(self, delivery: Delivery) -> None:
        congestion = self.congestion
        if delivery.snd_una >= self.recover:
            self._end()
            self.duplicate_acks = 0
            # RFC 6582 3.2 step 3, full acknowledgment, first option.
            flight_size = delivery.snd_nxt - delivery.snd_una
            mss = congestion.mss
            congestion.cwnd = min(congestion.ssthresh, max(flight_size, mss) + mss)
            return
        # Partial acknowledgment: the next hole, and the window deflated by what is gone.
        self.inflation = max(self.inflation - delivery.octets, 0)
        if delivery.octets >= congestion.mss:
            self.inflation += congestion.mss
        self.reason = Reason.PARTIAL_ACK
        self.board.mark_first_lost()

    def on_duplicate_ack(self, now: float, snd_una: int, snd_nxt: int) -> None:
        """RFC 5681 3.2, RFC 6582 3.2, RFC 3042."""
        if not self.board:
            return
        mss = self.congestion.mss
        self.duplicate_acks += 1
        if self.phase is Phase.RECOVERY:
            # No more than was in flight when recovery began can have left the network: what is
            # sent since must not pay for more (Savage 1999).
            self.inflation = min(self.inflation + mss, self.recover - snd_una)
        elif self.phase is Phase.LOSS:
            return
        elif self.duplicate_acks >= DUPLICATE_ACK_THRESHOLD:
            if snd_una >= self.recover:  # RFC 6582 3.2 step 1
                self._enter(now, snd_nxt, snd_nxt - snd_una)
                self.inflation = DUPLICATE_ACK_THRESHOLD * mss
                self.board.mark_first_lost()
        else:
            self.inflation = self.duplicate_acks * mss  # RFC 3042

    def _mark_on_timeout(self, now: float) -> None:
        self.duplicate_acks = 0
        for sent in self.board.ranges:
            self.board.mark_lost(sent)


class SackRecovery(Recovery):
    """With SACK: RACK, PRR and F-RTO."""

    __slots__ = ("prr", "rack")

    def __init__(
        self, board: Scoreboard, congestion: CongestionControl, rtt: RttEstimator, recover: int
    ) -> None:
        super().__init__(board, congestion, rtt, recover)
        self.rack = Rack()
        self.prr: ProportionalRateReduction | None = None

    def on_ack(self, delivery: Delivery) -> None:
        """RFC 8985 6.2, RFC 9937, RFC 5682."""
        rack = self.rack
        original = False
        # What was sent again and answered sooner than this was the original's delivery.
        # A tail probe follows so late that there is no doubt.
        plausible = self.rtt.min_rtt
        if self.phase is not Phase.OPEN:
            plausible = max(plausible, self.rtt.srtt / 2)
        for sent in delivery.ranges:
            # RFC 7323 4.3: beyond a gap the echo is of what came before the gap.
            echoed_at = delivery.echoed_at if sent.end <= delivery.snd_una else None
            rack.on_delivered(sent, delivery.now, plausible, echoed_at)
            original = original or (sent.transmissions == 1 and sent.start < self.recover)
        if delivery.dsack is not None:
            rack.on_dsack(delivery.snd_una, delivery.snd_nxt)
        if self._proved_spurious(delivery) or (self.frto and original):
            self._undo()
        elif self.frto:
            self._step_frto(delivery)
        if self.phase is not Phase.OPEN and delivery.snd_una >= self.recover:
            if self.phase is Phase.RECOVERY:
                # RFC 9937 6: at the end of recovery the window is ssthresh.
                self.congestion.cwnd = self.congestion.ssthresh
            self._end()
            rack.on_recovery_end()
        lost_before = self.board.lost_octets
        self._detect(delivery.now)
        new_loss = self.board.lost_octets > lost_before
        if new_loss and self.phase is Phase.OPEN:
            self._enter(delivery.now, delivery.snd_nxt, delivery.flight_size)
        if self.phase is Phase.RECOVERY and self.prr is not None:
            flight_size = self._outstanding() - self.board.lost_octets
            self.congestion.cwnd = self.prr.window(
                delivery.delivered, flight_size, self.congestion.mss,
                safe=delivery.octets > 0 and not new_loss,
            )  # fmt: skip
        elif delivery.octets:
            self.congestion.on_ack(
                delivery.now, delivery.octets, delivery.flight_size, self.rtt.srtt, delivery.rtt
            )

    def _enter(self, now: float, snd_nxt: int, flight_size: int) -> None:
        Recovery._enter(self, now, snd_nxt, flight_size)  # no super(): C has none
        self.prr = ProportionalRateReduction(flight_size, self.congestion.ssthresh)

    def _step_frto(self, delivery: Delivery) -> None:
        """RFC 5682 3.1: after the first ACK new data probes, after the second it is decided."""
        if self.frto == 1 and delivery.octets and delivery.snd_una < self.recover:
            self.frto = 2
        elif delivery.octets or delivery.ranges:
            self.frto = 0

    def _detect(self, now: float) -> None:
        rack, board = self.rack, self.board
        self.reorder_timeout = None
        if board.sacked_octets or board.lost_octets or self.phase is not Phase.OPEN:
            window = rack.reordering_window(
                board, self.rtt.srtt, self.rtt.min_rtt, self.phase is not Phase.OPEN
            )
            self.reorder_timeout = rack.detect(board, now, window)

    def on_reorder_timer(self, now: float, snd_nxt: int, flight_size: int) -> None:
        """RFC 8985 6.2: the reordering window has passed for something."""
        before = self.board.lost_octets
        self._detect(now)
        if self.board.lost_octets > before and self.phase is Phase.OPEN:
            self._enter(now, snd_nxt, flight_size)
        if self.phase is Phase.RECOVERY and self.prr is not None:
            remaining = self._outstanding() - self.board.lost_octets
            self.congestion.cwnd = self.prr.window(0, remaining, self.congestion.mss, safe=False)

    def on_sent(self, octets: int, now: float, *, again: bool) -> None:
        """``octets`` left."""
        Recovery.on_sent(self, octets, now, again=again)
        if self.phase is Phase.RECOVERY and self.prr is not None:
            self.prr.on_sent(octets)

    def _mark_on_timeout(self, now: float) -> None:
        board = self.board
        if board and board[0].sacked:
            board.forget_sacks()  # RFC 2018 8: the peer reneged, or its SACKs meant nothing
        # RFC 5682 3.1 step 1: only the first expiry of an episode that began by it.
        self.frto = 1 if self.phase is Phase.OPEN and not board.lost_octets else 0
        window = self.rack.reordering_window(board, self.rtt.srtt, self.rtt.min_rtt, True)
        self.rack.mark_lost_on_timeout(board, now, window)
