"""NewReno: slow start and congestion avoidance by counting octets (RFC 5681, RFC 3465)."""

from __future__ import annotations

from netstack.transport.tcp.congestion.base import CongestionControl


class NewReno(CongestionControl):
    """RFC 5681 3.1 with appropriate byte counting; halves the window on loss."""

    __slots__ = ("_acked",)

    name = "newreno"

    def __init__(self, mss: int, initial_segments: int) -> None:
        super().__init__(mss, initial_segments)
        self._acked = 0  # octets acknowledged since cwnd last grew, in congestion avoidance

    def on_ack(
        self, now: float, bytes_acked: int, flight_size: int, srtt: float, rtt: float | None
    ) -> None:
        """Grow, unless the application and not the window limited what was in flight."""
        if not self.limited(flight_size):
            return
        if self.cwnd < self.ssthresh:
            # RFC 3465 2.2 with L unbounded within what was really in flight: a coalesced ACK
            # stands for several, and counting octets is safe against split ACKs.
            self.cwnd += min(bytes_acked, flight_size)
            return
        self._acked += bytes_acked
        if self._acked >= self.cwnd:
            self._acked -= self.cwnd
            self.cwnd += self.mss

    def on_loss(self, now: float, flight_size: int) -> None:
        """RFC 5681 equation 4."""
        self.ssthresh = max(flight_size // 2, 2 * self.mss)
        self.cwnd = self.ssthresh
        self._acked = 0

    def on_timeout(self, now: float, flight_size: int, first: bool) -> None:
        """RFC 5681 3.1: ssthresh once a loss, the window back to one segment."""
        if first:
            self.ssthresh = max(flight_size // 2, 2 * self.mss)
        self.cwnd = self.mss
        self._acked = 0
