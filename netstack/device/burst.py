"""Frames as one read after the other brought them, in one piece of memory.

An object for each wire frame costs as much as all else that is done for one before it is merged.
So what reads wire frames in numbers returns a ``Burst``: the octets of all, and where each lies.
It looks like a sequence of octets, which are copied when asked for; ``offload.coalesce`` merges
where the frames lie and makes objects of what comes out.
"""

from __future__ import annotations

import os
import sys
from array import array
from typing import TYPE_CHECKING

from netstack.device.io import SPAN, read_frames, span_octets

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_FRAMES = 64
_ROOM = 100 * 1024  # octets; as many frames of an Ethernet
_LARGE = 16  # frames of the largest size that there is room for
_count = getattr(sys, "getrefcount", None)


class Burst:
    """Wire frames of one read: a sequence of their octets, each copied when asked for.

    ``octets`` holds all of them; ``spans`` tells the start and the length of each. ``total``:
    octets of all frames.
    """

    __slots__ = ("_largest", "_length", "octets", "spans", "total")

    def __init__(self, largest: int) -> None:
        """Make room for frames of up to ``largest`` octets."""
        self._largest = largest
        self._length = 0
        self.total = 0
        self.octets = bytearray(max(_ROOM, _LARGE * largest))
        self.spans = array("q", bytes(8 * SPAN * MAX_FRAMES))

    def fill(self, descriptor: int, limit: int) -> None:
        """Read what waits, up to ``limit`` frames.

        Raises: OSError if the first read fails.
        """
        self._length = 0
        count, self.total = read_frames(descriptor, self.octets, self.spans, self._largest, limit)
        if count < 0:
            raise OSError(-count, os.strerror(-count))
        self._length = count

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> bytes:
        length = self._length
        if not -length <= index < length:
            raise IndexError(f"frame {index} of {length}")
        return span_octets(self.octets, self.spans, SPAN * (index % length))

    def __iter__(self) -> Iterator[bytes]:
        return iter([self[index] for index in range(self._length)])

    def leave_out(self, indices: list[int]) -> None:
        """Forget the frames at ``indices``, which ascend."""
        spans = self.spans
        for index in reversed(indices):
            at = SPAN * index
            self.total -= spans[at + 1]
            spans.extend(spans[at : at + SPAN])  # it keeps its length
            del spans[at : at + SPAN]
            self._length -= 1


class BurstReader:
    """Reads bursts of frames of up to ``largest`` octets.

    A burst that nobody holds any more is filled again: memory that was just used is warm.
    """

    __slots__ = ("_burst", "_largest")

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._burst: Burst | None = None

    def read(self, descriptor: int, limit: int) -> Burst:
        """Return what waits, up to ``limit`` frames; 64 at most.

        Raises: OSError if the first read fails.
        """
        burst = self._burst
        if burst is None or _references(self) != _ALONE:
            burst = self._burst = Burst(self._largest)
        burst.fill(descriptor, limit)
        return burst


def _references(reader: BurstReader) -> int:
    """Return how many references to its burst are counted."""
    return -1 if _count is None else int(_count(reader._burst))


def _alone() -> int:
    """Return how many those are where ``read`` asks and nobody has it; -2 where none counts."""
    reader = BurstReader(1)
    burst = reader._burst = Burst(1)
    return _references(reader) if burst is not None and _count is not None else -2


_ALONE = _alone()
