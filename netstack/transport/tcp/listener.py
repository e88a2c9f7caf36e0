"""Passive opens: half-open connections, and those that wait to be accepted (RFC 9293 3.10.1).

Overflow is handled as in Linux. While the accept queue is full, a SYN is dropped (the peer tries
again) and so is the ACK that would end a handshake (SYN,ACK goes again, and so does the peer's
data): no connection that the peer takes for open is ever lost silently. While too many handshakes
are half-open, SYNs are answered with cookies (``syn_cookies``).
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

from netstack.transport.events import Accepted, Closed
from netstack.transport.tcp.fast_open import Pending

if TYPE_CHECKING:
    from netstack.core.address import IPAddress
    from netstack.transport.tcp.connection import Connection
    from netstack.transport.tcp.protocol import Tcp


class Listener:
    """A port that takes connections; ``backlog`` bounds those not yet accepted."""

    __slots__ = (
        "__weakref__",
        "_half_open",
        "_queue",
        "address",
        "backlog",
        "fast_open",
        "overflowed_at",
        "port",
        "tcp",
    )

    def __init__(self, tcp: Tcp, address: IPAddress | None, port: int, backlog: int) -> None:
        self.tcp = tcp
        self.address = address
        self.port = port
        self.backlog = max(backlog, 1)
        self.overflowed_at = -math.inf  # when a SYN was last answered with a cookie
        self.fast_open: Pending | None = None  # data in SYNs is taken (RFC 7413)
        self.set_fast_open(tcp.config.fast_open)
        self._half_open: dict[bytes, Connection] = {}
        self._queue: deque[Connection] = deque()

    @property
    def local(self) -> tuple[str, int]:
        """Address (empty: every one) and port."""
        return (str(self.address) if self.address else ""), self.port

    @property
    def readable(self) -> bool:
        """Whether ``accept`` would return a connection."""
        return bool(self._queue)

    @property
    def waiting(self) -> int:
        """How many connections wait to be accepted."""
        return len(self._queue)

    def set_fast_open(self, limit: int) -> None:
        """Take data of up to ``limit`` SYNs whose handshake isn't done; 0: of none (RFC 7413)."""
        if self.fast_open is not None:
            self.fast_open.limit = limit
        elif limit:
            self.fast_open = Pending(limit)

    def accept(self) -> Connection | None:
        """Return the oldest connection that is waiting, or None."""
        if not self._queue:
            return None
        connection = self._queue.popleft()
        connection.listener = None
        return connection

    def close(self, now: float) -> None:
        """Stop listening; connections nobody accepted are reset."""
        self.tcp.enter(now)
        self.tcp.forget_listener(self)
        for connection in (*self._half_open.values(), *self._queue):
            connection.listener = None
            connection.abort(now)
        self._half_open.clear()
        self._queue.clear()
        self.tcp.post(Closed(self))

    # ---- for arrival -----------------------------------------------------------------------

    def has_room(self) -> bool:
        """Whether one more established connection can wait."""
        return len(self._queue) < self.backlog

    def takes_syn(self) -> bool:
        """Whether one more half-open connection can be kept."""
        return len(self._half_open) < self.tcp.config.max_syn_received

    def on_syn(self, connection: Connection) -> None:
        """Keep ``connection``, which is in SYN-RECEIVED."""
        self._half_open[connection.key] = connection

    def on_established(self, connection: Connection) -> None:
        """The handshake is done: wait to be accepted."""
        self._half_open.pop(connection.key, None)
        self._queue.append(connection)
        self.tcp.post(Accepted(self, connection))

    def on_fast_open(self, connection: Connection) -> None:
        """The handshake isn't done, but may be taken for done (RFC 7413 4.2.2)."""
        self.on_established(connection)

    def on_gone(self, connection: Connection) -> None:
        """The connection died before it was accepted."""
        self._half_open.pop(connection.key, None)
        if connection in self._queue:
            self._queue.remove(connection)
