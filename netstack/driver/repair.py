"""What to do when a section was cut, or when code run by an innocent thread raised.

A signal handler's exception can hit any bytecode, so "abort that connection and finish the step"
cannot be coded. What can: a repair that is idempotent, run by whoever enters next. It aborts the
connection that was being processed (its state may be half changed), derives the indexes (timers,
dirty connections) from the connections' own fields again, takes the rest of the burst, settles,
and lets everybody look again.

In the main thread an exception may be a signal handler's and goes on to the caller. In any other
it is a bug in one connection's code: that connection's owner sees it aborted, and the thread
that happened to run the step goes on.
"""

from __future__ import annotations

import logging
import threading
from time import monotonic
from typing import TYPE_CHECKING

from netstack.core.errors import NetstackError
from netstack.transport.events import Readable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from netstack.device.base import Device, Frame
    from netstack.driver.section import Sections
    from netstack.stack import Stack
    from netstack.transport.events import Event

_log = logging.getLogger("netstack.driver")
_MAX_REPORTS = 16  # a bug in every step must not fill a disk
_PACKAGE = __name__.partition(".")[0] + "."


def in_main_thread() -> bool:
    """Return whether signal handlers run in this thread."""
    return threading.current_thread() is threading.main_thread()


def is_ordinary(error: Exception) -> bool:
    """Return whether ``error`` is an answer of the stack rather than a cut or a bug.

    A signal handler of the main thread may raise any type, and its own frame is then the
    innermost of the traceback.
    """
    if not isinstance(error, (NetstackError, OSError, ValueError)):
        return False
    if not in_main_thread():
        return True
    innermost = error.__traceback__
    while innermost is not None and innermost.tb_next is not None:
        innermost = innermost.tb_next
    if innermost is None:
        return False
    module = innermost.tb_frame.f_globals.get("__name__", "")
    return isinstance(module, str) and module.startswith(_PACKAGE)


class Repairs:
    """The repairs of one driver; all but ``report`` inside sections."""

    def __init__(self, driver: Sections) -> None:
        self._driver = driver
        self.unreported: list[BaseException] = []
        """Bugs for ``report`` to tell."""
        self.cuts = 0
        """Sections found cut and repaired."""
        self.bugs = 0
        """Exceptions in steps that were no signal handler's."""

    def guard(self, stack: Stack | None, function: Callable[[float], object], now: float) -> bool:
        """Call ``function(now)``; a bug in it costs the connection being processed, no more.

        Return whether it came to its end.
        """
        try:
            function(now)
        except Exception as error:
            if in_main_thread():
                raise
            self._bug(stack, error, now)
            return False
        return True

    def poll(self, stack: Stack, now: float) -> None:
        """Poll ``stack``, as ``guard`` would."""
        try:
            stack.poll(now)
        except Exception as error:
            if in_main_thread():
                raise
            self._bug(stack, error, now)

    def handle(self, handler: Callable[[Event, float], None], event: Event, now: float) -> None:
        """Run an endpoint's handler; a bug in it costs that endpoint."""
        try:
            handler(event, now)
        except Exception as error:
            if in_main_thread():
                raise
            self._note(error)
            source = event.source
            self._driver.set_handler(source, None)
            abort = getattr(source, "abort", None) or getattr(source, "close", None)
            if abort is not None:
                self.guard(None, abort, now)

    def receive(
        self, stack: Stack, device: Device, frames: Sequence[Frame | bytes], now: float
    ) -> None:
        """Hand a burst to ``stack``, the rest of it too if a bug ends a part."""
        try:
            stack.receive(device, frames, now)
        except Exception as error:
            if in_main_thread():
                raise
            self._bug(stack, error, now)
            self._receive_rest(stack, now)

    def _receive_rest(self, stack: Stack, now: float) -> None:
        # Each bug takes the frame with it that it hit, so this ends.
        while not self.guard(stack, stack.receive_rest, now):
            pass

    def _bug(self, stack: Stack | None, error: Exception, now: float) -> None:
        self._note(error)
        if stack is not None:
            stack.context.count("driver.bugs")
            stack.abort_current(now, error)
            stack.rebuild_timers()

    def _note(self, error: Exception) -> None:
        self.bugs += 1
        if self.bugs <= _MAX_REPORTS:
            self.unreported.append(error)

    def repair(self) -> None:
        """Make the driver and its stacks whole after a cut; idempotent, may be cut itself."""
        driver = self._driver
        now = monotonic()
        for stack in driver.stacks:
            stack.abort_current(now, InterruptedError("an exception cut the step short"))
            stack.rebuild_timers()
            self._receive_rest(stack, now)
        # An event may have been pulled and not told: everybody has a look.
        for endpoint, handler in tuple(driver.handlers.values()):
            self.handle(handler, Readable(endpoint), now)
        driver.touched.update((key, known[0]) for key, known in driver.mirrors.items())
        driver.settle(now, True)
        driver.wake_all()
        self.cuts += 1

    def report(self) -> None:
        """Log the bugs noted since the last time; outside any section."""
        while self.unreported:
            error = self.unreported.pop(0)
            _log.error("a bug aborted a connection", exc_info=error)
