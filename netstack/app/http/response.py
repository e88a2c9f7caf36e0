"""What a fetch returns."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from netstack.core.errors import NetstackError

if TYPE_CHECKING:
    from netstack.app.http.headers import Headers

_CHARSET = re.compile(r";[ \t]*charset[ \t]*=[ \t]*\"?([^\s\";]+)", re.IGNORECASE)


class StatusError(NetstackError):
    """A response says 4xx or 5xx, and the caller wants that to be an error."""

    def __init__(self, response: Response) -> None:
        super().__init__(f"{response.url}: {response.status} {response.reason}".rstrip())
        self.response = response


@dataclass(frozen=True, slots=True)
class Timings:
    """When each phase of a request was over, in seconds since the fetch began."""

    resolved: float
    connected: float
    secured: float
    """When the TLS handshake was over; as ``connected`` without TLS."""
    sent: float
    first_octet: float
    done: float


@dataclass(frozen=True, slots=True)
class Response:
    """A complete response; ``body`` after content decoding, empty if it went to a sink."""

    status: int
    reason: str
    version: str
    url: str
    headers: Headers
    body: bytes
    history: tuple[Response, ...]
    """The redirects before this response, in order."""
    timings: Timings

    @property
    def text(self) -> str:
        """The body as text: in the charset of Content-Type, else UTF-8 with replacement."""
        match = _CHARSET.search(self.headers.get("content-type", ""))
        if match is not None:
            try:
                return self.body.decode(match[1], "replace")
            except (LookupError, ValueError):
                pass  # an unknown charset, or one that cannot replace: UTF-8 then
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """Return the value that the body spells in JSON (RFC 8259).

        Raises: ValueError.
        """
        return json.loads(self.body)

    def raise_for_status(self) -> None:
        """Raise StatusError if the status is 4xx or 5xx."""
        if self.status >= 400:
            raise StatusError(self)
