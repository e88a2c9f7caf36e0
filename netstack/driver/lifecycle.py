"""The end of a real-time driver: closing it, interpreter exit, and the child of a fork."""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import threading
import weakref
from time import monotonic
from typing import TYPE_CHECKING, Literal

from netstack.core.errors import NetstackError, TimedOut
from netstack.driver.base import PENDING, Pending

if TYPE_CHECKING:
    from netstack.driver.realtime import RealTimeDriver

EXIT_TIMEOUT_S = 0.5
"""How long an interpreter that exits lets connections drain."""

_JOIN_S = 1.0

# Process-wide by nature, like fork and exit themselves; drivers enter and leave by themselves.
_drivers: weakref.WeakSet[RealTimeDriver] = weakref.WeakSet()


def register(driver: RealTimeDriver) -> None:
    """Have ``driver`` closed at exit and cut loose in forked children."""
    _drivers.add(driver)


def closed_error() -> OSError:
    """Return what calls of a closed driver raise."""
    return OSError(errno.EBADF, os.strerror(errno.EBADF))


def close(driver: RealTimeDriver, timeout: float) -> None:
    """Drain for ``timeout`` seconds, reset the rest, wake everybody, release the devices."""
    if driver.closing is not None:
        return
    _drain(driver, timeout)

    def shut(now: float) -> None:
        for stack in driver.stacks:
            stack.abort(now)
        driver.settle(now, True)  # the resets go out, handlers hear the end
        driver.closing = closed_error()
        driver.wake_all()
        driver.pulse.nudge()

    try:
        driver.call(shut)
    except OSError:
        return  # another thread was first
    driver.await_departure(_JOIN_S)
    driver.background.join(_JOIN_S)
    for stack in driver.stacks:
        for device in stack.devices:
            device.on_pending = None
            device.close()
    for endpoint, _ in tuple(driver.mirrors.values()):
        driver.drop_mirror(endpoint)
    _drivers.discard(driver)


def _drain(driver: RealTimeDriver, timeout: float) -> None:
    deadline = monotonic() + timeout

    def finish(now: float) -> None:
        for stack in driver.stacks:
            stack.close(now)

    def drained(now: float) -> Literal[True, Pending.PENDING]:
        return True if all(stack.drained for stack in driver.stacks) else PENDING

    # RuntimeError: a signal handler inside this thread's own wait; then there is no draining.
    with contextlib.suppress(TimedOut, RuntimeError, NetstackError):
        driver.call(finish)
        driver.wait(None, drained, max(deadline - monotonic(), 0.0))


def _close_at_exit() -> None:
    for driver in tuple(_drivers):
        close(driver, EXIT_TIMEOUT_S)


def _cut_loose(driver: RealTimeDriver) -> None:
    """Make a forked child's copy of ``driver`` harmless: the parent's runs on.

    Only the forking thread lives here; whatever the others were doing stays half done. The
    descriptors are closed, nothing else: an epoll set is shared with the parent, so leaving it
    would take the parent's mirrors out of it.
    """
    driver.poller.forget()
    driver.lock = threading.RLock()
    driver.closing = closed_error()
    driver.torn = False
    driver.leader = driver.heir = None
    driver.contending.clear()
    for waiter in tuple(driver.waiters):
        driver.wake_waiter(waiter)
    for stack in driver.stacks:
        for device in stack.devices:
            with contextlib.suppress(OSError):
                device.close()
    for _, mirror in tuple(driver.mirrors.values()):
        mirror.close()


def _after_fork_in_child() -> None:
    for driver in tuple(_drivers):
        _cut_loose(driver)
    _drivers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
atexit.register(_close_at_exit)
