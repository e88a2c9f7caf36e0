"""A device for programs that embed a stack: packets go in and come out as octets."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Literal

from netstack.device.base import Capabilities, Device, Frame, Medium
from netstack.device.offload import wire_octets

if TYPE_CHECKING:
    from typing_extensions import Buffer

MAX_QUEUED = 4096  # packets, each way


class QueueDevice(Device):
    """Your packets in, the stack's packets out.

    ``medium`` says whether packets begin with an IP or an Ethernet header; ``mtu`` counts octets
    of an IP packet. With ``gso_max_size`` the stack may hand out TCP packets up to that size,
    with complete checksums, for a program that cuts them itself.
    """

    def __init__(
        self,
        *,
        medium: Literal["ip", "ethernet"] = "ip",
        mtu: int = 1500,
        gso_max_size: int = 0,
        name: str = "queue",
    ) -> None:
        kind = {"ip": Medium.IP, "ethernet": Medium.ETHERNET}[medium]
        super().__init__(name, Capabilities(kind, mtu, gso_max_size=gso_max_size))
        self._in: deque[Frame] = deque()
        self._out: deque[bytes] = deque()
        self._refused = False
        self.dropped = 0
        """Packets that ``receive`` found no room for."""

    def receive(self, packet: Buffer) -> None:
        """Queue a copy of ``packet`` for the stack; the next ``Stack.poll`` takes it.

        A packet for which there is no room is dropped, and counted in ``dropped``.
        """
        if len(self._in) >= MAX_QUEUED:
            self.dropped += 1
            return
        self._in.append(Frame(bytes(packet)))
        if self.on_pending is not None:
            self.on_pending()

    def transmitted(self) -> list[bytes]:
        """Return, and forget, what the stack has sent; wire-sized unless ``gso_max_size`` > 0."""
        packets = list(self._out)
        self._out.clear()
        if self._refused:
            self._refused = False
            if self.on_pending is not None:
                self.on_pending()  # what the stack kept may come now
        return packets

    def transmit(self, frame: Frame) -> bool:
        """Keep a copy of ``frame``; False while 4,096 packets wait to be taken."""
        if len(self._out) >= MAX_QUEUED:
            self._refused = True
            return False
        if frame.gso_size and self.capabilities.gso_max_size:
            self._out.append(frame.octets())
        else:
            self._out.extend(wire_octets(frame))
        return True

    def receive_burst(self, limit: int = 64) -> list[Frame]:
        """Return up to ``limit`` of the packets queued."""
        waiting = self._in
        return [waiting.popleft() for _ in range(min(limit, len(waiting)))]

    def pending(self) -> bool:
        """Return whether packets wait for the stack."""
        return bool(self._in)
