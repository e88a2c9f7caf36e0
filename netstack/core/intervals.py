"""A set of whole numbers kept as half-open ranges ``[start, end)``.

Reassembly of datagrams and of streams both ask what of a new range is missing, what overlaps,
and whether everything up to a point is there. The ranges are disjoint, sorted and never touch,
so a search is a bisection. Sequence numbers that wrap are unwrapped by the caller.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Intervals:
    """Disjoint ranges of integers; searching costs O(log n) in the number of ranges."""

    __slots__ = ("_ends", "_starts")

    def __init__(self) -> None:
        # Two flat lists: bisect works on them directly, and no tuple is made a range.
        self._starts: list[int] = []
        self._ends: list[int] = []

    def __len__(self) -> int:
        """Return the number of separate ranges."""
        return len(self._starts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._starts, self._ends, strict=True)

    def __repr__(self) -> str:
        return f"Intervals({list(self)})"

    def add(self, start: int, end: int) -> int:
        """Add ``[start, end)`` and return how many of its numbers are new."""
        if start >= end:
            return 0
        starts, ends = self._starts, self._ends
        # Ranges that only touch the new one are absorbed too.
        first = bisect_left(ends, start)
        last = bisect_right(starts, end)
        if first == last:
            starts.insert(first, start)
            ends.insert(first, end)
            return end - start
        new_start = min(start, starts[first])
        new_end = max(end, ends[last - 1])
        before = sum(ends[i] - starts[i] for i in range(first, last))
        starts[first:last] = [new_start]
        ends[first:last] = [new_end]
        return new_end - new_start - before

    def overlaps(self, start: int, end: int) -> bool:
        """Return whether any number of ``[start, end)`` is in the set."""
        if start >= end:
            return False
        index = bisect_right(self._ends, start)
        return index < len(self._starts) and self._starts[index] < end

    def covers(self, start: int, end: int) -> bool:
        """Return whether every number of ``[start, end)`` is in the set."""
        if start >= end:
            return True
        index = bisect_right(self._ends, start)
        return (
            index < len(self._starts) and self._starts[index] <= start and end <= self._ends[index]
        )

    def gaps(self, start: int, end: int) -> list[tuple[int, int]]:
        """Return the ranges of ``[start, end)`` that are not in the set, in order."""
        missing = []
        index = bisect_right(self._ends, start)
        while start < end:
            if index == len(self._starts) or self._starts[index] >= end:
                missing.append((start, end))
                break
            if start < self._starts[index]:
                missing.append((start, self._starts[index]))
            start = self._ends[index]
            index += 1
        return missing

    def first(self) -> tuple[int, int] | None:
        """Return the lowest range, or None if the set is empty."""
        return (self._starts[0], self._ends[0]) if self._starts else None

    def last(self) -> tuple[int, int] | None:
        """Return the highest range, or None if the set is empty."""
        return (self._starts[-1], self._ends[-1]) if self._starts else None

    def remove_below(self, bound: int) -> None:
        """Forget every number lower than ``bound``."""
        starts, ends = self._starts, self._ends
        index = bisect_right(ends, bound)
        del starts[:index], ends[:index]
        if starts and starts[0] < bound:
            starts[0] = bound

    def clear(self) -> None:
        """Forget everything."""
        self._starts.clear()
        self._ends.clear()
