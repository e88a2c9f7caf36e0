"""Content codings gzip and deflate (RFC 9110 8.4), undone piece by piece.

A decoder yields bounded pieces, so that whoever counts them can stop long before a small body
has become a large one. Codings may be nested, a few deep.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from netstack.core.errors import BodyTooLarge, RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterator

PIECE = 65_536  # octets of output at a time
MAX_CODINGS = 4  # nested, CVE-2022-32206
# Without a size from the caller: deflate reaches 1032:1 only for one repeated octet, and two
# layers of it reach a million.
MAX_RATIO = 250
FREE_OCTETS = 16 * 1024 * 1024  # decoded, before the ratio counts

SUPPORTED = frozenset({"gzip", "x-gzip", "deflate", "identity"})
ACCEPT_ENCODING = "gzip, deflate"


class _Inflater:
    """One layer: gzip members one after the other, or one deflate stream."""

    def __init__(self, coding: str) -> None:
        self._gzip = coding != "deflate"
        self._start = b""
        self._stream: zlib._Decompress | None = None

    def decode(self, data: bytes) -> Iterator[bytes]:
        """Yield what ``data`` decodes to, in pieces of at most ``PIECE`` octets."""
        while data:
            if self._stream is None:
                data = self._start + data
                self._stream, self._start = self._open(data)
                if self._stream is None:
                    return
            try:
                piece = self._stream.decompress(data, PIECE)
            except zlib.error as error:
                raise RemoteProtocolError(f"broken compressed content: {error}") from None
            if piece:
                yield piece
            data = self._stream.unconsumed_tail
            if self._stream.eof:
                data = self._stream.unused_data
                if data and not self._gzip:
                    raise RemoteProtocolError("octets after the end of compressed content")
                self._stream = None if self._gzip else self._stream
            elif not data and len(piece) == PIECE:
                yield from self._drain()

    def _open(self, data: bytes) -> tuple[zlib._Decompress | None, bytes]:
        if self._gzip:
            return zlib.decompressobj(31), b""
        if len(data) < 2:
            return None, data
        # Some servers send deflate without its zlib wrapper: RFC 9110 8.4.1.2, note.
        wrapped = data[0] & 15 == 8 and int.from_bytes(data[:2], "big") % 31 == 0
        return zlib.decompressobj(15 if wrapped else -15), b""

    def _drain(self) -> Iterator[bytes]:
        # All input is taken but output is left: it comes without more input.
        while self._stream is not None and not self._stream.eof:
            try:
                piece = self._stream.decompress(b"", PIECE)
            except zlib.error as error:
                raise RemoteProtocolError(f"broken compressed content: {error}") from None
            if not piece:
                return
            yield piece

    def finish(self) -> None:
        """Raise RemoteProtocolError unless the stream had come to its end."""
        if self._start or (self._stream is not None and not self._stream.eof):
            raise RemoteProtocolError("compressed content ends too early")


class ContentDecoder:
    """Undoes the codings of one message.

    ``codings`` in the order of the Content-Encoding field. ``max_size`` bounds what comes out,
    in octets; without it only the ratio is bounded.
    Raises: RemoteProtocolError if there are too many codings, or one that is not supported.
    """

    def __init__(self, codings: list[str], max_size: int | None = None) -> None:
        unknown = [coding for coding in codings if coding not in SUPPORTED]
        if unknown:
            raise RemoteProtocolError(f"content coding {unknown[0]!r} is not supported")
        if len(codings) > MAX_CODINGS:
            raise RemoteProtocolError(f"{len(codings)} content codings nested in each other")
        self._layers = [_Inflater(c) for c in reversed(codings) if c != "identity"]
        self._max_size = max_size
        self._taken = 0
        self.size = 0
        """Decoded octets so far."""

    def decode(self, data: bytes) -> Iterator[bytes]:
        """Yield what ``data`` decodes to, piece by piece.

        Raises: RemoteProtocolError, BodyTooLarge.
        """
        self._taken += len(data)
        for piece in self._through(0, data):
            self.size += len(piece)
            self._check_size()
            yield piece

    def _through(self, depth: int, data: bytes) -> Iterator[bytes]:
        if depth == len(self._layers):
            yield data
            return
        for piece in self._layers[depth].decode(data):
            yield from self._through(depth + 1, piece)

    def _check_size(self) -> None:
        if self._max_size is not None:
            if self.size > self._max_size:
                raise BodyTooLarge(f"the body is larger than {self._max_size} octets")
        elif self.size > FREE_OCTETS and self.size > self._taken * MAX_RATIO:
            raise BodyTooLarge(
                f"{self._taken} octets of compressed content became more than {self.size}"
            )

    def finish(self) -> None:
        """Note the end of the content.

        Raises: RemoteProtocolError if a coding is cut short.
        """
        for layer in self._layers:
            layer.finish()
