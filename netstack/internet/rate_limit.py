"""How many ICMP errors may be sent (RFC 1812 4.3.2.8), without telling anybody how many were.

A limiter that all destinations share can be read like a meter: a forger makes the host send
errors to others and then asks for one himself (SAD DNS, CVE-2020-25705). So each destination has
a bucket of its own, asked first, far smaller than the common one; and every error takes a random
number of tokens, zero to two, so that nobody can count what is left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from netstack.core.context import Context

MAX_DESTINATIONS = 1024  # buckets kept
DESTINATION_SHARE = 5  # one destination gets this part of burst and rate


class Bucket:
    """A token bucket: ``rate`` tokens a second, at most ``burst`` saved up."""

    __slots__ = ("burst", "rate", "tokens", "updated")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.rate = rate
        self.burst = burst
        self.tokens = burst
        self.updated = now

    def take(self, amount: int, now: float) -> bool:
        """Take ``amount`` tokens if at least one is there, and return whether it was."""
        self.tokens = min(self.burst, self.tokens + (now - self.updated) * self.rate)
        self.updated = now
        if self.tokens < 1:
            return False
        self.tokens -= amount  # may become negative: the long-term rate is exact
        return True


class ErrorLimiter:
    """Decides for each ICMP error whether it may be sent."""

    def __init__(self, context: Context) -> None:
        config = context.config.ipv4
        self._context = context
        self._rng = context.rng.child("icmpv4:rate")
        self._rate = config.icmp_error_rate
        self._burst = float(config.icmp_error_burst)
        self._common = Bucket(self._rate, self._burst, context.now)
        self._buckets: dict[bytes, Bucket] = {}  # least recently used first

    def allow(self, destination: bytes) -> bool:
        """Return whether an error may go to ``destination`` now, and count it if so."""
        now = self._context.now
        bucket = self._buckets.pop(destination, None)
        if bucket is None:
            if len(self._buckets) >= MAX_DESTINATIONS:
                del self._buckets[next(iter(self._buckets))]
            burst = max(1.0, self._burst / DESTINATION_SHARE)
            bucket = Bucket(self._rate / DESTINATION_SHARE, burst, now)
        self._buckets[destination] = bucket
        if not bucket.take(self._rng.below(3), now):
            return False
        return self._common.take(self._rng.below(3), now)
