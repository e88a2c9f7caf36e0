"""Initial sequence numbers and timestamp offsets (RFC 9293 3.4.1, RFC 6528, RFC 7323 5.4).

ISN = M + F(four-tuple, secret): M is a clock of 4 microseconds a tick, F a keyed hash that
nobody outside can compute. The timestamp clock gets an offset per pair of hosts, so that it
stays monotonic between two hosts (what RFC 6191 relies on) and tells no uptime.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from netstack.core.seqnum import MASK, add, lt

if TYPE_CHECKING:
    from netstack.core.rng import Rng

TICKS_PER_SECOND = 250_000  # RFC 9293 3.4.1: M ticks every 4 microseconds
BEYOND_LAST = 65_536 + 2  # octets after the last number of the old connection, as Linux


class IsnGenerator:
    """Draws its secret once, from the stack's randomness."""

    __slots__ = ("_floor", "_secret")

    def __init__(self, rng: Rng) -> None:
        self._secret = rng.octets(16)
        self._floor: tuple[bytes, int] | None = None

    def _hash(self, purpose: bytes, value: bytes) -> int:
        digest = hashlib.blake2b(value, digest_size=4, key=self._secret, person=purpose).digest()
        return int.from_bytes(digest, "big")

    def isn(self, four_tuple: bytes, now: float) -> int:
        """Return the initial sequence number for a connection opened at ``now``."""
        isn = (int(now * TICKS_PER_SECOND) + self._hash(b"isn", four_tuple)) & MASK
        if self._floor is not None and self._floor[0] == four_tuple:
            least = add(self._floor[1], BEYOND_LAST)
            if lt(isn, least):
                return least
        return isn

    def stay_above(self, four_tuple: bytes, seq: int | None) -> None:
        """Let the next number for ``four_tuple`` come after ``seq`` (RFC 9293 3.6.1, MAY-2).

        The clock may have been overtaken by a connection that sent faster; None ends this.
        """
        self._floor = None if seq is None else (four_tuple, seq & MASK)

    def timestamp_offset(self, local: bytes, remote: bytes) -> int:
        """Return what is added to the millisecond clock towards ``remote``."""
        return self._hash(b"timestamp", local + remote)
