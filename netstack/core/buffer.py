"""The octets of a stream between application and connection.

Both buffers count in absolute stream offsets. Large immutable pieces are held by reference and
handed out as views; small ones are copied into a chunk, so that one-octet calls don't each cost
an object. Nothing that was handed out ever changes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from typing_extensions import Buffer

BY_REFERENCE = 4096
"""``bytes`` of at least this many octets are held by reference."""

SMALL_PIECE = 512
"""Received pieces below this many octets are copied together: each object costs some 250."""

PIECE_OVERHEAD = 300
"""Octets that the objects of a chunk or piece take besides what they hold; measured."""

_SMALL_CHUNK = 2048
_LARGE_CHUNK = 65_536


class SendBuffer:
    """What was sent or waits to be sent, from the oldest unacknowledged octet on."""

    __slots__ = ("_chunks", "_filled", "_room", "_starts", "end", "start")

    def __init__(self) -> None:
        self.start = 0  # stream offset of the first octet held
        self.end = 0  # one past the last
        self._starts: list[int] = []
        self._chunks: list[bytes | memoryview] = []
        self._filled = 0  # octets used of the last chunk, if it is one of ours; else 0
        self._room: memoryview | None = None  # that chunk, to be written to

    def append(self, data: Buffer, length: int) -> None:
        """Add the first ``length`` octets of ``data``.

        Of ``bytes``, views of them too, 4 KiB and more aren't copied.
        """
        if isinstance(data, bytes) and length >= BY_REFERENCE:
            self._seal()
            self._starts.append(self.end)
            self._chunks.append(memoryview(data)[:length])
            self.end += length
            return
        if isinstance(data, bytes) and length == len(data) and not self._chunks:
            # Most often nothing follows before it is acknowledged.
            self._starts.append(self.end)
            self._chunks.append(data)
            self.end += length
            return
        view = memoryview(data).cast("B")
        if length >= BY_REFERENCE and type(view.obj) is bytes:
            self._seal()
            self._starts.append(self.end)
            self._chunks.append(view[:length])
            self.end += length
            return
        taken = 0
        while taken < length:
            room = self._room
            if room is None or self._filled == len(room):
                self._seal()
                # No more than half of a chunk stays unused if nothing follows.
                size = min(max(2 * (length - taken), _SMALL_CHUNK), _LARGE_CHUNK)
                self._starts.append(self.end)
                room = self._room = memoryview(bytearray(size))
                self._chunks.append(room.toreadonly())
            part = min(length - taken, len(room) - self._filled)
            room[self._filled : self._filled + part] = view[taken : taken + part]
            self._filled += part
            self.end += part
            taken += part

    def _seal(self) -> None:
        if self._filled:
            self._chunks[-1] = unpinned(self._chunks[-1][: self._filled])
            self._filled = 0
        self._room = None

    def _chunk_of(self, offset: int) -> int:
        """Return the number of the chunk that ``offset`` lies in: most often there is one."""
        starts = self._starts
        return 0 if len(starts) == 1 else bisect_right(starts, offset) - 1

    def pieces(self, start: int, end: int, limit: int) -> list[bytes | memoryview]:
        """Return at most ``limit`` buffers, whole or views, that cover ``start .. end``.

        Where the range lies in more buffers than that, all of it is copied into one.
        """
        starts = self._starts
        index = self._chunk_of(start)
        result: list[bytes | memoryview] = []
        position: int = start
        while position < end:
            base: int = starts[index]
            chunk = self._chunks[index]
            size = len(chunk)
            index += 1
            if isinstance(chunk, bytes):
                if position == base and base + size <= end:
                    result.append(chunk)
                else:
                    result.append(memoryview(chunk)[position - base : end - base])
            else:
                result.append(chunk[position - base : end - base])
            position = min(base + size, end)
        if len(result) > limit:
            return [b"".join(result)]
        return result

    def release(self, offset: int) -> None:
        """Forget everything before ``offset``."""
        self.start = offset
        if offset == self.end:
            self._starts.clear()
            self._chunks.clear()
            self._filled = 0
            self._room = None
            return
        count = self._chunk_of(offset)
        if count > 0:
            del self._starts[:count]
            del self._chunks[:count]

    def __len__(self) -> int:
        return self.end - self.start

    @property
    def held(self) -> int:
        """Octets of memory that this takes, acknowledged and unused parts of chunks included."""
        if not self._chunks:
            return 0
        first: int = self._starts[0]
        taken: int = self.end - first + PIECE_OVERHEAD * len(self._chunks)
        if self._filled:
            taken += len(self._chunks[-1]) - self._filled
        return taken


class ReceiveBuffer:
    """In-order octets that the application has not taken yet."""

    __slots__ = ("_offset", "_pieces", "held", "length")

    def __init__(self) -> None:
        self.length = 0
        self.held = 0  # octets of memory that this takes, those of pinned buffers included
        self._pieces: deque[bytes | memoryview | bytearray] = deque()
        self._offset = 0  # octets of the first piece already taken

    def append(self, pieces: Iterable[bytes | memoryview]) -> None:
        """Add in-order ``pieces``, by reference where that pins no much larger buffer."""
        for piece in pieces:
            size = len(piece)
            if size >= SMALL_PIECE:
                kept = unpinned(piece)
                self._pieces.append(kept)
                self.held += _held(kept) + PIECE_OVERHEAD
            elif size:
                self._append_small(piece)
            self.length += size

    def _append_small(self, piece: bytes | memoryview) -> None:
        # One octet a segment must not take much more memory than the window promised.
        last = self._pieces[-1] if self._pieces else None
        if isinstance(last, bytearray) and len(last) < _LARGE_CHUNK:
            last += piece
        else:
            self._pieces.append(bytearray(piece))
            self.held += PIECE_OVERHEAD
        self.held += len(piece)

    def take(self, limit: int) -> bytes:
        """Return and remove at most ``limit`` octets, as fresh ``bytes``."""
        pieces = self._pieces
        if not pieces or limit <= 0:
            return b""
        first = pieces[0]
        available = len(first) - self._offset
        if available > limit:
            data = bytes(first[self._offset : self._offset + limit])
            self._offset += limit
            self.length -= limit
            return data
        taken: list[bytes | memoryview | bytearray] = [
            first[self._offset :] if self._offset else first
        ]
        size = available
        self._pop()
        self._offset = 0
        while pieces and size < limit:
            piece = pieces[0]
            if size + len(piece) > limit:
                self._offset = limit - size
                taken.append(piece[: self._offset])
                size = limit
                break
            taken.append(piece)
            size += len(piece)
            self._pop()
        self.length -= size
        return bytes(taken[0]) if len(taken) == 1 else b"".join(taken)

    def take_into(self, view: memoryview) -> int:
        """Move octets into ``view``, as many as there are or it takes; return how many."""
        pieces = self._pieces
        size = len(view)
        filled = 0
        while pieces and filled < size:
            piece = pieces[0]
            start = self._offset
            end = min(len(piece), start + size - filled)
            part = end - start
            # A view's slice: of a bytearray it would be a copy.
            view[filled : filled + part] = memoryview(piece)[start:end]
            filled += part
            if end == len(piece):
                del piece
                self._pop()
                self._offset = 0
            else:
                self._offset = end
        self.length -= filled
        return filled

    def _pop(self) -> None:
        piece = self._pieces.popleft()
        self.held -= _held(piece) + PIECE_OVERHEAD


def _held(piece: bytes | bytearray | memoryview) -> int:
    """Return the octets of memory that ``piece`` keeps."""
    return len(piece.obj) if isinstance(piece, memoryview) else len(piece)  # type: ignore[arg-type]


def octets_of(pieces: Sequence[bytes | memoryview]) -> int:
    """Return how many octets ``pieces`` are together."""
    octets: int = 0
    for piece in pieces:
        octets += len(piece)
    return octets


def unpinned(piece: bytes | memoryview) -> bytes | memoryview:
    """Return ``piece``, copied out if it would keep a buffer over four times its size alive."""
    held = _held(piece)
    if len(piece) * 4 < held and held > 512:
        return bytes(piece)
    return piece
