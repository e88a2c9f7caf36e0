"""The virtio-net header: what the Linux kernel says, and is told, about a frame's offloads.

Ten octets in front of each frame of a TAP with IFF_VNET_HDR or a packet socket with
PACKET_VNET_HDR (virtio 1.2, 5.1.6; numbers in the machine's byte order). Both ways it says
whether the transport checksum is still to be completed and how a super-segment is to be cut.

    flags | gso type | header length : 16 | gso size : 16 | checksum start : 16 | offset : 16

What comes in is checked before anything relies on it: a header that contradicts its frame costs
the frame, never more. A frame with NEEDS_CSUM never was on a wire, so nothing can have damaged
it: its checksum counts as verified, and is completed before the frame leaves or is recorded.
"""

from __future__ import annotations

from typing import Final

from netstack.core.checksum import fold, pseudo_header_sum
from netstack.device.base import Checksum, Frame, GsoType
from netstack.device.offload import complete_checksum, link_length
from netstack.wire.layout import put_vnet, u8, u16, vnet_fields

LENGTH: Final = 10
"""Octets of the header."""

NOTHING: Final = bytes(LENGTH)
"""The header of a frame without offloads."""

# <linux/virtio_net.h>
NEEDS_CHECKSUM: Final = 0x01
DATA_VALID: Final = 0x02
TCPV4: Final = 1
TCPV6: Final = 4
ECN: Final = 0x80  # beside a type: CWR is set, and stays on the first cut only

_VLAN: Final = 0x8100  # EtherTypes
_IPV4: Final = 0x0800
_PARTIAL, _VALID = Checksum.PARTIAL, Checksum.VALID
_TCP_CHECKSUM: Final = 16  # offsets of the fields in their headers
_UDP_CHECKSUM: Final = 6
_CWR: Final = 0x80
_MIN_IPV4: Final = 20
_MIN_TCP: Final = 20


def fields(frame: Frame) -> tuple[int, int, int, int, int, int]:
    """Return the header's numbers for a frame going down.

    A super-segment must be PARTIAL for the kernel: one with a complete checksum gets its
    pseudo-header's sum back.
    """
    if frame.gso_size:
        if frame.checksum is not _PARTIAL:
            _make_partial(frame)
        tcp, header = frame.checksum_start, frame.header
        kind = TCPV4 if frame.gso_type is GsoType.TCPV4 else TCPV6
        if header[tcp + 13] & _CWR:
            kind |= ECN
        start = tcp - frame.start
        length = start + (header[tcp + 12] >> 4 << 2)
        return NEEDS_CHECKSUM, kind, length, frame.gso_size, start, frame.checksum_offset
    if frame.checksum is _PARTIAL:
        return NEEDS_CHECKSUM, 0, 0, 0, frame.checksum_start - frame.start, frame.checksum_offset
    return 0, 0, 0, 0, 0, 0


def pack(frame: Frame) -> bytes:
    """Return the header for a frame going down."""
    header = bytearray(LENGTH)
    pack_into(header, 0, frame)
    return bytes(header)


def pack_into(buffer: bytearray, at: int, frame: Frame) -> None:
    """Write the header for a frame going down; its own header may change, if not in length."""
    flags, kind, length, gso_size, start, offset = fields(frame)
    put_vnet(buffer, at, flags, kind, length, gso_size, start, offset)


def apply(vnet: bytes | bytearray | memoryview, frame: Frame) -> str | None:
    """Note in an Ethernet frame that came up what its header says of it.

    Returns why the frame must be dropped, or None.
    """
    flags, kind, gso_size, start, offset = vnet_fields(vnet)
    if flags & NEEDS_CHECKSUM:
        # Offsets count from the frame's first octet, which need not be the buffer's.
        at = frame.start + start
        if not 0 < start < start + offset + 1 < len(frame.header) - frame.start:
            return "link.bad_offload"
        frame.checksum = _PARTIAL
        frame.checksum_start = at
        frame.checksum_offset = offset
        if not kind and not _is_transport(frame, at, offset):
            # Something inside the packet: what the owning layer verifies lies around it.
            complete_checksum(frame)
            frame.checksum = Checksum.UNKNOWN
            return None
    elif flags & DATA_VALID:
        frame.checksum = _VALID
    if kind:
        return _note_gso(frame, kind & ~ECN, gso_size)
    return None


def _ip_start(frame: Frame) -> int:
    """Return where an IPv4 header lies, fixed part included, or 0."""
    header, start = frame.header, frame.start
    size = len(header)
    if size < start + 14 + _MIN_IPV4:
        return 0
    at = start + (18 if u16(header, start + 12) == _VLAN else 14)
    if size < at + _MIN_IPV4 or u16(header, at - 2) != _IPV4:
        return 0
    return at if u8(header, at) >> 4 == 4 else 0


def _is_transport(frame: Frame, at: int, offset: int) -> bool:
    """Return whether the checksum at ``offset`` is that of TCP or UDP right behind IPv4."""
    ip = _ip_start(frame)
    if not ip:
        return False
    header = frame.header
    protocol = u8(header, ip + 9)
    expected = _TCP_CHECKSUM if protocol == 6 else _UDP_CHECKSUM if protocol == 17 else -1
    return at == ip + (u8(header, ip) & 15) * 4 and offset == expected


def _note_gso(frame: Frame, kind: int, gso_size: int) -> str | None:
    """Check a super-segment against its octets and note how it is to be cut."""
    header, ip = frame.header, _ip_start(frame)
    if kind != TCPV4 or not ip or u8(header, ip + 9) != 6:
        return "link.unknown_offload"
    tcp = ip + (u8(header, ip) & 15) * 4
    if tcp < ip + _MIN_IPV4 or len(header) < tcp + _MIN_TCP or not gso_size:
        return "link.bad_offload"
    payload = tcp + (u8(header, tcp + 12) >> 4 << 2)
    length = ip + u16(header, ip + 2) - payload
    if payload < tcp + _MIN_TCP or length < 0 or length != len(header) - payload:
        return "link.bad_offload"
    if frame.checksum is _PARTIAL:
        if frame.checksum_start != tcp or frame.checksum_offset != _TCP_CHECKSUM:
            return "link.bad_offload"
    elif frame.checksum is not _VALID:
        return "link.bad_offload"  # nobody vouches for what cannot be verified whole
    frame.checksum_start = tcp
    frame.checksum_offset = _TCP_CHECKSUM
    if length > gso_size:
        frame.gso_size = gso_size
        frame.gso_type = GsoType.TCPV4
        frame.segments = -(-length // gso_size)
    return None


def _make_partial(frame: Frame) -> None:
    """Put the pseudo-header's sum in the place of a complete TCP checksum."""
    if not isinstance(frame.header, bytearray):
        frame.header = bytearray(frame.header)
    header, tcp = frame.header, frame.checksum_start
    ip = frame.start + link_length(header, frame.start, tcp)
    length = len(frame) - (tcp - frame.start)
    addresses = bytes(header[ip + 12 : ip + 20])
    total = fold(pseudo_header_sum(addresses[:4], addresses[4:], 6, length))
    field = tcp + frame.checksum_offset
    header[field : field + 2] = total.to_bytes(2, "big")
    frame.checksum = _PARTIAL
