"""Round-trip times of a connection while it works, as its own sender estimates them."""

from __future__ import annotations

import socket
import statistics
import struct
import time
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_EVERY_S: Final = 0.02
_TCP_INFO: Final = 11  # <linux/tcp.h>
_SRTT: Final = struct.Struct("=I")  # tcpi_rtt, microseconds
_SRTT_OFFSET: Final = 68


class RoundTrips(Generic[T]):
    """Looks at a connection's smoothed round-trip time now and then; ``read`` returns seconds."""

    def __init__(self, read: Callable[[T], float]) -> None:
        self._read = read
        self._next = 0.0
        self._seen: list[float] = []

    def __call__(self, stream: T) -> None:
        """Look, unless that was done a moment ago."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _EVERY_S
            self._seen.append(self._read(stream))

    @property
    def median(self) -> float:
        """The median in seconds, 0 if nothing was seen."""
        return statistics.median(self._seen) if self._seen else 0.0


def of_kernel(stream: socket.socket) -> float:
    """Return the smoothed round-trip time of a kernel's connection in seconds."""
    info = stream.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _SRTT_OFFSET + _SRTT.size)
    (microseconds,) = _SRTT.unpack_from(info, _SRTT_OFFSET)
    return float(microseconds) / 1e6
