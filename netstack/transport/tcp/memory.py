"""The memory that all connections of a host may hold together (RFC 6429; Linux's tcp_mem).

Theory of operation. What the four queues of a connection hold (send buffer, ranges in flight,
receive buffer, octets out of order) is known at any time from counts that the queues keep, the
cost of their objects included. ``settle`` is called after whatever may have changed them and
moves the host's sum by the difference: O(1), whatever the queues hold.

``tight`` (from three quarters of the limit on, down to five eighths) ends all growth: buffers
are not tuned up, and windows open no further than a floor that keeps a flow going. At the limit
(``full``) new octets are refused, but for a flow that holds next to nothing, so that every
connection still finishes; and what waits out of order goes, that of the peer which holds the
most first. A sender must expect that (RFC 2018 8) and sends it again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netstack.transport.tcp.limits import FLOOR
from netstack.transport.tcp.state import CLOSED, TIME_WAIT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from netstack.core.context import Context
    from netstack.transport.tcp.connection import Connection
    from netstack.transport.tcp.receiver import Receiver

RANGE_OVERHEAD = 200  # octets of a range in flight, without its octets; measured
_PARTS = 8  # of the limit, counted below
_TIGHT, _RELAXED = 6, 5


class Memory:
    """What the connections of one host hold, and what of it must go."""

    __slots__ = ("_context", "_out_of_order", "full", "limit", "tight", "used")

    def __init__(self, context: Context, limit: int) -> None:
        self._context = context
        self.limit = limit
        self.used = 0
        self.tight = False
        self.full = False
        self._out_of_order: dict[Connection, None] = {}  # those that hold such octets

    @property
    def left(self) -> int:
        """Octets below the limit."""
        return max(self.limit - self.used, 0)

    def settle(self, connection: Connection) -> None:
        """Account for what ``connection`` holds now."""
        held = 0
        waiting = None
        state = connection.state
        # What the application has not read when TIME-WAIT begins is its own affair.
        if state is not CLOSED and state is not TIME_WAIT:
            sender, receiver = connection.sender, connection.receiver
            if sender.buffer is not None:
                held = sender.buffer.held
            held += len(sender.queue) * RANGE_OVERHEAD
            if receiver.buffer is not None:
                held += receiver.buffer.held
            waiting = receiver.out_of_order
            if waiting is not None:
                held += waiting.charged
                self._out_of_order[connection] = None
        if waiting is None and self._out_of_order:
            self._out_of_order.pop(connection, None)
        if held != connection.held:
            self.used += held - connection.held
            connection.held = held
            if self.tight or self.used * _PARTS >= self.limit * _TIGHT:
                self._judge()

    def recount(self, connections: Iterable[Connection]) -> None:
        """Count anew what ``connections``, all there are, hold: a step was cut."""
        self.used = 0
        self._out_of_order.clear()
        for connection in connections:
            connection.held = 0
            self.settle(connection)
        self._judge()

    def _judge(self) -> None:
        if self.used >= self.limit and self._out_of_order:
            self._prune()
        self.full = self.used >= self.limit
        eighths = _RELAXED if self.tight else _TIGHT  # once tight, it takes more room to relax
        self.tight = self.used * _PARTS >= self.limit * eighths

    def admits(self, receiver: Receiver, seq: int) -> bool:
        """Whether a full host takes text at ``seq``: in order, where nothing is unread."""
        unread = receiver.buffer.length if receiver.buffer is not None else 0
        return seq <= receiver.rcv_nxt and unread < FLOOR

    def _prune(self) -> None:
        """Forget octets out of order until an eighth of the limit is free, or none are left.

        Each call frees that eighth, or all there is: what it costs was paid by what came in.
        """
        totals: dict[bytes, int] = {}
        for connection in self._out_of_order:
            peer = connection.remote_address.packed
            totals[peer] = totals.get(peer, 0) + connection.held
        most_first = sorted(
            self._out_of_order,
            key=lambda each: (totals[each.remote_address.packed], each.held),
            reverse=True,
        )
        goal = self.limit * (_PARTS - 1) // _PARTS
        for connection in most_first:
            if self.used < goal:
                break
            freed = connection.receiver.forget_out_of_order()
            self._context.count("tcp.out_of_order_pruned")
            self.used -= freed
            connection.held -= freed
            del self._out_of_order[connection]
