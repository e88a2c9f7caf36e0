"""The content of a bulk transfer, and the check that it arrived.

A block of random octets is sent over and over; its length is a prime number, so that no shift by
whole segments or buffers goes unnoticed. The receiver compares every octet, within the timed
part: one comparison of memory for each read, at 40 GB/s or so.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

READ_SIZE = 262_144  # octets
BLOCK = random.Random("netstack.bench").randbytes(262_147)
_TWICE = BLOCK + BLOCK


class Check:
    """Counts what arrives and compares it with what was sent."""

    __slots__ = ("_position", "octets", "wrong")

    def __init__(self) -> None:
        self.octets = 0
        self.wrong = 0
        """Reads that held something else."""
        self._position = 0

    def take(self, data: Buffer, length: int) -> None:
        """Take the first ``length`` octets of ``data``, at most READ_SIZE."""
        if not _TWICE.startswith(memoryview(data)[:length], self._position):
            self.wrong += 1
        self.octets += length
        self._position = (self._position + length) % len(BLOCK)
