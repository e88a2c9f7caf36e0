"""Cutting a packet that is longer than the MTU of its next link (RFC 791 3.2).

Every fragment but the last carries a multiple of 8 octets. The first keeps all options, the
others those with the copied flag. A fragment may be fragmented again.
"""

from __future__ import annotations

from netstack.core.checksum import internet_checksum
from netstack.device.base import HEADROOM, Checksum, Frame
from netstack.device.offload import complete_checksum
from netstack.wire.ipv4 import (
    FLAG_MORE_FRAGMENTS,
    HEADER,
    MIN_HEADER_LENGTH,
    MIN_MTU,
    OFFSET_MASK,
    OPTION_COPIED,
    OptionType,
    parse_options,
)


def check_mtu(mtu: int) -> None:
    """Check that fragments of ``mtu`` octets make progress whatever the options.

    Raises: ValueError below 68 octets (RFC 791 3.2).
    """
    if mtu < MIN_MTU:
        raise ValueError(f"an MTU of {mtu} octets; IPv4 needs at least {MIN_MTU}")


def fragment(frame: Frame, mtu: int) -> list[Frame]:
    """Return the fragments, each at most ``mtu`` octets, of the packet at ``frame.start``.

    Each has a header of its own with headroom; the payload is shared. The frame must be a wire
    frame and its IPv4 header whole; a PARTIAL checksum is completed first, since no receiver of
    a fragment could.

    Raises: ValueError if ``mtu`` is below 68.
    """
    check_mtu(mtu)
    if frame.checksum is Checksum.PARTIAL:
        complete_checksum(frame)
    packet = memoryview(frame.octets())
    fields = list(HEADER.unpack_from(packet))
    header_length = (fields[0] & 0x0F) * 4
    payload = packet[header_length : fields[2]]
    flags = fields[4]
    base = flags & OFFSET_MASK
    more_follow = flags & FLAG_MORE_FRAGMENTS
    flags &= ~(OFFSET_MASK | FLAG_MORE_FRAGMENTS)
    options = bytes(packet[MIN_HEADER_LENGTH:header_length])
    fragments = []
    position = 0
    while position < len(payload):
        if position:
            options = copied_options(options)
        size = (mtu - MIN_HEADER_LENGTH - len(options)) & ~7
        piece = payload[position : position + size]
        last = position + len(piece) == len(payload)
        fields[0] = 0x40 | (MIN_HEADER_LENGTH + len(options)) >> 2
        fields[2] = MIN_HEADER_LENGTH + len(options) + len(piece)
        fields[4] = flags | (more_follow if last else FLAG_MORE_FRAGMENTS) | base + position // 8
        fragments.append(_frame(frame, fields, options, piece))
        position += len(piece)
    return fragments


def _frame(original: Frame, fields: list[int], options: bytes, piece: memoryview) -> Frame:
    header = bytearray(HEADROOM + MIN_HEADER_LENGTH) + options
    fields[7] = 0
    HEADER.pack_into(header, HEADROOM, *fields)
    checksum = internet_checksum(memoryview(header)[HEADROOM:])
    header[HEADROOM + 10 : HEADROOM + 12] = checksum.to_bytes(2, "big")
    frame = Frame(header, (piece,), start=HEADROOM)
    frame.reason = original.reason
    frame.received_at = original.received_at
    return frame


def copied_options(options: bytes) -> bytes:
    """Return the options that belong in every fragment, padded to a multiple of 4 octets."""
    kept = b"".join(
        bytes((option.type, len(option.data) + 2)) + option.data
        for option in parse_options(options)
        if option.type & OPTION_COPIED
    )
    return kept + bytes((OptionType.END,)) * (-len(kept) % 4)
