"""An interface whose frames are bare IP packets: loopback, queues of embedders, tunnels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netstack.link.interface import Interface
from netstack.wire.ethernet import EtherType

if TYPE_CHECKING:
    from netstack.core.address import IPAddress
    from netstack.device.base import Frame

_TYPES = {4: EtherType.IPV4, 6: EtherType.IPV6}  # by the version nibble, RFC 8200 3


class RawIpInterface(Interface):
    """The interface of a device with medium IP: there is nobody to resolve."""

    def receive_frame(self, frame: Frame) -> None:
        """Hand on the packet by its version."""
        header = frame.header
        if len(header) <= frame.start:
            self.context.drop("raw_ip.empty", frame.segments, frame.id)
            return
        ethertype = _TYPES.get(header[frame.start] >> 4)
        handler = None if ethertype is None else self.handlers.get(ethertype)
        if handler is None:
            self.context.drop("raw_ip.unknown_version", frame.segments, frame.id)
            return
        handler(frame, frame.start, self)

    def send_packet(self, next_hop: IPAddress, frame: Frame, flow: object = None) -> bool:
        """Queue the packet; ``next_hop`` makes no difference."""
        length = self._packet_octets(frame)
        return length > 0 and self.output.add(frame, length, flow)
