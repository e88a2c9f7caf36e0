"""A fetch without its sockets: one exchange, and where to go after it (RFC 9110 15.4).

A driver of these asks ``Redirects`` for the next request, moves the octets of an ``Exchange``,
and stops when ``follow`` says that the response is final.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netstack._version import __version__
from netstack.app.http.content import ACCEPT_ENCODING, SUPPORTED, ContentDecoder
from netstack.app.http.grammar import content_length
from netstack.app.http.headers import Field, Headers
from netstack.app.http.messages import Data, EndOfMessage, ResponseHead
from netstack.app.http.response import Response, StatusError, Timings
from netstack.app.http.url import Url, parse_url
from netstack.core.errors import (
    BodyTooLarge,
    LocalProtocolError,
    RemoteProtocolError,
    TooManyRedirects,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from netstack.app.http.connection import ClientConnection

__all__ = ["Exchange", "Redirects", "Response", "StatusError", "Timings", "request_headers"]

USER_AGENT = f"netstack/{__version__}"
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})  # RFC 9110 9.2.2

_WITH_CONTENT = frozenset({"POST", "PUT", "PATCH"})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CREDENTIALS = ("authorization", "cookie", "proxy-authorization", "www-authenticate")
_OF_CONTENT = (
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-type",
    "digest",
    "last-modified",
)


def request_headers(url: Url, method: str, headers: Headers, body: bytes | None) -> Headers:
    """Return the caller's fields with those that every request needs before them.

    Raises: LocalProtocolError if the caller's fields speak of another length than the body's.
    """
    if "transfer-encoding" in headers:
        raise LocalProtocolError("the body is sent whole: Transfer-Encoding is not ours to set")
    length = 0 if body is None else len(body)
    if headers.get("content-length", str(length)) != str(length):
        raise LocalProtocolError(f"Content-Length contradicts the {length} octets of the body")
    defaults: list[Field] = [
        ("Host", url.authority),
        ("User-Agent", USER_AGENT),
        ("Accept", "*/*"),
        ("Accept-Encoding", ACCEPT_ENCODING),
    ]
    if body is not None or method in _WITH_CONTENT:
        defaults.append(("Content-Length", str(length)))
    return Headers((*(f for f in defaults if f[0] not in headers), *headers.fields))


class Exchange:
    """One request and its response on a connection.

    ``max_size`` bounds the decoded content in octets.
    Raises: LocalProtocolError, before anything is sent.
    """

    def __init__(
        self,
        connection: ClientConnection,
        redirects: Redirects,
        *,
        max_size: int | None = None,
    ) -> None:
        url, method, body = redirects.url, redirects.method, redirects.body
        headers = request_headers(url, method, redirects.headers, body)
        self.outgoing = connection.send_request(method, url.target, headers) + (body or b"")
        """The octets of the request."""
        self.head: ResponseHead | None = None
        """The head of the final response, once it has arrived."""
        self.done = False
        """Whether the response is complete."""
        self._connection = connection
        self._asked = "accept-encoding" in redirects.headers
        self._max_size = max_size
        self._decoder: ContentDecoder | None = None

    def content(self) -> Iterator[bytes]:
        """Yield the decoded content of what the connection has received, piece by piece.

        Raises: RemoteProtocolError, BodyTooLarge.
        """
        while not self.done and (event := self._connection.next_event()) is not None:
            if isinstance(event, ResponseHead):
                if not event.interim:
                    self.head = event
                    self._decoder = self._decoder_for(event)
            elif self._decoder is not None and isinstance(event, Data):
                yield from self._decoder.decode(event.data)
            elif self._decoder is not None and isinstance(event, EndOfMessage):
                self._decoder.finish()
                self.done = True

    def _decoder_for(self, head: ResponseHead) -> ContentDecoder:
        codings = head.headers.tokens("content-encoding")
        if self._asked and not SUPPORTED.issuperset(codings):
            codings = []  # the caller asked for a coding that only he can undo
        length = content_length(head.headers)
        too_large = self._max_size is not None and length is not None and length > self._max_size
        if too_large and not codings and self._has_content(head):
            raise BodyTooLarge(f"the body of {length} octets is larger than {self._max_size}")
        return ContentDecoder(codings, self._max_size)

    def _has_content(self, head: ResponseHead) -> bool:
        return head.status not in (204, 304) and not self.outgoing.startswith(b"HEAD ")


class Redirects:
    """What to request next: at first what the caller asked for, then where responses point.

    Raises: ValueError if ``url`` is no http or https URL.
    """

    def __init__(
        self,
        url: str,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        *,
        max_redirects: int = 10,
    ) -> None:
        self.url = parse_url(url)
        self.method = method
        self.headers = Headers(() if headers is None else headers)
        self.body = body
        self._left = max_redirects
        self._follow = max_redirects > 0
        self._seen = {(method, self.url)}

    def redirected(self, status: int, headers: Headers) -> bool:
        """Return whether a response with that head will be followed."""
        return self._follow and status in _REDIRECTS and "location" in headers

    def follow(self, status: int, headers: Headers) -> bool:
        """Move on to where the response points; False if it is the final one.

        With ``max_redirects=0`` every response is final.
        Raises: TooManyRedirects; RemoteProtocolError for a target that is no URL, or that leaves
        https for http.
        """
        if not self.redirected(status, headers):
            return False
        url = self._target(headers.get_all("location"))
        method = self._method_after(status)
        if self._left == 0:
            raise TooManyRedirects(f"more redirects than allowed, the last one to {url}")
        if (method, url) in self._seen:
            raise TooManyRedirects(f"the redirects lead back to {url}")
        self._left -= 1
        self._seen.add((method, url))
        # The Host that a caller chose belongs to the first URL only.
        dropped: tuple[str, ...] = ("host",)
        if url.origin != self.url.origin:
            dropped += _CREDENTIALS
        if method != self.method:
            dropped += _OF_CONTENT
            self.body = None
        self.headers = self.headers.without(dropped)
        self.url, self.method = url, method
        return True

    def _target(self, locations: list[str]) -> Url:
        try:
            if len(set(locations)) != 1:
                raise ValueError("several Location fields")
            # Location is a URI; some servers put UTF-8 there, read as ISO-8859-1 so far.
            text = locations[0].encode("latin-1").decode("utf-8")
            url = self.url.join(text)
        except ValueError as error:
            raise RemoteProtocolError(f"redirect to nowhere: {error}") from None
        if self.url.scheme == "https" and url.scheme == "http":
            raise RemoteProtocolError(f"redirect from https to {url} refused: it is not secure")
        return url

    def _method_after(self, status: int) -> str:
        # RFC 9110 15.4.2-15.4.4: 303 asks for GET; 301 and 302 turn POST into it by custom.
        if status == 303 and self.method != "HEAD":
            return "GET"
        if status in (301, 302) and self.method == "POST":
            return "GET"
        return self.method
