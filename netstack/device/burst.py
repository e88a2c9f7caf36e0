"""Frames as one read after the other brought them, in one piece of memory.

An object for each wire frame costs as much as all else that is done for one before it is merged.
So what reads wire frames in numbers returns a ``Burst``: the octets of all, and where each lies.
It looks like a sequence of octets, which are copied when asked for; ``offload.coalesce`` merges
where the frames lie and makes objects of what comes out.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Final

from netstack import _ext

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Buffer

SPAN: Final = 2
"""Numbers that tell of a frame: where it begins, and its length."""

MAX_FRAMES = 64
_ROOM = 100 * 1024  # octets; as many frames of an Ethernet
_LARGE = 16  # frames of the largest size that there is room for


def span_view(octets: memoryview, spans: array[int], at: int) -> memoryview:
    """Return the frame whose numbers begin at ``at`` of ``spans``, where it lies.

    Raises: ValueError for a frame outside of ``octets``.
    """
    start, length = spans[at], spans[at + 1]
    if length < 0 or not 0 <= start <= len(octets) - length:
        raise ValueError("a frame outside of its octets")
    return octets[start : start + length]


def span_octets_py(octets: Buffer, spans: array[int], at: int) -> bytes:
    """Return a copy of the frame whose numbers begin at ``at`` of ``spans``.

    Raises: ValueError for a frame outside of ``octets``.
    """
    return bytes(span_view(memoryview(octets), spans, at))


if _ext.COMPILED:
    from netstack._ext.coalesce import span_octets as span_octets
else:
    span_octets = span_octets_py


class Burst:
    """Wire frames of one read: a sequence of their octets, each copied when asked for.

    ``octets`` holds all of them; ``spans`` tells the start and the length of each. ``total``:
    octets of all frames.
    """

    __slots__ = ("_length", "octets", "spans", "total")

    def __init__(self, largest: int) -> None:
        """Make room for frames of up to ``largest`` octets."""
        self._length = 0
        self.total = 0
        self.octets = bytearray(max(_ROOM, _LARGE * largest))
        self.spans = array("q", bytes(8 * SPAN * MAX_FRAMES))

    def hold(self, count: int, total: int) -> None:
        """Note that ``count`` frames of ``total`` octets were put in."""
        self._length = count
        self.total = total

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
