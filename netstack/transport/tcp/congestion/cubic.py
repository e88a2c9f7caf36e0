"""CUBIC: the window grows with time since the last loss, not with round trips (RFC 9438).

After a loss the window falls to 0.7 and then follows a cubic curve whose plateau is the window at
which the loss happened: fast towards it, slow around it, fast beyond. Where standard TCP would be
faster (short paths), its estimate is followed instead. Slow start is HyStart++ (RFC 9406).
"""

from __future__ import annotations

from netstack.transport.tcp.congestion.base import CongestionControl
from netstack.transport.tcp.congestion.hystart import HyStart

C = 0.4  # segments per second cubed, RFC 9438 5
BETA = 0.7  # RFC 9438 4.6
ALPHA = 3 * (1 - BETA) / (1 + BETA)  # RFC 9438 4.3, while the window is below its last maximum


class Cubic(CongestionControl):
    """RFC 9438; windows in octets outside, in segments in the formulas."""

    __slots__ = (
        "_before",
        "_epoch_start",
        "_fraction",
        "_hystart",
        "_k",
        "_origin",
        "_prior",
        "_starting",
        "_w_est",
        "_w_max",
    )

    name = "cubic"

    def __init__(self, mss: int, initial_segments: int) -> None:
        super().__init__(mss, initial_segments)
        self._w_max = 0.0
        self._k = 0.0
        self._origin = 0.0
        self._w_est = 0.0
        self._prior = 0.0  # cwnd_prior: the window when ssthresh was last set
        self._epoch_start: float | None = None
        self._before: tuple[float, float, float, float, float, float | None] | None = None
        self._fraction = 0.0  # octets of growth not yet worth one
        self._hystart: HyStart | None = None  # made when slow start has something to judge
        self._starting = True  # RFC 9406 4.3: for the first slow start only

    def on_ack(
        self, now: float, bytes_acked: int, flight_size: int, srtt: float, rtt: float | None
    ) -> None:
        """Grow, unless the application and not the window limited what was in flight."""
        if not self.limited(flight_size):
            # RFC 9438 5.8: idle time is no time of growth.
            self._epoch_start = None
            return
        if self.cwnd < self.ssthresh:
            self._slow_start(bytes_acked, flight_size, rtt)
        else:
            self._avoid_congestion(now, bytes_acked, srtt)

    def _slow_start(self, bytes_acked: int, flight_size: int, rtt: float | None) -> None:
        growth = min(bytes_acked, flight_size)
        if self._starting and self._hystart is None:
            self._hystart = HyStart()
        if self._hystart is not None:
            if self._hystart.on_ack(bytes_acked, flight_size, rtt):
                self.ssthresh = self.cwnd
                self._end_slow_start()
                return
            growth = self._hystart.growth(growth)
        self.cwnd += growth

    def _avoid_congestion(self, now: float, bytes_acked: int, srtt: float) -> None:
        window: float = self.cwnd / self.mss
        if self._epoch_start is None:
            self._start_epoch(now, window)
        start: float = self._epoch_start or 0.0
        since: float = now - start - self._k
        acked: float = bytes_acked / self.mss
        alpha: float = ALPHA if self._w_est < self._prior else 1.0
        self._w_est += alpha * acked / window
        if self._w_est > self._origin + C * since * since * since:
            growth: float = max(self._w_est - window, 0.0)  # 4.3: the friendly region
        else:
            # 4.2: where the curve will be a round trip from now, within 1 .. 1.5 windows.
            since += srtt
            target: float = self._origin + C * since * since * since
            growth = (min(max(target, window), 1.5 * window) - window) / window * acked
        self._fraction += growth * self.mss
        whole: int = int(self._fraction)
        self._fraction -= whole
        self.cwnd += whole

    def _start_epoch(self, now: float, window: float) -> None:
        self._epoch_start = now
        self._w_est = window
        self._fraction = 0.0
        if window < self._w_max:
            self._k = ((self._w_max - window) / C) ** (1 / 3)
            self._origin = self._w_max
        else:
            # 4.8, 4.10: after a timeout, or a slow start that ended without loss.
            self._k = 0.0
            self._origin = self._w_max = window

    def _end_slow_start(self) -> None:
        self._hystart = None
        self._starting = False

    def on_loss(self, now: float, flight_size: int) -> None:
        """RFC 9438 4.6 and 4.7: fast convergence, multiplicative decrease."""
        window = self.cwnd / self.mss
        self._before = (
            self._w_max, self._k, self._origin, self._w_est, self._prior, self._epoch_start,
        )  # fmt: skip
        self._prior = window
        # 4.7: a flow that lost before it reached its old maximum makes room for others.
        self._w_max = window * (1 + BETA) / 2 if window < self._w_max else window
        reduced = int(min(self.cwnd, max(flight_size, self.mss)) * BETA)
        self.ssthresh = max(reduced, 2 * self.mss)
        self.cwnd = self.ssthresh
        self._epoch_start = None
        self._end_slow_start()

    def on_timeout(self, now: float, flight_size: int, first: bool) -> None:
        """RFC 9438 4.8: ssthresh by CUBIC's factor, the window back to one segment.

        The curve begins anew, with its plateau where slow start ends.
        """
        if first:
            self.on_loss(now, flight_size)
        self._w_max = 0.0
        self.cwnd = self.mss
        self._epoch_start = None

    def take_over(self, other: CongestionControl) -> None:
        """Go on from the other's windows: the curve starts there, its plateau is not known."""
        super().take_over(other)
        if self.ssthresh < 1 << 30:
            self._end_slow_start()

    def on_idle(self, initial_segments: int) -> None:
        """Restart after idle; the curve's time starts over too (RFC 9438 5.8)."""
        super().on_idle(initial_segments)
        self._epoch_start = None

    def undo(self, cwnd: int, ssthresh: int) -> None:
        """The reduction was for nothing: back to the window and curve before (RFC 9438 4.9)."""
        super().undo(cwnd, ssthresh)
        if self._before is not None:
            (
                self._w_max, self._k, self._origin, self._w_est, self._prior, self._epoch_start,
            ) = self._before  # fmt: skip
            self._before = None
