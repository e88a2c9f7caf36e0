"""Packets that wait for their next hop's link address.

Bounded for each next hop and in total, in wire frames; the oldest makes room (RFC 1122 2.3.2.2
asks to keep the latest). What is given up goes back to the internet layer in a later step, so
that no layer is entered twice.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from netstack.core.timers import Timer

if TYPE_CHECKING:
    from collections.abc import Callable

    from netstack.core.address import IPAddress
    from netstack.core.config import NeighbourConfig
    from netstack.core.context import Context
    from netstack.device.base import Frame


class WaitingPackets:
    """The waiting packets of one interface, with their flows."""

    def __init__(self, context: Context, config: NeighbourConfig, name: str) -> None:
        self.segments = 0  # wire frames that wait
        self.on_unresolved: Callable[[IPAddress, Frame], None] | None = None
        self._context = context
        self._limit = config.max_waiting_packets
        self._total_limit = config.max_waiting_total
        self._name = name
        # The queue of the next hop that waits longest comes first; none is empty.
        self._queues: OrderedDict[IPAddress, list[tuple[Frame, object]]] = OrderedDict()
        self._given_up: list[tuple[IPAddress, Frame]] = []
        self._timer = Timer(self._hand_back)

    def add(self, address: IPAddress, frame: Frame, flow: object) -> None:
        """Keep ``frame``; what does not fit any more is dropped and counted."""
        limit = max(self._limit - frame.segments, 0)
        while self.segments_of(address) > limit:
            self._drop_oldest(address)
        limit = max(self._total_limit - frame.segments, 0)
        while self.segments > limit:
            self._drop_oldest(next(iter(self._queues)))
        self._queues.setdefault(address, []).append((frame, flow))
        self.segments += frame.segments

    def segments_of(self, address: IPAddress) -> int:
        """Return how many wire frames wait for ``address``."""
        return sum(frame.segments for frame, _ in self._queues.get(address, ()))

    def take(self, address: IPAddress) -> list[tuple[Frame, object]]:
        """Remove and return what waits for ``address``, oldest first."""
        queue = self._queues.pop(address, [])
        self.segments -= sum(frame.segments for frame, _ in queue)
        return queue

    def give_up(self, address: IPAddress, frame: Frame) -> None:
        """Hand back a packet whose next hop does not answer, in a later step.

        Dropped and counted here only if nobody takes it, or too many are to be handed back.
        """
        if self.on_unresolved is None or len(self._given_up) >= self._total_limit:
            self._context.drop(f"{self._name}.unresolved", frame.segments, frame.id)
            return
        self._context.count(f"{self._name}.handed_back", frame.segments)
        self._given_up.append((address, frame))
        self._context.timers.arm(self._timer, self._context.now)

    def give_up_all(self, address: IPAddress) -> None:
        """Give up whatever waits for ``address``."""
        for frame, _ in self.take(address):
            self.give_up(address, frame)

    def _drop_oldest(self, address: IPAddress) -> None:
        queue = self._queues[address]
        frame, _ = queue.pop(0)
        if not queue:
            del self._queues[address]
        self.segments -= frame.segments
        self._context.drop(f"{self._name}.queue_full", frame.segments, frame.id)

    def _hand_back(self, now: float) -> None:
        given_up, self._given_up = self._given_up, []
        if self.on_unresolved is not None:
            for address, frame in given_up:
                self.on_unresolved(address, frame)
