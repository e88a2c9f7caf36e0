"""Octet streams under capture files: exact reads in, whole records out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self

from netstack.capture.errors import TruncatedError

if TYPE_CHECKING:
    from io import RawIOBase

    Source = str | Path | BinaryIO
    Target = str | Path | BinaryIO | RawIOBase


class Closing(ABC):
    """What a ``with`` statement closes."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class RecordInput:
    """Reads a file, pipe or growing file record by record, and knows where it is."""

    def __init__(self, source: Source) -> None:
        self._owned = isinstance(source, str | Path)
        self._file: BinaryIO = (
            open(source, "rb")  # noqa: SIM115 - closed by ``close``
            if isinstance(source, str | Path)
            else source
        )
        self.offset = 0

    def take(self, count: int, what: str, *, may_end: bool = False) -> bytes:
        """Return the next ``count`` octets; b"" only where the file ``may_end``.

        Raises: TruncatedError naming the offset if the file ends before.
        """
        data = self._file.read(count) or b""
        if len(data) < count:
            data = self._take_slowly(data, count)
        if len(data) < count and (data or not may_end):
            at = self.offset
            raise TruncatedError(
                f"file cut at octet {at + len(data)}: {what} at octet {at} has "
                f"{len(data)} of {count} octets"
            )
        self.offset += len(data)
        return data

    def _take_slowly(self, data: bytes, count: int) -> bytes:
        # A pipe gives what it has, one octet at the worst; only nothing means its end.
        pieces = [data]
        missing = count - len(data)
        while missing and pieces[-1]:
            piece = self._file.read(missing) or b""
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)

    def close(self) -> None:
        """Close the file if it was opened here."""
        if self._owned:
            self._file.close()


class RecordOutput:
    """Writes whole records: each is handed to the operating system before ``write`` returns.

    A process that is killed therefore leaves a file that is valid to its last whole record, and
    an error in mid record (a full disk) takes the part written back, as far as the file can be
    truncated. Files that the caller opened are flushed after each record and left open.
    """

    def __init__(self, target: Target) -> None:
        self._owned = isinstance(target, str | Path)
        # Without a buffer: one system call a record, about 1 us.
        self._file: BinaryIO | RawIOBase = (
            open(target, "wb", buffering=0)  # noqa: SIM115 - closed by ``close``
            if isinstance(target, str | Path)
            else target
        )
        self._end = 0

    def write(self, record: bytes) -> None:
        """Append one record.

        Raises: OSError; what was written of this record is then taken back.
        """
        try:
            rest: bytes | memoryview = record
            while True:
                written = self._file.write(rest)
                if written is None or written >= len(rest):
                    break
                rest = memoryview(rest)[written:]
            if not self._owned:
                self._file.flush()
        except OSError:
            if self._owned:
                with suppress(OSError):  # a pipe can't be shortened: its reader sees a cut record
                    self._file.seek(self._end)
                    self._file.truncate()
            raise
        self._end += len(record)

    def close(self) -> None:
        """Close the file if it was opened here; idempotent."""
        if self._owned:
            self._file.close()
