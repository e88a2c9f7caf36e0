"""Taking turns at the stacks: how a thread of the real-time driver calls, waits, leads, follows.

``realtime`` tells the theory. Apart from what is public there, since every blocking call passes
through here: this half is compiled where it can be. What sleeps is not (``poller``): interpreted
code looks for pending signals, compiled code does not, and none may be left when a leader sleeps.
"""

from __future__ import annotations

import errno
import threading
from contextlib import suppress
from math import inf
from threading import get_ident
from time import monotonic
from typing import TYPE_CHECKING, Literal, TypeVar

from netstack.core.errors import TimedOut
from netstack.driver.background import Background
from netstack.driver.base import PENDING, Pending, Waiting
from netstack.driver.repair import is_ordinary
from netstack.driver.section import Sections
from netstack.driver.task import ThreadTask
from netstack.driver.waiter import Waiter

if TYPE_CHECKING:
    from collections.abc import Callable

    from netstack.device.base import Device
    from netstack.stack import Stack

T = TypeVar("T")

BURST = 64
"""Frames read from a device in one step."""

_LOOKS = 8  # times a condition is asked in one section
_GIVE_WAY_S = 0.001
_IN_PASSING_S = 0.0005  # since the last step, before one is made in passing
_STEPS = 16  # in one section

# As in select.POLLOUT, and POLLERR, POLLHUP and POLLNVAL, which Windows lacks.
_OUTPUT = 0x004
_FAILED = 0x008 | 0x010 | 0x020


class Turns(Sections):
    """Sections that are entered by a call, or again and again by one that waits."""

    def __init__(self) -> None:
        Sections.__init__(self)  # no super(): C has none
        self.background = Background(self)
        self.departures: list[threading.Lock] = []
        self._stepped_at = 0.0

    def call(self, function: Callable[[float], T]) -> T:
        """Return ``function(now)``, run in a section that is settled afterwards; never blocks.

        Raises: what the function raises; OSError(EBADF) once the driver is closed.
        """
        self.refuse_own_section()
        me = get_ident()
        try:
            self.contending.add(me)
            with self.lock:
                self.contending.discard(me)
                self.enter()
                self.check_open()
                now = monotonic()
                try:
                    result = function(now)
                except Exception as error:
                    if is_ordinary(error):
                        self.settle(now)
                        self.torn = False
                    raise
                self.settle(now)
                self.torn = False
        except BaseException:
            self.mend()
            raise
        self._after_section()
        return result

    def wait(
        self,
        endpoint: object | None,
        condition: Callable[[float], T | Literal[Pending.PENDING]],
        timeout: float | None,
        waiting: Waiting | None = None,
    ) -> T:
        """Return what ``condition(now)`` returns as soon as that is not PENDING.

        Raises: what the condition raises; TimedOut; OSError(EBADF) once the driver is closed.
        """
        self.refuse_own_section()
        leader = self.leader
        me = get_ident()
        if leader is not None and leader.thread == me and not leader.dead:
            raise RuntimeError("a blocking call from a signal handler while this thread leads")
        return self.run_wait(Waiter(endpoint, me), condition, timeout)

    def run_wait(
        self,
        waiter: Waiter,
        condition: Callable[[float], T | Literal[Pending.PENDING]],
        timeout: float | None,
    ) -> T:
        """Wait as ``waiter``, leaving in order however it ends."""
        deadline = inf if timeout is None else monotonic() + timeout
        waiter.left = False
        try:
            return self._wait(waiter, condition, deadline)
        except BaseException:
            # A plain store comes first: whatever cuts the rest short, the others see it.
            waiter.dead = True
            if self.leader is waiter:
                self.pulse.leave()
            if not waiter.left:
                self._abandon(waiter)
            self.mend()
            raise

    def _wait(
        self,
        waiter: Waiter,
        condition: Callable[[float], T | Literal[Pending.PENDING]],
        deadline: float,
    ) -> T:
        ready: list[tuple[int, int]] = []
        while True:
            self.contending.add(waiter.thread)
            with self.lock:
                self.contending.discard(waiter.thread)
                self.enter()
                now = monotonic()
                moved = False
                if self.leader is waiter:
                    self.sleep_until = 0.0
                    moved = self._step(ready, now)
                elif self.heir is waiter:
                    self.heir = None
                elif now - self._stepped_at > _IN_PASSING_S and self._nobody_leads():
                    moved = self._step_in_passing(now)
                if self.waiters:
                    self.waiters.pop(waiter, None)
                result = self._look(waiter, condition, now, moved)
                steps = 1
                while result is PENDING and steps < _STEPS and self._may_go_on(waiter):
                    steps += 1
                    now = monotonic()
                    if now >= deadline or not self._step_in_passing(now):
                        break
                    result = self._look(waiter, condition, now, True)
                if result is not PENDING or now >= deadline:
                    self._leave(waiter)
                    waiter.left = True
                    self.torn = False
                    break
                leads = self._lead_or_follow(waiter, deadline)
                gives_way = leads and bool(self.contending)
                self.yielding = self.yielding or gives_way
                self.torn = False
            self._after_section()
            if not leads:
                left = min(deadline - monotonic(), threading.TIMEOUT_MAX)
                lock = waiter.lock
                assert lock is not None  # made when it began to follow
                self.poller.follow(lock, max(left, 0.0))
                continue
            if gives_way and not self.turn.acquire(True, _GIVE_WAY_S):
                self.yielding = False
                self.contending.clear()
            ready = self.poller.wait(self.sleep_until, self.contending)
        self._after_section()
        if result is PENDING:
            raise TimedOut("timed out")
        return result

    def _look(
        self,
        waiter: Waiter,
        condition: Callable[[float], T | Literal[Pending.PENDING]],
        now: float,
        moved: bool,
    ) -> T | Literal[Pending.PENDING]:
        """Ask the condition until it holds or nothing that concerns it changed by asking.

        ``moved``: a burst was just taken in and not settled. What it brought is asked for before,
        so that the answer to it and what the condition itself sends leave together.
        """
        if waiter is not self.background.waiter:
            self.check_open()
        self.looking = waiter
        for _ in range(_LOOKS):
            waiter.again = False
            try:
                result = condition(now)
            except Exception as error:
                if is_ordinary(error):
                    self.settle(now, moved)
                    self._leave(waiter)
                    waiter.left = True
                    self.torn = False
                raise
            if self.mirrors and result is not PENDING and id(waiter.endpoint) in self.mirrors:
                self.touched[id(waiter.endpoint)] = waiter.endpoint
            self.settle(now, moved)
            moved = False
            if result is not PENDING or not waiter.again:
                break
        self.looking = None
        return result

    def _lead_or_follow(self, waiter: Waiter, deadline: float) -> bool:
        """Decide how ``waiter`` waits; return whether it leads."""
        leader = self.leader
        if leader is None or leader.dead or leader is waiter:
            if leader is not waiter:
                self.leader = waiter
                self.pulse.lead()
            self._watch_devices()
            self._release_departures()
            until = min(self.earliest, deadline)
            # `again`: the condition would hold by now, or change something once more.
            self.sleep_until = max(0.0 if waiter.again else until, 1e-9)
            return True
        lock = waiter.lock = threading.Lock()
        if not waiter.again:
            lock.acquire()
            self.waiters[waiter] = None
        if leader is self.background.waiter:
            self.wake_leader()
        return False

    def _leave(self, waiter: Waiter) -> None:
        if self.waiters:
            self.waiters.pop(waiter, None)
        if self.heir is waiter:
            self.heir = None
        leader = self.leader
        if leader is waiter or (leader is not None and leader.dead):
            self.leader = leader = None
            self.sleep_until = 0.0
            self.pulse.leave()
            self._release_departures()
        if leader is None and self.heir is None:
            self._pass_on()

    def _pass_on(self) -> None:
        """Name an heir, or let the background know that nobody leads."""
        if self.waiters:
            heir: Waiter
            for heir in tuple(self.waiters):
                if not heir.dead:
                    self.heir = heir
                    self.wake_waiter(heir)
                    return
                self.waiters.pop(heir, None)
        self.pulse.hurry()

    def _abandon(self, waiter: Waiter) -> None:
        """Leave by an exception: repair if it cut a section, and pass the lead on."""
        with self.lock:
            self.enter()
            self._leave(waiter)
            self.torn = False

    def _nobody_leads(self) -> bool:
        return self.leader is None and self.closing is None

    def _may_go_on(self, waiter: Waiter) -> bool:
        """Return whether ``waiter`` may have another step in its section, for what is there.

        Leaving it, leading and coming back costs as much as the step. Where the last wait found
        something at once, the next is likely to.
        """
        return (
            self.poller.at_once
            and (self.leader is waiter or self._nobody_leads())
            and not (self.contending or self.services or self.repairs.unreported)
        )

    def _step_in_passing(self, now: float) -> bool:
        """Take what waits, though nobody leads or the leader does not sleep.

        Also for a call that has what it wants: a thread that sends without ever having to wait
        would leave its acknowledgments to the background, which takes the lead after a tick and
        must be asked to give it back.
        """
        if self.leader is None:
            self.pulse.leave()
        self._watch_devices()
        return self._step(self.poller.glance(), now)

    def _step(self, ready: list[tuple[int, int]], now: float) -> bool:
        """Take one burst from each device that is ready; return whether that is to be settled."""
        moved = False
        self._stepped_at = now
        for descriptor, mask in ready:
            known = self.poller.watched.get(descriptor)
            if known is None or known[0] not in self.stacks:
                continue
            stack: Stack = known[0]
            device = known[1].device
            if mask & ~_OUTPUT and not self._receive(stack, device, now, mask):
                self.poller.ignore(descriptor)
                stack.context.count("driver.device_failed")
            if mask & _OUTPUT:
                self.repairs.poll(stack, now)
            moved = True
        return moved

    def _receive(self, stack: Stack, device: Device, now: float, mask: int) -> bool:
        """Take one burst; False if the device has failed, so that polling it would spin."""
        try:
            frames = device.receive_burst(BURST)
        except OSError:
            return False
        if frames:
            self.repairs.receive(stack, device, frames, now)
        return bool(frames) or not mask & _FAILED

    def _after_section(self) -> None:
        """Do what a section left for after it."""
        if self.services:
            with suppress(IndexError):  # another thread may be taking them too
                while True:
                    ThreadTask(self.services.popleft(), (), {}, self._cut_off)
        if self.repairs.unreported:
            self.repairs.report()

    # -- devices without descriptors, and devices that go -------------------------------------

    def _watch_devices(self) -> None:
        if self.devices_changed():
            attachments = self.attachments()
            self.poller.rebuild(self.stacks, self._note_pending)
            # Last: a step that is cut before does it again.
            self.watched_stacks, self.watched_attachments = self.stacks, attachments
        if self.poller.waits_for_output or self.output_waits():
            self.poller.watch_output()

    def _note_pending(self) -> None:
        # Inside a section its settle looks anyway.
        if not self.inside():
            self.poller.wake()

    def _release_departures(self) -> None:
        while self.departures:
            lock = self.departures[-1]
            if lock.locked():
                lock.release()
            self.departures.pop()

    def await_departure(self, timeout: float = 1.0) -> None:
        """Wait until the leader, if any, has left ``poll`` and watches what there is now."""
        gone = threading.Lock()
        gone.acquire()
        with self.lock:
            leader = self.leader
            if leader is None or leader.dead or leader.thread == get_ident():
                return
            self.departures.append(gone)
            self.poller.wake()
            self.sleep_until = 0.0
        gone.acquire(True, timeout)

    def _cut_off(self, error: BaseException) -> bool:
        closed = self.closing is not None
        return closed and isinstance(error, OSError) and error.errno == errno.EBADF
