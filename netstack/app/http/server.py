"""A server's connection without its socket: requests in, answers out, in order.

Theory of operation. A session reads one request at a time, skips its content, lets the handler
answer, and hands the answer out piece by piece as the connection has room; only then is the next
request looked at, so that pipelined requests are answered in order and one connection holds one
answer. Each state has a deadline: a peer that sends its request a few octets at a time, or takes
its answer so, is cut off (CVE-2007-6750). After an error the peer may still be sending: what
comes is thrown away for a moment, since closing at once would reset the connection and could
take the answer with it (RFC 9112 9.6).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from netstack._version import __version__
from netstack.app.http.answer import REASONS, Answer, Body, error_answer
from netstack.app.http.dates import format_date
from netstack.app.http.grammar import CHUNKED, keeps_alive, request_framing
from netstack.app.http.messages import Data, EndOfMessage, MessageError, Request
from netstack.app.http.reader import RequestReader
from netstack.app.http.url import parse_authority, parse_url
from netstack.app.http.writer import build_response
from netstack.core.errors import LocalProtocolError

if TYPE_CHECKING:
    from netstack.app.http.answer import Handler
    from netstack.app.http.headers import Field

# RFC 9110 9.1: a known method that is not allowed is answered otherwise than an unknown one.
_KNOWN_METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}
)
_ALLOWED = ("GET", "HEAD")


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """What one connection may cost; seconds and octets."""

    idle: float = 60.0  # between requests
    head: float = 20.0  # from a request's first octet to the end of its head
    content: float = 30.0  # for all of its content
    progress: float = 30.0  # in which a reader must take ...
    progress_octets: int = 4096  # ... this much of the answer, or all of it
    linger: float = 1.0  # after an error, for what is still coming
    linger_octets: int = 1_048_576
    max_content: int = 1_048_576  # of a request; it is thrown away
    max_requests: int = 1000  # on one connection
    unread: int = 131_072  # received ahead of the answer


class _State(Enum):
    IDLE = auto()
    HEAD = auto()
    CONTENT = auto()
    ANSWERING = auto()
    LINGERING = auto()
    FINISHED = auto()


class HttpSession:
    """One connection of an HTTP server.

    ``epoch`` is the Unix time when ``now`` was 0, None if nobody knows: a server without a clock
    sends no Date (RFC 9110 6.6.1).
    """

    def __init__(
        self,
        handler: Handler,
        now: float,
        *,
        epoch: float | None = None,
        limits: SessionLimits | None = None,
    ) -> None:
        self._handler = handler
        self._epoch = epoch
        self._limits = SessionLimits() if limits is None else limits
        self._reader = RequestReader()
        self._request: Request | None = None
        self._content = 0  # octets of the request's content seen
        self._head: memoryview = memoryview(b"")
        self._body: Body | None = None
        self._served = 0
        self._keep = True
        self._linger = False
        self._lingered = 0
        self._taken = 0  # octets of answers since the last look
        self._peer_ended = False
        self._now = now
        self._fresh = True  # whether _now is the time of this call
        self._stale = False  # whether the deadline was reckoned from an older time
        self.abort = False
        self._state = _State.IDLE
        self._deadline: float | None = None
        self._enter(_State.IDLE)

    # -- what the connection asks ----------------------------------------------------------------

    @property
    def finished(self) -> bool:
        """Whether the connection is to be closed as soon as ``outgoing`` is empty."""
        return self._state is _State.FINISHED and not self.abort

    @property
    def paused(self) -> bool:
        """Whether the session wants no input now."""
        return self._state is _State.ANSWERING and self._reader.unread > self._limits.unread // 2

    def receive(self, data: bytes, now: float) -> None:
        """Take what the peer sent; ``b""`` is its end of stream."""
        self._now = now
        self._fresh = True
        if not data:
            self._receive_eof()
        elif self._linger:
            self._throw_away(len(data))
        elif self._state is not _State.FINISHED:
            if self.paused and self._reader.unread > self._limits.unread:
                self._give_up()
            self._reader.receive(data)
            self._advance()

    def outgoing(self, limit: int) -> bytes | memoryview:
        """Return, and forget, at most ``limit`` octets to send; empty = nothing now."""
        self._fresh = False
        while self._state is _State.ANSWERING and not self.abort and limit > 0:
            if self._head:
                piece, self._head = self._head[:limit], self._head[limit:]
                self._taken += len(piece)
                return piece
            if self._body is not None and self._body.length:
                data = self._body.read(limit)
                if not data:
                    self._give_up()  # never pad what was promised and cannot be had
                self._taken += len(data)
                return data
            self._end_answer()
        return b""

    def next_deadline(self) -> float | None:
        """Return when ``handle_timers`` wants to be called, or None."""
        return self._deadline

    def handle_timers(self, now: float) -> None:
        """End what has taken too long."""
        self._now = now
        self._fresh = True
        if self._deadline is None or now < self._deadline:
            return
        if self._stale:
            # The state began when an answer was taken, at a time that nobody told.
            self._enter(self._state)
        elif self._state is _State.ANSWERING:
            if self._taken < self._limits.progress_octets:
                self._give_up()
            else:
                self._enter(_State.ANSWERING)
        elif self._state in (_State.HEAD, _State.CONTENT):
            self._refuse(MessageError("the request did not arrive in time", 408))
        else:
            self._enter(_State.FINISHED)

    def close(self) -> None:
        """Release what the session holds: the connection is over."""
        if self._body is not None:
            self._body.close()
            self._body = None
        self._enter(_State.FINISHED)

    # -- states ----------------------------------------------------------------------------------

    def _enter(self, state: _State) -> None:
        limits = self._limits
        seconds = {
            _State.IDLE: limits.idle,
            _State.HEAD: limits.head,
            _State.CONTENT: limits.content,
            _State.ANSWERING: limits.progress,
            _State.LINGERING: limits.linger,
        }.get(state)
        self._state = state
        self._stale = not self._fresh
        self._taken = 0
        self._deadline = None if seconds is None else self._now + seconds

    def _give_up(self) -> None:
        self.close()
        self._head = memoryview(b"")
        self.abort = True

    def _throw_away(self, size: int) -> None:
        self._lingered += size
        if self._lingered > self._limits.linger_octets:
            if self._state is _State.ANSWERING:
                self._give_up()
            else:
                self._enter(_State.FINISHED)

    def _receive_eof(self) -> None:
        self._peer_ended = True
        self._reader.receive_eof()
        if self._state is not _State.ANSWERING:
            # Nothing can complete a request, and nothing more can be on its way.
            self._enter(_State.FINISHED)

    def _advance(self) -> None:
        """Read on until an answer is due or octets are missing."""
        try:
            while self._state in (_State.IDLE, _State.HEAD, _State.CONTENT):
                event = self._reader.next_event()
                if event is None:
                    self._wait_for_more()
                    return
                if isinstance(event, Request):
                    self._begin_request(event)
                elif isinstance(event, Data):
                    self._count_content(len(event.data))
                elif isinstance(event, EndOfMessage) and self._request is not None:
                    self._answer(self._request, self._respond(self._request))
        except MessageError as error:
            self._refuse(error)

    def _wait_for_more(self) -> None:
        if self._state is _State.IDLE and self._reader.in_message:
            self._enter(_State.HEAD)
        elif self._peer_ended:
            self._enter(_State.FINISHED)

    def _begin_request(self, request: Request) -> None:
        self._request = request
        self._content = 0
        self._enter(_State.CONTENT)
        check_host(request)
        framing = request_framing(request)
        if framing > self._limits.max_content:
            raise MessageError("the content is larger than this server reads", 413)
        if "expect" not in request.headers:
            return
        if request.headers["expect"].lower() != "100-continue":
            raise MessageError("only 100-continue can be expected", 417)
        if framing == CHUNKED or framing > 0:
            # RFC 9110 10.1.1: no handler here wants content; say the final word now.
            self._keep, self._linger = False, True
            self._answer(request, self._respond(request))

    def _count_content(self, size: int) -> None:
        self._content += size
        if self._content > self._limits.max_content:
            raise MessageError("the content is larger than this server reads", 413)

    # -- answers ---------------------------------------------------------------------------------

    def _respond(self, request: Request) -> Answer:
        """Return the answer to a request; raise MessageError for one that is wrong."""
        if request.method not in _KNOWN_METHODS:
            return error_answer(501, "unknown method")
        if request.method not in _ALLOWED:
            return error_answer(405, "", ("Allow", ", ".join(_ALLOWED)))
        return self._handler(request)

    def _refuse(self, error: MessageError) -> None:
        """Answer what cannot be understood, and close: framing is lost (RFC 9112 6.3)."""
        self._keep = False
        self._linger = error.status != 408
        self._answer(self._request, error_answer(error.status, str(error)))

    def _answer(self, request: Request | None, answer: Answer) -> None:
        self._served += 1
        version = "HTTP/1.1" if request is None else request.version
        if request is None or not keeps_alive(version, request.headers):
            self._keep = False
        if self._served >= self._limits.max_requests:
            self._keep = False
        fields = self._fields(answer, version)
        try:
            head = build_response(answer.status, REASONS.get(answer.status, ""), fields)
        except LocalProtocolError:
            # HTT-30: a handler put a line end into a field. Nothing of it is written.
            answer.body.close()
            self._keep = False
            answer = error_answer(500)
            head = build_response(500, REASONS[500], self._fields(answer, version))
        self._head = memoryview(head)
        self._body = answer.body
        if (request is not None and request.method == "HEAD") or answer.status in (204, 304):
            self._body.close()
            self._body = None
        self._request = None
        self._enter(_State.ANSWERING)

    def _fields(self, answer: Answer, version: str) -> list[Field]:
        fields: list[Field] = []
        if self._epoch is not None:
            fields.append(("Date", format_date(self._epoch + self._now)))
        fields.append(("Server", f"netstack/{__version__}"))
        fields += answer.fields
        if answer.status not in (204, 304):
            fields.append(("Content-Length", str(answer.body.length)))
        if not self._keep:
            fields.append(("Connection", "close"))
        elif version == "HTTP/1.0":
            fields.append(("Connection", "keep-alive"))
        return fields

    def _end_answer(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None
        if self._keep:
            self._enter(_State.IDLE)
            self._advance()
        elif self._linger and not self._peer_ended:
            self._enter(_State.LINGERING)
        else:
            self._enter(_State.FINISHED)


def check_host(request: Request) -> None:
    """Check that a request says whom it is for (RFC 9112 3.2).

    Raises: MessageError.
    """
    hosts = request.headers.get_all("host")
    if len(hosts) > 1 or (not hosts and request.version == "HTTP/1.1"):
        raise MessageError("exactly one Host field is needed")
    try:
        for host in hosts:
            if not parse_authority(host)[0]:
                raise ValueError("it is empty")
        if not request.target.startswith(("/", "*")) and request.method != "CONNECT":
            parse_url(request.target)
    except ValueError as error:
        raise MessageError(f"malformed Host or target: {error}") from None
