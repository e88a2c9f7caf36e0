"""Octets of a stream that arrived before those in front of them.

The first copy of an octet wins (RFC 9293 3.10.7.4 leaves the choice; an attacker who overlaps
must not rewrite what was accepted). Ranges are kept sorted and joined, so that one range is one
SACK block. Every piece is charged with what its objects cost, so that one-octet segments can't
hold much more memory than the window promises (CVE-2018-5390).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

from netstack.core.buffer import unpinned

if TYPE_CHECKING:
    from collections.abc import Sequence

PIECE_OVERHEAD = 500  # octets charged for each piece besides its payload; measured


class OutOfOrderQueue:
    """Disjoint ranges of sequence numbers (unwrapped), each with its pieces in order."""

    __slots__ = ("_ends", "_pieces", "_starts", "charged")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._pieces: list[list[bytes | memoryview]] = []
        self.charged = 0

    def __len__(self) -> int:
        """Return how many ranges there are."""
        return len(self._starts)

    @property
    def start(self) -> int:
        """Where the first range begins; there is one."""
        return self._starts[0]

    def range(self, index: int) -> tuple[int, int]:
        """Return the range at ``index``, in order of sequence numbers."""
        return self._starts[index], self._ends[index]

    def find(self, position: int) -> int:
        """Return the index of the range that ``position`` lies in, -1 if it is missing."""
        index = bisect_right(self._starts, position) - 1
        return index if index >= 0 and self._ends[index] > position else -1

    def insert(self, start: int, pieces: Sequence[bytes | memoryview]) -> int:
        """Add ``pieces`` at ``start``, where octets are missing; return how many were new."""
        new: int = 0
        for piece in pieces:
            new += self._insert_piece(start, piece)
            start += len(piece)
        return new

    def _insert_piece(self, start: int, piece: bytes | memoryview) -> int:
        end: int = start + len(piece)
        last: int = len(self._starts) - 1
        if start < end and (last < 0 or self._ends[last] <= start):
            # Most often it lies behind all that is held.
            self._add(last, start, end, unpinned(piece))
            return end - start
        position: int = start
        new: int = 0
        while position < end:
            index = bisect_right(self._starts, position) - 1
            if index >= 0 and self._ends[index] > position:
                position = self._ends[index]  # these octets are held already
                continue
            following = index + 1
            limit = self._starts[following] if following < len(self._starts) else end
            stop = min(end, limit)
            part = unpinned(piece[position - start : stop - start])
            self._add(index, position, stop, part)
            new += stop - position
            position = stop
        return new

    def _add(self, index: int, start: int, stop: int, part: bytes | memoryview) -> None:
        """Put ``start .. stop``, held by nobody, behind the range at ``index`` (-1: none)."""
        self.charged += len(part) + PIECE_OVERHEAD
        if index >= 0 and self._ends[index] == start:
            self._ends[index] = stop
            self._pieces[index].append(part)
        else:
            index += 1
            self._starts.insert(index, start)
            self._ends.insert(index, stop)
            self._pieces.insert(index, [part])
        following = index + 1
        if following < len(self._starts) and self._starts[following] == stop:
            self._ends[index] = self._ends[following]
            self._pieces[index].extend(self._pieces[following])
            del self._starts[following], self._ends[following], self._pieces[following]

    def take(self, position: int) -> list[bytes | memoryview]:
        """Return and remove the pieces that continue the stream at ``position``."""
        index = bisect_left(self._starts, position + 1) - 1
        if index < 0:
            return []
        start, end, pieces = self._starts[index], self._ends[index], self._pieces[index]
        # All before ``position`` has been delivered: every range up to this one goes.
        for gone in self._pieces[: index + 1]:
            for piece in gone:
                self.charged -= len(piece) + PIECE_OVERHEAD
        del self._starts[: index + 1], self._ends[: index + 1], self._pieces[: index + 1]
        if end <= position:
            return []
        if start == position:
            return pieces
        skip: int = position - start
        result = []
        for piece in pieces:
            if skip >= len(piece):
                skip -= len(piece)
                continue
            result.append(piece[skip:] if skip else piece)
            skip = 0
        return result
