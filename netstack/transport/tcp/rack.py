"""RACK: a segment is lost when one sent sufficiently later was delivered (RFC 8985 section 6).

Time decides, not counting: reordering shows as delivery out of order and widens the window of
tolerance, up to a round trip. Wire segments of one super-segment share their time of sending and
are ordered by it and then by sequence number. Lost retransmissions are found the same way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from netstack.transport.tcp.scoreboard import Scoreboard, SentRange

MAX_REO_WND_MULT = 64
REO_WND_PERSIST = 16  # recoveries that a widened window lasts, RFC 8985 6.2 step 4
DUPLICATE_THRESHOLD = 3
_SAME_TIME = 1e-6  # seconds: a difference of two floats is not exact


class Rack:
    """The most recent delivery, and how much reordering the path has shown."""

    __slots__ = (
        "_dsack_round",
        "_fack",
        "_persist",
        "_reo_wnd_mult",
        "dsacks",
        "end_seq",
        "reordering",
        "reordering_seen",
        "rtt",
        "sent_at",
    )

    def __init__(self) -> None:
        self.sent_at = -1.0  # of the most recently sent segment among those delivered
        self.end_seq = 0
        self.rtt = 0.0
        self.reordering_seen = False
        self.reordering = 0  # octets by which a segment was overtaken, at most
        self.dsacks = 0
        self._fack = 0
        self._reo_wnd_mult = 1
        self._persist = 0
        self._dsack_round: int | None = None

    def on_delivered(
        self, sent: SentRange, now: float, min_rtt: float, echoed_at: float | None
    ) -> None:
        """``sent`` was acknowledged or sacked (RFC 8985 6.2, steps 1 to 3).

        ``echoed_at``: the time that the ACK's timestamp echoes, None if it has none; it tells
        whether the original or the retransmission arrived.
        """
        rtt = now - sent.sent_at
        if sent.transmissions > 1:
            if echoed_at is not None and echoed_at < sent.sent_at - 0.001:
                return
            if rtt < min_rtt - _SAME_TIME:
                return
        if sent.sent_at > self.sent_at or (
            sent.sent_at == self.sent_at and sent.end > self.end_seq
        ):
            self.sent_at, self.end_seq = sent.sent_at, sent.end
            self.rtt = rtt
        if sent.end > self._fack:
            self._fack = sent.end
        elif sent.transmissions == 1:
            self.reordering_seen = True
            self.reordering = max(self.reordering, self._fack - sent.start)

    def on_dsack(self, snd_una: int, snd_nxt: int) -> None:
        """Something was sent twice for nothing: tolerate more reordering, once a round trip."""
        self.dsacks += 1
        if self._dsack_round is None or snd_una >= self._dsack_round:
            self._dsack_round = snd_nxt
            self._reo_wnd_mult = min(self._reo_wnd_mult + 1, MAX_REO_WND_MULT)
            self._persist = REO_WND_PERSIST

    def on_recovery_end(self) -> None:
        """A recovery passed: a widened window narrows again after a while."""
        self._persist -= 1
        if self._persist <= 0:
            self._reo_wnd_mult = 1

    def reordering_window(
        self, board: Scoreboard, srtt: float, min_rtt: float, recovering: bool
    ) -> float:
        """Return for how long a segment may be overtaken (RFC 8985 6.2 step 4), in seconds."""
        if not self.reordering_seen and (
            recovering or board.sacked_segments >= DUPLICATE_THRESHOLD
        ):
            return 0.0
        return min(self._reo_wnd_mult * min_rtt / 4, srtt)

    def detect(self, board: Scoreboard, now: float, reordering_window: float) -> float | None:
        """Mark what is lost; return how long until more could be, None if nothing waits.

        RFC 8985 6.2 step 5.
        """
        timeout = 0.0
        if self.sent_at < 0:
            return None
        for sent in board.ranges:
            if sent.sacked or sent.lost:
                continue
            if sent.sent_at > self.sent_at or (
                sent.sent_at == self.sent_at and sent.end > self.end_seq
            ):
                if sent.transmissions == 1 and sent.start > self.end_seq:
                    break  # from here on everything was sent later still
                continue
            remaining = sent.sent_at + self.rtt + reordering_window - now
            if remaining <= 1e-9:
                board.mark_lost(sent)
            else:
                timeout = max(timeout, remaining)
        return timeout or None

    def mark_lost_on_timeout(
        self, board: Scoreboard, now: float, reordering_window: float
    ) -> None:
        """The retransmission timer expired (RFC 8985 6.3): the first, and all as old, are lost."""
        for index, sent in enumerate(board):
            if sent.sacked:
                continue
            recent = sent.sent_at + self.rtt + reordering_window > now
            if index == 0 or not recent:
                board.mark_lost(sent)
