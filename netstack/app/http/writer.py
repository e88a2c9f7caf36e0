"""Messages to octets (RFC 9112); what would break the framing is refused, never cleaned up.

Every string that reaches the wire is checked here, so that a line end smuggled into a name, a
value, a reason or a target raises before anything is written (RFC 9112 11.1).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from netstack.core.errors import LocalProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from netstack.app.http.headers import Field

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TARGET = re.compile(r"[\x21-\x7e]+")
_TEXT = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

LAST_CHUNK = b"0\r\n\r\n"


def build_request(method: str, target: str, fields: Iterable[Field]) -> bytes:
    """Return the head of an HTTP/1.1 request, empty line included.

    Raises: LocalProtocolError.
    """
    if not _TOKEN.fullmatch(method):
        raise LocalProtocolError(f"{method!r} is not a request method")
    if not _TARGET.fullmatch(target):
        raise LocalProtocolError(f"{target!r} is not a request target")
    return f"{method} {target} HTTP/1.1\r\n".encode("ascii") + build_fields(fields)


def build_response(status: int, reason: str, fields: Iterable[Field]) -> bytes:
    """Return the head of an HTTP/1.1 response, empty line included.

    Raises: LocalProtocolError.
    """
    if not 100 <= status <= 999:
        raise LocalProtocolError(f"{status} is not a status code")
    if not _TEXT.fullmatch(reason):
        raise LocalProtocolError(f"{reason!r} is not a reason phrase")
    return f"HTTP/1.1 {status} {reason}\r\n".encode("latin-1") + build_fields(fields)


def build_fields(fields: Iterable[Field]) -> bytes:
    """Return the lines of ``fields`` and the empty one after them.

    Raises: LocalProtocolError.
    """
    lines = []
    for name, value in fields:
        if not _TOKEN.fullmatch(name):
            raise LocalProtocolError(f"{name!r} is not a header name")
        if not _TEXT.fullmatch(value):
            raise LocalProtocolError(f"{value!r} is not a value for the header {name}")
        lines.append(f"{name}: {value.strip(' ')}\r\n")
    lines.append("\r\n")
    return "".join(lines).encode("latin-1")


def build_chunk(data: bytes) -> bytes:
    """Return ``data`` as one chunk (RFC 9112 7.1); nothing for no data, which would end all."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""
