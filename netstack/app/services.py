"""The built-in servers of ``Host.serve``: what each puts behind a port.

A service opens a session for each connection, or answers datagrams; neither blocks (the
protocols are in ``socket/service.py``). HTTP, DNS, and the small services with which TCP and UDP
have always been tried: echo (RFC 862), discard (RFC 863), chargen (RFC 864), daytime (RFC 867).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from netstack.app.dns.server import AuthoritativeServer
from netstack.app.dns.zone import Zone, parse_zone
from netstack.app.http.dates import format_date
from netstack.app.http.files import Files
from netstack.app.http.server import HttpSession, Remembered
from netstack.app.http.site import Pages
from netstack.wire.dns import MessageReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from netstack.app.http.answer import Handler
    from netstack.app.http.wsgi import Application, WsgiService
    from netstack.socket.service import Session

    Address = tuple[str, int]

__all__ = ["chargen", "daytime", "discard", "dns", "echo", "http", "wsgi"]

# Two such services that answer each other never stop (CVE-1999-0103).
_CHATTY_PORTS = frozenset({7, 13, 17, 19, 37})
_DNS_DATAGRAM = 1232  # octets, RFC 9715 3: what no path fragments
_DNS_MAX = 65_535  # octets of a message in a stream
_DNS_IDLE = 10.0  # seconds without a whole query, or without a reader, RFC 7766 6.2.3
_WAITING = 65_536  # octets that may wait in a session for the peer to read them


class _SimpleSession:
    """What the small services' sessions have in common: nothing of their own to wait for."""

    def __init__(self) -> None:
        self.finished = False
        self.abort = False

    @property
    def paused(self) -> bool:
        """Whether the session wants no input now."""
        return False

    def receive(self, data: bytes, now: float) -> None:
        """Throw away what the peer sent; finish when it has."""
        if not data:
            self.finished = True

    def outgoing(self, limit: int) -> bytes | memoryview:
        """Return nothing."""
        return b""

    def next_deadline(self) -> float | None:
        """Return None: TCP's own limits end an idle connection."""
        return None

    def handle_timers(self, now: float) -> None:
        """Do nothing: there is no timer."""

    def close(self) -> None:
        """Release nothing: nothing is held."""
        self.finished = True


class _EchoSession(_SimpleSession):
    def __init__(self) -> None:
        super().__init__()
        self._waiting = bytearray()

    @property
    def paused(self) -> bool:
        """Whether more waits for the peer to read it than should."""
        return len(self._waiting) >= _WAITING

    def receive(self, data: bytes, now: float) -> None:
        """Keep what came until it can go back."""
        super().receive(data, now)
        if self.paused and data:
            self.abort = True  # handed over although there is no room
        else:
            self._waiting += data

    def outgoing(self, limit: int) -> bytes:
        """Return what came."""
        data = bytes(self._waiting[:limit])
        del self._waiting[:limit]
        return data


class _ChargenSession(_SimpleSession):
    def __init__(self) -> None:
        super().__init__()
        self._offset = 0

    def outgoing(self, limit: int) -> bytes:
        """Return the next lines of the pattern, without end (at most 64 KiB at a time)."""
        if self.finished:
            return b""
        size = min(limit, _WAITING)
        start = self._offset % len(_PATTERN)
        self._offset += size
        repeated = _PATTERN * ((start + size) // len(_PATTERN) + 1)
        return repeated[start : start + size]


class _DaytimeSession(_SimpleSession):
    def __init__(self, line: bytes) -> None:
        super().__init__()
        self._line = line
        self.finished = True

    def outgoing(self, limit: int) -> bytes:
        """Return the line."""
        piece, self._line = self._line[:limit], self._line[limit:]
        return piece


class _DnsSession(_SimpleSession):
    """Queries and responses, each behind its length in two octets (RFC 1035 4.2.2)."""

    def __init__(self, server: AuthoritativeServer, now: float) -> None:
        super().__init__()
        self._server = server
        self._reader = MessageReader()
        self._queries: deque[bytes] = deque()
        self._queued = 0  # octets of them
        self._waiting = bytearray()
        self._ended = False
        self._moved = False  # since the deadline was set
        self._deadline = now + _DNS_IDLE

    @property
    def paused(self) -> bool:
        """Whether responses wait for the peer to read them."""
        return len(self._waiting) >= _WAITING

    def receive(self, data: bytes, now: float) -> None:
        """Take pieces of queries, any number of them (RFC 7766 6.2.1.1)."""
        self._ended = self._ended or not data
        for query in self._reader.receive(data):
            self._queries.append(query)
            self._queued += 2 + len(query)
        if self._queued > 4 * _WAITING:
            self.abort = True  # handed over although there is no room
        self._work()

    def outgoing(self, limit: int) -> bytes:
        """Return the next octets of responses."""
        data = bytes(self._waiting[:limit])
        del self._waiting[:limit]
        self._moved = self._moved or bool(data)
        self._work()
        return data

    def _work(self) -> None:
        # A response may be a thousand times its query: so many at a time, not all there are.
        while not self.paused and self._queries:
            query = self._queries.popleft()
            self._queued -= 2 + len(query)
            if not query:
                self.abort = True  # DNS-27: a message has at least its header
                return
            response = self._server.answer(query, _DNS_MAX)
            self._moved = True
            if response:
                self._waiting += len(response).to_bytes(2, "big") + response
        self.finished = self._ended and not self.paused

    def next_deadline(self) -> float | None:
        """Return when to look whether anything has moved."""
        return self._deadline

    def handle_timers(self, now: float) -> None:
        """Close an idle connection; reset one whose peer does not read."""
        if now < self._deadline:
            return
        if not self._moved:
            self.finished = not self._waiting
            self.abort = bool(self._waiting)
        self._moved = False
        self._deadline = now + _DNS_IDLE


class _DnsService:
    stream = True
    datagram = True

    def __init__(self, server: AuthoritativeServer) -> None:
        self._server = server

    def open(self, peer: Address, local: Address, now: float) -> _DnsSession:
        """Return the session of a new connection."""
        return _DnsSession(self._server, now)

    def receive_datagram(self, data: bytes, peer: Address, now: float) -> bytes | None:
        """Return the response to a query; None if there must be none."""
        return self._server.answer(data, _DNS_DATAGRAM) or None


def _pattern() -> bytes:
    """Return RFC 864's pattern: 95 lines of 72 characters, each shifted by one."""
    ring = bytes(range(32, 127)) * 2
    return b"".join(ring[start : start + 72] + b"\r\n" for start in range(95))


_PATTERN = _pattern()


class _SmallService:
    """A service of both kinds, made of two functions."""

    stream = True
    datagram = True

    def __init__(
        self,
        session: Callable[[float], Session],
        answer: Callable[[bytes, float], bytes | None],
    ) -> None:
        self._session = session
        self._answer = answer

    def open(self, peer: Address, local: Address, now: float) -> Session:
        """Return the session of a new connection."""
        return self._session(now)

    def receive_datagram(self, data: bytes, peer: Address, now: float) -> bytes | None:
        """Return the answer to a datagram; None for one that may be such an answer itself."""
        return None if peer[1] in _CHATTY_PORTS else self._answer(data, now)


class _HttpService:
    stream = True
    datagram = False

    def __init__(self, handler: Handler, epoch: float | None) -> None:
        self._handler = handler
        self._epoch = epoch
        self._remembered = Remembered()

    def open(self, peer: Address, local: Address, now: float) -> HttpSession:
        """Return the session of a new connection."""
        return HttpSession(self._handler, now, epoch=self._epoch, remembered=self._remembered)

    def receive_datagram(self, data: bytes, peer: Address, now: float) -> bytes | None:
        """Return None: HTTP/1.1 runs over TCP."""
        return None


def http(
    root: str | Path | Mapping[str, bytes] | Handler, *, epoch: float | None = None
) -> _HttpService:
    """Return a web server for the files below ``root``, or for pages in memory.

    ``root`` may also be a mapping of paths to pages (``{"/": b"..."}``), or a function from
    ``Request`` to ``Answer``. ``epoch`` is the Unix time when the host's clock was 0, for the
    Date field; without it there is none.
    Raises: NotADirectoryError.
    """
    if callable(root):
        return _HttpService(root, epoch)
    return _HttpService(Pages(root) if isinstance(root, Mapping) else Files(root), epoch)


def wsgi(application: Application) -> WsgiService:
    """Return a web server for a WSGI application (PEP 3333); it runs in a task a connection."""
    # Imported here: it blocks, and the other services load nothing that does.
    from netstack.app.http.wsgi import WsgiService

    return WsgiService(application)


def echo() -> _SmallService:
    """Return the echo service (RFC 862): what comes goes back."""
    return _SmallService(lambda now: _EchoSession(), lambda data, now: data)


def discard() -> _SmallService:
    """Return the discard service (RFC 863): what comes is thrown away."""
    return _SmallService(lambda now: _SimpleSession(), lambda data, now: None)


def chargen() -> _SmallService:
    """Return the character generator (RFC 864).

    A datagram is answered with no more octets than it had: RFC 864's up to 512 octets for one
    make the service an amplifier.
    """
    return _SmallService(lambda now: _ChargenSession(), lambda data, now: _PATTERN[: len(data)])


def daytime(*, epoch: float = 0.0) -> _SmallService:
    """Return the daytime service (RFC 867); ``epoch`` is the Unix time at the clock's 0."""

    def line(now: float) -> bytes:
        return f"{format_date(epoch + now)}\r\n".encode("ascii")

    return _SmallService(lambda now: _DaytimeSession(line(now)), lambda data, now: line(now))


def dns(*zones: str | Path | Zone) -> _DnsService:
    """Return an authoritative name server for ``zones``.

    A zone is given as the text of a master file, as the path of one, or ready.
    Raises: ParseError, OSError.
    """
    return _DnsService(AuthoritativeServer(map(_zone, zones)))


def _zone(zone: str | Path | Zone) -> Zone:
    if isinstance(zone, Path):
        zone = zone.read_text(encoding="utf-8")
    return parse_zone(zone) if isinstance(zone, str) else zone
