"""The simulated world: its clock, what is due next, the stacks in it and who waits for them.

No thread is made or switched here; ``simulation`` does that. ``advance`` moves the clock to what
is due next, runs all that is due at that instant, and settles: stacks with something to do are
polled, their events handed to handlers and waits, until nothing happens any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from netstack.core.errors import Livelock, TimedOut
from netstack.core.timers import EventHeap, Timer, TimerQueue

if TYPE_CHECKING:
    from collections.abc import Callable

    from netstack.device.base import Device
    from netstack.driver.tasks import Wait
    from netstack.stack import Stack
    from netstack.transport.events import Event

MAX_EVENTS_AT_ONE_INSTANT = 1_000_000


class _Slot:
    """A stack that is run, its timer and the devices that report to it."""

    __slots__ = ("devices", "stack", "timer")

    def __init__(self, stack: Stack, due: Callable[[float], None]) -> None:
        self.stack = stack
        self.timer = Timer(due)
        self.devices: list[Device] = []


class World:
    """Stacks, cables and waits in virtual time. ``on_over`` is told of each wait that ended."""

    def __init__(self, on_over: Callable[[Wait[Any]], None]) -> None:
        self.events = EventHeap()
        self.handlers: dict[object, Callable[[Event, float], None]] = {}
        self.woken: dict[object, None] = {}
        """Endpoints whose waits are to be asked when this section settles."""
        self._on_over = on_over
        self._timers = TimerQueue()
        self._slots: dict[Stack, _Slot] = {}
        self._changed: dict[_Slot, None] = {}
        self._waits: dict[object, list[Wait[Any]]] = {}
        self._expired: list[Wait[Any]] = []
        self._timed = 0  # waits with a timeout
        self._instant = 0.0
        self._at_instant = 0

    # -- stacks -------------------------------------------------------------------------------

    @property
    def stacks(self) -> list[Stack]:
        """What is run, in order of addition."""
        return list(self._slots)

    def add(self, stack: Stack) -> None:
        """Run ``stack``; devices that it gets later are found by themselves."""
        if stack in self._slots:
            return
        slot = _Slot(stack, lambda _now: self._note(slot))
        self._slots[stack] = slot
        self._hook(slot, stack.devices)
        self._note(slot)

    def remove(self, stack: Stack) -> None:
        """Run ``stack`` no longer; whoever waits is to be asked once more."""
        slot = self._slots.pop(stack, None)
        if slot is None:
            return
        self._timers.disarm(slot.timer)
        self._changed.pop(slot, None)
        for device in slot.devices:
            device.on_pending = None
        self.woken.update(dict.fromkeys(self._waits))

    def _note(self, slot: _Slot) -> None:
        self._changed[slot] = None

    def _hook(self, slot: _Slot, devices: list[Device]) -> None:
        """Let the devices of a stack report what is pending."""
        for device in slot.devices:
            if device not in devices:
                device.on_pending = None
        for device in devices:
            if device not in slot.devices:
                device.on_pending = lambda: self._note(slot)
        slot.devices = devices

    # -- waits --------------------------------------------------------------------------------

    @property
    def waits(self) -> list[Wait[Any]]:
        """All that wait, by endpoint."""
        return [wait for waits in self._waits.values() for wait in waits]

    def waited_for(self, endpoint: object) -> bool:
        """Return whether anybody waits for that endpoint."""
        return endpoint in self._waits

    def register(self, wait: Wait[Any], deadline: float | None) -> None:
        """Ask ``wait`` whenever its endpoint tells of something, until it is over."""
        self._waits.setdefault(wait.endpoint, []).append(wait)
        if deadline is not None:
            wait.timer = Timer(lambda _now: self._expired.append(wait))
            self._timers.arm(wait.timer, deadline)
            self._timed += 1

    def forget(self, wait: Wait[Any]) -> bool:
        """Take ``wait`` out of the books; return whether it was there."""
        waits = self._waits.get(wait.endpoint, [])
        if wait not in waits:
            return False
        waits.remove(wait)
        if not waits:
            del self._waits[wait.endpoint]
        if wait.timer is not None:
            self._timers.disarm(wait.timer)
            self._timed -= 1
        return True

    def _ask_expired(self) -> None:
        now = self.events.now
        expired, self._expired = self._expired, []
        for wait in expired:
            if wait.done:
                continue
            if not wait.ask(now):
                wait.fail(TimedOut("timed out"))
            self._on_over(wait)

    def _ask_woken(self) -> bool:
        """Ask whoever waits for what was woken; return whether anybody was asked."""
        asked = [wait for endpoint in self.woken for wait in self._waits.get(endpoint, ())]
        self.woken.clear()
        for wait in asked:
            self.tick()
            if not wait.done and wait.ask(self.events.now):
                self._on_over(wait)
        return bool(asked)

    # -- steps --------------------------------------------------------------------------------

    def next_time(self) -> float | None:
        """Return when something is due, or None."""
        event, timer = self.events.next_time(), self._timers.next_deadline()
        if event is None or timer is None:
            return timer if event is None else event
        return min(event, timer)

    def hopeless(self) -> bool:
        """Return whether nothing that could end a wait is planned."""
        return (
            not self._timed
            and not len(self.events)
            and all(stack.context.timers.only_housekeeping() for stack in self._slots)
        )

    def advance(self, when: float) -> None:
        """Move the clock to ``when``, run all that is due then, and settle."""
        events = self.events
        events.now = max(when, events.now)
        while (at := events.next_time()) is not None and at <= events.now:
            self.tick()
            events.run_next()
        if self._timers.run_due(events.now):
            self.tick()
        self.settle()

    def settle(self, *, all_stacks: bool = False) -> None:
        """Poll what has something to do, tell handlers and waits, until all is quiet."""
        while True:
            if all_stacks:
                self._changed.update(dict.fromkeys(self._slots.values()))
            while self._changed:
                slot = next(iter(self._changed))
                del self._changed[slot]
                self._run(slot)
            all_stacks = bool(self._expired)
            self._ask_expired()
            # A condition may have changed any stack: reading opens a window.
            all_stacks |= self._ask_woken()
            if not all_stacks and not self._changed:
                return

    def _run(self, slot: _Slot) -> None:
        """Poll one stack as long as it has something to do at this instant."""
        stack = slot.stack
        now = self.events.now
        devices = stack.devices
        if devices != slot.devices:
            self._hook(slot, devices)
        try:
            while True:
                deadline = stack.next_deadline()
                busy = deadline is not None and deadline <= now
                if busy:
                    self.tick()
                    stack.poll(now)
                if not self._pull_events(stack, now) and not busy:
                    break
                if None in self._waits:
                    self.woken[None] = None
            self._report(stack)
        except BaseException:
            self._note(slot)
            raise
        if deadline is None:
            self._timers.disarm(slot.timer)
        elif deadline != slot.timer.deadline:
            self._timers.arm(slot.timer, deadline)

    def _pull_events(self, stack: Stack, now: float) -> bool:
        """Hand a stack's events to handlers and waits; return whether there were any."""
        found = False
        while (event := stack.next_event()) is not None:
            found = True
            self.woken[event.source] = None
            handler = self.handlers.get(event.source)
            if handler is not None:
                handler(event, now)
        return found

    def _report(self, stack: Stack) -> None:
        """Raise the internal error that the stack contained, if there was one.

        It has cost a connection; in a simulation it is better seen than counted only.
        """
        error, stack.last_error = stack.last_error, None
        if error is not None:
            raise error

    def tick(self) -> None:
        """Count one happening at this instant.

        Raises: Livelock at a million.
        """
        if self._instant != self.events.now:
            self._instant = self.events.now
            self._at_instant = 0
        self._at_instant += 1
        if self._at_instant > MAX_EVENTS_AT_ONE_INSTANT:
            self._at_instant = 0
            raise Livelock(
                f"{MAX_EVENTS_AT_ONE_INSTANT:,} events at t={self.events.now:.6f} "
                "without the clock moving"
            )
