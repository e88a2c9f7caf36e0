"""Small files as they were read last, for as long as they have not changed.

Theory of operation. What is kept is content that was served from a path without any link below
the root. It is served again only if the path still leads through folders, no links, to the very
same file, neither written nor changed in its rights since: that is asked of the file system at
each request, and costs one call a level instead of the ten or so of finding, opening and reading
it. Times of change come from a clock that ticks every few milliseconds, on some file systems every
two seconds: what changed that lately may change again and show nothing, so it is not kept yet
(the problem that git calls racy). Keys are the one canonical spelling of a path that exists, so
that nobody can fill the memory with other spellings.
"""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from typing import TYPE_CHECKING

from netstack.app.http.answer import Answer, BytesBody
from netstack.app.http.recent import Recent
from netstack.app.http.site import Resource, join_path, represent, wants_whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from netstack.app.http.messages import Request

MAX_FILES = 128
MAX_SIZE = 32_768  # octets of one; together at most 4 MiB
SETTLED_NS = 2_000_000_000  # FAT's clock, the slowest, ticks every two seconds


class KeptFile:
    """A file's content and all that its answers say of it."""

    __slots__ = ("_data", "_etag", "_fields", "_folders", "_modified", "_path", "_state", "_type")

    def __init__(
        self, path: str, folders: list[str], state: os.stat_result, resource: Resource, data: bytes
    ) -> None:
        self._path = path
        self._folders = folders
        self._state = _identity(state)
        self._type = resource.content_type
        self._etag = resource.etag
        self._modified = resource.modified
        self._fields = resource.fields
        self._data = data

    def is_current(self) -> bool:
        """Return whether the path still leads to the same file, and that is still the same."""
        try:
            for folder in self._folders:
                if not stat.S_ISDIR(os.lstat(folder).st_mode):
                    return False
            return _identity(os.lstat(self._path)) == self._state
        except OSError:
            return False

    def answer(self, request: Request) -> Answer:
        """Return the answer to ``request``, which names this file."""
        body = BytesBody(self._data)
        if wants_whole(request):
            return Answer(200, self._fields, body)
        return represent(request, Resource(self._type, body, self._etag, self._modified))


def _identity(state: os.stat_result) -> tuple[int, ...]:
    """Return what is another for another file, and after each change to the same one."""
    return (
        state.st_ctime_ns, state.st_mtime_ns, state.st_size,
        state.st_ino, state.st_dev, state.st_mode,
    )  # fmt: skip


class KeptFiles:
    """What is kept of the files below ``root``, a path without links.

    ``clock_ns`` is the clock of the file system, in nanoseconds since 1970.
    """

    def __init__(self, root: str, clock_ns: Callable[[], int]) -> None:
        self._root = root
        self._clock_ns = clock_ns
        self._files: Recent[str, KeptFile] = Recent(MAX_FILES)

    def __len__(self) -> int:
        return len(self._files)

    def answer(self, request: Request) -> Answer | None:
        """Return the answer to ``request`` if its file is kept and still the same."""
        path = request.target.partition("?")[0]
        kept = self._files.get(path)
        if kept is None:
            return None
        if kept.is_current():
            return kept.answer(request)
        self._files.pop(path, None)
        return None

    def offer(
        self, target: str, segments: list[str], path: str, state: os.stat_result, found: Resource
    ) -> Resource:
        """Return what to serve in place of ``found``: the same, read and kept if it may be.

        ``target`` named the file at ``path``, free of links; ``segments`` lead to it, with an
        ``index.html`` at their end that the target may leave out. ``state`` is the file's, from
        before anything was read.
        """
        key = target.partition("?")[0]
        if not self._may_keep(key, segments, path, state):
            return found
        data = found.body.read(state.st_size)
        if len(data) < state.st_size:
            found.body.select(0, state.st_size)  # it has become shorter: the session will see
            return found
        found.body.close()
        folders = [os.path.join(self._root, *segments[:end]) for end in range(1, len(segments))]
        self._files.put(key, KeptFile(path, folders, state, found, data))
        return replace(found, body=BytesBody(data))

    def _may_keep(self, key: str, segments: list[str], path: str, state: os.stat_result) -> bool:
        spelled = join_path(segments, directory=False)
        return (
            state.st_size <= MAX_SIZE
            and max(state.st_mtime_ns, state.st_ctime_ns) + SETTLED_NS < self._clock_ns()
            and path == os.path.join(self._root, *segments)
            and key in (spelled, spelled.removesuffix("index.html"))
        )
