"""A descriptor whose readability and writability are those of an endpoint.

``select``, ``poll`` and ``epoll`` want a descriptor. A mirror is a pair of connected UNIX
sockets: the application gets one end; an octet sent by the other makes it readable, a filler
that nobody takes makes it unwritable. An eventfd can be neither unreadable nor unwritable at
will. Two to four system calls a transition, none while nothing changes.

An application that sleeps in ``select`` does not drive the stack: the background does, from 2 to
4 ms after the last blocking call on.
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_SEND_BUFFER = 4096  # the kernel raises it to its minimum
_OCTET = b"\x01"


class Mirror:
    """The mirror of one endpoint; every method but ``fileno`` is for a section."""

    __slots__ = ("_application", "_ours", "_readiness", "readable", "writable")

    def __init__(self, readiness: Callable[[], tuple[bool, bool]]) -> None:
        """``readiness`` says whether the endpoint is readable and writable now."""
        self._readiness = readiness
        self._application, self._ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        for end in (self._application, self._ours):
            end.setblocking(False)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        self.readable = False
        self.writable = True

    def fileno(self) -> int:
        """Return the application's descriptor, -1 after ``close``."""
        return self._application.fileno()

    def update(self, *, post: bool) -> None:
        """Show what the endpoint is now.

        ``post``: something arrived, so an edge-triggered waiter must see an edge even if the
        endpoint was readable before.
        """
        if self._ours.fileno() < 0:
            return
        readable, writable = self._readiness()
        if self.readable and (post or not readable):
            self._take(self._application)
            self.readable = False
        if readable and not self.readable:
            self._put(self._ours, _OCTET)
            self.readable = True
        if writable and not self.writable:
            self._take(self._ours)
            self.writable = True
        elif self.writable and not writable:
            self._put(self._application, bytes(_SEND_BUFFER))
            self.writable = False

    @staticmethod
    def _take(end: socket.socket) -> None:
        # All of it: a cut update may have left more than one octet.
        with contextlib.suppress(BlockingIOError):
            while end.recv(65536):
                pass

    @staticmethod
    def _put(end: socket.socket, octets: bytes) -> None:
        with contextlib.suppress(BlockingIOError):
            end.send(octets)
            if len(octets) > 1:
                while end.send(octets):
                    pass

    def close(self) -> None:
        """Close both ends; whoever polls the descriptor must have let go of it."""
        self._application.close()
        self._ours.close()
