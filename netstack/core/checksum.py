"""The Internet checksum (RFC 1071): the readable definition, and the switch to the kernel.

``internet_sum`` returns the 16-bit one's complement sum, not complemented; sums of pieces that
start at even offsets add up with ``fold(a + b)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netstack import _ext

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Buffer


def internet_sum_py(data: Buffer, initial: int = 0) -> int:
    """Return the folded one's complement sum of ``data`` as big-endian 16-bit words.

    ``initial`` is a sum to go on from. An odd last octet counts as the high half of a word
    (RFC 1071 section 4.1). A sum is congruent to the number itself modulo 65535, which lets
    the interpreter's big integers do the loop: 4-8 times faster than a loop over words.

    Raises: BufferError if the octets don't lie in one piece.
    """
    view = memoryview(data)
    if not view.c_contiguous:
        raise BufferError("the octets to sum must lie in one piece")
    value = int.from_bytes(view.tobytes(), "big")
    if view.nbytes & 1:
        value <<= 8
    total = value + initial
    if total == 0:
        return 0
    return total % 0xFFFF or 0xFFFF  # zero is only the sum of zeros


def fold(total: int) -> int:
    """Return ``total`` with its carries added back in until 16 bits are left."""
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def sum_pieces_py(pieces: Iterable[Buffer], initial: int = 0) -> int:
    """Return the sum of ``pieces`` laid end to end; odd lengths shift what follows by an octet.

    Raises: BufferError if the octets of one don't lie in one piece.
    """
    total = initial
    odd = False
    for piece in pieces:
        part = internet_sum_py(piece)
        # An octet in the low half weighs 1/256 of one in the high half: swap the sum's octets.
        total += (part >> 8 | (part & 0xFF) << 8) if odd else part
        odd ^= bool(memoryview(piece).nbytes & 1)
    return fold(total)


def copy_and_sum_py(target: Buffer, offset: int, data: Buffer) -> int:
    """Copy ``data`` to ``target[offset:]`` and return its folded sum.

    Raises: BufferError if the octets don't lie in one piece or can't be written, ValueError if
    they don't fit.
    """
    total = internet_sum_py(data)
    octets, room = memoryview(data).cast("B"), memoryview(target)
    if room.readonly or not room.c_contiguous:
        raise BufferError("the octets to write to must lie in one piece, and be writable")
    if not 0 <= offset <= room.nbytes - len(octets):
        raise ValueError(f"{len(octets)} octets don't fit at {offset} into {room.nbytes}")
    room.cast("B")[offset : offset + len(octets)] = octets
    return total


if _ext.COMPILED:
    from netstack._ext.checksum import copy_and_sum as copy_and_sum
    from netstack._ext.checksum import internet_sum as internet_sum
    from netstack._ext.checksum import sum_pieces as sum_pieces
else:
    copy_and_sum = copy_and_sum_py
    internet_sum = internet_sum_py
    sum_pieces = sum_pieces_py


def internet_checksum(data: Buffer, initial: int = 0) -> int:
    """Return the checksum field's value for ``data``: the complement of its sum."""
    return ~internet_sum(data, initial) & 0xFFFF


def pseudo_header_sum(source: bytes, destination: bytes, protocol: int, length: int) -> int:
    """Return the sum of the pseudo-header (RFC 9293 3.1 for IPv4, RFC 8200 8.1 for IPv6).

    ``source`` and ``destination`` are packed addresses of one version; ``length`` is that of
    the transport header and payload in octets.
    """
    return internet_sum(source + destination, protocol + (length >> 16) + (length & 0xFFFF))
