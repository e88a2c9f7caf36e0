"""The loopback device: what a host sends to itself comes back in the next step."""

from __future__ import annotations

from collections import deque

from netstack.device.base import Capabilities, Device, Frame, Medium

MTU = 65_535  # octets: the largest IPv4 packet
MAX_WAITING = 1024  # frames; beyond, the device is busy


class LoopbackDevice(Device):
    """Carries IP packets, super-segments whole; checksums stay as they are, trusted."""

    def __init__(self, name: str = "lo") -> None:
        capabilities = Capabilities(
            Medium.IP, MTU, tx_checksum=True, rx_checksum=True, gso_max_size=MTU
        )
        super().__init__(name, capabilities)
        self._waiting: deque[Frame] = deque()

    def transmit(self, frame: Frame) -> bool:
        """Queue ``frame`` for the next burst."""
        if len(self._waiting) >= MAX_WAITING:
            return False
        self._waiting.append(frame)
        if self.on_pending is not None:
            self.on_pending()
        return True

    def receive_burst(self, limit: int = 64) -> list[Frame]:
        """Return what was transmitted, oldest first."""
        waiting = self._waiting
        return [waiting.popleft() for _ in range(min(limit, len(waiting)))]

    def pending(self) -> bool:
        """Whether frames wait to be received."""
        return bool(self._waiting)
