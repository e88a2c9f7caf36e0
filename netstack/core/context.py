"""What the layers of one stack have in common: time of the step, counters, timers, trace.

One ``Context`` belongs to one stack; nothing of it is shared between stacks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netstack.core.config import Config
from netstack.core.rng import Rng
from netstack.core.timers import TimerQueue
from netstack.core.trace import Dropped, Trace

if TYPE_CHECKING:
    from collections.abc import Callable

    from netstack.core.trace import TraceEvent


class Context:
    """Shared state of one stack's layers.

    ``now`` is the time of the current step in seconds; only ``Stack`` moves it, and never back.
    ``trace`` is None while nobody listens: ``if context.trace is not None`` guards each site.
    """

    __slots__ = ("_listeners", "config", "counters", "name", "now", "rng", "timers", "trace")

    def __init__(
        self, name: str = "host", *, seed: int | None = None, config: Config | None = None
    ) -> None:
        self.name = name
        self.config = Config() if config is None else config
        self.rng = Rng(seed, name)
        self.timers = TimerQueue()
        self.counters: dict[str, int] = {}
        self.now = 0.0
        self.trace: Trace | None = None
        self._listeners: list[Callable[[TraceEvent], None]] = []

    def count(self, name: str, amount: int = 1) -> None:
        """Add to the counter ``layer.name``."""
        counters = self.counters
        counters[name] = counters.get(name, 0) + amount

    def drop(self, reason: str, segments: int = 1, frame_id: int = 0) -> None:
        """Count a dropped packet under ``layer.reason`` and trace it.

        ``segments`` is the number of wire frames it stood for.
        """
        counters = self.counters
        counters[reason] = counters.get(reason, 0) + segments
        if self.trace is not None:
            layer = reason.partition(".")[0]
            self.trace.emit(Dropped(self.now, self.name, layer, reason, segments, frame_id))

    def listen(self, listener: Callable[[TraceEvent], None]) -> Callable[[], None]:
        """Hand every later event to ``listener`` after its step; return what ends that."""
        if self.trace is None:
            self.trace = Trace()
        self._listeners.append(listener)

        def stop() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)
            if not self._listeners:
                self.trace = None

        return stop

    def deliver_trace(self) -> None:
        """Hand what the step emitted to the listeners; called when the step is over."""
        if self.trace is None:
            return
        for event in self.trace.take():
            for listener in tuple(self._listeners):
                listener(event)
