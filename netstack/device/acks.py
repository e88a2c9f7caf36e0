"""Of pure ACKs that follow one another in a burst, the last says all.

A sender of bulk data gets an ACK for every second segment, and while one is missing for every
segment: several in each burst, and each costs it as much as a super-segment does. Where one tells
what the one before it tells and more, the one before is left out: whoever takes in the rest finds
what a network leaves that lost an ACK. Nothing could be sent between the two anyway, since output
follows the burst.

More is a higher acknowledgment number, or a first SACK block that reaches further; all else must
be equal but the window, of which the later counts. So an ACK that begins a block, fills a gap or
has a D-SACK (RFC 2883) stays, and the order in which segments arrived can still be told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netstack.device.base import Checksum, Medium
from netstack.wire.layout import alike, header_sum, octets_at, u8, u16, u32

if TYPE_CHECKING:
    from netstack.device.base import Frame

_LINK = {Medium.ETHERNET: 14, Medium.IP: 0}
_LARGEST = 14 + 20 + 60 + 4  # octets: a link header, IP, TCP with all options, a trailer
_TIMESTAMPS = 0x0101080A  # as RFC 7323 appendix A aligns them
_SACK = 0x0101  # as RFC 2018 3 shows it: option 5 and its length follow
_ACK_ALONE = 0x010  # reserved bits and flags
_MORE_AND_OFFSET = 0xBFFF  # of IP's fragment field: all but the flag not to fragment
_HALF, _MASK = 0x80000000, 0xFFFFFFFF
_UNKNOWN, _VALID = Checksum.UNKNOWN, Checksum.VALID


def leave_out_superseded(frames: list[Frame], medium: Medium) -> list[Frame]:
    """Return ``frames`` without the pure ACKs that the next one of their flow supersedes.

    The next takes the place of the one before, and its ``segments`` count both. What tells more
    than an acknowledgment number, by SACK, a flag, a repeated number or another timestamp, stays,
    and so does what has a bad checksum. No ACK passes any other frame.
    """
    link: int = _LINK[medium]
    kept: list[Frame] = []
    last: dict[bytes, int] = {}  # place of a flow's last ACK
    for frame in frames:
        if not _is_pure(frame, link):
            if last:
                last.clear()
            kept.append(frame)
            continue
        flow = octets_at(frame.header, frame.start + link + 12, 12)  # addresses and ports
        place: int = last.get(flow, -1)
        if place >= 0 and _supersedes(frame, kept[place], link):
            frame.segments += kept[place].segments
            kept[place] = frame
        else:
            last[flow] = len(kept)
            kept.append(frame)
    return kept


def _is_pure(frame: Frame, link: int) -> bool:
    """Return whether a frame is an ACK and nothing else, with timestamps and SACK at most.

    Its checksums are verified, since it may take another's place.
    """
    header = frame.header
    ip = frame.start + link
    tcp = ip + 20
    size = len(header)
    if size - frame.start > _LARGEST or size < tcp + 20 or frame.payload:
        return False
    word = u16(header, tcp + 12)
    end = tcp + (word >> 12) * 4
    if word & 0xFFF != _ACK_ALONE or end < tcp + 20 or end > size:
        return False
    if u8(header, ip) != 0x45 or u16(header, ip + 2) != end - ip or u8(header, ip + 9) != 6:
        return False
    if u16(header, ip + 6) & _MORE_AND_OFFSET or not _verified(frame, ip, end):
        return False
    at = _behind_timestamps(header, tcp, end)
    return at == end or _begins_with_block(header, at, end, u32(header, tcp + 8))


def _behind_timestamps(header: bytes | bytearray | memoryview, tcp: int, end: int) -> int:
    at = tcp + 20
    return at + 12 if end >= at + 12 and u32(header, at) == _TIMESTAMPS else at


def _verified(frame: Frame, ip: int, end: int) -> bool:
    header = frame.header
    if header_sum(header, ip, 20) != 0xFFFF:
        return False
    if frame.checksum is _UNKNOWN:
        if (header_sum(header, ip + 12, end - ip - 12) + 6 + end - ip - 20) % 0xFFFF:
            return False
        frame.checksum = _VALID
    return True  # a sum that is still open was never on a wire


def _begins_with_block(
    header: bytes | bytearray | memoryview, at: int, end: int, number: int
) -> bool:
    """Return whether SACK blocks alone follow, of which the first is no D-SACK."""
    length = end - at - 2
    if length < 10 or length & 7 != 2 or u16(header, at) != _SACK:
        return False
    if u8(header, at + 2) != 5 or u8(header, at + 3) != length:
        return False
    left = u32(header, at + 4)
    if not 0 < (left - number) & _MASK < _HALF:
        return False
    if length > 10:
        other_left, other_right = u32(header, at + 12), u32(header, at + 16)
        return (left - other_left) & _MASK >= (other_right - other_left) & _MASK
    return True


def _supersedes(frame: Frame, before: Frame, link: int) -> bool:
    """Return whether a pure ACK tells all that the one before it tells, and more."""
    header, start, other, there = frame.header, frame.start, before.header, before.start
    tcp, was = start + link + 20, there + link + 20
    end = tcp + (u8(header, tcp + 12) >> 4) * 4
    acknowledged = (u32(header, tcp + 8) - u32(other, was + 8)) & _MASK
    if acknowledged >= _HALF or u16(header, tcp + 12) != u16(other, was + 12):
        return False
    # The link header with version and traffic class, IP's fields from the fragment's to the
    # protocol, the sequence number.
    if not (
        alike(header, start, other, there, link + 2)
        and alike(header, tcp - 14, other, was - 14, 4)
        and alike(header, tcp + 4, other, was + 4, 4)
    ):
        return False
    # The urgent pointer and all options, but how far the first block reaches.
    at = _behind_timestamps(header, tcp, end)
    reached = 0
    if at == end:
        if not alike(header, tcp + 18, other, was + 18, end - tcp - 18):
            return False
    else:
        edge = at + 8
        reached = (u32(header, edge) - u32(other, edge - tcp + was)) & _MASK
        if not (
            alike(header, tcp + 18, other, was + 18, edge - tcp - 18)
            and alike(header, edge + 4, other, edge + 4 - tcp + was, end - edge - 4)
        ):
            return False
    return reached < _HALF and acknowledged + reached > 0
