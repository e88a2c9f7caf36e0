"""Tasks of a simulation: threads of which exactly one runs, passing a baton.

Theory of operation. A *strand* is one line of execution: the thread that made the simulation, or
a task's thread. A strand that blocks registers a ``Wait`` and then *leads*: it runs the world
itself until some wait is over, and hands the baton to that wait's strand. If that is its own, no
thread was switched at all. Strands run in the order in which their waits ended, which is the
same in every run.

``Baton._current`` names the strand that may run, and is written before its thread is woken. A
thread looks at it again after every wake-up, so that an interrupted or a stale one does no harm.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from netstack.driver.base import PENDING, Pending, Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from netstack.core.timers import Timer
    from netstack.driver.base import Waiting
    from netstack.driver.simulation import Simulation

T = TypeVar("T")


class Cancelled(BaseException):
    """Unwinds a task whose simulation is over; not to be caught."""


class Wait(Generic[T]):
    """One blocking call: what it waits for, and how it ended."""

    __slots__ = (
        "condition",
        "done",
        "endpoint",
        "error",
        "result",
        "since",
        "strand",
        "timer",
        "waiting",
    )

    def __init__(
        self,
        strand: Strand,
        endpoint: object | None,
        condition: Callable[[float], T | Literal[Pending.PENDING]],
        since: float,
        waiting: Waiting,
    ) -> None:
        self.strand = strand
        self.endpoint = endpoint
        self.condition = condition
        self.since = since
        self.waiting = waiting
        self.timer: Timer | None = None
        self.done = False
        self.result: T | None = None
        self.error: BaseException | None = None

    def ask(self, now: float) -> bool:
        """Ask the condition; return whether the wait is over now."""
        try:
            result = self.condition(now)
        except Exception as error:
            self.fail(error)
            return True
        if result is PENDING:
            return False
        self.result = result
        self.done = True
        return True

    def fail(self, error: BaseException) -> None:
        """Let the wait end with ``error``."""
        self.error = error
        self.done = True

    def outcome(self) -> T:
        """Return the result of a wait that is over, or raise its error."""
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        return self.result  # type: ignore[return-value]


class Strand:
    """One line of execution; ``turn`` is what its thread sleeps on."""

    __slots__ = ("body", "cancelled", "name", "started", "task", "thread", "turn", "wait")

    def __init__(self, name: str) -> None:
        self.name = name
        self.body: Callable[[], None] | None = None
        self.task: SimulatedTask[Any] | None = None
        self.thread: threading.Thread | None = None
        self.started = False
        self.turn = threading.Lock()
        self.turn.acquire()
        self.wait: Wait[Any] | None = None
        self.cancelled = False


class Baton:
    """Who may run."""

    def __init__(self, main: Strand) -> None:
        main.thread = threading.current_thread()
        main.started = True
        self.main = main
        self.recalled = False
        """Set when a signal handler raised in the main thread while another strand ran: the
        baton is to come back as soon as that one blocks."""
        self._current = main

    @property
    def current(self) -> Strand:
        """The strand that runs.

        Raises: RuntimeError in any thread but its own.
        """
        strand = self._current
        if strand.thread is not threading.current_thread():
            raise RuntimeError(
                "a simulation is used by the thread that made it and by its tasks (spawn) only, "
                f"not by {threading.current_thread().name!r}"
            )
        return strand

    def pass_to(self, strand: Strand) -> None:
        """Let ``strand`` run; the caller's thread must do nothing but end."""
        self._current = strand
        self._wake(strand)

    def switch(self, me: Strand, strand: Strand) -> None:
        """Let ``strand`` run, and block until it is the turn of ``me`` again."""
        try:
            self.pass_to(strand)
            self._sleep(me)
        except BaseException:
            # A signal handler raised here, anywhere. Two strands must never run at once: get
            # the baton back before the exception goes on. The wake-up may have been cut short;
            # one too many does no harm.
            self.recalled = True
            if self._current is strand:
                self._wake(strand)
            self._sleep(me)
            self.recalled = False
            raise

    def _wake(self, strand: Strand) -> None:
        if not strand.started:
            # A daemon: a process that ends without closing its simulation must not hang.
            thread = threading.Thread(target=strand.body, name=strand.name, daemon=True)
            strand.thread = thread
            strand.started = True
            thread.start()
        elif strand.turn.locked():
            strand.turn.release()

    def _sleep(self, strand: Strand) -> None:
        while self._current is not strand:
            strand.turn.acquire()


class SimulatedTask(Task[T]):
    """A task in virtual time."""

    def __init__(self, simulation: Simulation, name: str, function: Callable[[], T]) -> None:
        self.name = name
        self.cancelled = False
        """Whether the end of the simulation ended it."""
        self._simulation = simulation
        self._function = function
        self._done = False
        self._result: T | None = None
        self._error: BaseException | None = None

    def __repr__(self) -> str:
        return f"<task {self.name}: {'done' if self._done else 'running'}>"

    @property
    def done(self) -> bool:
        """Whether the function has returned or raised."""
        return self._done

    @property
    def error(self) -> BaseException | None:
        """What the function raised, if anything."""
        return self._error

    def run(self) -> None:
        """Run the function to its end, whatever that is."""
        try:
            self._result = self._function()
        except Cancelled:
            self.cancelled = True
        except BaseException as error:
            self._error = error
        self._done = True

    def join(self, timeout: float | None = None) -> T:
        """Wait (in virtual time) until the function has ended and return its result.

        Raises: the function's exception; TimedOut; RuntimeError if it was cancelled.
        """
        self._simulation.wait_for_task(self, timeout)
        if self._error is not None:
            raise self._error
        if self.cancelled:
            raise RuntimeError(f"{self.name} was cancelled")
        return self._result  # type: ignore[return-value]
