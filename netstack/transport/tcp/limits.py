"""Bounds on what strangers and the past may cost: resets for nobody, orphaned connections."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from netstack.core.config import TcpConfig
    from netstack.core.context import Context
    from netstack.transport.tcp.connection import Connection

MAX_SOURCES = 1024

FLOOR = 4096
"""Octets that each direction of a connection may hold however full the host is."""

LARGE_FLOOR = 16_384
"""The same with large segments: a window of less than one would stop a careful sender."""


class ResetLimit:
    """A token bucket for each address that asks for what is not here.

    Each has its own: a common one would tell a stranger how much others ask (the lesson of
    CVE-2016-5696), and let him keep them from being told. A flood from many sources gets a
    segment of 40 octets for each of its own, which amplifies nothing.
    """

    __slots__ = ("_buckets", "_config")

    def __init__(self, config: TcpConfig) -> None:
        self._config = config
        self._buckets: OrderedDict[bytes, tuple[float, float]] = OrderedDict()

    def allows(self, source: bytes, now: float) -> bool:
        """Take a token of ``source``'s; False if it has none left."""
        buckets, config = self._buckets, self._config
        tokens, at = buckets.get(source, (float(config.reset_burst), now))
        tokens = min(tokens + (now - at) * config.reset_rate, config.reset_burst)
        allowed = tokens >= 1
        if source not in buckets and len(buckets) >= MAX_SOURCES:
            buckets.popitem(last=False)
        buckets[source] = (tokens - allowed, now)
        buckets.move_to_end(source)
        return allowed


class Orphans:
    """Connections that the application has closed and that are not yet over.

    Nobody waits for them, so there may only be so many: what is closed beyond that is reset, as
    Linux does (tcp_max_orphans).
    """

    __slots__ = ("_connections", "_context")

    def __init__(self, context: Context) -> None:
        self._context = context
        self._connections: set[Connection] = set()

    def __len__(self) -> int:
        return len(self._connections)

    def add(self, connection: Connection) -> bool:
        """Keep ``connection``; False if there are too many."""
        if len(self._connections) >= self._context.config.tcp.max_orphans:
            self._context.count("tcp.orphans_reset")
            return False
        self._connections.add(connection)
        return True

    def discard(self, connection: Connection) -> None:
        """``connection`` is over, or was never an orphan."""
        self._connections.discard(connection)
