"""Randomness by name: every component draws from its own stream.

Streams are derived from the seed and a name, so that adding a component does not change what
another one draws. Without a seed the operating system's entropy is used throughout: initial
sequence numbers, ports and DNS ids are predictable only where a seed was asked for.
The one module of the sans-IO layers that imports ``random``.
"""

from __future__ import annotations

import hashlib
import random


class Rng:
    """A stream of random numbers; use ``random`` and ``getrandbits`` only, they never change."""

    __slots__ = ("_name", "_seed", "_source", "getrandbits", "random")

    def __init__(self, seed: int | None = None, name: str = "") -> None:
        self._seed = seed
        self._name = name
        if seed is None:
            self._source: random.Random = random.SystemRandom()
        else:
            digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=16).digest()
            self._source = random.Random(int.from_bytes(digest, "big"))
        self.random = self._source.random
        self.getrandbits = self._source.getrandbits

    def child(self, name: str) -> Rng:
        """Return the independent stream of that name."""
        return Rng(self._seed, f"{self._name}/{name}")

    def below(self, bound: int) -> int:
        """Return a uniform integer in ``0 .. bound - 1``."""
        bits = (bound - 1).bit_length()
        while True:
            value = self.getrandbits(bits) if bits else 0
            if value < bound:
                return value

    def octets(self, count: int) -> bytes:
        """Return ``count`` random octets."""
        return self.getrandbits(count * 8).to_bytes(count, "big") if count else b""
