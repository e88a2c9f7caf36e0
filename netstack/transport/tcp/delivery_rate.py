"""How fast a path delivers, as ``ss -ti`` shows it.

After the idea of delivery rate sampling in draft-ietf-ccwg-bbr, but with one sample a round trip
instead of one an ACK, and no state for each segment: what was acknowledged or sacked between two
ACKs that are a round trip apart, over the time between them.
"""

from __future__ import annotations


class DeliveryRate:
    """Octets delivered over time.

    Time in which nothing was in flight does not count. A rate that the application and not the
    window limited says little of the path: it is kept only if it is the highest.
    """

    __slots__ = ("_delivered", "_since", "due", "octets_per_second")

    def __init__(self, now: float, delivered: int) -> None:
        self.octets_per_second = 0.0
        self._since = now
        self._delivered = delivered
        self.due = now

    def sample(self, now: float, delivered: int, srtt: float, *, limited: bool) -> None:
        """Take a sample; ``limited``: the application had no more to send."""
        elapsed = now - self._since
        if elapsed > 0:
            rate = (delivered - self._delivered) / elapsed
            if not limited or rate > self.octets_per_second:
                self.octets_per_second = rate
        self.restart(now, delivered, srtt)

    def restart(self, now: float, delivered: int, srtt: float) -> None:
        """Begin a new interval, ended by the first ACK a round trip later."""
        self._since = now
        self._delivered = delivered
        self.due = now + srtt
