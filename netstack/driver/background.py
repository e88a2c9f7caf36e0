"""The thread that leads while no call does.

Timers must fire, mirrors must follow and peers must be answered while no application thread
waits. The thread stands by (``pulse``): it looks at the driver every 2 ms, less often (up to
256 ms) while one and the same leader lasts, and leads only when nobody did for a whole tick. So a
program that calls all the time keeps its run to completion, and an idle one costs nothing: then
this thread sleeps in ``poll`` like any leader.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Literal

from netstack.driver.base import PENDING, Pending
from netstack.driver.waiter import Waiter

if TYPE_CHECKING:
    from netstack.driver.turns import Turns

MIN_TICK_S = 0.002
MAX_TICK_S = 0.256


class Background:
    """The stand-by leader of one driver."""

    def __init__(self, driver: Turns) -> None:
        self._driver = driver
        self.waiter = Waiter(self, 0)
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread unless it runs."""
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, name="netstack-background", daemon=True
            )
            self._thread.start()

    def join(self, timeout: float) -> None:
        """Wait until the thread has ended, unless it is the caller."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def _run(self) -> None:
        driver = self._driver
        torn = 0
        while driver.closing is None:
            unled = driver.pulse.stand_by(MIN_TICK_S, MAX_TICK_S)
            leader = driver.leader
            if unled or (leader is not None and leader.dead):
                self._lead()
            # Whoever is inside a section shows as torn too; the same one twice is worth a look.
            section = driver.entered if driver.torn else 0
            if section and section == torn:
                driver.mend()
            torn = section

    def _lead(self) -> None:
        driver = self._driver
        waiter = self.waiter
        waiter.dead = False
        waiter.thread = threading.get_ident()
        driver.run_wait(waiter, self._enough, None)

    def _enough(self, now: float) -> Literal[True, Pending.PENDING]:
        driver = self._driver
        driver.heir = None  # one that did not come within a whole tick
        leader = driver.leader
        taken = leader is not None and leader is not self.waiter and not leader.dead
        if taken or driver.waiters or driver.closing is not None:
            return True
        return PENDING
