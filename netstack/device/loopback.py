"""The loopback device: what a host sends to itself comes back in a later step.

Nothing is cut, copied or summed on the way: octets that never leave a process need no checksum,
so frames pass as they are, PARTIAL ones too.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from netstack.device.base import Capabilities, Device, Medium

if TYPE_CHECKING:
    from netstack.device.base import Frame

MTU = 65_535  # octets: RFC 791 3.1's largest packet
MAX_QUEUED = 1024  # frames, super-segments counted once


class LoopbackDevice(Device):
    """A device whose wire leads back to itself; medium IP."""

    def __init__(self, name: str = "lo", mtu: int = MTU) -> None:
        capabilities = Capabilities(
            Medium.IP, mtu, tx_checksum=True, rx_checksum=True, gso_max_size=MTU
        )
        super().__init__(name, capabilities)
        self._queue: deque[Frame] = deque()

    def transmit(self, frame: Frame) -> bool:
        """Queue ``frame`` to itself, by reference; False while 1,024 frames wait."""
        if len(self._queue) >= MAX_QUEUED:
            return False
        self._queue.append(frame)
        if self.on_pending is not None:
            self.on_pending()
        return True

    def receive_burst(self, limit: int = 64) -> list[Frame]:
        """Return up to ``limit`` frames that were sent before."""
        queue = self._queue
        return [queue.popleft() for _ in range(min(limit, len(queue)))]

    def pending(self) -> bool:
        """Return whether frames wait."""
        return bool(self._queue)
