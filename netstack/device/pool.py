"""Receive buffers that are used again once nothing refers to them.

A fresh buffer of 64 KB costs 16 page faults, more than reading into it. So a device reads into a
buffer of this pool and hands up views of it; it is free again when the last view is gone, which
its reference count tells. Python counts references exactly, views of views included; where it
does not (other interpreters), each frame gets a fresh buffer.
"""

from __future__ import annotations

import sys
from collections import deque
from typing import Final

SIZE: Final = 65_536 + 64
"""Octets of a buffer: the largest IPv4 packet, and link and offload headers."""

COPY_BELOW: Final = SIZE // 4
"""Octets of a frame that is copied out instead: it must not pin a whole buffer."""

MAX_LENT: Final = 128
"""Buffers that are followed; those lent beyond are left to the collector."""

count_references = getattr(sys, "getrefcount", None)
"""What counts the references to an object; None where nothing does."""


def _references() -> int:
    """Return how many references ``take`` counts to a buffer that nobody else has.

    The queue's and that of a variable; the call's own only where the interpreter runs this.
    """
    if count_references is None:
        return 0
    lent = deque((bytearray(),))
    buffer = lent[0]
    return int(count_references(buffer))


_REFERENCES = _references()


class BufferPool:
    """Buffers of ``SIZE`` octets; ``take`` one, then ``keep`` it or ``lend`` it out."""

    __slots__ = ("_free", "_lent", "made")

    def __init__(self) -> None:
        self._free: list[bytearray] = []
        self._lent: deque[bytearray] = deque()  # the oldest first
        self.made = 0
        """Buffers made so far."""

    def take(self) -> bytearray:
        """Return a buffer that nothing refers to."""
        if self._free:
            return self._free.pop()
        lent = self._lent
        # What came first is usually read first; one that is kept long must not hide the rest.
        for _ in range(min(len(lent), 2)):
            buffer = lent[0]
            if count_references is not None and count_references(buffer) == _REFERENCES:
                lent.popleft()
                return buffer
            lent.rotate(-1)
            del buffer
        self.made += 1
        return bytearray(SIZE)

    def keep(self, buffer: bytearray) -> None:
        """Take back a buffer to which no view was handed out."""
        self._free.append(buffer)

    def lend(self, buffer: bytearray) -> None:
        """Note that views of ``buffer`` go out."""
        lent = self._lent
        lent.append(buffer)
        if len(lent) > MAX_LENT:
            lent.popleft()
