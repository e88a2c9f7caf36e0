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
from enum import IntEnum
from functools import lru_cache
from typing import TYPE_CHECKING

from netstack._version import __version__
from netstack.app.http.answer import REASONS, Answer, Body, error_answer
from netstack.app.http.dates import format_date
from netstack.app.http.grammar import CHUNKED, keeps_alive, request_framing
from netstack.app.http.messages import Data, EndOfMessage, MessageError, Request
from netstack.app.http.reader import RequestReader
from netstack.app.http.recent import Recent
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
_EMPTY = frozenset({204, 304})  # answers without content, RFC 9110 15.3.5 and 15.4.5
_STAYS = {"HTTP/1.1": "", "HTTP/1.0": "keep-alive"}  # what Connection says if it stays open
_CREDENTIALS = frozenset({"authorization", "cookie", "proxy-authorization"})  # not to be kept
_GATHERED = 16_384  # octets of answers to requests that came together, sent together
_SERVER = f"netstack/{__version__}"

_MAX_KEPT = 1024  # octets of an answer's head that is kept


class Remembered:
    """What the sessions of one server worked out lately."""

    __slots__ = ("heads", "requests")

    def __init__(self) -> None:
        self.requests: Recent[bytes, Request] = Recent(256)
        # By all that they are made from: the next within the second is the same.
        self.heads: Recent[tuple[object, ...], bytes] = Recent(128)


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


class _State(IntEnum):
    IDLE = 0
    HEAD = 1
    CONTENT = 2
    ANSWERING = 3
    LINGERING = 4
    FINISHED = 5


# Looking into an Enum takes longer than all else that is asked of a state.
_IDLE, _CONTENT, _ANSWERING = _State.IDLE, _State.CONTENT, _State.ANSWERING
_FINISHED = _State.FINISHED


@lru_cache(8)
def _seconds_in(limits: SessionLimits) -> tuple[float | None, ...]:
    """Return how long each state may last."""
    return (limits.idle, limits.head, limits.content, limits.progress, limits.linger, None)


class HttpSession:
    """One connection of an HTTP server.

    ``epoch`` is the Unix time when ``now`` was 0, None if nobody knows: a server without a clock
    sends no Date (RFC 9110 6.6.1). ``remembered`` is common to the sessions of a server.
    """

    def __init__(
        self,
        handler: Handler,
        now: float,
        *,
        epoch: float | None = None,
        limits: SessionLimits | None = None,
        remembered: Remembered | None = None,
    ) -> None:
        self._remembered = Remembered() if remembered is None else remembered
        self._handler = handler
        self._epoch = epoch
        self._limits = SessionLimits() if limits is None else limits
        self._seconds = _seconds_in(self._limits)
        self._reader = RequestReader(known=self._remembered.requests)
        self._request: Request | None = None
        self._content = 0  # octets of the request's content seen
        self._head = b""
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
        return self._state is _FINISHED and not self.abort

    @property
    def paused(self) -> bool:
        """Whether the session wants no input now."""
        return self._state is _ANSWERING and self._reader.unread > self._limits.unread // 2

    def receive(self, data: bytes, now: float) -> None:
        """Take what the peer sent; ``b""`` is its end of stream."""
        self._now = now
        self._fresh = True
        if not data:
            self._receive_eof()
        elif self._linger:
            self._throw_away(len(data))
        elif self._state is not _FINISHED:
            if self._state is _ANSWERING and self._reader.unread > self._limits.unread:
                self._give_up()
            self._reader.receive(data)
            self._advance()

    def outgoing(self, limit: int) -> bytes | memoryview:
        """Return, and forget, at most ``limit`` octets to send; empty = nothing now."""
        self._fresh = False
        while self._state is _ANSWERING and not self.abort and limit > 0:
            piece = self._next_piece(limit)
            if piece or self.abort:
                room = min(limit, _GATHERED) - len(piece)
                return self._gather(piece, room) if self._reader.unread else piece
            self._end_answer()
        return b""

    def _next_piece(self, limit: int) -> bytes:
        """Return what is next of the answer; empty at its end, or if the rest cannot be had."""
        piece, self._head = self._head, b""
        if len(piece) > limit:
            piece, self._head = piece[:limit], piece[limit:]
        elif len(piece) < limit and self._body is not None and self._body.length:
            data = self._body.read(limit - len(piece))
            if not data:
                self._give_up()  # never pad what was promised and cannot be had
            piece += data
        self._taken += len(piece)
        return piece

    def _gather(self, piece: bytes, room: int) -> bytes:
        """Return ``piece``, and after it the answers to requests that wait, while there is room.

        The last answer ends when more is asked for, so that its deadline stands while the peer
        does not take it.
        """
        pieces = [piece]
        while room > 0 and self._keep and self._has_ended():
            request = self._reader.take_known()
            if request is None:
                break
            self._release()
            self._answer_known(request)
            piece = self._next_piece(room)
            room -= len(piece)
            pieces.append(piece)
        if len(pieces) == 1:
            return piece
        data = b"".join(pieces)
        self._taken = len(data)
        return data

    def _has_ended(self) -> bool:
        """Return whether all of the answer was handed out."""
        return not self._head and (self._body is None or not self._body.length)

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
        self._release()
        self._enter(_State.FINISHED)

    def _release(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None

    # -- states ----------------------------------------------------------------------------------

    def _enter(self, state: _State) -> None:
        seconds = self._seconds[state]
        self._state = state
        self._stale = not self._fresh
        self._taken = 0
        self._deadline = None if seconds is None else self._now + seconds

    def _give_up(self) -> None:
        self.close()
        self._head = b""
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
            if self._state is _IDLE:
                request = self._reader.take_known()
                if request is not None:
                    self._answer_known(request)
            while self._state <= _CONTENT:
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
            if framing == 0 and request.headers.isdisjoint(_CREDENTIALS):
                self._reader.remember(request)
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

    def _answer_known(self, request: Request) -> None:
        """Answer a request that went through ``_begin_request`` before, octet for octet."""
        self._request = request
        try:
            self._answer(request, self._respond(request))
        except MessageError as error:
            self._refuse(error)

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
        try:
            self._head = self._build_head(answer, version)
        except LocalProtocolError:
            # HTT-30: a handler put a line end into a field. Nothing of it is written.
            answer.body.close()
            self._keep = False
            answer = error_answer(500)
            self._head = self._build_head(answer, version)
        self._body = answer.body
        if answer.status in _EMPTY or (request is not None and request.method == "HEAD"):
            self._release()
        self._request = None
        self._enter(_ANSWERING)

    def _build_head(self, answer: Answer, version: str) -> bytes:
        date = "" if self._epoch is None else format_date(self._epoch + self._now)
        length = None if answer.status in _EMPTY else answer.body.length
        connection = "close" if not self._keep else _STAYS[version]
        made_of = (answer.status, date, tuple(answer.fields), length, connection)
        heads = self._remembered.heads
        head = heads.get(made_of)
        if head is None:
            head = _build_head(*made_of)
            if len(head) <= _MAX_KEPT:
                heads.put(made_of, head)
        return head

    def _end_answer(self) -> None:
        self._release()
        if self._keep:
            self._enter(_IDLE)
            if self._reader.unread or self._peer_ended:
                self._advance()
        elif self._linger and not self._peer_ended:
            self._enter(_State.LINGERING)
        else:
            self._enter(_State.FINISHED)


def _build_head(
    status: int, date: str, added: tuple[Field, ...], length: int | None, connection: str
) -> bytes:
    """Return the head of an answer; empty strings and None are fields that it does not have.

    Raises: LocalProtocolError.
    """
    fields = [("Date", date)] if date else []
    fields.append(("Server", _SERVER))
    fields += added
    if length is not None:
        fields.append(("Content-Length", str(length)))
    if connection:
        fields.append(("Connection", connection))
    return build_response(status, REASONS.get(status, ""), fields)


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
