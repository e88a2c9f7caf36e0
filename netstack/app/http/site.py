"""What a site serves: paths, media types, conditions and ranges (RFC 9110 8, 13, 14).

A *resource* is the content that a path names; ``represent`` turns it into the answer that the
request's conditions and range ask for. Left out: multipart ranges (a request for several gets
the whole), content negotiation.
"""

from __future__ import annotations

import mimetypes
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_to_bytes

from netstack.app.http.answer import Answer, Body, BytesBody, error_answer, redirect_answer
from netstack.app.http.dates import format_date, parse_date
from netstack.app.http.messages import MessageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from netstack.app.http.headers import Field, Headers
    from netstack.app.http.messages import Request

_RANGE = re.compile(r"bytes=([0-9]{0,19})-([0-9]{0,19})")
_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# What makes of a GET or HEAD anything but a request for the whole.
_CONDITIONS = frozenset(
    {"if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "range"}
)
_PACKED = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}


@dataclass(frozen=True, slots=True)
class Resource:
    """The content that a path names, with its validators."""

    content_type: str
    body: Body
    etag: str
    modified: int | None = None
    """Seconds since 1970, or None if nobody knows."""

    @property
    def validators(self) -> tuple[Field, ...]:
        """The fields by which a later request tells whether it is still the same."""
        etag = ("ETag", self.etag)
        if self.modified is None:
            return (etag,)
        return (etag, ("Last-Modified", format_date(self.modified)))

    @property
    def fields(self) -> tuple[Field, ...]:
        """The fields of an answer with its content."""
        return (
            ("Content-Type", self.content_type), *self.validators, ("Accept-Ranges", "bytes")
        )  # fmt: skip


class MediaTypes:
    """Media types by the end of a name; text is said to be UTF-8."""

    def __init__(self) -> None:
        # An instance of its own knows Python's list alone, whatever /etc/mime.types says.
        self._types = mimetypes.MimeTypes()

    def of(self, name: str) -> str:
        """Return the media type of a file with that name."""
        media_type, packed = self._types.guess_type(f"/{name}")
        if packed is not None:
            # The archive itself is what is asked for, not its content decoded on the way.
            return _PACKED.get(packed, "application/octet-stream")
        if media_type is None:
            return "application/octet-stream"
        return f"{media_type}; charset=utf-8" if media_type.startswith("text/") else media_type


def split_path(target: str) -> tuple[list[str], bool]:
    """Return the decoded segments of a target's path, and whether it ends with a slash.

    Empty and ``.`` segments are left out. Octets that are no UTF-8 become surrogates, as in file
    names. Raises: MessageError for ``..``, for encoded slashes and control characters.
    """
    if target.startswith(("http://", "https://")):
        target = "/" + target.split("/", 3)[3] if target.count("/") > 2 else "/"
    path = target.partition("?")[0].partition("#")[0]
    if not path.startswith("/") or _PERCENT.search(path):
        raise MessageError("malformed request target")
    segments = []
    for part in path.split("/"):
        segment = unquote_to_bytes(part).decode("utf-8", "surrogateescape")
        if _CONTROL.search(segment):
            raise MessageError("control character in the request target")
        if segment == ".." or "/" in segment:
            raise MessageError("no such path", 404)
        if segment not in ("", "."):
            segments.append(segment)
    return segments, path.endswith("/")


def join_path(segments: list[str], *, directory: bool) -> str:
    """Return the encoded path of ``segments``; it never begins with two slashes."""
    path = "/" + "/".join(quote(s.encode("utf-8", "surrogateescape"), safe="") for s in segments)
    return f"{path}/" if directory and segments else path


class Pages:
    """A handler for pages in memory: ``{"/": b"...", "/style.css": b"..."}``.

    ``/a/`` also finds ``/a/index.html``; ``/a`` without its slash is redirected to it.
    """

    def __init__(self, pages: Mapping[str, bytes]) -> None:
        self._pages = dict(pages)
        self._etags = {name: f'"{sha256(data).hexdigest()[:16]}"' for name, data in pages.items()}
        self._types = MediaTypes()

    def __call__(self, request: Request) -> Answer:
        """Return the answer to ``request``."""
        segments, directory = split_path(request.target)
        path = "/" + "/".join(segments)
        if directory and segments:
            path += "/"
        for name in (path, f"{path}index.html") if path.endswith("/") else (path,):
            data = self._pages.get(name)
            if data is not None:
                shown = name if not name.endswith("/") else "index.html"
                body, etag = BytesBody(data), self._etags[name]
                return represent(request, Resource(self._types.of(shown), body, etag))
        if f"{path}/" in self._pages or f"{path}/index.html" in self._pages:
            return redirect_answer(301, join_path(segments, directory=True))
        return error_answer(404)


def represent(request: Request, resource: Resource) -> Answer:
    """Return ``resource``, a part of it, or that it has not changed."""
    if wants_whole(request):
        return Answer(200, resource.fields, resource.body)
    failed = _failed_condition(request.headers, resource)
    if failed is not None:
        resource.body.close()
        if failed == 304:
            return Answer(304, resource.validators, BytesBody())
        return error_answer(failed)
    if request.method == "GET" and "range" in request.headers:
        part = _part(request.headers, resource)
        if part is not None:
            return _partial(resource, part)
    return Answer(200, resource.fields, resource.body)


def wants_whole(request: Request) -> bool:
    """Return whether a request for a resource has neither conditions nor a range."""
    return request.headers.isdisjoint(_CONDITIONS)


def _failed_condition(headers: Headers, resource: Resource) -> int | None:
    """Return 304 or 412 if a precondition says so (RFC 9110 13.2.2, in its order)."""
    if "if-match" in headers:
        if not _matches(headers["if-match"], resource.etag, weak=False):
            return 412
    elif _since(headers, "if-unmodified-since", resource) is False:
        return 412
    if "if-none-match" in headers:
        return 304 if _matches(headers["if-none-match"], resource.etag, weak=True) else None
    return 304 if _since(headers, "if-modified-since", resource) else None


def _matches(value: str, etag: str, *, weak: bool) -> bool:
    # Our entity tags hold no comma, so that a comma inside a foreign one cannot fake a match.
    tags = [tag.strip(" \t") for tag in value.split(",")]
    if weak:
        tags = [tag.removeprefix("W/") for tag in tags]
    return value.strip() == "*" or etag in tags


def _since(headers: Headers, name: str, resource: Resource) -> bool | None:
    """Return whether the resource is no newer than the date; None if that cannot be said."""
    date = parse_date(headers.get(name, ""))
    if date is None or resource.modified is None:
        return None
    return resource.modified <= date


def _part(headers: Headers, resource: Resource) -> tuple[int, int] | None:
    """Return start and length of the range asked for; None: the whole; length 0: none of it.

    RFC 9110 14.2 lets a server ignore Range: it is for anything but one plain range, so that
    nothing can be asked for twice (CVE-2011-3192).
    """
    if "if-range" in headers and not _is_current(headers["if-range"], resource):
        return None
    match = _RANGE.fullmatch(headers["range"].strip().lower())
    if match is None or not (match[1] or match[2]):
        return None
    size = resource.body.length
    if not match[1]:
        length = min(int(match[2]), size)
        return size - length, length
    start = int(match[1])
    end = int(match[2]) if match[2] else size - 1
    if match[2] and end < start:
        return None
    return start, max(0, min(end, size - 1) - start + 1)


def _is_current(value: str, resource: Resource) -> bool:
    # RFC 9110 13.1.5: an entity tag by strong comparison, a date only if it is exactly ours.
    if value.startswith('"'):
        return value == resource.etag
    date = parse_date(value)
    return date is not None and date == resource.modified


def _partial(resource: Resource, part: tuple[int, int]) -> Answer:
    start, length = part
    size = resource.body.length
    if length == 0:
        resource.body.close()
        return error_answer(416, "", ("Content-Range", f"bytes */{size}"))
    resource.body.select(start, length)
    field = ("Content-Range", f"bytes {start}-{start + length - 1}/{size}")
    return Answer(206, (*resource.fields, field), resource.body)
