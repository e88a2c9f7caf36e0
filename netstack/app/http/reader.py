"""Octets to messages, piece by piece (RFC 9112).

Theory of operation. ``receive`` appends what arrived; ``next_event`` takes one event off the
front, or returns None if that needs more octets. Lines are searched from where the last search
ended, and content is never kept: the work is linear in the input however it is cut, and what is
held is bounded by ``Limits`` (and by the largest piece received at once). The first error is
final: framing is lost, and each later call raises it again.

Requests must end their lines with CRLF. In the head of a response a lone LF is taken too
(RFC 9112 2.2), since small devices send it; chunk lines are always strict.
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum, auto
from typing import TYPE_CHECKING

from netstack.app.http.grammar import (
    CHUNKED,
    TCHAR,
    UNTIL_CLOSE,
    allowed_trailers,
    parse_chunk_line,
    parse_fields,
    parse_request_line,
    parse_status_line,
    request_framing,
    response_framing,
)
from netstack.app.http.headers import Headers
from netstack.app.http.messages import (
    Data,
    EndOfMessage,
    Event,
    IncompleteMessage,
    Limits,
    MessageError,
    Request,
    ResponseHead,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from netstack.app.http.recent import Recent


class _Mode(IntEnum):  # an Enum's hash is slow, and modes are looked up all the time
    HEAD = auto()
    LENGTH = auto()
    UNTIL_CLOSE = auto()
    CHUNK_LINE = auto()
    CHUNK_DATA = auto()
    CHUNK_END = auto()
    TRAILERS = auto()


_RAW = frozenset({_Mode.LENGTH, _Mode.UNTIL_CLOSE, _Mode.CHUNK_DATA})
_HEAD = _Mode.HEAD  # looking into an Enum takes a while

_MAX_KNOWN = 1024  # octets of a head that is remembered; browsers send half of that

_END = EndOfMessage()


class _Reader:
    """What reading requests and reading responses have in common."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = Limits() if limits is None else limits
        self._buffer = bytearray()
        self._direct: bytes | None = None  # content that needs no pass through the buffer
        self._scan = 0  # up to where the buffer holds no further LF
        self._line_start = 0
        self._lines: list[bytes] = []
        self._mode = _Mode.HEAD
        self._remaining = 0  # octets of content or of the chunk
        self._overhead = 0
        self._eof = False
        self._clean = True
        self._error: MessageError | None = None
        self._steps: dict[_Mode, Callable[[], Event | None]] = {
            _Mode.HEAD: self._read_head,
            _Mode.LENGTH: self._read_length,
            _Mode.UNTIL_CLOSE: self._read_until_close,
            _Mode.CHUNK_LINE: self._read_chunk_line,
            _Mode.CHUNK_DATA: self._read_chunk_data,
            _Mode.CHUNK_END: self._read_chunk_end,
            _Mode.TRAILERS: self._read_trailers,
        }

    @property
    def unread(self) -> int:
        """Octets received that belong to no event given out yet."""
        return len(self._buffer) + (0 if self._direct is None else len(self._direct))

    @property
    def in_message(self) -> bool:
        """Whether a message has begun to arrive and is not complete."""
        return self._mode is not _Mode.HEAD or bool(self._buffer)

    def receive(self, data: bytes | bytearray | memoryview) -> None:
        """Take what arrived."""
        if self._mode is not _HEAD and self._wants_content():
            self._direct = bytes(data)
            return
        if self._direct is not None:
            self._buffer += self._direct
            self._direct = None
        self._buffer += data

    def _wants_content(self) -> bool:
        """Return whether what arrives is content and nothing else waits before it."""
        if self._buffer or self._direct is not None:
            return False
        return self._mode is _Mode.UNTIL_CLOSE or (self._mode in _RAW and self._remaining > 0)

    def receive_eof(self, *, clean: bool = True) -> None:
        """Note that nothing more will arrive.

        ``clean`` is False if someone else may have cut the connection (TLS without its closing
        alert): content that only the end delimits is incomplete then (RFC 9112 9.8).
        """
        self._eof = True
        self._clean = clean

    def next_event(self) -> Event | None:
        """Return the next event, or None if more octets are needed.

        Raises: MessageError, IncompleteMessage; then again at every call.
        """
        if self._error is not None:
            raise self._error
        try:
            while True:
                mode = self._mode
                event = self._steps[mode]()
                if event is not None or self._mode is mode:
                    break
        except MessageError as error:
            self._error = error
            self._buffer.clear()
            raise
        if event is None and self._eof and self.in_message:
            self._error = IncompleteMessage("the connection ended within a message")
            raise self._error
        return event

    # -- heads ---------------------------------------------------------------------------------

    def _read_head(self) -> Event | None:
        raise NotImplementedError

    def _begin(self, framing: int) -> None:
        self._remaining = max(framing, 0)
        self._overhead = 0
        modes = {CHUNKED: _Mode.CHUNK_LINE, UNTIL_CLOSE: _Mode.UNTIL_CLOSE}
        self._mode = modes.get(framing, _Mode.LENGTH)

    def _next_line(self, strict: bool) -> bytes | None:
        """Return the next line of the buffer without its end, or None if it is not all there."""
        end = self._buffer.find(b"\n", self._scan)
        if end < 0:
            self._scan = len(self._buffer)
            return None
        line = bytes(self._buffer[self._line_start : end])
        self._scan = self._line_start = end + 1
        if line.endswith(b"\r"):
            return line[:-1]
        if strict:
            raise MessageError("line ends with LF alone")
        return line

    def _drop_lines(self) -> None:
        del self._buffer[: self._line_start]
        self._scan = self._line_start = 0

    def _read_block(self, limit: int, strict: bool) -> list[bytes] | None:
        """Return the lines up to an empty one, or None if that is not there yet."""
        lines = self._lines
        while (line := self._next_line(strict)) is not None:
            if not line:
                self._lines = []
                self._check_block(lines, limit, 0)
                self._drop_lines()
                return lines
            lines.append(line)
            self._check_block(lines, limit, 0)
        self._check_block(lines, limit, len(self._buffer) - self._line_start)
        return None

    def _check_block(self, lines: list[bytes], limit: int, partial: int) -> None:
        if self._line_start + partial > limit:
            raise MessageError("header section too large", 431)
        if len(lines) > self._limits.fields:
            raise MessageError("too many header lines", 431)

    # -- content -------------------------------------------------------------------------------

    def _take(self, limit: int | None) -> bytes:
        """Return content that has arrived, at most ``limit`` octets."""
        if self._direct is not None:
            data, self._direct = self._direct, None
            if limit is not None and len(data) > limit:
                self._buffer += memoryview(data)[limit:]
                data = data[:limit]
            return data
        size = len(self._buffer) if limit is None else min(limit, len(self._buffer))
        with memoryview(self._buffer) as view:
            data = bytes(view[:size])
        del self._buffer[:size]
        return data

    def _take_remaining(self) -> Data | None:
        data = self._take(self._remaining)
        self._remaining -= len(data)
        return Data(data) if data else None

    def _read_length(self) -> Event | None:
        if self._remaining:
            return self._take_remaining()
        self._mode = _Mode.HEAD
        return _END

    def _read_until_close(self) -> Event | None:
        data = self._take(None)
        if data:
            return Data(data)
        if not self._eof or not self._clean:
            return None
        self._mode = _Mode.HEAD
        return _END

    def _read_chunk_line(self) -> Event | None:
        line = self._next_line(strict=True)
        if line is None and self._scan <= self._limits.chunk_line:
            return None
        if line is None or len(line) > self._limits.chunk_line:
            raise MessageError("chunk line too long")
        self._drop_lines()
        size = self._remaining = parse_chunk_line(line)
        # One octet a chunk beside kilobytes of extensions costs us, not the sender.
        self._overhead = max(0, self._overhead + len(line) + 2 - 16 - 2 * size)
        if self._overhead > self._limits.chunk_overhead:
            raise MessageError("chunk extensions outweigh the content")
        self._mode = _Mode.CHUNK_DATA if size else _Mode.TRAILERS
        return None

    def _read_chunk_data(self) -> Event | None:
        data = self._take_remaining()
        if not self._remaining:
            self._mode = _Mode.CHUNK_END
        return data

    def _read_chunk_end(self) -> Event | None:
        if not b"\r\n".startswith(self._buffer[:2]):
            raise MessageError("chunk is longer than its size says")
        if len(self._buffer) >= 2:
            del self._buffer[:2]
            self._mode = _Mode.CHUNK_LINE
        return None

    def _read_trailers(self) -> Event | None:
        lines = self._read_block(self._limits.trailers, strict=True)
        if lines is None:
            return None
        self._mode = _Mode.HEAD
        return EndOfMessage(allowed_trailers(parse_fields(lines, unfold=False)))


class RequestReader(_Reader):
    """Reads what a client sends: one request after the other.

    ``known`` holds whole requests without content by the octets of their heads, for all readers
    of a server. Nothing but these octets decides what a reader at the start of a message makes of
    them, so the next one need not look again. For readers with the default limits alone.
    """

    def __init__(
        self, limits: Limits | None = None, known: Recent[bytes, Request] | None = None
    ) -> None:
        super().__init__(limits)
        self._empty_lines = 0
        self._head: bytes | None = None  # the octets of the last one, if they may be remembered
        self._known = known if limits is None else None

    def take_known(self) -> Request | None:
        """Return, and forget, the next request if it is whole and ``remember`` was told of it.

        It has no content, and its end is no event of its own. None: ask ``next_event``. Only
        between requests, that is, after an EndOfMessage or at the start.
        """
        if self._mode is not _HEAD or self._scan or self._error:
            return None
        buffer, known = self._buffer, self._known
        if known is None:
            return None
        end = buffer.find(b"\r\n\r\n", 0, _MAX_KNOWN) + 4  # 3 if there is none: no head
        request = known.get(bytes(buffer[:end]))
        if request is not None:
            del buffer[:end]
            self._empty_lines = 0
        return request

    def remember(self, request: Request) -> None:
        """Let ``take_known`` return ``request``, the last one read, for the same octets.

        For requests without content that need no further check.
        """
        if self._head is not None and self._known is not None:
            self._known.put(self._head, request)

    def _read_head(self) -> Event | None:
        self._check_start()
        lines = self._read_block(self._limits.head, strict=True)
        if lines is None:
            return None
        if not lines:
            # RFC 9112 2.2: an empty line before a request line is ignored.
            self._empty_lines += 1
            return self._read_head()
        self._empty_lines = 0
        if len(lines[0]) > self._limits.start_line:
            raise MessageError("request line too long", 414)
        request = parse_request_line(lines[0], Headers(parse_fields(lines[1:], unfold=False)))
        self._head = self._joined(lines)
        self._begin(request_framing(request))
        return request

    def _joined(self, lines: list[bytes]) -> bytes | None:
        """Return the octets of a head whose lines these are, or None if it is too long to keep."""
        size = sum(map(len, lines)) + 2 * len(lines) + 2
        if self._known is None or size > _MAX_KNOWN:
            return None
        return b"\r\n".join((*lines, b"", b""))

    def _check_start(self) -> None:
        """Refuse at once what cannot become a request: another protocol, an endless line."""
        if self._empty_lines > self._limits.empty_lines:
            raise MessageError("empty lines instead of a request")
        if self._lines or not self._buffer:
            return
        if self._buffer[0] not in TCHAR and not b"\r\n".startswith(self._buffer[:2]):
            raise MessageError("this is not HTTP")
        if len(self._buffer) > self._limits.start_line and (
            self._buffer.find(b"\n", self._scan, self._limits.start_line + 2) < 0
        ):
            raise MessageError("request line too long", 414)


class ResponseReader(_Reader):
    """Reads what a server sends; it must be told the method of each request that was sent."""

    def __init__(self, limits: Limits | None = None) -> None:
        super().__init__(limits)
        self._methods: deque[str] = deque()
        self._interim = 0

    def expect(self, method: str) -> None:
        """Note that a request with ``method`` was sent."""
        self._methods.append(method)

    def _read_head(self) -> Event | None:
        self._check_start()
        lines = self._read_block(self._limits.head, strict=False)
        if lines is None:
            return None
        if not lines or len(lines[0]) > self._limits.start_line:
            raise MessageError("no status line" if not lines else "status line too long")
        head = parse_status_line(lines[0], Headers(parse_fields(lines[1:], unfold=True)))
        if head.interim:
            self._count_interim(head)
            response_framing(head, "")
            return head
        self._interim = 0
        self._begin(response_framing(head, self._methods.popleft()))
        return head

    def _count_interim(self, head: ResponseHead) -> None:
        self._interim += 1
        if self._interim > self._limits.interim:
            raise MessageError("too many interim responses")
        if head.status == 101:
            raise MessageError("the server changed the protocol without being asked")

    def _check_start(self) -> None:
        if not self._buffer or self._lines:
            return
        if not self._methods:
            raise MessageError("a response that nobody asked for")  # RFC 9112 9.2
        if not b"HTTP/".startswith(self._buffer[:5]):
            raise MessageError(f"not a status line: {bytes(self._buffer[:40])!r}")
        if len(self._buffer) > self._limits.start_line and (
            self._buffer.find(b"\n", 0, self._limits.start_line + 2) < 0
        ):
            raise MessageError("status line too long")
