"""What a congestion controller is told, and what it answers.

It sees numbers only (octets and seconds), never segments or the connection. Which octets are
lost is decided elsewhere; the controller says how much may be in flight.
"""

from __future__ import annotations


class CongestionControl:
    """Base of all controllers: windows in octets, ``mss`` the sender's segment size."""

    __slots__ = ("cwnd", "mss", "ssthresh")

    name = ""

    def __init__(self, mss: int, initial_segments: int) -> None:
        self.mss = mss
        # RFC 6928 2: min(10 MSS, max(2 MSS, 14600)).
        self.cwnd: int = min(initial_segments * mss, max(2 * mss, 14_600))
        self.ssthresh: int = 1 << 30  # RFC 5681 3.1: arbitrarily high

    def on_ack(
        self, now: float, bytes_acked: int, flight_size: int, srtt: float, rtt: float | None
    ) -> None:
        """``bytes_acked`` octets were newly acknowledged, outside of recovery.

        ``flight_size`` was in flight when something was last sent. ``srtt`` is the smoothed
        round-trip time, ``rtt`` the sample that this acknowledgment gave, if it gave one.
        """
        raise NotImplementedError

    def on_loss(self, now: float, flight_size: int) -> None:
        """A loss was detected by acknowledgments: recovery begins."""
        raise NotImplementedError

    def on_timeout(self, now: float, flight_size: int, first: bool) -> None:
        """The retransmission timer expired; ``first``: not a repeated expiry."""
        raise NotImplementedError

    def undo(self, cwnd: int, ssthresh: int) -> None:
        """The last reduction was for nothing: ``cwnd`` and ``ssthresh`` are from before."""
        self.cwnd = max(self.cwnd, cwnd)
        self.ssthresh = max(self.ssthresh, ssthresh)

    def take_over(self, other: CongestionControl) -> None:
        """Go on where ``other`` stood: what it learnt of the path stays."""
        self.cwnd = other.cwnd
        self.ssthresh = other.ssthresh

    def limited(self, flight_size: int) -> bool:
        """Whether the window, not the application, limited what was in flight (RFC 7661 4.3).

        In slow start half of it is enough: the window doubles faster than it can be filled.
        """
        if flight_size + self.mss >= self.cwnd:
            return True
        return self.cwnd < self.ssthresh and 2 * flight_size >= self.cwnd

    def on_idle(self, initial_segments: int) -> None:
        """Nothing was sent for longer than a timeout: restart (RFC 5681 4.1)."""
        if self.ssthresh < 1 << 30:
            # RFC 7661 4.4.2 keeps what was learnt of the path.
            self.ssthresh = max(self.ssthresh, self.cwnd * 3 // 4)
        self.cwnd = min(self.cwnd, initial_segments * self.mss)

    def on_mss(self, mss: int) -> None:
        """The segment size changed; windows keep their octets, one segment at least."""
        self.mss = mss
        self.cwnd = max(self.cwnd, mss)
