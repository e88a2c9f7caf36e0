"""Timers of one stack, and the event heap of a simulation.

Theory of operation. A retransmission deadline moves on every ACK, so moving one must be cheap:
a timer is a deadline field, and the heap holds at most one *useful* entry a timer. Arming later
than the queued entry only writes the field; the entry, when it comes up, sees that it is early
and queues itself again. Disarming writes ``NEVER``. Stale entries are swept when they outnumber
the live ones. Ties fire in order of arming (serial numbers), never by ``id``. The heap is an
index only: ``rebuild`` derives it from the armed timers again, after a step that was cut.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


NEVER = inf
"""The deadline of what is not to happen, in seconds."""


class Timer:
    """One deadline and what to do then: ``callback(now)``."""

    __slots__ = ("callback", "deadline", "housekeeping", "owner", "queued")

    def __init__(
        self, callback: Callable[..., None], owner: object = None, *, housekeeping: bool = False
    ) -> None:
        # With an owner, a plain function: a bound method each would cost 64 octets a connection.
        self.callback = callback
        self.owner = owner
        self.deadline: float = NEVER
        self.queued: float = NEVER  # when the heap's useful entry comes up
        # Ageing, keepalive, probes, TIME-WAIT: a simulation in which only such timers are left
        # is deadlocked.
        self.housekeeping = housekeeping

    def fire(self, now: float) -> None:
        """Do what is to be done at the deadline: ``callback([owner,] now)``."""
        if self.owner is None:
            self.callback(now)
        else:
            self.callback(self.owner, now)

    def release(self) -> None:
        """Do nothing any more, and keep nobody alive."""
        self.callback, self.owner = _nothing, None


def _nothing(now: float) -> None:
    pass


class TimerQueue:
    """The armed timers of one stack."""

    __slots__ = ("_armed", "_heap", "_serial")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._serial = 0
        self._armed: dict[Timer, None] = {}

    @property
    def armed(self) -> int:
        """How many timers have a deadline."""
        return len(self._armed)

    def arm(self, timer: Timer, deadline: float) -> None:
        """Let ``timer`` fire at ``deadline`` (seconds), whatever it was armed for before."""
        if deadline == NEVER:
            self.disarm(timer)
            return
        if timer.deadline == NEVER:
            self._armed[timer] = None
        timer.deadline = deadline
        if deadline < timer.queued:
            self._push(timer, deadline)

    def disarm(self, timer: Timer) -> None:
        """Let ``timer`` not fire."""
        if timer.deadline != NEVER:
            timer.deadline = NEVER
            self._armed.pop(timer, None)
            if len(self._heap) > 64:
                self._sweep()

    def rebuild(self) -> None:
        """Derive the heap from the armed timers: an exception may have hit between two lines."""
        self._heap = []
        for timer in tuple(self._armed):
            timer.queued = NEVER
            if timer.deadline == NEVER:
                del self._armed[timer]
            else:
                self._push(timer, timer.deadline)

    def _push(self, timer: Timer, deadline: float) -> None:
        timer.queued = deadline
        self._serial += 1
        heappush(self._heap, (deadline, self._serial, timer))
        if len(self._heap) > 64:
            self._sweep()

    def _sweep(self) -> None:
        # Also after disarming: what a stale entry would keep alive is its owner, such as a
        # connection that is over, until a deadline that may be far.
        if len(self._heap) > 64 and len(self._heap) > 4 * len(self._armed):
            self._compact()

    def _compact(self) -> None:
        # Only entries that are their timer's useful one, and whose timer is armed, stay.
        kept = []
        for entry in self._heap:
            timer: Timer = entry[2]
            if entry[0] != timer.queued:
                continue
            if timer.deadline == NEVER:
                timer.queued = NEVER
            else:
                kept.append(entry)
        heapify(kept)
        self._heap[:] = kept  # in place: `next_deadline` is at work on this very list

    def next_deadline(self) -> float | None:
        """Return the earliest deadline, or None; exact, and never later than needed."""
        deadline = self.earliest()
        return None if deadline == NEVER else deadline

    def earliest(self) -> float:
        """Return the earliest deadline, or NEVER."""
        heap = self._heap
        if not heap:
            return NEVER
        first = heap[0]
        when: float = first[0]
        timer: Timer = first[2]
        if when == timer.queued:
            # Most often it only moved on, or rests between two segments: its entry may stay where
            # it is as long as what comes next is known without it.
            deadline = timer.deadline
            if deadline <= when or len(heap) == 1:
                return deadline
            second = heap[1] if len(heap) == 2 or heap[1][0] < heap[2][0] else heap[2]
            other: Timer = second[2]
            when = second[0]
            if deadline <= when:
                return deadline
            if when == other.queued and other.deadline <= when:
                return when
        return self._first()

    def _first(self) -> float:
        """Return the earliest deadline, or NEVER; the heap's first entry is then its timer's."""
        heap = self._heap
        while heap:
            first = heap[0]
            when: float = first[0]
            timer: Timer = first[2]
            if when == timer.queued and timer.deadline <= when:
                return when
            heappop(heap)
            if when == timer.queued:
                timer.queued = NEVER
                if timer.deadline != NEVER:
                    self._push(timer, timer.deadline)
        return NEVER

    def run_due(self, now: float) -> int:
        """Fire every timer whose deadline is at or before ``now``; return how many fired.

        A callback may arm any timer, its own included; one armed for ``now`` or earlier fires
        in the next call, so that a call ends.
        """
        due: list[Timer] = []
        while True:
            deadline = self._first()
            if deadline > now or deadline == NEVER:
                break
            timer: Timer = heappop(self._heap)[2]
            timer.queued = NEVER
            due.append(timer)
        fired = 0
        due.reverse()
        try:
            while due:
                timer = due.pop()
                # An earlier callback of this round may have disarmed or moved it.
                if timer.deadline == NEVER:
                    continue
                if timer.deadline > now:
                    if timer.queued == NEVER:
                        self._push(timer, timer.deadline)
                    continue
                timer.deadline = NEVER
                self._armed.pop(timer, None)
                fired += 1
                timer.fire(now)
        finally:
            # A callback that raised must not cost the others of the round their turn.
            for timer in reversed(due):
                if timer.deadline != NEVER and timer.queued == NEVER:
                    self._push(timer, timer.deadline)
        self._sweep()
        return fired

    def only_housekeeping(self) -> bool:
        """Return whether no armed timer can bring anything but upkeep."""
        return all(entry[2].housekeeping for entry in self._heap if entry[2].deadline != NEVER)


class EventHeap:
    """What will happen in a simulated world, ordered by time and then by order of planning."""

    __slots__ = ("_heap", "_serial", "now")

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._serial = 0

    def __len__(self) -> int:
        return len(self._heap)

    def schedule(self, when: float, callback: Callable[..., None], *args: object) -> None:
        """Plan ``callback(*args)`` for virtual time ``when``; the past counts as now."""
        self._serial += 1
        heappush(self._heap, (max(when, self.now), self._serial, callback, args))

    def next_time(self) -> float | None:
        """Return when the next event is due, or None."""
        return self._heap[0][0] if self._heap else None

    def run_next(self) -> None:
        """Move the clock to the next event and run it.

        Raises: IndexError if nothing is planned.
        """
        when, _, callback, args = heappop(self._heap)
        self.now = when
        callback(*args)
