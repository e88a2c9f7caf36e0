"""The real-time driver: the threads that call run the stacks themselves, leader and followers.

Theory of operation. Handing a frame to another thread costs 8-24 us, calling a function 0.6.
So whoever blocks drives: of the threads that wait, one *leads* (polls the devices and steps the
stacks), the others *follow* (each sleeps on a lock of its own). A leader that has what it
wanted leaves and names the oldest follower its *heir*; with nobody there to follow, the
background leads (``background``). Calls that cannot block never lead.

Everything happens in *sections*, literally ``with self.lock:`` (an ``acquire`` before a ``try``
leaves a window in which a signal handler that raises leaves the lock held). The lock is
re-entrant for one reason: it knows its owner, so a signal handler that finds its own thread
inside a section can be refused. Every section that changed something *settles*: it runs the
finalizers' errands, polls the stacks until they are quiet, hands events to handlers, and wakes
whoever they concern, the leader too.

An exception from a signal handler can cut a section at any bytecode. ``torn`` is True from the
first act of a section to its last; who finds it set repairs (``repair``) before anything else.

Invariants: ``lock`` is held inside sections only, and nobody blocks under it. ``leader`` changes
from and to None only (a dead leader counts as None). ``sleep_until`` is 0 while the leader is
awake and will read all state again before it sleeps; else no deadline is earlier, or
``wake_fd`` is readable. ``waiters`` holds exactly the followers not woken since they last
looked. ``contending``, ``yielding`` and ``turn`` are hints: a wrong one costs a millisecond.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Literal, ParamSpec, TypeVar

from netstack.core.errors import TimedOut
from netstack.driver import lifecycle
from netstack.driver.base import PENDING, Driver, Pending
from netstack.driver.mirror import Mirror
from netstack.driver.task import ThreadTask
from netstack.driver.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable

    from netstack.stack import Stack

P = ParamSpec("P")
T = TypeVar("T")


class RealTimeDriver(Turns, Driver):
    """Runs stacks on the system's monotonic clock; every method is thread-safe.

    Calls from a signal handler that interrupted a section, or a leader, of its own thread raise
    RuntimeError: they could only deadlock.
    """

    def __init__(self) -> None:
        super().__init__()
        lifecycle.register(self)

    # -- what sockets and servers call --------------------------------------------------------

    @property
    def now(self) -> float:
        """The system's monotonic clock."""
        return monotonic()

    def defer(self, errand: Callable[[float], None]) -> None:
        """Have ``errand(now)`` run in the next section: the only call for finalizers.

        A finalizer or weak reference's callback may run at any bytecode of any thread, inside a
        section too. What it wants done waits here.
        """
        self.deferred.append(errand)
        self.poller.wake()

    def mirror(self, endpoint: object, readiness: Callable[[], tuple[bool, bool]]) -> Mirror:
        """Return the descriptor that shows what ``readiness()`` says: readable, writable.

        It is updated at each event of ``endpoint``, each ``wake(endpoint)`` and each wait on it.
        Right after a blocking call nobody polls the devices for 2-4 ms.
        """

        def make(now: float) -> Mirror:
            known = self.mirrors.get(id(endpoint))
            if known is not None:
                return known[1]
            mirror = Mirror(readiness)
            self.mirrors[id(endpoint)] = (endpoint, mirror)
            self.touched[id(endpoint)] = endpoint
            return mirror

        return self.call(make)

    def drop_mirror(self, endpoint: object) -> None:
        """Close the mirror of ``endpoint``, if it has one; fine inside a section and outside."""
        known = self.mirrors.pop(id(endpoint), None)
        if known is not None:
            known[1].close()

    def add_stack(self, stack: Stack) -> None:
        """Run ``stack`` from now on, and the background with it."""

        def add(now: float) -> None:
            if stack not in self.stacks:
                self.stacks = (*self.stacks, stack)
            stack.contain_errors = False  # a signal handler's exception is not to be swallowed
            self.wake_leader()

        self.call(add)
        self.background.start()

    def remove_stack(self, stack: Stack) -> None:
        """Run ``stack`` no longer; on return nobody polls its devices."""

        def remove(now: float) -> None:
            self.stacks = tuple(each for each in self.stacks if each is not stack)
            stack.contain_errors = True
            for device in stack.devices:
                device.on_pending = None
            self.wake_all()

        self.call(remove)
        self.await_departure()

    def spawn(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> ThreadTask[T]:
        """Run ``function`` in a thread of its own."""
        return ThreadTask(function, args, kwargs, self._cut_off)

    def spawn_service(self, function: Callable[[], None]) -> None:
        """Run ``function`` in a thread of its own, which nobody joins."""
        # Starting a thread waits for it: not inside the section of whoever calls this.
        self.services.append(function)
        if not self.inside():
            self._after_section()

    def sleep(self, seconds: float) -> None:
        """Block the caller for that time; it may lead meanwhile."""
        nothing = object()
        try:
            self.wait(nothing, _never, max(seconds, 0.0))
        except TimedOut:
            return

    def close(self, timeout: float = 5.0) -> None:
        """Drain and close every connection, reset what is left after ``timeout``, and stop."""
        lifecycle.close(self, timeout)


def _never(now: float) -> Literal[Pending.PENDING]:
    return PENDING
