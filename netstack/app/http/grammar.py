"""The grammar of heads (RFC 9110 5, RFC 9112 2-6) and what decides where content ends.

Stricter than the RFC where leniency has been used to smuggle requests: no folded lines in
requests, no control characters at all, no space before a colon, no second opinion on length.
"""

from __future__ import annotations

import re

from netstack.app.http.headers import Field, Headers
from netstack.app.http.messages import MessageError, Request, ResponseHead

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
TCHAR = frozenset(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")

_REQUEST_LINE = re.compile(rb"(%s) ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])" % TOKEN)
_REQUEST_VERSION = re.compile(rb"[^ ]+ [^ ]+ HTTP/[0-9]+(?:\.[0-9]+)?")
_STATUS_LINE = re.compile(rb"HTTP/([0-9])\.([0-9]) ([1-9][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?")
_FIELD_LINE = re.compile(rb"(%s):([\t\x20-\x7e\x80-\xff]*)" % TOKEN)
_DIGITS = re.compile(r"[0-9]+")
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*+"'
_CHUNK_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,16})(?:;[ \t]*+%s(?:[ \t]*+=[ \t]*+(?:%s|%s))?+)*+" % (TOKEN, TOKEN, _QUOTED)
)

MAX_LENGTH = 2**63 - 1
"""Octets of content that a message may announce: what file systems can hold."""

UNTIL_CLOSE = -1
CHUNKED = -2

# RFC 9110 6.5.1: fields for framing, routing, modifying requests, authentication, or processing
# of the content mean nothing, or harm, in a trailer section.
_NOT_IN_TRAILERS = frozenset(
    [
        "authorization",
        "cache-control",
        "connection",
        "content-encoding",
        "content-length",
        "content-range",
        "content-type",
        "cookie",
        "expect",
        "host",
        "keep-alive",
        "max-forwards",
        "pragma",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "range",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "www-authenticate",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "location",
    ]
)


def parse_request_line(line: bytes, headers: Headers) -> Request:
    """Return the request whose first line is ``line`` (RFC 9112 3)."""
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        if _REQUEST_VERSION.fullmatch(line) and b"HTTP/1" not in line.rpartition(b" ")[2]:
            raise MessageError("only HTTP/1.0 and HTTP/1.1 are spoken here", 505)
        raise MessageError(f"malformed request line {line[:80]!r}")
    method, target, major, minor = match.groups()
    if major != b"1":
        raise MessageError("only HTTP/1.0 and HTTP/1.1 are spoken here", 505)
    return Request(method.decode("ascii"), target.decode("ascii"), _version(minor), headers)


def parse_status_line(line: bytes, headers: Headers) -> ResponseHead:
    """Return the response whose first line is ``line`` (RFC 9112 4)."""
    match = _STATUS_LINE.fullmatch(line)
    if match is None or match[1] != b"1":
        raise MessageError(f"malformed status line {line[:80]!r}")
    reason = (match[4] or b"").decode("latin-1").strip(" \t")
    return ResponseHead(int(match[3]), reason, _version(match[2]), headers)


def _version(minor: bytes) -> str:
    # RFC 9110 6.2: a higher minor version is processed as the highest one we know.
    return "HTTP/1.0" if minor == b"0" else "HTTP/1.1"


def parse_fields(lines: list[bytes], *, unfold: bool) -> list[Field]:
    """Return the fields of the lines after a start line (RFC 9112 5).

    ``unfold`` replaces obsolete line folding by one space, as a user agent must; without it a
    folded line is an error, as a server may choose (RFC 9112 5.2).
    """
    fields: list[Field] = []
    for line in lines:
        if line[:1] in (b" ", b"\t"):
            if not unfold or not fields:
                raise MessageError("folded header line")
            name, value = fields[-1]
            more = _FIELD_LINE.fullmatch(b"x:" + line)
            if more is None:
                raise MessageError("control character in a header field")
            folded = more[2].decode("latin-1").strip(" \t")
            fields[-1] = (name, (value + " " + folded).strip(" "))
            continue
        match = _FIELD_LINE.fullmatch(line)
        if match is None:
            raise MessageError(f"malformed header line {line[:80]!r}")
        fields.append((match[1].decode("ascii"), match[2].decode("latin-1").strip(" \t")))
    return fields


def allowed_trailers(fields: list[Field]) -> Headers:
    """Return the trailer fields that may mean something (RFC 9110 6.5.1)."""
    return Headers(field for field in fields if field[0].lower() not in _NOT_IN_TRAILERS)


def parse_chunk_line(line: bytes) -> int:
    """Return the size that a chunk's first line announces; extensions are ignored (RFC 9112 7.1).

    White space around the size, which the RFC lets a recipient remove, is refused: recipients
    differ in what they make of it.
    """
    match = _CHUNK_LINE.fullmatch(line)
    if match is None:
        raise MessageError(f"malformed chunk size {line[:40]!r}")
    size = int(match[1], 16)
    if size > MAX_LENGTH:
        raise MessageError("chunk size out of range")
    return size


def content_length(headers: Headers) -> int | None:
    """Return what Content-Length says, or None; a list of equal values is one (RFC 9110 8.6)."""
    if "content-length" not in headers:
        return None
    values = {part.strip(" \t") for part in headers["content-length"].split(",")}
    value = values.pop()
    if values or not _DIGITS.fullmatch(value):
        raise MessageError("malformed or contradictory Content-Length")
    # Python refuses to convert thousands of digits; nobody needs more than 19.
    if len(value) > 19 or int(value) > MAX_LENGTH:
        raise MessageError("Content-Length out of range")
    return int(value)


def _is_chunked(headers: Headers, version: str) -> bool:
    """Return whether the content is chunked; raise for any other use of Transfer-Encoding."""
    if "transfer-encoding" not in headers:
        return False
    if version == "HTTP/1.0":
        raise MessageError("Transfer-Encoding in an HTTP/1.0 message")  # RFC 9112 6.1
    if "content-length" in headers:
        raise MessageError("both Transfer-Encoding and Content-Length")  # RFC 9112 6.1, 11.2
    if len(headers.get_all("transfer-encoding")) == 1:
        coding = headers["transfer-encoding"].strip(" \t").lower()
        if coding == "chunked":
            return True
        if coding and "chunked" not in coding:
            raise MessageError("transfer coding not implemented", 501)  # RFC 9112 6.1
    raise MessageError("chunked is not the only transfer coding")


def request_framing(request: Request) -> int:
    """Return the length of a request's content in octets, or CHUNKED (RFC 9112 6.3)."""
    if _is_chunked(request.headers, request.version):
        return CHUNKED
    return content_length(request.headers) or 0


def response_framing(head: ResponseHead, method: str) -> int:
    """Return the length of a response's content in octets, CHUNKED or UNTIL_CLOSE.

    ``method`` is the request's: HEAD is answered without content (RFC 9112 6.3).
    """
    length = content_length(head.headers)
    chunked = _is_chunked(head.headers, head.version)
    if method == "HEAD" or head.status in (204, 304) or head.interim:
        return 0
    if chunked:
        return CHUNKED
    return UNTIL_CLOSE if length is None else length


def keeps_alive(version: str, headers: Headers) -> bool:
    """Return whether a message leaves its connection open (RFC 9112 9.3)."""
    if "connection" not in headers:
        return version == "HTTP/1.1"
    options = headers.tokens("connection")
    if "close" in options:
        return False
    return version == "HTTP/1.1" or "keep-alive" in options
