"""``fetch``: the client's octets moved over a host's sockets, under one deadline.

The only blocking part of the HTTP client. Everything is measured on the host's clock, so that
the same code runs in real and in virtual time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from netstack.app.http.client import (
    IDEMPOTENT,
    Exchange,
    Redirects,
    Response,
    Timings,
)
from netstack.app.http.connection import ClientConnection
from netstack.core.address import parse_address
from netstack.core.errors import LocalProtocolError, RemoteProtocolError, TimedOut
from netstack.ssl import TlsError, TlsSocket, client_context, wrap

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from netstack.app.http.url import Url
    from netstack.ssl import Transport

RECEIVE = 262_144  # octets asked of a socket at a time
REDIRECT_BODY = 65_536  # octets of a redirect's body that are read to keep its connection


class FetchHost(Protocol):
    """What a fetch needs of a ``Host``."""

    @property
    def now(self) -> float:
        """The host's clock in seconds."""

    def create_connection(
        self, address: tuple[str, int], timeout: float | None = None
    ) -> Transport:
        """Connect to an address."""

    def resolve(self, name: str, type: str = "A", *, timeout: float | None = 10.0) -> list[str]:
        """Return the addresses of a name."""


class _Deadline:
    """The time that is left, and what it is being spent on."""

    def __init__(self, host: FetchHost, timeout: float | None) -> None:
        self._host = host
        self.start = host.now
        self._timeout = timeout
        self.phase = "resolving"
        self.subject = ""

    @property
    def elapsed(self) -> float:
        return self._host.now - self.start

    def remaining(self) -> float | None:
        """Return the seconds left, None for no limit; raise TimedOut if there are none."""
        if self._timeout is None:
            return None
        left = self._timeout - self.elapsed
        if left <= 0:
            raise self.expired()
        return left

    def expired(self) -> TimedOut:
        """Return the error that says in which phase the time ran out."""
        return TimedOut(f"timed out after {self._timeout:g} s while {self.phase} {self.subject}")

    def enter(self, phase: str, subject: str) -> None:
        self.phase, self.subject = phase, subject


class _TimedSocket:
    """A socket each of whose calls gets what is left of the deadline."""

    def __init__(self, sock: Transport, deadline: _Deadline) -> None:
        self._sock = sock
        self._deadline = deadline

    def recv(self, limit: int) -> bytes:
        self._sock.settimeout(self._deadline.remaining())
        try:
            return self._sock.recv(limit)
        except TimeoutError as error:
            self._explain(error)
            raise

    def sendall(self, data: bytes) -> None:
        self._sock.settimeout(self._deadline.remaining())
        try:
            self._sock.sendall(data)
        except TimeoutError as error:
            self._explain(error)
            raise

    def _explain(self, error: TimeoutError) -> None:
        # TCP gives up by itself too (RFC 9293 3.8.3); its own words are kept then.
        self._deadline.remaining()
        raise TimedOut(f"{error} while {self._deadline.phase} {self._deadline.subject}") from None

    def settimeout(self, timeout: float | None) -> None:
        """Change nothing: the deadline decides."""

    def close(self) -> None:
        self._sock.close()


class _Line:
    """An open connection to one origin."""

    def __init__(self, url: Url, stream: Transport, resolved: float, connected: float) -> None:
        self.origin = url.origin
        self.stream = stream
        self.http = ClientConnection()
        self.resolved = resolved
        self.connected = connected
        self.secured = connected
        self.used = False
        self.broken = False

    @property
    def reusable(self) -> bool:
        """Whether another request may be sent on it."""
        return self.http.reusable and not self.broken

    def receive(self) -> None:
        """Wait for octets of the server and hand them to the HTTP connection."""
        data = self.stream.recv(RECEIVE)
        if data:
            self.http.receive(data)
        else:
            ragged = isinstance(self.stream, TlsSocket) and self.stream.ragged_eof
            self.http.receive_eof(clean=not ragged)


class _StaleLine(Exception):
    """A kept connection turned out to be closed before the server saw the request."""


class _Fetcher:
    """The parameters of one fetch, and the connection it keeps between redirects."""

    def __init__(
        self,
        host: FetchHost,
        deadline: _Deadline,
        *,
        max_size: int | None,
        context: Callable[[], ssl.SSLContext],
        resolve: Mapping[str, str],
        allow: Callable[[str, str], bool] | None,
    ) -> None:
        self._host = host
        self._deadline = deadline
        self._max_size = max_size
        self._context = context
        self._resolve = {name.lower(): address for name, address in resolve.items()}
        self._allow = allow
        self._line: _Line | None = None

    def close(self) -> None:
        if self._line is not None:
            self._line.stream.close()
            self._line = None

    def request(
        self,
        redirects: Redirects,
        history: tuple[Response, ...],
        on_body: Callable[[bytes], None] | None,
    ) -> Response:
        """Return the response to the request that ``redirects`` stands at."""
        line = self._line_to(redirects.url)
        try:
            return self._exchange(line, redirects, history, on_body)
        except _StaleLine:
            # RFC 9112 9.3.1: repeated once, on a fresh connection, if that does no harm.
            self.close()
            line = self._line_to(redirects.url)
            return self._exchange(line, redirects, history, on_body)

    def _line_to(self, url: Url) -> _Line:
        line = self._line
        if line is not None and line.origin == url.origin and line.reusable:
            line.resolved = line.connected = line.secured = self._deadline.elapsed
            return line
        self.close()
        self._line = self._connect(url)
        return self._line

    # -- connecting ----------------------------------------------------------------------------

    def _addresses(self, url: Url) -> list[str]:
        override = self._resolve.get(url.host)
        if override is not None:
            return [override]
        try:
            return [str(parse_address(url.host))]
        except ValueError:
            pass  # a name, then
        self._deadline.enter("resolving", url.host)
        try:
            return self._host.resolve(url.host, timeout=self._deadline.remaining())
        except TimeoutError:
            self._deadline.remaining()
            raise

    def _connect(self, url: Url) -> _Line:
        addresses = self._addresses(url)
        allow = self._allow
        if allow is not None:
            for address in addresses:
                if not allow(str(url), address):
                    raise LocalProtocolError(f"{url} at {address} is not allowed")
        resolved = self._deadline.elapsed
        sock = self._connect_to_one(addresses, url)
        line = _Line(url, _TimedSocket(sock, self._deadline), resolved, self._deadline.elapsed)
        if url.scheme == "https":
            self._deadline.enter("in the TLS handshake with", str(url.authority))
            try:
                line.stream = wrap(line.stream, url.host.rstrip("."), self._context())
            except TlsError as error:
                sock.close()
                raise TlsError(f"{url.authority}: {error}") from error
            except BaseException:
                sock.close()
                raise
            line.secured = self._deadline.elapsed
        return line

    def _connect_to_one(self, addresses: list[str], url: Url) -> Transport:
        """Connect to the first address that answers; each gets its share of the time."""
        error: OSError | None = None
        for index, address in enumerate(addresses):
            where = address if address == url.host else f"{url.host} ({address})"
            self._deadline.enter("connecting to", f"{where} port {url.port}")
            left = self._deadline.remaining()
            share = None if left is None else left / (len(addresses) - index)
            try:
                return self._host.create_connection((address, url.port), share)
            except OSError as failure:
                error = failure
        if isinstance(error, TimeoutError):
            self._deadline.remaining()
        if error is None:
            raise RemoteProtocolError(f"{url.host} has no address")
        raise error

    # -- one exchange --------------------------------------------------------------------------

    def _exchange(
        self,
        line: _Line,
        redirects: Redirects,
        history: tuple[Response, ...],
        on_body: Callable[[bytes], None] | None,
    ) -> Response:
        url = str(redirects.url)
        exchange = Exchange(line.http, redirects, max_size=self._max_size)
        retry = line.used and redirects.method in IDEMPOTENT
        line.used = True
        self._deadline.enter("sending to", url)
        self._send(line, exchange)
        sent = self._deadline.elapsed
        self._deadline.enter("waiting for", url)
        self._receive(line, retry)
        first_octet = self._deadline.elapsed
        self._deadline.enter("receiving from", url)
        chunks: list[bytes] = []
        self._receive_content(line, exchange, redirects, chunks, on_body)
        head = exchange.head
        if head is None:
            raise RemoteProtocolError(f"{url}: no response")
        done = self._deadline.elapsed
        timings = Timings(line.resolved, line.connected, line.secured, sent, first_octet, done)
        return Response(
            head.status,
            head.reason,
            head.version,
            url,
            head.headers,
            b"".join(chunks),
            history,
            timings,
        )

    def _send(self, line: _Line, exchange: Exchange) -> None:
        try:
            line.stream.sendall(exchange.outgoing)
        except ConnectionError:
            # The server may have answered without reading all (413): see what it said.
            line.broken = True

    def _receive(self, line: _Line, retry: bool) -> None:
        """Wait for the first octets of the response."""
        try:
            line.receive()
        except ConnectionError:
            if retry:
                raise _StaleLine from None
            raise
        if not line.http.received:
            if retry:
                raise _StaleLine
            raise RemoteProtocolError(
                f"{self._deadline.subject}: the server closed the connection without an answer"
            )

    def _receive_content(
        self,
        line: _Line,
        exchange: Exchange,
        redirects: Redirects,
        chunks: list[bytes],
        on_body: Callable[[bytes], None] | None,
    ) -> None:
        size = 0
        while True:
            for piece in exchange.content():
                size += len(piece)
                if exchange.head is not None and redirects.redirected(
                    exchange.head.status, exchange.head.headers
                ):
                    chunks.append(piece)
                    if size > REDIRECT_BODY:
                        return  # nobody needs it; the connection is not reusable now
                elif on_body is None:
                    chunks.append(piece)
                else:
                    on_body(piece)
            if exchange.done:
                return
            line.receive()


def fetch(
    url: str,
    *,
    host: FetchHost,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    timeout: float | None = 30.0,
    max_redirects: int = 10,
    max_size: int | None = None,
    verify: bool = True,
    cacert: str | Path | None = None,
    resolve: Mapping[str, str] | None = None,
    on_body: Callable[[bytes], None] | None = None,
    allow: Callable[[str, str], bool] | None = None,
) -> Response:
    """Return the response to a request that ``host`` sends, redirects followed.

    ``timeout`` is one deadline in seconds for all of it, on the host's clock. With
    ``max_redirects=0`` a redirect is returned as it is. ``max_size`` bounds the decoded body in
    octets; without it only bodies that compression blew up are refused. ``verify`` and ``cacert``
    say which certificates are accepted, ``resolve`` maps names to addresses before DNS is asked.
    ``on_body`` is handed the body of the final response piece by piece instead of holding it.
    ``allow(url, address)`` is asked before each connection, redirects included, and may refuse.

    The request is sent before the response is read: a server that answers a very large body
    while still reading it can stall both sides until the deadline.

    Raises: ValueError (URL), LocalProtocolError, RemoteProtocolError, NameNotFound,
    NameServerError, TooManyRedirects, BodyTooLarge, TimedOut (which says in which phase),
    Refused, Reset, Unreachable.
    """
    redirects = Redirects(url, method, headers, body, max_redirects=max_redirects)
    contexts: list[ssl.SSLContext] = []

    def context() -> ssl.SSLContext:
        if not contexts:
            contexts.append(client_context(verify=verify, cacert=cacert))
        return contexts[0]

    fetcher = _Fetcher(
        host,
        _Deadline(host, timeout),
        max_size=max_size,
        context=context,
        resolve={} if resolve is None else resolve,
        allow=allow,
    )
    try:
        history: tuple[Response, ...] = ()
        while True:
            response = fetcher.request(redirects, history, on_body)
            if not redirects.follow(response.status, response.headers):
                return response
            history = (*history, response)
    finally:
        fetcher.close()
