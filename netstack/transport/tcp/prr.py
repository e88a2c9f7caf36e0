"""Proportional rate reduction: how much each ACK lets go during recovery (RFC 9937).

The window falls from what was in flight to ssthresh in step with what is delivered, instead of
stopping for half a round trip; below ssthresh it rises again no faster than slow start, and only
as fast as deliveries while losses go on.
"""

from __future__ import annotations


class ProportionalRateReduction:
    """State of one recovery; all quantities in octets."""

    __slots__ = ("_delivered", "_flight_at_start", "_sent", "_ssthresh")

    def __init__(self, flight_size: int, ssthresh: int) -> None:
        self._flight_at_start: int = max(flight_size, 1)  # RecoverFS
        self._ssthresh = ssthresh
        self._delivered = 0
        self._sent = 0

    def on_sent(self, octets: int) -> None:
        """``octets`` left, new or again."""
        self._sent += octets

    def window(self, delivered: int, flight_size: int, mss: int, *, safe: bool) -> int:
        """Return cwnd after an ACK that delivered ``delivered`` octets.

        ``safe``: SND.UNA advanced and no further loss showed (RFC 9937 section 6, SafeACK).
        """
        self._delivered += delivered
        if flight_size > self._ssthresh:
            target = -(-self._delivered * self._ssthresh // self._flight_at_start)
            allowed = target - self._sent
        else:
            allowed = max(self._delivered - self._sent, delivered)
            if safe:
                allowed += mss
            allowed = min(self._ssthresh - flight_size, allowed)
        if not self._sent:
            allowed = max(allowed, mss)  # the fast retransmit itself
        allowed = max(allowed, 0)
        return flight_size + allowed - allowed % mss if allowed >= mss else flight_size + allowed
