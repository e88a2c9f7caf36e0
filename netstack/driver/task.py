"""A task of the real-time driver: a thread."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any, TypeVar, cast

from netstack.core.errors import TimedOut
from netstack.driver.base import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")

_log = logging.getLogger("netstack.driver")


class ThreadTask(Task[T]):
    """A function running in a daemon thread.

    An error that nobody joins for is logged in the end, unless ``cut_off`` says that the task
    met it because its driver was closed.
    """

    def __init__(
        self,
        function: Callable[..., T],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        cut_off: Callable[[BaseException], bool],
    ) -> None:
        self.name = getattr(function, "__name__", "task")
        self._ended = threading.Event()
        self._result: T | None = None
        self._error: BaseException | None = None
        self._told = False

        def run() -> None:
            try:
                self._result = function(*args, **kwargs)
            except BaseException as error:  # join raises it
                self._error = error
                self._told = cut_off(error)
            finally:
                self._ended.set()

        threading.Thread(target=run, name=f"netstack-{self.name}", daemon=True).start()

    @property
    def done(self) -> bool:
        """Whether the function has returned or raised."""
        return self._ended.is_set()

    def join(self, timeout: float | None = None) -> T:
        """Wait until the function has ended and return its result.

        Raises: the function's exception; TimedOut.
        """
        if not self._ended.wait(timeout):
            raise TimedOut(f"task {self.name} still runs")
        self._told = True
        if self._error is not None:
            raise self._error
        return cast("T", self._result)

    def __del__(self) -> None:
        if getattr(self, "_error", None) is not None and not self._told:
            _log.error("task %s failed, and nobody joined it", self.name, exc_info=self._error)
