"""An Ethernet interface: link headers, padding, group addresses, ARP.

A frame for somebody else is dropped and counted; one sent to a group says so (``frame.group``),
since much must not be answered then (RFC 1122 3.2.2). Padding to 60 octets is zeros; that of
arriving frames is cut by the internet layer, which alone knows a packet's length. Left out, and
counted when it arrives: VLAN tags and 802.2 LLC.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netstack.core.address import BROADCAST_MAC
from netstack.core.errors import LocalProtocolError
from netstack.device.base import Frame
from netstack.link.arp import Arp
from netstack.link.interface import Interface
from netstack.link.neighbour import NeighbourCache
from netstack.wire.ethernet import (
    HEADER_LENGTH,
    MIN_ETHERTYPE,
    MIN_FRAME_LENGTH,
    VLAN_TYPES,
    EtherType,
)
from netstack.wire.layout import ethertype_for, put_ethernet

if TYPE_CHECKING:
    from netstack.core.address import IPAddress
    from netstack.core.context import Context
    from netstack.core.trace import Reason
    from netstack.device.base import Device

ALL_HOSTS_MAC = b"\x01\x00\x5e\x00\x00\x01"  # 224.0.0.1, RFC 1112 4: always joined
_ARP_FLOW = "arp"
_TYPE_ARP = EtherType.ARP.to_bytes(2, "big")


def multicast_mac(address: IPAddress) -> bytes:
    """Return the group's link address (RFC 1112 6.4, RFC 2464 7)."""
    packed = address.packed
    if len(packed) == 16:
        return b"\x33\x33" + packed[12:]
    return b"\x01\x00\x5e" + bytes((packed[1] & 0x7F,)) + packed[2:]


class EthernetInterface(Interface):
    """The interface of a device with medium ETHERNET.

    ``mac`` defaults to a locally administered one from the stack's random stream.
    ``neighbours`` is the cache; ``multicast_filter`` holds the groups that are taken in.
    """

    link_octets = HEADER_LENGTH
    min_frame_octets = MIN_FRAME_LENGTH

    def __init__(
        self,
        context: Context,
        index: int,
        device: Device,
        *,
        mac: bytes | None = None,
        name: str | None = None,
        mtu: int | None = None,
    ) -> None:
        """Join ``device`` to a stack.

        Raises: DeviceError if the device can't carry packets of ``mtu`` octets; ValueError if
        ``mac`` is not that of one station.
        """
        super().__init__(context, index, device, name=name, mtu=mtu)
        if mac is None:
            # IEEE 802 8.2: 02 in the first octet = locally administered, one station.
            mac = b"\x02" + context.rng.child(f"mac:{index}").octets(5)
        if len(mac) != 6 or mac[0] & 1 or not any(mac):
            raise ValueError(f"{mac.hex(':')} is not the address of one station")
        self.mac: bytes = mac
        self._tail_v4 = mac + EtherType.IPV4.to_bytes(2, "big")  # of the link header
        self._tail_v6 = mac + EtherType.IPV6.to_bytes(2, "big")
        self.multicast_filter = {BROADCAST_MAC, ALL_HOSTS_MAC}
        self.arp = Arp(context, mac, self.addresses, self._send_arp)
        self.neighbours = NeighbourCache(
            context,
            context.config.arp,
            "arp",
            solicit=self.arp.send_request,
            transmit=self._send_waited,
        )
        self.neighbours.on_change = self._changed
        self.neighbours.waiting.on_unresolved = self._give_up
        self.handlers[EtherType.ARP] = self._receive_arp

    # -- going up ----------------------------------------------------------------------------

    def receive_frame(self, frame: Frame) -> None:
        """Check the link header and hand on the packet by its EtherType."""
        header, start = frame.header, frame.start
        if len(header) - start <= HEADER_LENGTH:
            self.context.drop("ethernet.malformed", frame.segments, frame.id)
            return
        ethertype = ethertype_for(header, start, self.mac)
        if ethertype < 0:
            if header[start : start + 6] != self.mac and not self._takes_group(frame):
                return
            if header[start + 6] & 1:
                self.context.drop("ethernet.bad_source", frame.segments, frame.id)
                return
            ethertype = header[start + 12] << 8 | header[start + 13]
        handler = self.handlers.get(ethertype)
        if handler is None:
            self._drop_type(frame, ethertype)
            return
        handler(frame, start + HEADER_LENGTH, self)

    def _takes_group(self, frame: Frame) -> bool:
        """Return whether a frame that is not for us alone is for a group of ours."""
        header, start = frame.header, frame.start
        if not header[start] & 1:
            self.context.drop("ethernet.not_for_us", frame.segments, frame.id)
            return False
        if bytes(header[start : start + 6]) not in self.multicast_filter:
            self.context.drop("ethernet.group_not_joined", frame.segments, frame.id)
            return False
        frame.group = True
        return True

    def _drop_type(self, frame: Frame, ethertype: int) -> None:
        if ethertype < MIN_ETHERTYPE:
            reason = "ethernet.length_field"
        elif ethertype in VLAN_TYPES:
            reason = "ethernet.vlan"  # the tag is not looked behind, however many there are
        else:
            reason = "ethernet.unknown_type"
        self.context.drop(reason, frame.segments, frame.id)

    def _receive_arp(self, frame: Frame, offset: int, interface: Interface) -> None:
        self.arp.receive_packet(frame, offset, self.neighbours)

    # -- going down --------------------------------------------------------------------------

    def send_packet(self, next_hop: IPAddress, frame: Frame, flow: object = None) -> bool:
        """Send the packet at ``frame.start`` to ``next_hop``, which is resolved if need be.

        False = refused here (no room, too big, interface down); counted.
        """
        length = self._packet_octets(frame)
        if not length:
            return False
        mac = self.neighbours.lookup(next_hop)
        if mac is None:
            mac = self._group_mac(next_hop)
            if mac is None:
                return self.neighbours.resolve(next_hop, frame, flow)
        return self._pack_and_queue(mac, frame, length, flow)

    def _send_waited(self, mac: bytes, frame: Frame, flow: object) -> None:
        self._pack_and_queue(mac, frame, len(frame), flow)

    def _pack_and_queue(self, mac: bytes, frame: Frame, length: int, flow: object) -> bool:
        header, end = frame.header, frame.start
        start = end - HEADER_LENGTH
        if start < 0 or not isinstance(header, bytearray):
            raise LocalProtocolError("a frame without headroom for the link header")
        # The version nibble tells the type: an IPv4 packet may go to an IPv6 next hop (RFC 8950).
        tail = self._tail_v4 if header[end] >> 4 == 4 else self._tail_v6
        put_ethernet(header, start, mac, tail)
        frame.start = start
        return self.output.add(frame, length + HEADER_LENGTH, flow)

    def _group_mac(self, next_hop: IPAddress) -> bytes | None:
        """Return the link address of a broadcast or multicast next hop."""
        if next_hop.is_multicast:
            return multicast_mac(next_hop)
        if next_hop.is_limited_broadcast:
            return BROADCAST_MAC
        if any(next_hop == own.prefix.broadcast for own in self.addresses):
            return BROADCAST_MAC
        return None

    def _send_arp(self, mac: bytes, packet: bytes, reason: Reason) -> bool:
        if not self.up:
            self.context.drop("link.down")
            return False
        header = bytearray(mac + self.mac + _TYPE_ARP + packet)
        frame = Frame(header)
        frame.reason = reason
        return self.output.add(frame, len(header), _ARP_FLOW)

    def _give_up(self, next_hop: IPAddress, frame: Frame) -> None:
        if self.on_unresolved is None:
            self.context.drop("arp.unresolved", frame.segments, frame.id)
        else:
            self.on_unresolved(next_hop, frame, frame.start)

    def close(self) -> None:
        """Forget all that waits here, counted, and the neighbours with their timers."""
        super().close()
        self.neighbours.clear()

    def announce(self) -> None:
        """Tell the link our addresses by gratuitous ARP (RFC 5227 2.3)."""
        self.arp.announce()

    def confirm(self, next_hop: IPAddress) -> None:
        """Note that a higher layer saw ``next_hop`` answer: no need to probe it."""
        self.neighbours.confirm(next_hop)
