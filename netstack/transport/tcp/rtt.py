"""Round-trip time and the retransmission timeout (RFC 6298).

Deviation: the lower bound of the timeout is 200 ms, as Linux has it, where section 2.4 asks
for one second; delayed acknowledgments here stay well below that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from netstack.core.config import TcpConfig

MIN_RTT = 1e-6  # seconds; links of a simulation may take no time at all
_GRANULARITY = 0.001  # seconds: G of RFC 6298 2, the tick of timestamps


class RttEstimator:
    """SRTT, RTTVAR and RTO of one connection, in seconds."""

    __slots__ = ("backoff", "config", "min_rtt", "rto", "rttvar", "srtt")

    def __init__(self, config: TcpConfig) -> None:
        self.config = config
        self.srtt = 0.0  # 0: no sample yet
        self.rttvar = 0.0
        self.rto: float = config.initial_rto
        self.min_rtt = 0.0
        self.backoff = 0

    def on_sample(self, rtt: float) -> None:
        """Take in a measurement; ends any back-off (RFC 6298 2.2, 2.3, 5)."""
        if rtt < MIN_RTT:
            rtt = MIN_RTT
        if not self.srtt:
            self.srtt = rtt
            self.rttvar = rtt / 2
            self.min_rtt = rtt
        else:
            self.rttvar += (abs(self.srtt - rtt) - self.rttvar) / 4
            self.srtt += (rtt - self.srtt) / 8
            if rtt < self.min_rtt:
                self.min_rtt = rtt
        self.backoff = 0
        # As Linux does: the minimum bounds the margin, not the sum. On a steady path of 200 ms
        # the sum alone would leave no margin at all.
        least: float = self.config.min_rto
        most: float = self.config.max_rto
        margin: float = max(_GRANULARITY, 4 * self.rttvar, least)
        self.rto = min(self.srtt + margin, most)

    def timeout(self) -> float:
        """Return the current timeout, back-off included (RFC 6298 5.5)."""
        if not self.backoff:
            return self.rto
        return float(min(self.rto * (1 << min(self.backoff, 16)), self.config.max_rto))

    def back_off(self) -> None:
        """Double the timeout."""
        self.backoff += 1

    def after_lost_syn(self) -> None:
        """RFC 6298 5.7: data starts at 3 s when the SYN had to be sent again."""
        if not self.srtt:
            self.rto = 3.0
            self.backoff = 0
