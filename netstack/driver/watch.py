"""A look at the devices' descriptors, and at the one by which others wake the leader.

Only the leader polls and only the leader reads ``wake_fd``; anybody may write it. Apart from what
sleeps (``poller``), since it looks after each step: this half is compiled where it can be.
"""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import select


def _make_wake_fds() -> tuple[int, int]:
    """Return what the leader polls and what others write: one eventfd where there is one."""
    if hasattr(os, "eventfd"):
        descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        return descriptor, descriptor
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    return reader, writer


def _close_all(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())


class Watch:
    """The wake-up descriptor of one driver, and what is polled besides."""

    def __init__(self) -> None:
        self.wake_fd: int
        self.write_fd: int
        self.wake_fd, self.write_fd = _make_wake_fds()
        self._owned = list({self.wake_fd, self.write_fd})
        # A finalizer or a weak reference's callback may write at any time as long as somebody
        # can reach this object: the descriptor goes with it, never earlier.
        weakref.finalize(self, _close_all, self._owned).atexit = False
        self.at_once = False
        """Whether the last look found something without waiting."""
        self._poll: select.poll | None = None

    def wake(self) -> None:
        """Make ``wake_fd`` readable; callable from anywhere, finalizers included."""
        descriptor = self.write_fd
        # The collector may run our finalizer before that of another object of the same cycle,
        # and the number may be somebody else's by then.
        if descriptor < 0 or not self._owned:
            return
        try:
            os.write(descriptor, b"\x01\0\0\0\0\0\0\0")
        except BlockingIOError:
            return  # it is readable, which is all that was asked for

    def glance(self) -> list[tuple[int, int]]:
        """Return what is ready; only inside a section while nobody leads."""
        poll = self._poll
        ready = poll.poll(0) if poll is not None else []
        self.at_once = bool(ready)
        return self._read_wake_fd(ready)

    def _read_wake_fd(self, ready: list[tuple[int, int]]) -> list[tuple[int, int]]:
        wake_fd = self.wake_fd
        for descriptor, _ in ready:
            if descriptor == wake_fd:
                break
        else:
            return ready
        try:
            os.read(wake_fd, 4096)
        except BlockingIOError:
            pass  # the dead frame of an interrupted leader had read it
        except OSError:
            if self.wake_fd >= 0:  # -1: this is a forked child
                raise
        return [pair for pair in ready if pair[0] != wake_fd]

    def forget(self) -> None:
        """Let go of everything in a forked child; the parent's descriptors stay as they are."""
        self.wake_fd = self.write_fd = -1
        self._poll = None
        _close_all(self._owned)
