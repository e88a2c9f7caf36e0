"""Ethernet II frames (IEEE 802.3, RFC 894), without the FCS, which hardware adds and checks.

Left out: 802.2 LLC (a type field below 1536 is a length) and VLAN tags (802.1Q); both are
recognised by their type and left to the caller to drop.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from netstack.core.address import format_mac
from netstack.core.errors import ParseError

if TYPE_CHECKING:
    from typing_extensions import Buffer

HEADER = Struct("!6s6sH")
HEADER_LENGTH = 14  # octets
MIN_FRAME_LENGTH = 60  # octets without the FCS; shorter ones are padded (IEEE 802.3 3.2.8)
MIN_ETHERTYPE = 0x0600  # below, the field is an 802.3 length


class EtherType(IntEnum):
    """What an Ethernet frame carries; IANA's IEEE 802 numbers."""

    IPV4 = 0x0800
    ARP = 0x0806
    VLAN = 0x8100  # 802.1Q customer tag
    IPV6 = 0x86DD
    SERVICE_VLAN = 0x88A8  # 802.1ad service tag
    LEGACY_VLAN = 0x9100  # double tags before 802.1ad


VLAN_TYPES = frozenset({EtherType.VLAN, EtherType.SERVICE_VLAN, EtherType.LEGACY_VLAN})


class EthernetHeader(NamedTuple):
    """The header of an Ethernet frame (RFC 894; IEEE 802.3 3.2)::

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                      Destination address                      |
    +                               +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                               |                               |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+                               +
    |                         Source address                        |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |             Type              |            Data ...
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    destination: bytes
    source: bytes
    ethertype: int

    @classmethod
    def parse(cls, data: Buffer) -> tuple[EthernetHeader, memoryview]:
        """Return the header and the rest of the frame, any padding included.

        Raises: ParseError if the frame is shorter than its header.
        """
        view = memoryview(data).cast("B")
        if len(view) < HEADER_LENGTH:
            raise ParseError(f"an Ethernet frame of {len(view)} octets")
        return cls(*HEADER.unpack_from(view)), view[HEADER_LENGTH:]

    def build(self) -> bytes:
        """Return the header's 14 octets."""
        return HEADER.pack(self.destination, self.source, self.ethertype)

    @property
    def is_group(self) -> bool:
        """Whether the destination is broadcast or multicast (the I/G bit)."""
        return bool(self.destination[0] & 1)

    def __str__(self) -> str:
        source, destination = format_mac(self.source), format_mac(self.destination)
        return f"{source} > {destination} type {self.ethertype:#06x}"
