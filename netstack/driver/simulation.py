"""Virtual time: one clock for all stacks, cables and tasks of a simulated world.

Theory of operation. The clock stands still while anybody computes. When every strand (see
``tasks``) blocks, the last one to block leads: it lets the world advance to what is due next - a
frame arrives, a stack's deadline or a wait's timeout comes -, until some wait is over. Waits that
are over make their strands ready, in that order; the leader passes the baton to the first.
A blocking call thus runs the world itself, and client and server may share one thread.

Nothing here depends on real time, on thread scheduling or on hash order, so that one seed gives
one run.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NoReturn, ParamSpec, TypeVar

from netstack.core.errors import Deadlock, Livelock, TimedOut
from netstack.driver.base import PENDING, Driver, Pending, Waiting
from netstack.driver.report import waits_table
from netstack.driver.tasks import Baton, Cancelled, SimulatedTask, Strand, Wait
from netstack.driver.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from netstack.core.timers import EventHeap
    from netstack.stack import Stack
    from netstack.transport.events import Event

P = ParamSpec("P")
T = TypeVar("T")


def _never(_now: float) -> Literal[Pending.PENDING]:
    return PENDING


class Simulation(Driver):
    """Runs stacks in virtual time, which starts at 0.0.

    It is used by the thread that made it and by its tasks; calls of other threads raise
    RuntimeError. Past ``max_time`` (seconds) a blocking call raises ``Deadlock``.
    """

    def __init__(self, *, max_time: float = 86_400.0) -> None:
        self.max_time = max_time
        self.tasks: list[SimulatedTask[Any]] = []
        """Tasks that have not ended, in order of spawning; services' not included."""
        self._world = World(self._on_over)
        self._main = Strand("main")
        self._baton = Baton(self._main)
        self._ready: deque[Strand] = deque()
        self._strands: list[Strand] = []  # tasks that have not ended, services' too
        self._failures: list[BaseException] = []  # of tasks, raised by no call yet
        self._until: float | None = None
        self._serial = 0
        self._inside = False
        self._closed = False

    # -- the driver's interface ---------------------------------------------------------------

    @property
    def now(self) -> float:
        """Virtual time in seconds."""
        return self._world.events.now

    @property
    def events(self) -> EventHeap:
        """The heap on which cables plan their deliveries."""
        return self._world.events

    def call(self, function: Callable[[float], T]) -> T:
        """Return ``function(now)`` and settle."""
        _ = self._baton.current
        return self._section(partial(self._call, function))

    def _call(self, function: Callable[[float], T]) -> T:
        try:
            return function(self.now)
        except BlockingIOError:
            # A loop that polls never lets the clock move: it must end too.
            self._world.tick()
            raise
        finally:
            self._world.settle(all_stacks=True)

    def wait(
        self,
        endpoint: object | None,
        condition: Callable[[float], T | Literal[Pending.PENDING]],
        timeout: float | None,
        waiting: Waiting | None = None,
    ) -> T:
        """Return what ``condition`` returns when it holds, running the world until then."""
        wait = self._new_wait(endpoint, condition, waiting or Waiting())
        self._section(partial(self._ask_at_once, wait))
        if wait.done:
            return wait.outcome()
        if timeout is None:
            return self._block(wait, None)
        if timeout <= 0:
            raise TimedOut("timed out")
        return self._block(wait, self.now + timeout)

    def _ask_at_once(self, wait: Wait[T]) -> None:
        wait.ask(self.now)
        self._world.settle(all_stacks=True)

    def wake(self, endpoint: object) -> None:
        """Ask the conditions of all who wait on ``endpoint`` at the end of this section."""
        self._world.woken[endpoint] = None

    def set_handler(
        self, endpoint: object, handler: Callable[[Event, float], None] | None
    ) -> None:
        """Let ``handler`` have the events of ``endpoint``."""
        if handler is None:
            self._world.handlers.pop(endpoint, None)
        else:
            self._world.handlers[endpoint] = handler

    def add_stack(self, stack: Stack) -> None:
        """Run ``stack``; devices that it gets later are found by themselves."""
        self._world.add(stack)

    def remove_stack(self, stack: Stack) -> None:
        """Run ``stack`` no longer; whoever waits is asked once more."""
        self._world.remove(stack)
        self._section(self._world.settle)

    def spawn(
        self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> SimulatedTask[T]:
        """Make ``function`` a task; it first runs when the caller blocks."""
        _ = self._baton.current
        task = self._make_task(function, partial(function, *args, **kwargs))
        self.tasks.append(task)
        return task

    def spawn_service(self, function: Callable[[], None]) -> None:
        """Make ``function`` a task that ``run`` doesn't wait for."""
        self._make_task(function, function)

    def sleep(self, seconds: float) -> None:
        """Block the caller for ``seconds`` of virtual time; others run even if it is 0."""
        wait: Wait[None] = self._new_wait(object(), _never, Waiting("", "sleep"))
        try:
            self._block(wait, self.now + max(seconds, 0.0))
        except TimedOut:
            return

    def close(self, timeout: float = 5.0) -> None:
        """Cancel all tasks and let go of the stacks; no virtual time passes.

        Raises: a task's exception that no call has raised so far.
        """
        if self._closed:
            return
        if self._baton.current is not self._main:
            raise RuntimeError("a task cannot close the simulation that it runs in")
        self._closed = True
        self._cancel_strands()
        for stack in self._world.stacks:
            self._world.remove(stack)
        self._world.handlers.clear()
        if self._failures:
            raise self._failures.pop(0)

    # -- what only a simulation has -----------------------------------------------------------

    def run(self, until: float | None = None) -> None:
        """Run to the virtual time ``until``, or until every task has ended.

        Raises: Deadlock, Livelock, an exception of a task that nobody joins.
        """
        if self._baton.current is not self._main:
            raise RuntimeError("run() is for the thread that made the simulation, not for a task")
        waiting = Waiting("", "run")
        if until is None:
            self.wait(self, lambda _now: PENDING if self.tasks else True, None, waiting)
            return
        if until < self.now:
            raise ValueError(f"run(until={until}): it is {self.now} already")
        wait: Wait[None] = self._new_wait(object(), _never, waiting)
        self._section(partial(self._world.settle, all_stacks=True))
        self._until = until
        try:
            self._block(wait, None)
        except TimedOut:
            return
        finally:
            self._until = None

    def wait_for_task(self, task: SimulatedTask[Any], timeout: float | None) -> None:
        """Block until ``task`` has ended; what its ``join`` does."""
        waiting = Waiting("", f"join {task.name}")
        self.wait(task, lambda _now: True if task.done else PENDING, timeout, waiting)
        self._failures = [error for error in self._failures if error is not task.error]

    # -- waits --------------------------------------------------------------------------------

    def _section(self, body: Callable[[], T]) -> T:
        if self._inside:
            raise RuntimeError("the driver was called from inside a section")
        try:
            self._inside = True
            return body()
        finally:
            self._inside = False

    def _new_wait(
        self,
        endpoint: object | None,
        condition: Callable[[float], T | Literal[Pending.PENDING]],
        waiting: Waiting,
    ) -> Wait[T]:
        strand = self._baton.current
        self._check_cancelled(strand)
        return Wait(strand, endpoint, condition, self.now, waiting)

    def _on_over(self, wait: Wait[Any]) -> None:
        """Make the strand of a wait that is over ready."""
        if self._world.forget(wait):
            self._ready.append(wait.strand)

    def _block(self, wait: Wait[T], deadline: float | None) -> T:
        """Let the world and the other strands run until ``wait`` is over."""
        strand = wait.strand
        if strand is self._main and self._failures:
            raise self._failures.pop(0)
        strand.wait = wait
        self._world.register(wait, deadline)
        try:
            self._lead(strand)
        finally:
            strand.wait = None
            self._world.forget(wait)
            if strand in self._ready:  # an exception came in between
                self._ready.remove(strand)
        self._check_cancelled(strand)
        return wait.outcome()

    # -- leading ------------------------------------------------------------------------------

    def _lead(self, strand: Strand) -> None:
        """Run the world and the other strands until it is ``strand``'s turn again."""
        while True:
            target = self._next_strand(strand)
            if target is not strand:
                self._baton.switch(strand, target)
            if strand.cancelled or strand.wait is None or strand.wait.done:
                return

    def _next_strand(self, leader: Strand | None) -> Strand:
        """Advance the world until some strand is ready, and return it."""
        while True:
            if self._baton.recalled and leader is not self._main:
                return self._main
            try:
                if self._ready:
                    self._world.tick()
                    return self._ready.popleft()
                self._step()
            except BaseException as error:
                if leader is self._main and not isinstance(error, Livelock):
                    raise
                # The call that drives is the main strand's: it raises what goes wrong.
                self._fail_main(error)

    def _fail_main(self, error: BaseException) -> None:
        wait = self._main.wait
        if wait is None or wait.done:
            self._failures.append(error)
            return
        wait.fail(error)
        self._on_over(wait)

    def _step(self) -> None:
        """Let the world advance to what is due next."""
        world, until = self._world, self._until
        when = world.next_time()
        if until is not None and (when is None or when > until):
            world.events.now = until
            self._fail_main(TimedOut("timed out"))
            return
        if until is None and (when is None or world.hopeless()):
            self._deadlock("every task waits, and nothing that could end a wait is under way")
        if when is not None and when > self.max_time:
            self._deadlock(f"max_time ({self.max_time:g} s) passed")
        if when is not None:
            self._section(partial(world.advance, when))

    def _deadlock(self, why: str) -> NoReturn:
        order = {strand: n for n, strand in enumerate((self._main, *self._strands))}
        waits = sorted(self._world.waits, key=lambda wait: order.get(wait.strand, len(order)))
        raise Deadlock(waits_table(f"{why}, at t={self.now:.6f}", waits, self._world.stacks))

    # -- tasks --------------------------------------------------------------------------------

    def _make_task(self, named: Callable[..., Any], body: Callable[[], T]) -> SimulatedTask[T]:
        if self._closed:
            raise RuntimeError("the simulation is closed")
        self._serial += 1
        name = getattr(named, "__name__", type(named).__name__)
        task: SimulatedTask[T] = SimulatedTask(self, f"{name}-{self._serial}", body)
        strand = Strand(task.name)
        strand.task = task
        strand.body = partial(self._live, strand, task)
        self._strands.append(strand)
        self._ready.append(strand)
        return task

    def _live(self, strand: Strand, task: SimulatedTask[Any]) -> None:
        """The life of a task's thread."""
        task.run()
        self._strands.remove(strand)
        if task in self.tasks:
            self.tasks.remove(task)
        if strand.cancelled:
            self._baton.pass_to(self._main)
            return
        if task.error is not None and not self._world.waited_for(task):
            task.error.add_note(f"raised in task {task.name}, which no join() waited for")
            self._fail_main(task.error)
        self._world.woken.update({task: None, self: None})
        try:
            self._section(self._world.settle)
        except BaseException as error:
            self._fail_main(error)
        self._baton.pass_to(self._next_strand(None))

    def _check_cancelled(self, strand: Strand) -> None:
        if strand.cancelled:
            raise Cancelled
        if self._closed:
            raise RuntimeError("the simulation is closed")

    def _cancel_strands(self) -> None:
        """Unwind every task that still runs; its thread has ended when this returns."""
        self._ready.clear()
        for strand in list(self._strands):
            strand.cancelled = True
            if strand.thread is None:  # it never ran
                self._strands.remove(strand)
                continue
            self._baton.switch(self._main, strand)
            strand.thread.join()
        self.tasks.clear()
