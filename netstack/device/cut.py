"""Cutting the octets of a super-segment into wire frames: the definition, and the switch.

Theory of operation. All cuts share every header octet except IP's total length, identification
and checksum, and TCP's sequence number, flags and checksum. The sums of what is shared are
computed once. Since a checksum is the negative of a sum modulo 65535, each cut then costs one
sum over its payload, two additions of integers and one ``pack``.
"""

from __future__ import annotations

from functools import cache
from struct import Struct
from typing import TYPE_CHECKING

from netstack import _ext
from netstack.core.checksum import fold, internet_sum_py

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer

_MAX_PACKET = 65_535  # RFC 791 3.1: total length has 16 bits
_MIN_TCP = 20
_FIN, _PSH, _CWR = 0x01, 0x08, 0x80
_TCP = 6


@cache
def _layout(link: int, ip: int, tcp: int) -> Struct:
    """Return the header's layout: the fields that differ as numbers, the rest as strings."""
    return Struct(f"!{link + 2}sHH4sH{ip - 8}sI5sB2sH{tcp - 18}s")


def cut_py(
    header: Buffer,
    start: int,
    ip: int,
    tcp: int,
    payload: Sequence[Buffer],
    size: int,
    partial: bool = False,
) -> tuple[bytearray, int]:
    """Return the wire frames of a super-segment, end to end, and how long all but the last are.

    ``header`` holds the link header from ``start`` on, the IP header at ``ip``, the TCP header
    at ``tcp`` and, behind that, the first octets of the payload, if any; the rest is in the
    buffers ``payload``. Each frame has ``size`` octets of it, the last what is left. There is
    one at least.
    Identification and sequence number advance, FIN and PSH stay on the last, CWR on the first
    (RFC 3168 6.1.2). Checksums are complete; with ``partial`` TCP's holds the pseudo-header's
    sum, for a device that adds the rest.

    Raises: ValueError for what is no super-segment of TCP over IPv4, BufferError for octets that
    don't lie in one piece.
    """
    views = [_octets(header), *map(_octets, payload)]
    tcp_length = _check(views[0], start, ip, tcp, size)
    layout = _layout(ip - start, tcp - ip, tcp_length)
    fields = layout.unpack_from(views[0], start)
    prefix, _, identification, fragment, _, rest, seq, ack, all_flags, window, _, tail = fields
    views[0] = views[0][tcp + tcp_length :]
    data = b"".join(views) if len(views) != 2 or len(views[0]) else views[1]
    ip_sum = sum(map(internet_sum_py, (prefix[ip - start :], fragment, rest[:-4])))
    pseudo_sum = internet_sum_py(rest[:8]) + _TCP
    # The data offset, an odd last octet of ``ack``, is the high half of its word.
    tcp_sum = pseudo_sum + sum(map(internet_sum_py, (rest[-4:], ack, window, tail)))
    flags = all_flags & ~(_FIN | _PSH)
    pieces: list[Buffer] = []
    for at in range(0, len(data) or 1, size):
        piece = data[at : at + size]
        length = len(piece)
        if at + size >= len(data):
            flags |= all_flags & (_FIN | _PSH)
        total = tcp - ip + tcp_length + length
        checksum = (pseudo_sum if partial else tcp_sum) + tcp_length + length
        if partial:
            checksum = fold(checksum)
        else:
            checksum += (seq >> 16) + (seq & 0xFFFF) + flags + internet_sum_py(piece)
            checksum = -checksum % 0xFFFF
        pieces.append(
            layout.pack(
                prefix, total, identification, fragment,
                -(ip_sum + total + identification) % 0xFFFF, rest, seq, ack, flags, window,
                checksum, tail,
            )
        )  # fmt: skip
        pieces.append(piece)
        flags &= ~_CWR
        seq = seq + length & 0xFFFFFFFF
        identification = identification + 1 & 0xFFFF
    return bytearray().join(pieces), layout.size + size


def _octets(data: Buffer) -> memoryview:
    view = memoryview(data)
    if not view.c_contiguous:
        raise BufferError("the octets to cut must lie in one piece")
    return view.cast("B")


def _check(header: memoryview, start: int, ip: int, tcp: int, size: int) -> int:
    """Return the length of the TCP header if everything lies where it should."""
    if not (0 <= start <= ip < start + 64 and 20 <= tcp - ip <= 60):
        raise ValueError(f"no headers begin at {start}, {ip} and {tcp}")
    if tcp + _MIN_TCP > len(header):
        raise ValueError(f"{len(header)} octets end before the TCP header at {tcp} does")
    length = header[tcp + 12] >> 4 << 2
    if length < _MIN_TCP or tcp + length > len(header):
        raise ValueError(f"a TCP header of {length} octets in {len(header) - tcp}")
    if header[ip] != 0x40 | tcp - ip >> 2 or tcp - ip & 3:
        raise ValueError("only TCP over IPv4 can be cut")
    if not 0 < size <= _MAX_PACKET - (tcp - ip + length):
        raise ValueError(f"pieces of {size} octets: no packet has that")
    return length


if _ext.COMPILED:
    from netstack._ext.segment import cut as cut
else:
    cut = cut_py
