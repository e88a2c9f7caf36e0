"""Sections of the real-time driver: entering one, settling it, waking whom it concerns.

The state here is what ``realtime`` describes; this half of it knows nothing of how one waits.
"""

from __future__ import annotations

import threading
from collections import deque
from math import inf
from typing import TYPE_CHECKING

from netstack.driver.poller import Poller
from netstack.driver.pulse import Pulse
from netstack.driver.repair import Repairs

if TYPE_CHECKING:
    from collections.abc import Callable

    from netstack.driver.mirror import Mirror
    from netstack.driver.waiter import Waiter
    from netstack.stack import Stack
    from netstack.transport.events import Event

_ROUNDS = 64  # polls of a stack in one section; what is left is due at once
_EVENTS = 1024  # events pulled from a stack in one round


class Sections:
    """The state that sections guard, and their beginning and end."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.leader: Waiter | None = None
        self.heir: Waiter | None = None
        self.waiters: dict[Waiter, None] = {}
        self.sleep_until = 0.0
        self.pulse = Pulse()
        self.torn = False
        self.entered = 0  # sections so far
        self.closing: OSError | None = None
        self.stacks: tuple[Stack, ...] = ()
        self.handlers: dict[int, tuple[object, Callable[[Event, float], None]]] = {}
        self.mirrors: dict[int, tuple[object, Mirror]] = {}
        self.watched_stacks: tuple[Stack, ...] | None = None  # by the leader, and how often
        self.watched_attachments = 0  # devices had come to or gone from them
        self.deferred: deque[Callable[[float], None]] = deque()
        self.touched: dict[int, object] = {}
        self.services: deque[Callable[[], None]] = deque()  # to be started after the section
        self.poller = Poller()
        self.repairs = Repairs(self)
        self.contending: set[int] = set()
        self.yielding = False
        self.turn = threading.Lock()
        self.turn.acquire()
        self.earliest: float = inf  # what the last settle found
        self.looking: Waiter | None = None

    def wake(self, endpoint: object) -> None:
        """Ask the conditions of all who wait on ``endpoint`` again, and update its mirror."""
        self.touched[id(endpoint)] = endpoint
        if not self.inside():
            self.poller.wake()

    def set_handler(
        self, endpoint: object, handler: Callable[[Event, float], None] | None
    ) -> None:
        """Let ``handler(event, now)`` have each event of ``endpoint``; None ends that."""
        if handler is None:
            self.handlers.pop(id(endpoint), None)
        else:
            self.handlers[id(endpoint)] = (endpoint, handler)

    def inside(self) -> bool:
        """Return whether this thread is inside a section."""
        return self.lock._is_owned()  # type: ignore[attr-defined,no-any-return]

    def refuse_own_section(self) -> None:
        """Raise RuntimeError if this thread is inside a section: it would enter it twice."""
        if self.inside():
            raise RuntimeError(
                "the driver was called from inside its own section: "
                "by a signal handler, a handler or a condition"
            )

    def enter(self) -> None:
        """Begin a section: the first act after ``with self.lock``."""
        if self.yielding:
            self.yielding = False
            if self.turn.locked():
                self.turn.release()
        if self.torn:
            self.repairs.repair()
        self.entered += 1
        self.torn = True

    def check_open(self) -> None:
        """End the section with EBADF if the driver is closed."""
        if self.closing is not None:
            self.torn = False
            raise OSError(*self.closing.args)

    def mend(self) -> None:
        """Repair what a cut section left, if it did; outside any section."""
        if not self.torn or self.inside():
            return
        with self.lock:
            if self.torn:
                self.repairs.repair()
                self.torn = False

    def settle(self, now: float, moved: bool = False) -> None:
        """Bring the stacks to rest and wake whom it concerns: the last act of a section.

        ``moved``: this section stepped a stack, so whoever waits for any step looks again.
        """
        while self.deferred:
            moved = True
            self.repairs.guard(None, self.deferred.popleft(), now)
        for _ in range(_ROUNDS):
            quiet = True
            earliest = inf
            for stack in self.stacks:
                deadline = stack.earliest()
                if deadline <= now:
                    self.repairs.poll(stack, now)
                    deadline = now
                    quiet = False
                if self._pull_events(stack, now):
                    quiet = False
                if deadline < earliest:
                    earliest = deadline
            if quiet:
                break
            moved = True
        self.earliest = earliest
        if moved or self.touched:
            self._wake_touched(moved)
        if self.sleep_until and self._leader_is_late():
            self.wake_leader()

    def _pull_events(self, stack: Stack, now: float) -> bool:
        """Note whom events concern and run handlers; return whether there were any."""
        for count in range(_EVENTS):
            event: Event | None = stack.next_event()
            if event is None:
                return count > 0
            source = event.source
            self.touched[id(source)] = source
            if self.handlers:
                known = self.handlers.get(id(source))
                if known is not None:
                    self.repairs.handle(known[1], event, now)
        return True

    def _leader_is_late(self) -> bool:
        """Return whether the leader sleeps too long, or watches not what it should."""
        if self.earliest < self.sleep_until or self.devices_changed():
            return True
        return not self.poller.waits_for_output and self.output_waits()

    def devices_changed(self) -> bool:
        """Return whether a stack, or a device of one, came or went since the leader looked."""
        return self.stacks is not self.watched_stacks or (
            self.watched_attachments != self.attachments()
        )

    def attachments(self) -> int:
        """Return how often a device came to any of the stacks, or left it."""
        found = 0
        for stack in self.stacks:
            found += stack.attachments
        return found

    def output_waits(self) -> bool:
        """Return whether a device left frames waiting."""
        for stack in self.stacks:  # noqa: SIM110 - C has no generators
            if stack.waits_for_output():
                return True
        return False

    def _wake_touched(self, moved: bool) -> None:
        touched = self.touched
        if self.waiters:
            for waiter in tuple(self.waiters):
                if self._concerns(waiter, moved):
                    self.wake_waiter(waiter)
        leader = self.leader
        if self.sleep_until and leader is not None and self._concerns(leader, moved):
            self.wake_leader()
        looking = self.looking
        if looking is not None and self._concerns(looking, moved):
            looking.again = True
        if self.mirrors:
            for key in touched:
                known = self.mirrors.get(key)
                if known is not None:
                    known[1].update(post=True)
        touched.clear()

    def _concerns(self, waiter: Waiter, moved: bool) -> bool:
        endpoint = waiter.endpoint
        if endpoint is not None and not self.touched:
            return False
        return moved if endpoint is None else id(endpoint) in self.touched

    def wake_waiter(self, waiter: Waiter) -> None:
        """Let a follower look again. Act first, record after: a cut may repeat it, not lose it."""
        lock = waiter.lock
        if lock is not None and lock.locked():
            lock.release()
        self.waiters.pop(waiter, None)

    def wake_leader(self) -> None:
        """Let the leader look again, if it sleeps."""
        if self.sleep_until:
            self.poller.wake()
            self.sleep_until = 0.0

    def wake_all(self) -> None:
        """Let everybody look again."""
        for waiter in tuple(self.waiters):
            self.wake_waiter(waiter)
        self.wake_leader()
