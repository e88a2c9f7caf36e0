"""Path MTU discovery's memory (RFC 1191): what routers said about each destination.

Bounded and forgetting: the least recently used entry makes room for a new one, and each expires
after ten minutes (RFC 1191 6.3), so that a path that became wider is found again. A report is
stored only after the transport recognised the quoted packet as its own (RFC 5927 7.2).

No entry is below ``MIN_PMTU``, Linux's floor: smaller values would make every segment mostly
header, which is what a forger wants. A path that truly is narrower still works, because packets
for it are sent without DF from then on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from netstack.core.timers import NEVER, Timer

if TYPE_CHECKING:
    from collections.abc import Callable

    from netstack.core.context import Context

MIN_PMTU = 552  # octets; Linux's net.ipv4.route.min_pmtu

PLATEAUS = (65535, 32000, 17914, 8166, 4352, 2002, 1492, 1006, 552)
"""RFC 1191 table 7-1: what to try when an old router reports no MTU; cut at the floor."""


class PmtuEntry(NamedTuple):
    """``mtu`` octets until ``expires``; ``fragment``: the path is narrower than the floor."""

    mtu: int
    fragment: bool
    expires: float


def next_plateau(length: int) -> int:
    """Return the largest plateau below ``length`` octets (RFC 1191 7)."""
    return next((mtu for mtu in PLATEAUS if mtu < length), MIN_PMTU)


class PmtuCache:
    """Path MTUs that are smaller than the interface's, by packed destination."""

    def __init__(self, context: Context, on_change: Callable[[], None]) -> None:
        self._context = context
        self._on_change = on_change
        self._entries: dict[bytes, PmtuEntry] = {}  # least recently used first
        self._timer = Timer(self._expire, housekeeping=True)

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, destination: bytes) -> PmtuEntry | None:
        """Return what is known about ``destination``, and count that as a use."""
        entry = self._entries.get(destination)
        if entry is None:
            return None
        if entry.expires <= self._context.now:
            del self._entries[destination]
            return None
        self._entries[destination] = self._entries.pop(destination)
        return entry

    def update(self, destination: bytes, mtu: int) -> int:
        """Store that ``destination`` takes at most ``mtu`` octets; return what now counts."""
        config = self._context.config.ipv4
        fragment = mtu < MIN_PMTU
        mtu = max(mtu, MIN_PMTU)
        expires = self._context.now + config.pmtu_lifetime
        self._entries.pop(destination, None)
        if len(self._entries) >= config.pmtu_max_entries:
            del self._entries[next(iter(self._entries))]
        self._entries[destination] = PmtuEntry(mtu, fragment, expires)
        if self._timer.deadline == NEVER:
            self._context.timers.arm(self._timer, expires)
        self._on_change()
        return mtu

    def _expire(self, now: float) -> None:
        for destination, entry in list(self._entries.items()):
            if entry.expires <= now:
                del self._entries[destination]
        if self._entries:
            earliest = min(entry.expires for entry in self._entries.values())
            self._context.timers.arm(self._timer, earliest)
        self._on_change()
