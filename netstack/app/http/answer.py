"""What a server's handler returns for a request, and the reason phrases of RFC 9110 15."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from netstack.app.http.headers import Field
    from netstack.app.http.messages import Request

    Handler = Callable[[Request], "Answer"]

REASONS = {
    200: "OK",
    204: "No Content",
    206: "Partial Content",
    301: "Moved Permanently",
    302: "Found",
    303: "See Other",
    304: "Not Modified",
    307: "Temporary Redirect",
    308: "Permanent Redirect",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    412: "Precondition Failed",
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    417: "Expectation Failed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    505: "HTTP Version Not Supported",
}


class Body(Protocol):
    """Content that is read piece by piece, so that a file is never held whole."""

    @property
    def length(self) -> int:
        """Octets that are left to read."""

    def select(self, start: int, length: int) -> None:
        """Restrict what will be read to a part of it."""

    def read(self, limit: int) -> bytes:
        """Return at most ``limit`` octets; ``b""`` before the length is used up: they are lost."""

    def close(self) -> None:
        """Release what is held; idempotent."""


class BytesBody:
    """Content in memory."""

    def __init__(self, data: bytes = b"") -> None:
        self._rest = memoryview(data)

    @property
    def length(self) -> int:
        """Octets that are left to read."""
        return len(self._rest)

    def select(self, start: int, length: int) -> None:
        """Restrict what will be read to a part of it."""
        self._rest = self._rest[start : start + length]

    def read(self, limit: int) -> bytes:
        """Return at most ``limit`` octets."""
        data = bytes(self._rest[:limit])
        self._rest = self._rest[limit:]
        return data

    def close(self) -> None:
        """Forget the content."""
        self._rest = memoryview(b"")


@dataclass(frozen=True, slots=True)
class Answer:
    """A response to send; its length, date and connection fields are the session's to add."""

    status: int
    fields: tuple[Field, ...]
    body: Body


def text_answer(
    status: int, text: str, *fields: Field, content_type: str = "text/plain; charset=utf-8"
) -> Answer:
    """Return an answer whose content is ``text`` in UTF-8."""
    body = BytesBody(text.encode("utf-8", "replace"))
    return Answer(status, (("Content-Type", content_type), *fields), body)


def error_answer(status: int, detail: str = "", *fields: Field) -> Answer:
    """Return a small plain explanation of an error status."""
    reason = REASONS[status]
    nosniff = ("X-Content-Type-Options", "nosniff")
    return text_answer(
        status, f"{status} {reason}{': ' if detail else ''}{detail}\n", nosniff, *fields
    )


def redirect_answer(status: int, location: str) -> Answer:
    """Return a redirect to ``location``, a URL or an absolute path."""
    return text_answer(status, f"See {location}\n", ("Location", location))
