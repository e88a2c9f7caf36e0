"""What the leader watches: the devices' descriptors and the one that others wake it by.

Only the leader polls and only the leader reads ``wake_fd``; anybody may write it. The poll set is
changed by the leader alone, before it sleeps, so that nobody changes it under its feet. Apart from
what sleeps (``poller``), since between two steps of a section nothing does: this half is compiled
where it can be.
"""

from __future__ import annotations

import os
import select
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Collection, Iterable

    from netstack.link.interface import Interface
    from netstack.stack import Stack


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
    """The descriptors of one driver's devices and its wake-up descriptor."""

    def __init__(self) -> None:
        self.wake_fd: int
        self.write_fd: int
        self.wake_fd, self.write_fd = _make_wake_fds()
        self._owned = list({self.wake_fd, self.write_fd})
        # A finalizer or a weak reference's callback may write at any time as long as somebody
        # can reach this object: the descriptor goes with it, never earlier.
        weakref.finalize(self, _close_all, self._owned).atexit = False
        self.watched: dict[int, tuple[Stack, Interface]] = {}
        self.waits_for_output = False
        self.at_once = False
        """Whether the last look found something without waiting."""
        self._failed: set[int] = set()
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

    def watch_output(self) -> None:
        """Watch for room those devices that have output waiting.

        Only for the leader, inside its section.
        """
        poll = self._poll
        if poll is None:
            return
        had_output = self.waits_for_output
        self.waits_for_output = False
        for descriptor, (_, interface) in self.watched.items():
            waits = interface.queued > 0
            if (waits or had_output) and descriptor not in self._failed:
                poll.modify(descriptor, select.POLLIN | (select.POLLOUT if waits else 0))
                self.waits_for_output |= waits

    def rebuild(self, stacks: Iterable[Stack], on_pending: Callable[[], None]) -> None:
        """Watch the devices that ``stacks`` have now; those without descriptor call back.

        Only for the leader, in its section.
        """
        poll = select.poll()
        poll.register(self.wake_fd, select.POLLIN)
        self.watched = {}
        self._failed = set()
        for stack in stacks:
            for interface in stack.interfaces:
                descriptor = interface.device.fileno()
                if descriptor < 0:
                    interface.device.on_pending = on_pending
                    continue
                self.watched[descriptor] = (stack, interface)
                poll.register(descriptor, select.POLLIN)
        self.waits_for_output = False
        self._poll = poll

    def ignore(self, descriptor: int) -> None:
        """Watch a descriptor no longer that only reports an error: polling it would spin."""
        if self._poll is not None and descriptor not in self._failed:
            self._failed.add(descriptor)
            self._poll.unregister(descriptor)

    def wait(self, sleep_until: float, contending: Collection[int]) -> list[tuple[int, int]]:
        """Sleep until a descriptor is ready or the time has come; return what is ready."""
        raise NotImplementedError

    def follow(self, lock: threading.Lock, seconds: float) -> None:
        """Sleep as a follower does, on a lock of its own, for at most that long."""
        raise NotImplementedError

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
        self.watched = {}
        _close_all(self._owned)
