"""Fixed fields of the headers that every segment has: where they lie, and nothing else.

The definition; compiled modules use ``ext/layout.pxd`` instead, which does the same in place. Who
asks has made sure that the octets are there: an offset beyond them is an error.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from netstack.core.checksum import internet_sum_py

if TYPE_CHECKING:
    from typing_extensions import Buffer

_TCP = Struct("!IIHHxxH")
_TCP_TAIL = Struct("!IIHHHH")
_ALIGNED_TIMESTAMPS = Struct("!III")
_TIMESTAMPS = Struct("!II")
_IPV4 = Struct("!BBHHHBB")
_IPV4_WHOLE = Struct("!BBHHHBBH8s")
_ETHERNET = Struct("!6sB5xH")
_VNET = Struct("=BBxxHHH")
_VNET_WHOLE = Struct("=BBHHHH")
_U16 = Struct("!H")
_U32 = Struct("!I")


def tcp_fields(header: Buffer, at: int) -> tuple[int, int, int, int, int]:
    """Return sequence number, acknowledgment, offset and flags, window, urgent pointer."""
    seq, ack, word, window, urgent = _TCP.unpack_from(header, at + 4)
    return seq, ack, word, window, urgent


def timestamp_fields(option: Buffer, at: int) -> tuple[int, int]:
    """Return TSval and TSecr, which begin at ``at``."""
    ts_val, ts_ecr = _TIMESTAMPS.unpack_from(option, at)
    return ts_val, ts_ecr


def ipv4_fields(header: Buffer, at: int) -> tuple[int, int, int, int, int, int, int]:
    """Return version and length, traffic class, total length, identification, flags and offset,
    TTL, protocol."""
    first, traffic_class, total, number, flags, ttl, protocol = _IPV4.unpack_from(header, at)
    return first, traffic_class, total, number, flags, ttl, protocol


def ethertype_for(octets: Buffer, at: int, mac: bytes) -> int:
    """Return the EtherType of an Ethernet frame to ``mac`` from one station, of another -1."""
    destination, source, ethertype = _ETHERNET.unpack_from(octets, at)
    return -1 if destination != mac or source & 1 else int(ethertype)


def vnet_fields(octets: Buffer) -> tuple[int, int, int, int, int]:
    """Return what begins a virtio-net header: flags, type, gso size, checksum start, offset."""
    flags, kind, gso_size, start, offset = _VNET.unpack_from(octets)
    return flags, kind, gso_size, start, offset


def put_vnet(
    buffer: bytearray,
    at: int,
    flags: int,
    kind: int,
    length: int,
    gso_size: int,
    start: int,
    offset: int,
) -> None:
    """Write a virtio-net header of 10 octets, in the machine's byte order."""
    _VNET_WHOLE.pack_into(buffer, at, flags, kind, length, gso_size, start, offset)


def u16(octets: Buffer, at: int) -> int:
    """Return the two octets at ``at`` as a number."""
    (value,) = _U16.unpack_from(octets, at)
    return int(value)


def u32(octets: Buffer, at: int) -> int:
    """Return the four octets at ``at`` as a number."""
    (value,) = _U32.unpack_from(octets, at)
    return int(value)


def u8(octets: Buffer, at: int) -> int:
    """Return the octet at ``at``."""
    return memoryview(octets)[at]


def octets_at(octets: Buffer, at: int, length: int) -> bytes:
    """Return a copy of ``length`` octets from ``at`` on."""
    return bytes(memoryview(octets)[at : at + length])


def same(octets: Buffer, at: int, expected: bytes) -> bool:
    """Return whether ``expected`` stands at ``at``."""
    return bytes(memoryview(octets)[at : at + len(expected)]) == expected


def alike(one: Buffer, at: int, other: Buffer, there: int, length: int) -> bool:
    """Return whether ``length`` octets at ``at`` are those of ``other`` at ``there``."""
    return octets_at(one, at, length) == octets_at(other, there, length)


def header_sum(octets: Buffer, at: int, length: int) -> int:
    """Return the folded one's complement sum of ``length`` octets from ``at`` on."""
    return internet_sum_py(memoryview(octets)[at : at + length])


def put(buffer: bytearray, at: int, octets: bytes) -> None:
    """Write ``octets`` at ``at``."""
    buffer[at : at + len(octets)] = octets


def put_ethernet(buffer: bytearray, at: int, destination: bytes, rest: bytes) -> None:
    """Write an Ethernet header; ``rest`` is what follows the destination."""
    buffer[at : at + 14] = destination + rest


def put_tcp(
    buffer: bytearray,
    at: int,
    seq: int,
    ack: int,
    word: int,
    window: int,
    checksum: int,
    urgent: int,
) -> None:
    """Write a TCP header of 20 octets, all but the ports."""
    _TCP_TAIL.pack_into(buffer, at + 4, seq, ack, word, window, checksum, urgent)


def put_ports(buffer: bytearray, at: int, key: bytes) -> None:
    """Write the ports of what answers: the last two of ``key``'s octets, then the two before."""
    buffer[at : at + 2] = key[-2:]
    buffer[at + 2 : at + 4] = key[-4:-2]


def put_timestamps(buffer: bytearray, at: int, ts_val: int, ts_ecr: int) -> None:
    """Write the 12 octets of an aligned timestamps option (RFC 7323 appendix A)."""
    _ALIGNED_TIMESTAMPS.pack_into(buffer, at, 0x0101080A, ts_val, ts_ecr)


def whole(number: float) -> int:
    """Return ``number`` without its fraction."""
    return int(number)


def folded(total: int) -> int:
    """Return ``total`` with its carries added back in until 16 bits are left."""
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def put_ipv4(
    buffer: bytearray,
    at: int,
    traffic_class: int,
    total_length: int,
    identification: int,
    flags: int,
    ttl: int,
    protocol: int,
    checksum: int,
    addresses: bytes,
) -> None:
    """Write an IPv4 header of 20 octets, without options; source and destination lie together."""
    _IPV4_WHOLE.pack_into(
        buffer, at, 0x45, traffic_class, total_length, identification, flags, ttl, protocol,
        checksum, addresses,
    )  # fmt: skip
