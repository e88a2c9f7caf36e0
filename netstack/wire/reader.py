"""A bounded cursor over received octets.

Options, records and messages of variable length are read through it: reading past its end is
a ``ParseError``, and so is leaving octets unread when ``done`` is asked. A field that states the
length of what follows gets a reader of its own by ``restrict``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netstack.core.errors import ParseError

if TYPE_CHECKING:
    from typing_extensions import Buffer


class Reader:
    """Reads big-endian numbers and octets from ``data[offset:end]``."""

    __slots__ = ("data", "end", "offset")

    def __init__(self, data: Buffer, offset: int = 0, end: int | None = None) -> None:
        """Read ``data`` from ``offset`` up to ``end``, by default all of it.

        Raises: ParseError if that range does not lie within ``data``.
        """
        self.data = memoryview(data).cast("B")
        self.offset = offset
        self.end = len(self.data) if end is None else end
        if not 0 <= offset <= self.end <= len(self.data):
            raise ParseError(f"octets {offset} to {self.end} of only {len(self.data)}")

    @property
    def remaining(self) -> int:
        """The number of octets not read yet."""
        return self.end - self.offset

    def _advance(self, count: int) -> int:
        start = self.offset
        if not 0 <= count <= self.end - start:
            raise ParseError(f"{count} octets needed at offset {start}, {self.end - start} left")
        self.offset = start + count
        return start

    def u8(self) -> int:
        """Read one octet as a number."""
        return self.data[self._advance(1)]

    def u16(self) -> int:
        """Read two octets as a number."""
        start = self._advance(2)
        return self.data[start] << 8 | self.data[start + 1]

    def u32(self) -> int:
        """Read four octets as a number."""
        start = self._advance(4)
        return int.from_bytes(self.data[start : start + 4], "big")

    def take(self, count: int) -> memoryview:
        """Read ``count`` octets, by reference."""
        start = self._advance(count)
        return self.data[start : start + count]

    def restrict(self, count: int) -> Reader:
        """Skip the next ``count`` octets and return a reader of just them."""
        start = self._advance(count)
        return Reader(self.data, start, start + count)

    def done(self) -> None:
        """Check that everything was read.

        Raises: ParseError if octets are left.
        """
        if self.offset != self.end:
            raise ParseError(f"{self.end - self.offset} octets left over")
