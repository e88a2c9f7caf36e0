"""A handler that serves the files below a folder.

Only regular files, opened without blocking: devices, FIFOs and sockets are refused. Symbolic
links are followed while they stay below the root; whoever may create links *and* swap folders
below the root while it is served is trusted. Names that begin with a dot are not served, except
``.well-known`` (RFC 8615). A folder is its ``index.html``, else a list of what is in it.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from html import escape
from typing import TYPE_CHECKING
from urllib.parse import quote

from netstack.app.http.answer import Answer, error_answer, redirect_answer, text_answer
from netstack.app.http.kept import KeptFiles
from netstack.app.http.site import MediaTypes, Resource, join_path, represent, split_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from netstack.app.http.messages import Request

MAX_ENTRIES = 10_000  # names in a listing
# O_NONBLOCK: opening a FIFO must not wait for its writer.
_FLAGS = os.O_RDONLY | sum(
    getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOFOLLOW", "O_CLOEXEC", "O_BINARY")
)
_BUSY = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_STATUS = {errno.EACCES: 403, errno.EPERM: 403} | dict.fromkeys(_BUSY, 503)


class FileBody:
    """An open file, read from where it is; what was cut off its end in the meantime is lost."""

    def __init__(self, descriptor: int, length: int) -> None:
        self._descriptor = descriptor
        self.length = length

    def select(self, start: int, length: int) -> None:
        """Restrict what will be read to a part of it."""
        os.lseek(self._descriptor, start, os.SEEK_SET)
        self.length = length

    def read(self, limit: int) -> bytes:
        """Return at most ``limit`` octets; ``b""`` early if the file has become shorter."""
        if self._descriptor < 0:
            return b""
        try:
            data = os.read(self._descriptor, min(limit, self.length))
        except OSError:
            return b""  # the session aborts: the promised octets cannot be had
        self.length -= len(data)
        return data

    def close(self) -> None:
        """Close the file; idempotent."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        self.close()


class Files:
    """A handler for the files below ``root``.

    ``clock_ns`` tells the time that files are stamped with, in nanoseconds since 1970: what has
    not changed for two seconds may be kept in memory (``kept.py``).
    Raises: NotADirectoryError if ``root`` is none.
    """

    def __init__(self, root: str | Path, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._root = os.path.realpath(root)
        if not os.path.isdir(self._root):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(root))
        self._below = os.path.join(self._root, "")
        self._types = MediaTypes()
        self._kept = KeptFiles(self._root, clock_ns)

    def __call__(self, request: Request) -> Answer:
        """Return the answer to ``request``."""
        answer = self._kept.answer(request)
        if answer is not None:
            return answer
        segments, directory = split_path(request.target)
        if not all(map(_servable, segments)):
            return error_answer(404)
        try:
            return self._serve(request, segments, directory)
        except OSError as error:
            return error_answer(_STATUS.get(error.errno or 0, 404))

    def _serve(self, request: Request, segments: list[str], directory: bool) -> Answer:
        path = self._resolve(os.path.join(self._root, *segments))
        if path is None:
            return error_answer(404)
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            if not directory:
                return redirect_answer(301, join_path(segments, directory=True))
            return self._serve_directory(request, path, segments)
        if directory:
            return error_answer(404)
        return self._serve_file(request, path, segments)

    def _resolve(self, path: str) -> str | None:
        """Return ``path`` without links, or None if that leads out of the root."""
        path = os.path.realpath(path)
        return path if path == self._root or path.startswith(self._below) else None

    def _serve_file(self, request: Request, path: str, segments: list[str]) -> Answer:
        # Looked at before opening, since opening a device can have effects; and again after.
        if not stat.S_ISREG(os.stat(path).st_mode):
            return error_answer(403, "not a regular file")
        descriptor = os.open(path, _FLAGS)
        state = os.fstat(descriptor)
        body = FileBody(descriptor, state.st_size)
        if not stat.S_ISREG(state.st_mode):
            body.close()
            return error_answer(403, "not a regular file")
        etag = f'"{state.st_mtime_ns:x}-{state.st_size:x}"'
        resource = Resource(self._types.of(segments[-1]), body, etag, int(state.st_mtime))
        resource = self._kept.offer(request.target, segments, path, state, resource)
        return represent(request, resource)

    def _serve_directory(self, request: Request, path: str, segments: list[str]) -> Answer:
        index = self._resolve(os.path.join(path, "index.html"))
        if index is not None and os.path.isfile(index):
            return self._serve_file(request, index, [*segments, "index.html"])
        with os.scandir(path) as entries:
            names = sorted(
                entry.name + ("/" if _is_dir(entry) else "")
                for _, entry in zip(range(MAX_ENTRIES), entries, strict=False)
                if _servable(entry.name)
            )
        return text_answer(200, _listing(segments, names), content_type="text/html; charset=utf-8")


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _servable(name: str) -> bool:
    if name.startswith(".") and name != ".well-known":
        return False
    # Windows: drives, streams and the other separator.
    return os.name != "nt" or not set(name) & set('\\:*?"<>|')


def _listing(segments: list[str], names: list[str]) -> str:
    title = escape("/" + "".join(f"{segment}/" for segment in segments))
    lines = ["<!doctype html>", '<meta charset="utf-8">', f"<title>{title}</title>"]
    lines += [f"<h1>{title}</h1>", "<ul>"]
    if segments:
        lines.append('<li><a href="../">../</a>')
    for name in names:
        # The ./ keeps a name with a colon from being read as a scheme.
        link = quote(name.encode("utf-8", "surrogateescape"), safe="/")
        lines.append(f'<li><a href="./{link}">{escape(name)}</a>')
    return "\n".join([*lines, "</ul>", ""])
