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

from functools import cache
from struct import Struct
from typing import TYPE_CHECKING

from netstack.core.checksum import internet_sum
from netstack.device.base import Checksum, Medium

if TYPE_CHECKING:
    from netstack.device.base import Frame

_LINK = {Medium.ETHERNET: 14, Medium.IP: 0}
_LARGEST = 14 + 20 + 60 + 4  # octets: a link header, IP, TCP with all options, a trailer
_BLOCK = Struct("!II")
_TIMESTAMPS = b"\x01\x01\x08\x0a"  # as RFC 7323 appendix A aligns them
_SACK = b"\x01\x01\x05"  # as RFC 2018 3 shows it; its length follows
_ACK_ALONE = 0x010  # reserved bits and flags
_UNKNOWN, _VALID = Checksum.UNKNOWN, Checksum.VALID

_Ack = tuple[bytes, int, int, bytes, bytes, bytes, bytes]
"""The flow (addresses and ports); the acknowledgment number; the first SACK block's right edge, 0
without one. What must be equal besides: the link header with version and traffic class, IP's
fields from the fragment's to the protocol, the sequence number, urgent pointer and options."""


@cache
def _layout(link: int, tail: int) -> Struct:
    """Return the layout of a frame's headers: IP's without options, then TCP's.

    ``tail``: octets of urgent pointer and TCP options.
    """
    return Struct(f"!{link + 2}sHH4sH12s4sIH4x{tail}s")


def leave_out_superseded(frames: list[Frame], medium: Medium) -> list[Frame]:
    """Return ``frames`` without the pure ACKs that the next one of their flow supersedes.

    The next takes the place of the one before, and its ``segments`` count both. What tells more
    than an acknowledgment number, by SACK, a flag, a repeated number or another timestamp, stays,
    and so does what has a bad checksum. No ACK passes any other frame.
    """
    link = _LINK[medium]
    kept: list[Frame] = []
    last: dict[bytes, tuple[int, _Ack]] = {}  # by flow: place and what it says
    for frame in frames:
        ack = _read(frame, link) if len(frame.header) - frame.start <= _LARGEST else None
        if ack is None:
            last.clear()
            kept.append(frame)
            continue
        before = last.get(ack[0])
        if before is not None and _supersedes(ack, before[1]):
            place = before[0]
            frame.segments += kept[place].segments
            kept[place] = frame
        else:
            place = len(kept)
            kept.append(frame)
        last[ack[0]] = place, ack
    return kept


def _supersedes(ack: _Ack, before: _Ack) -> bool:
    acknowledged = ack[1] - before[1] & 0xFFFFFFFF
    reached = ack[2] - before[2] & 0xFFFFFFFF
    return (
        acknowledged < 0x80000000
        and reached < 0x80000000
        and acknowledged + reached > 0
        and ack[3:] == before[3:]
    )


def _read(frame: Frame, link: int) -> _Ack | None:
    """Return what a pure ACK says, with timestamps and SACK at most; None if ``frame`` is none.

    Its checksums are verified, since it may take another's place.
    """
    header, start = frame.header, frame.start
    ip = start + link
    size = len(header) - ip
    tail = (header[ip + 32] >> 2) - 18 if size >= 40 else 0
    if tail < 2 or size < tail + 38 or frame.payload:
        return None
    prefix, total, _, fragment, _, flow, seq, number, word, rest = _layout(link, tail).unpack_from(
        header, start
    )
    if word & 0xFFF != _ACK_ALONE or total != tail + 38 or prefix[-2] != 0x45:
        return None
    if fragment[0] & 0xBF or fragment[1] or fragment[3] != 6:
        return None
    if not _verified(frame, ip, ip + total):
        return None
    at = 14 if rest[2:6] == _TIMESTAMPS else 2
    if tail == at:
        return flow, number, 0, prefix, fragment, seq, rest
    block = _first_block(rest, at, number)
    if block is None:
        return None
    return flow, number, block, prefix, fragment, seq, rest[: at + 8] + rest[at + 12 :]


def _verified(frame: Frame, ip: int, end: int) -> bool:
    header = frame.header
    if internet_sum(header[ip : ip + 20]) != 0xFFFF:
        return False
    if frame.checksum is _UNKNOWN:
        if (internet_sum(header[ip + 12 : end]) + 6 + end - ip - 20) % 0xFFFF:
            return False
        frame.checksum = _VALID
    return True  # a sum that is still open was never on a wire


def _first_block(options: bytes, at: int, number: int) -> int | None:
    """Return the right edge of the first SACK block; None for other options, or a D-SACK."""
    length = len(options) - at - 2
    if (
        options[at : at + 3] != _SACK
        or options[at + 3] != length
        or length & 7 != 2
        or length < 10
    ):
        return None
    left, right = _BLOCK.unpack_from(options, at + 4)
    if not 0 < left - number & 0xFFFFFFFF < 0x80000000:
        return None
    if length > 10:
        other_left, other_right = _BLOCK.unpack_from(options, at + 12)
        if left - other_left & 0xFFFFFFFF < other_right - other_left & 0xFFFFFFFF:
            return None
    return int(right)
