"""Where the leader sleeps: the devices' descriptors, and whether it spins before.

The poll set is changed by the leader alone, before it sleeps, so that nobody changes it under its
feet. ``poll`` counts in milliseconds, rounded up: an early wake-up would only find the deadline in
the future. Interpreted wherever it runs: only the interpreter looks for signals that came before.
"""

from __future__ import annotations

import os
import select
from math import ceil
from time import monotonic
from typing import TYPE_CHECKING

from netstack.driver.watch import Watch

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Collection, Iterable

    from netstack.link.interface import Interface
    from netstack.stack import Stack

SPIN_S = 100e-6
"""How long the leader may spin before it sleeps: about what a sleep and a wake-up cost."""

_SPIN_CREDIT = 4  # waits in a row that ended within SPIN_S before spinning begins
_MAX_CREDIT = 8
_AT_ONCE_S = 10e-6  # a wait no longer than that was none
_SPUN_IN_THE_WAY = -256  # credit after a spin that held up what it waited for
_MAX_POLL_S = 3600.0


def _cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Poller(Watch):
    """The descriptors of one driver's devices and its wake-up descriptor."""

    def __init__(self) -> None:
        super().__init__()
        self.watched: dict[int, tuple[Stack, Interface]] = {}
        self.waits_for_output = False
        self._failed: set[int] = set()
        self._many_cpus = _cpus() > 1
        self._credit = 0

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
        """Sleep until a descriptor is ready or the time has come; return what is ready.

        Only for the leader, outside any section; ``wake_fd`` has been read.
        """
        poll = self._poll
        if poll is None:
            return []
        began = monotonic()
        left = sleep_until - began
        ready: list[tuple[int, int]] = []
        if left <= 0:
            ready = poll.poll(0)
            self.at_once = bool(ready)
        else:
            spins = self._credit >= _SPIN_CREDIT and self._many_cpus
            if spins:
                ready = self._spin(poll, began + min(SPIN_S, left), contending)
            if not ready:
                # poll takes a C int; waking once an hour costs nothing.
                seconds = left if left < _MAX_POLL_S else _MAX_POLL_S
                ready = poll.poll(ceil(seconds * 1000))
            waited = monotonic() - began
            self.at_once = bool(ready) and waited <= _AT_ONCE_S
            # A wait this short would have paid a spin; it tells without having to try one.
            if waited <= SPIN_S:
                if self._credit < _MAX_CREDIT:
                    self._credit += 1
            elif self._credit > 0:
                self._judge_long(waited, spun=spins)
        return self._read_wake_fd(ready)

    def follow(self, lock: threading.Lock, seconds: float) -> None:
        """Sleep as a follower does, on a lock of its own, for at most that long."""
        lock.acquire(True, seconds)

    def _spin(
        self, poll: select.poll, until: float, contending: Collection[int]
    ) -> list[tuple[int, int]]:
        while not contending:
            ready = poll.poll(0)
            if ready or monotonic() >= until:
                return ready
        return []

    def _judge_long(self, waited: float, *, spun: bool) -> None:
        if spun and waited <= 2 * SPIN_S:
            # What came as soon as the spin was over waited for the CPU that it took: there is
            # only one for both, whatever there was at first.
            self._credit = _SPUN_IN_THE_WAY
        else:
            self._credit -= 1

    def forget(self) -> None:
        """Let go of everything in a forked child; the parent's descriptors stay as they are."""
        super().forget()
        self.watched = {}
