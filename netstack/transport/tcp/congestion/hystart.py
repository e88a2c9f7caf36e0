"""HyStart++: leaving slow start before it overshoots (RFC 9406).

When the round-trip time of a round rises by an eighth, slow start turns conservative; if five
rounds later it still is higher, slow start ends, and if it came back down, the rise was jitter
and slow start goes on. Deviation: section 4.3's limit L on the growth by one ACK is not applied;
super-segments make ACKs that stand for many segments the rule, and bursts are bounded where they
are built.
"""

from __future__ import annotations

MIN_RTT_THRESH = 0.004  # seconds
MAX_RTT_THRESH = 0.016
MIN_RTT_DIVISOR = 8
N_RTT_SAMPLE = 8
CSS_GROWTH_DIVISOR = 4
CSS_ROUNDS = 5
_NO_SAMPLE = float("inf")


class HyStart:
    """Rounds are counted in octets acknowledged: one ends with what was in flight at its start."""

    __slots__ = (
        "_acked",
        "_baseline",
        "_css_rounds",
        "_current",
        "_last",
        "_round_end",
        "_samples",
        "conservative",
    )

    def __init__(self) -> None:
        self._acked = 0
        self._round_end = 0
        self._last = _NO_SAMPLE
        self._current = _NO_SAMPLE
        self._samples = 0
        self._baseline = _NO_SAMPLE
        self._css_rounds = 0
        self.conservative = False

    def growth(self, bytes_acked: int) -> int:
        """Return by how much slow start may grow the window for ``bytes_acked``."""
        return bytes_acked // CSS_GROWTH_DIVISOR if self.conservative else bytes_acked

    def on_ack(self, bytes_acked: int, flight_size: int, rtt: float | None) -> bool:
        """Take in an ACK during slow start; return whether slow start is over."""
        self._acked += bytes_acked
        if rtt is not None:
            self._current = min(self._current, rtt)
            self._samples += 1
            self._judge()
        if self._acked < self._round_end:
            return False
        if self.conservative:
            self._css_rounds += 1
            if self._css_rounds >= CSS_ROUNDS:
                return True
        self._last, self._current = self._current, _NO_SAMPLE
        self._samples = 0
        self._round_end = self._acked + max(flight_size - bytes_acked, 1)
        return False

    def _judge(self) -> None:
        if self._samples < N_RTT_SAMPLE or self._current == _NO_SAMPLE:
            return
        if self.conservative:
            if self._current < self._baseline:
                self._baseline = _NO_SAMPLE
                self.conservative = False
            return
        if self._last == _NO_SAMPLE:
            return
        threshold = max(MIN_RTT_THRESH, min(self._last / MIN_RTT_DIVISOR, MAX_RTT_THRESH))
        if self._current >= self._last + threshold:
            self._baseline = self._current
            self.conservative = True
            self._css_rounds = 0
