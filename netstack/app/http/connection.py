"""A client's connection without its socket (RFC 9112 9): one exchange after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netstack.app.http.grammar import keeps_alive
from netstack.app.http.messages import EndOfMessage, Event, Limits, ResponseHead
from netstack.app.http.reader import ResponseReader
from netstack.app.http.writer import build_request
from netstack.core.errors import LocalProtocolError

if TYPE_CHECKING:
    from netstack.app.http.headers import Headers


class ClientConnection:
    """Frames requests and responses of one connection; no pipelining."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._reader = ResponseReader(limits)
        self._keep = True  # both sides leave the connection open
        self._busy = False
        self._ended = False
        self.received = 0
        """Octets received for the current exchange."""

    @property
    def reusable(self) -> bool:
        """Whether another request may be sent.

        Octets after a response belong to nobody: the connection is not used again.
        """
        return self._keep and not self._busy and not self._ended and not self._reader.unread

    def send_request(self, method: str, target: str, headers: Headers) -> bytes:
        """Return the octets of the request's head; its content follows as it is.

        Raises: LocalProtocolError, before anything has changed.
        """
        if not self.reusable:
            raise LocalProtocolError("the connection cannot be used for another request")
        if method == "CONNECT":
            raise LocalProtocolError("CONNECT is not supported")
        head = build_request(method, target, headers.fields)
        self._reader.expect(method)
        self._busy = True
        self._keep = keeps_alive("HTTP/1.1", headers)
        self.received = 0
        return head

    def receive(self, data: bytes) -> None:
        """Take what the server sent."""
        self.received += len(data)
        self._reader.receive(data)

    def receive_eof(self, *, clean: bool = True) -> None:
        """Note that the server sends nothing more; see ``ResponseReader.receive_eof``."""
        self._ended = True
        self._reader.receive_eof(clean=clean)

    def next_event(self) -> Event | None:
        """Return the next event of the response, or None if more octets are needed.

        Raises: MessageError; the connection is not reusable then.
        """
        event = self._reader.next_event()
        if isinstance(event, ResponseHead) and not event.interim:
            self._keep = self._keep and keeps_alive(event.version, event.headers)
        elif isinstance(event, EndOfMessage):
            self._busy = False
        return event
