"""Choosing local ports (RFC 6056 section 3.3).

Algorithm 1, simple randomization: a uniform draw from the whole range for each new flow, then
the next free one. Unpredictable without state; the range is configurable (RFC 6056 3.2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netstack.core.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

    from netstack.core.rng import Rng

EADDRNOTAVAIL = 99
EADDRINUSE = 98


def choose_port(rng: Rng, bounds: tuple[int, int], taken: Callable[[int], bool]) -> int:
    """Return a port within ``bounds`` (inclusive) for which ``taken`` is false.

    Raises: Unreachable (EADDRNOTAVAIL) when there is none.
    """
    low, high = bounds
    count = high - low + 1
    first = rng.below(count)
    # A few independent draws keep the choice uniform while the range is sparsely used; a
    # linear search from one of them would cluster (RFC 6056 3.3.2).
    for _ in range(8):
        port = low + rng.below(count)
        if not taken(port):
            return port
    for step in range(count):
        port = low + (first + step) % count
        if not taken(port):
            return port
    raise Unreachable("no local port is free", EADDRNOTAVAIL)
