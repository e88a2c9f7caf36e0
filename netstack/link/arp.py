"""The Address Resolution Protocol (RFC 826) with the manners of RFC 5227.

Requests for our addresses are answered; the asker is learned, since it is about to be spoken to;
other claims update only what is known already. Probes (RFC 5227 1.1) are answered and teach
nothing. A conflict is counted and defended with one announcement in ``defend_interval``, forever
(RFC 5227 2.4 c). Left out: probing before an own address is used, since a static address has to
work at once, and proxy ARP.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from netstack.core.address import BROADCAST_MAC, IPAddress
from netstack.core.errors import ParseError
from netstack.core.trace import Reason
from netstack.wire.arp import ArpHeader, ArpOperation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from netstack.core.address import InterfaceAddress
    from netstack.core.context import Context
    from netstack.device.base import Frame
    from netstack.link.neighbour import NeighbourCache

_NO_MAC = bytes(6)
_UNSPECIFIED = bytes(4)


class Arp:
    """ARP on one interface.

    ``addresses`` is the interface's own list; ``send(mac, packet, reason)`` sends an ARP packet.
    """

    def __init__(
        self,
        context: Context,
        mac: bytes,
        addresses: list[InterfaceAddress],
        send: Callable[[bytes, bytes, Reason], object],
    ) -> None:
        self._context = context
        self._mac = mac
        self._addresses = addresses
        self._send = send
        self._defended_at: dict[bytes, float] = {}  # by own address

    # -- going down --------------------------------------------------------------------------

    def send_request(self, address: IPAddress, mac: bytes | None) -> None:
        """Ask who has ``address``: everybody, or only ``mac`` to see whether it is still there."""
        header = ArpHeader(
            ArpOperation.REQUEST, self._mac, self._source_for(address), _NO_MAC, address.packed
        )
        reason = Reason.ARP_REQUEST if mac is None else Reason.ARP_PROBE
        self._context.count("arp.requests_sent")
        self._send(BROADCAST_MAC if mac is None else mac, header.build(), reason)

    def announce(self) -> None:
        """Tell everybody our addresses (gratuitous ARP, RFC 5227 2.3)."""
        for own in self._own():
            self._announce(own.address.packed)

    def _announce(self, own: bytes) -> None:
        header = ArpHeader(ArpOperation.REQUEST, self._mac, own, _NO_MAC, own)
        self._context.count("arp.announcements_sent")
        self._send(BROADCAST_MAC, header.build(), Reason.ARP_ANNOUNCEMENT)

    def _own(self) -> Iterator[InterfaceAddress]:
        return (own for own in self._addresses if own.address.version == 4)

    def _source_for(self, address: IPAddress) -> bytes:
        # RFC 1122 3.3.4.3: the source is on the network that the request is for, if one is.
        source = _UNSPECIFIED
        for own in self._own():
            if address in own.prefix:
                return own.address.packed
            if source == _UNSPECIFIED:
                source = own.address.packed
        return source

    # -- going up ----------------------------------------------------------------------------

    def receive_packet(self, frame: Frame, offset: int, neighbours: NeighbourCache) -> None:
        """Take the ARP packet at ``offset`` of the frame's header."""
        try:
            header, _ = ArpHeader.parse(memoryview(frame.header)[offset:])
        except ParseError:
            self._context.drop("arp.malformed", 1, frame.id)
            return
        fault = self._fault(header)
        if fault is not None:
            self._context.drop(fault, 1, frame.id)
        elif self._is_own(header.sender_ip):
            self._defend(header.sender_ip)
        elif self._is_own(header.target_ip):
            self._receive_for_us(header, neighbours)
        else:
            # RFC 826: merge what is known, but learn nothing new from others' conversations.
            self._context.count("arp.for_others")
            self._learn(header, neighbours)

    def _fault(self, header: ArpHeader) -> str | None:
        """Return under which name to drop the packet, None if it is sound."""
        if header.operation not in (ArpOperation.REQUEST, ArpOperation.REPLY):
            return "arp.bad_operation"
        mac, sender = header.sender_mac, header.sender_ip
        if mac[0] & 1 or mac == _NO_MAC:
            return "arp.bad_sender_mac"  # RFC 1812 3.3.2
        if mac == self._mac:
            return "arp.own_packet"  # a loop brought our own packet back, or somebody forges
        if sender[0] >= 224 or sender[0] == 127 or (sender[0] == 0 and not header.is_probe):
            return "arp.bad_sender_address"
        address = IPAddress(sender)
        if any(address == own.prefix.broadcast for own in self._own()):
            return "arp.bad_sender_address"
        return None

    def _is_own(self, address: bytes) -> bool:
        return any(own.address.packed == address for own in self._addresses)

    def _receive_for_us(self, header: ArpHeader, neighbours: NeighbourCache) -> None:
        if header.operation == ArpOperation.REPLY:
            self._context.count("arp.replies_received")
            self._learn(header, neighbours, answer=header.target_mac == self._mac)
            return
        self._context.count("arp.requests_received")
        self._learn(header, neighbours, create=True)
        reply = ArpHeader(
            ArpOperation.REPLY, self._mac, header.target_ip, header.sender_mac, header.sender_ip
        )
        self._context.count("arp.replies_sent")
        self._send(header.sender_mac, reply.build(), Reason.ARP_REPLY)

    def _learn(
        self,
        header: ArpHeader,
        neighbours: NeighbourCache,
        *,
        answer: bool = False,
        create: bool = False,
    ) -> None:
        if header.is_probe:
            return  # RFC 5227 1.1: a probe has no sender address yet, there is nothing to learn
        sender = IPAddress(header.sender_ip)
        on_link = any(sender in own.prefix for own in self._own())
        neighbours.update(sender, header.sender_mac, answer=answer, create=create and on_link)

    def _defend(self, own: bytes) -> None:
        """Somebody else uses our address: say once in a while that it is ours."""
        context = self._context
        context.drop("arp.conflict")
        # RFC 5227 2.4: two hosts that defended without this limit would never stop.
        if context.now - self._defended_at.get(own, -inf) >= context.config.arp.defend_interval:
            self._defended_at[own] = context.now
            self._announce(own)
