"""IPv4's identification field (RFC 791, RFC 6864): a counter for each pair of addresses.

One counter for everything would tell each destination how much is sent to all others; here each
pair of addresses starts at a random number of its own. The table is bounded; a pair that was
forgotten starts anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from netstack.core.rng import Rng

MAX_COUNTERS = 4096


class Counter:
    """The next identification for one pair of addresses."""

    __slots__ = ("value",)

    def __init__(self, value: int) -> None:
        self.value = value

    def take(self, segments: int) -> int:
        """Return an identification; ``segments`` consecutive ones are used up."""
        value = self.value
        self.value = (value + segments) & 0xFFFF
        return value


class Identifications:
    """The counters of one stack, by source and destination."""

    def __init__(self, rng: Rng) -> None:
        self._rng = rng
        self._counters: dict[bytes, Counter] = {}

    def counter(self, source: bytes, destination: bytes) -> Counter:
        """Return the counter of the pair; the longest known is forgotten for a new one."""
        key = source + destination
        counter = self._counters.get(key)
        if counter is None:
            if len(self._counters) >= MAX_COUNTERS:
                del self._counters[next(iter(self._counters))]
            counter = self._counters[key] = Counter(self._rng.getrandbits(16))
        return counter
