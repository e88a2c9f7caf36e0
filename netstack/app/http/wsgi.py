"""A WSGI server (PEP 3333): each connection in a task of its own, over a blocking socket.

Requests are framed and checked as everywhere else; what the application answers is sent as it
comes, chunked if its length is not known. A peer has ``PATIENCE_S`` seconds for each read and
write. Left out: ``wsgi.file_wrapper``, upgrades.
"""

from __future__ import annotations

import re
import socket as std
import struct
import sys
import traceback
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from netstack._version import __version__
from netstack.app.http.answer import REASONS, error_answer
from netstack.app.http.grammar import keeps_alive, request_framing
from netstack.app.http.headers import Field, Headers
from netstack.app.http.messages import Data, EndOfMessage, MessageError, Request
from netstack.app.http.reader import RequestReader
from netstack.app.http.server import check_host
from netstack.app.http.writer import LAST_CHUNK, build_chunk, build_response
from netstack.core.errors import LocalProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from netstack.socket.stream import StreamSocket

    Application = Callable[..., Iterable[bytes]]

PATIENCE_S = 30.0
MAX_REQUESTS = 1000  # on one connection
MAX_DRAINED = 1_048_576  # octets of content that the application did not read
RECEIVE = 65_536

_STATUS = re.compile(r"([1-9][0-9]{2})(?: (.*))?")
# PEP 3333, "Other HTTP Features": the connection is the server's.
_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer"}
    | {"transfer-encoding", "upgrade"}
)


class _PeerGone(Exception):
    """The connection failed; an OSError of the application's own is another matter."""


class WsgiService:
    """Serves a WSGI application."""

    def __init__(self, application: Application) -> None:
        self._application = application

    def handle(self, connection: StreamSocket) -> None:
        """Serve one connection until either side wants no more."""
        connection.settimeout(PATIENCE_S)
        reader = RequestReader()
        for served in range(1, MAX_REQUESTS + 1):
            exchange = _Exchange(connection, reader, last=served == MAX_REQUESTS)
            if not exchange.run(self._application):
                return


class _Input:
    """``wsgi.input``: the content of one request."""

    def __init__(self, exchange: _Exchange) -> None:
        self._exchange = exchange
        self._buffer = bytearray()

    def _fill(self) -> bool:
        data = self._exchange.receive_content()
        self._buffer += data
        return bool(data)

    def _take(self, size: int) -> bytes:
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def read(self, size: int = -1) -> bytes:
        """Return ``size`` octets, fewer only at the end; all that is left if negative."""
        while (size < 0 or len(self._buffer) < size) and self._fill():
            pass
        return self._take(len(self._buffer) if size < 0 else size)

    def readline(self, size: int = -1) -> bytes:
        """Return the next line with its end, at most ``size`` octets of it."""
        searched = 0
        while True:
            end = self._buffer.find(b"\n", searched) + 1
            searched = len(self._buffer)
            if end or (0 <= size <= searched) or not self._fill():
                break
        end = end or len(self._buffer)
        return self._take(end if size < 0 else min(end, size))

    def readlines(self, hint: int = -1) -> list[bytes]:
        """Return all lines that are left."""
        return list(self)

    def __iter__(self) -> Iterator[bytes]:
        while line := self.readline():
            yield line


class _Exchange:
    """One request and the application's answer to it."""

    def __init__(self, connection: StreamSocket, reader: RequestReader, *, last: bool) -> None:
        self._connection = connection
        self._reader = reader
        self._request = Request("GET", "/", "HTTP/1.0", Headers())
        self._keep = not last
        self._complete = False  # the request's content has been read to its end
        self._continue = False  # the peer waits for 100 (RFC 9110 10.1.1)
        self._status: tuple[int, str] | None = None
        self._fields: list[Field] = []
        self._sent = False  # the head of the answer
        self._length: int | None = None  # octets that the answer still owes; None: not announced
        self._chunked = False

    def run(self, application: Application) -> bool:
        """Serve one request; return whether another may follow."""
        try:
            if not self._receive_head():
                return False
            self._respond(application)
            self._drain()
        except MessageError as error:
            self._refuse(error)
        except _PeerGone:
            self._keep = False
        return self._keep

    # -- the connection --------------------------------------------------------------------------

    def _send_octets(self, data: bytes) -> None:
        try:
            self._connection.sendall(data)
        except OSError as error:
            raise _PeerGone from error

    def _receive_octets(self) -> bytes:
        try:
            return self._connection.recv(RECEIVE)
        except OSError as error:
            raise _PeerGone from error

    # -- the request -----------------------------------------------------------------------------

    def _event(self) -> Any:
        """Wait for the next event; None at the end of the stream."""
        while (event := self._reader.next_event()) is None:
            data = self._receive_octets()
            if data:
                self._reader.receive(data)
                continue
            self._reader.receive_eof()
            return self._reader.next_event()
        return event

    def _receive_head(self) -> bool:
        request = self._event()
        if not isinstance(request, Request):
            return False
        self._request = request
        check_host(request)
        self._keep = self._keep and keeps_alive(request.version, request.headers)
        self._continue = (
            request.version == "HTTP/1.1"
            and request.headers.get("expect", "").lower() == "100-continue"
            and request_framing(request) != 0
        )
        return True

    def receive_content(self) -> bytes:
        """Return the next piece of the request's content; ``b""`` at its end."""
        if self._continue and not self._sent:
            self._continue = False
            if not self._reader.unread:
                self._send_octets(build_response(100, "Continue", ()))
        while not self._complete:
            event = self._event()
            if isinstance(event, Data):
                return event.data
            self._complete = event is None or isinstance(event, EndOfMessage)
        return b""

    def _drain(self) -> None:
        """Read what the application left of the content, so that the next request is found."""
        if self._continue:
            self._keep = False  # whether the content will come, nobody knows
        left = MAX_DRAINED
        while self._keep and not self._complete:
            left -= len(self.receive_content())
            if left < 0:
                self._keep = False

    def _environ(self) -> dict[str, Any]:
        request = self._request
        path, _, query = request.target.partition("?")
        if path.startswith(("http://", "https://")):
            path = "/" + path.split("/", 3)[3] if path.count("/") > 2 else "/"
        local, peer = self._connection.getsockname(), self._connection.getpeername()
        environ: dict[str, Any] = {
            "REQUEST_METHOD": request.method,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
            "QUERY_STRING": query,
            "SERVER_NAME": local[0],
            "SERVER_PORT": str(local[1]),
            "SERVER_PROTOCOL": request.version,
            "SERVER_SOFTWARE": f"netstack/{__version__}",
            "REMOTE_ADDR": peer[0],
            "REMOTE_PORT": str(peer[1]),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": _Input(self),
            "wsgi.input_terminated": True,
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        for name, value in request.headers.items():
            # An underscore would pass for a hyphen, Proxy for HTTP_PROXY (CVE-2016-5385).
            if "_" in name or name.lower() == "proxy":
                continue
            key = name.upper().replace("-", "_")
            bare = key in ("CONTENT_TYPE", "CONTENT_LENGTH")
            environ[key if bare else f"HTTP_{key}"] = value
        if "content-length" in request.headers:
            # Equal values in a list are one (RFC 9110 8.6).
            environ["CONTENT_LENGTH"] = str(request_framing(request))
        return environ

    # -- the answer ------------------------------------------------------------------------------

    def _respond(self, application: Application) -> None:
        try:
            result = application(self._environ(), self._start_response)
            try:
                self._send_result(result)
            finally:
                close = getattr(result, "close", None)
                if close is not None:
                    close()
        except (MessageError, _PeerGone):
            raise
        except Exception:  # the application's own, whatever it is
            traceback.print_exc(file=sys.stderr)
            self._fail()

    def _fail(self) -> None:
        """Say that the application failed; reset the connection if it had begun to answer."""
        self._keep = False
        if not self._sent:
            self._refuse(MessageError("the application failed", 500))
            return
        # Closing would make an answer that only the end delimits look whole.
        reset = struct.pack("ii", 1, 0)
        self._connection.setsockopt(std.SOL_SOCKET, std.SO_LINGER, reset)

    def _refuse(self, error: MessageError) -> None:
        self._keep = False
        if self._sent:
            return
        self._sent = True
        answer = error_answer(error.status, str(error))
        length = answer.body.length
        fields = [*answer.fields, ("Content-Length", str(length)), ("Connection", "close")]
        head = build_response(error.status, REASONS[error.status], fields)
        self._send_octets(head + answer.body.read(length))

    def _start_response(
        self, status: str, headers: list[Field], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        if exc_info is not None:
            try:
                if self._sent:
                    raise exc_info[1]
            finally:
                exc_info = None  # no cycle through the traceback
        elif self._status is not None:
            raise LocalProtocolError("start_response was called twice")
        match = _STATUS.fullmatch(status)
        if match is None:
            raise LocalProtocolError(f"{status!r} is not a status")
        hop = [name for name, _ in headers if name.lower() in _HOP_BY_HOP]
        if hop:
            raise LocalProtocolError(f"{hop[0]} is not the application's to set")
        self._status = (int(match[1]), match[2] or "")
        self._fields = list(headers)
        return self._write

    def _send_result(self, result: Iterable[bytes]) -> None:
        whole = isinstance(result, list | tuple) and len(result) == 1
        for piece in result:
            if piece:
                self._send_head(len(piece) if whole else None)
                self._send(piece)
        self._send_head(0)
        if self._chunked:
            self._send_octets(LAST_CHUNK)
        if self._length and not self._without_content():
            raise LocalProtocolError(f"the application owes {self._length} octets more")

    def _write(self, data: bytes) -> None:
        if data:
            self._send_head(None)
            self._send(data)

    def _without_content(self) -> bool:
        status = 200 if self._status is None else self._status[0]
        return self._request.method == "HEAD" or status in (204, 304)

    def _send_head(self, length: int | None) -> None:
        """Send the head, once; ``length`` is that of all the content if it is known."""
        if self._sent:
            return
        if self._status is None:
            raise LocalProtocolError("start_response was not called")
        fields = [("Server", f"netstack/{__version__}"), *self._fields]
        announced = Headers(self._fields).get("content-length")
        if announced is not None:
            self._length = int(announced)
        elif length is not None and not self._without_content():
            self._length = length
            fields.append(("Content-Length", str(length)))
        elif not self._without_content():
            self._chunked = self._request.version == "HTTP/1.1"
            self._keep = self._keep and self._chunked
            if self._chunked:
                fields.append(("Transfer-Encoding", "chunked"))
        if not self._keep:
            fields.append(("Connection", "close"))
        elif self._request.version == "HTTP/1.0":
            fields.append(("Connection", "keep-alive"))
        head = build_response(*self._status, fields)
        self._sent = True
        self._send_octets(head)

    def _send(self, data: bytes) -> None:
        if self._without_content():
            return
        if self._length is not None:
            self._length -= len(data)
            if self._length < 0:
                raise LocalProtocolError("the application sends more than it announced")
        self._send_octets(build_chunk(data) if self._chunked else data)
