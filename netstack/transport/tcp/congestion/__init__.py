"""Congestion control: algorithms that receive numbers and answer with a window."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netstack.transport.tcp.congestion.cubic import Cubic
from netstack.transport.tcp.congestion.newreno import NewReno

if TYPE_CHECKING:
    from netstack.transport.tcp.congestion.base import CongestionControl

ALGORITHMS: dict[str, type[CongestionControl]] = {
    Cubic.name: Cubic,
    NewReno.name: NewReno,
}


def make(name: str, mss: int, initial_segments: int) -> CongestionControl:
    """Return a fresh controller of that name.

    Raises: ValueError for a name that isn't there.
    """
    if name not in ALGORITHMS:
        raise ValueError(f"no congestion control {name!r}; there are {', '.join(ALGORITHMS)}")
    return ALGORITHMS[name](mss, initial_segments)
