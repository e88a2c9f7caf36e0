"""The Address Resolution Protocol (RFC 826) for IPv4 over Ethernet.

Other hardware or protocol types, and lengths that do not fit these two, are ``ParseError``.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from netstack.core.errors import ParseError
from netstack.wire.ethernet import EtherType

if TYPE_CHECKING:
    from typing_extensions import Buffer

PACKET = Struct("!HHBBH6s4s6s4s")
PACKET_LENGTH = 28  # octets

HARDWARE_ETHERNET = 1  # IANA ARP parameters, hardware types


class ArpOperation(IntEnum):
    """IANA ARP parameters, operation codes."""

    REQUEST = 1
    REPLY = 2


class ArpHeader(NamedTuple):
    """An ARP packet (RFC 826, "Packet format"), for hardware Ethernet and protocol IPv4::

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |       Hardware type = 1       |    Protocol type = 0x0800     |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |  Hlen = 6     |   Plen = 4    |           Operation           |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                 Sender hardware address (6)                   |
    +                               +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                               |  Sender protocol address (4)  |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                               |  Target hardware address (6)  |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+                               +
    |                                                               |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                 Target protocol address (4)                   |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    operation: int
    sender_mac: bytes
    sender_ip: bytes
    target_mac: bytes
    target_ip: bytes

    @classmethod
    def parse(cls, data: Buffer) -> tuple[ArpHeader, memoryview]:
        """Return the packet and what follows it, which can only be padding.

        Raises: ParseError if it is cut short or not for IPv4 over Ethernet.
        """
        view = memoryview(data).cast("B")
        if len(view) < PACKET_LENGTH:
            raise ParseError(f"an ARP packet of {len(view)} octets")
        hardware, protocol, hardware_length, protocol_length, *rest = PACKET.unpack_from(view)
        if hardware != HARDWARE_ETHERNET or protocol != EtherType.IPV4:
            raise ParseError(f"ARP for hardware {hardware}, protocol {protocol:#06x}")
        if hardware_length != 6 or protocol_length != 4:
            raise ParseError(f"ARP with lengths {hardware_length} and {protocol_length}")
        return cls(*rest), view[PACKET_LENGTH:]

    def build(self) -> bytes:
        """Return the packet's 28 octets."""
        return PACKET.pack(HARDWARE_ETHERNET, EtherType.IPV4, 6, 4, *self)

    @property
    def is_probe(self) -> bool:
        """Whether this asks if an address is free: no sender address yet (RFC 5227 1.1)."""
        return self.operation == ArpOperation.REQUEST and self.sender_ip == b"\0\0\0\0"
