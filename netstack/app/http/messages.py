"""What a reader makes of octets: heads, pieces of content, ends; and what can be wrong."""

from __future__ import annotations

from dataclasses import dataclass, field

from netstack.app.http.headers import Headers
from netstack.core.errors import RemoteProtocolError


class MessageError(RemoteProtocolError):
    """Octets that are no legal HTTP/1.1 message; ``status`` is what a server answers to them."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class IncompleteMessage(MessageError):
    """The connection ended within a message (RFC 9112 8)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of what a peer may make us hold, in octets unless said otherwise."""

    start_line: int = 16_384  # RFC 9112 3: at least 8000 are RECOMMENDED
    head: int = 65_536  # start line and fields together
    fields: int = 256  # lines in one head
    empty_lines: int = 4  # before a request line, RFC 9112 2.2
    chunk_line: int = 4096  # one chunk size with its extensions
    chunk_overhead: int = 16_384  # what chunk lines may cost beyond what their data excuses
    trailers: int = 16_384
    interim: int = 16  # 1xx responses before one final response


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request; ``version`` is ``"HTTP/1.1"`` or ``"HTTP/1.0"``."""

    method: str
    target: str
    version: str
    headers: Headers


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """The head of a response; an interim one (1xx) has no content and no end."""

    status: int
    reason: str
    version: str
    headers: Headers

    @property
    def interim(self) -> bool:
        """Whether another response to the same request follows (RFC 9110 15.2)."""
        return self.status < 200


@dataclass(frozen=True, slots=True)
class Data:
    """A piece of content, transfer coding removed."""

    data: bytes


@dataclass(frozen=True, slots=True)
class EndOfMessage:
    """A message is complete; ``trailers`` are never merged into its headers (RFC 9110 6.5.1)."""

    trailers: Headers = field(default_factory=Headers)


Event = Request | ResponseHead | Data | EndOfMessage
