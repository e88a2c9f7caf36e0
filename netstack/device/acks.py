"""Of pure ACKs that follow one another in a burst, the last says all.

A sender of bulk data gets an ACK for every second segment, and while one is missing for every
segment: several in each burst, and each costs it as much as a super-segment does. Where one tells
what the one before it tells and more, the one before is left out: whoever takes in the rest finds
what a network leaves that lost an ACK. Nothing could be sent between the two anyway, since output
follows the burst.

More is a higher acknowledgment number, or a first SACK block that reaches further; all else must
be equal but the window, of which the later counts. So an ACK that begins a block, fills a gap or
has a D-SACK (RFC 2883) stays, and the order in which segments arrived can still be told.

The definition, which ``merge`` asks; its kernel has the same in C.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netstack.wire.layout import alike, u8, u16, u32

if TYPE_CHECKING:
    from typing_extensions import Buffer

_IPV4 = 20  # octets of an IPv4 header without options
_LARGEST = 14 + 20 + 60 + 4  # octets: a link header, IP, TCP with all options, a trailer
_TIMESTAMPS = 0x0101080A  # as RFC 7323 appendix A aligns them
_SACK = 0x0101  # as RFC 2018 3 shows it: option 5 and its length follow
_ACK_ALONE = 0x010  # reserved bits and flags
_MORE_AND_OFFSET = 0xBFFF  # of IP's fragment field: all but the flag not to fragment
_ETHERTYPE_IPV4, _TCP = 0x0800, 6
_HALF, _MASK = 0x80000000, 0xFFFFFFFF


def is_pure(octets: memoryview, link: int) -> bool:
    """Return whether a frame is an ACK and nothing else, should its checksums hold.

    It may have timestamps and SACK blocks, and a trailer of the link's. ``link``: octets of the
    link header.
    """
    size = len(octets)
    tcp = link + _IPV4
    if size > _LARGEST or size < tcp + 20:
        return False
    word = u16(octets, tcp + 12)
    end = tcp + (word >> 12) * 4
    if word & 0xFFF != _ACK_ALONE or not tcp + 20 <= end <= size:
        return False
    if u8(octets, link) != 0x45 or u16(octets, link + 2) != end - link:
        return False
    if u8(octets, link + 9) != _TCP or u16(octets, link + 6) & _MORE_AND_OFFSET:
        return False
    if link and u16(octets, link - 2) != _ETHERTYPE_IPV4:
        return False
    at = _behind_timestamps(octets, tcp, end)
    return at == end or _begins_with_block(octets, at, end, u32(octets, tcp + 8))


def _behind_timestamps(octets: Buffer, tcp: int, end: int) -> int:
    at = tcp + 20
    return at + 12 if end >= at + 12 and u32(octets, at) == _TIMESTAMPS else at


def _begins_with_block(octets: Buffer, at: int, end: int, number: int) -> bool:
    """Return whether SACK blocks alone follow, of which the first is no D-SACK."""
    length = end - at - 2
    if length < 10 or length & 7 != 2 or u16(octets, at) != _SACK:
        return False
    if u8(octets, at + 2) != 5 or u8(octets, at + 3) != length:
        return False
    left = u32(octets, at + 4)
    if not 0 < (left - number) & _MASK < _HALF:
        return False
    if length > 10:
        other_left, other_right = u32(octets, at + 12), u32(octets, at + 16)
        return (left - other_left) & _MASK >= (other_right - other_left) & _MASK
    return True


def supersedes(octets: Buffer, before: Buffer, link: int) -> bool:
    """Return whether a pure ACK tells all that the one of its flow before it tells, and more."""
    tcp = link + _IPV4
    end = tcp + (u8(octets, tcp + 12) >> 4) * 4
    acknowledged = (u32(octets, tcp + 8) - u32(before, tcp + 8)) & _MASK
    if acknowledged >= _HALF or u16(octets, tcp + 12) != u16(before, tcp + 12):
        return False
    # The link header with version and traffic class, IP's fields from the fragment's to the
    # protocol, the sequence number.
    if not (
        alike(octets, 0, before, 0, link + 2)
        and alike(octets, tcp - 14, before, tcp - 14, 4)
        and alike(octets, tcp + 4, before, tcp + 4, 4)
    ):
        return False
    # The urgent pointer and all options, but how far the first block reaches.
    at = _behind_timestamps(octets, tcp, end)
    reached = 0
    if at == end:
        if not alike(octets, tcp + 18, before, tcp + 18, end - tcp - 18):
            return False
    else:
        edge = at + 8
        reached = (u32(octets, edge) - u32(before, edge)) & _MASK
        if not (
            alike(octets, tcp + 18, before, tcp + 18, edge - tcp - 18)
            and alike(octets, edge + 4, before, edge + 4, end - edge - 4)
        ):
            return False
    return reached < _HALF and acknowledged + reached > 0
