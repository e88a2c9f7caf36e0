"""What the layers of one stack have in common: time of the step, counters, timers, trace.

One ``Context`` belongs to one stack; nothing of it is shared between stacks.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TYPE_CHECKING

from netstack.core.config import Config
from netstack.core.rng import Rng
from netstack.core.timers import TimerQueue
from netstack.core.trace import Dropped, Trace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from netstack.core.trace import TraceEvent


class Counter:
    """One number: how often something happened. Whoever counts for each frame keeps it."""

    __slots__ = ("named", "value")

    def __init__(self) -> None:
        self.value = 0
        self.named = False  # shown even at zero: somebody set it by name


class Counters(MutableMapping[str, int]):
    """All counters of a stack, by ``layer.name``; what never happened is not there."""

    __slots__ = ("_cells",)

    def __init__(self, cells: dict[str, Counter]) -> None:
        self._cells = cells

    def __getitem__(self, name: str) -> int:
        cell = self._cells[name]
        if not (cell.value or cell.named):
            raise KeyError(name)
        return cell.value

    def __setitem__(self, name: str, value: int) -> None:
        cell = self._cells.get(name)
        if cell is None:
            cell = self._cells[name] = Counter()
        cell.value = value
        cell.named = True

    def __delitem__(self, name: str) -> None:
        cell = self._cells[name]  # stays, since layers keep it
        if not (cell.value or cell.named):
            raise KeyError(name)
        cell.value = 0
        cell.named = False

    def __iter__(self) -> Iterator[str]:
        return iter(self.snapshot())

    def __len__(self) -> int:
        return len(self.snapshot())

    def __repr__(self) -> str:
        return repr(self.snapshot())

    def snapshot(self) -> dict[str, int]:
        """Return what they are now."""
        cells = list(self._cells.items())
        return {name: cell.value for name, cell in cells if cell.value or cell.named}


class Context:
    """Shared state of one stack's layers.

    ``now`` is the time of the current step in seconds; only ``Stack`` moves it, and never back.
    ``trace`` is None while nobody listens: ``if context.trace is not None`` guards each site.
    """

    __slots__ = (
        "_cells",
        "_listeners",
        "config",
        "counters",
        "name",
        "now",
        "rng",
        "timers",
        "trace",
    )

    def __init__(
        self, name: str = "host", *, seed: int | None = None, config: Config | None = None
    ) -> None:
        self.name = name
        self.config = Config() if config is None else config
        self.rng = Rng(seed, name)
        self.timers = TimerQueue()
        self._cells: dict[str, Counter] = {}
        self.counters = Counters(self._cells)
        self.now = 0.0
        self.trace: Trace | None = None
        self._listeners: list[Callable[[TraceEvent], None]] = []

    def counter(self, name: str) -> Counter:
        """Return the counter ``layer.name``, to be kept and added to."""
        cell: Counter | None = self._cells.get(name)
        if cell is None:
            cell = self._cells[name] = Counter()
        return cell

    def count(self, name: str, amount: int = 1) -> None:
        """Add to the counter ``layer.name``."""
        cell: Counter | None = self._cells.get(name)
        if cell is None:
            cell = self._cells[name] = Counter()
        cell.value += amount

    def drop(self, reason: str, segments: int = 1, frame_id: int = 0) -> None:
        """Count a dropped packet under ``layer.reason`` and trace it.

        ``segments`` is the number of wire frames it stood for.
        """
        self.count(reason, segments)
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
