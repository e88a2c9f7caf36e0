"""Of pure ACKs that follow one another in a burst, the last says all.

A sender of bulk data gets an ACK for every second segment, several in each burst, and each costs
it as much as a super-segment does. Where one acknowledges more than the one before it and is
equal otherwise, the one before is left out: whoever takes in the rest finds what a network leaves
that lost an ACK. Nothing could be sent between the two anyway, since output follows the burst.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from netstack.core.checksum import internet_sum
from netstack.device.base import Checksum, Medium

if TYPE_CHECKING:
    from netstack.device.base import Frame

_LINK = {Medium.ETHERNET: 14, Medium.IP: 0}
_LARGEST = 14 + 20 + 32 + 4  # octets: a link header, IP, TCP with timestamps, a trailer
_HEADERS = Struct("!HHH4sH12s4sIH6x")  # IP's without options, TCP's without
_PLAIN = 0x5010  # data offset and flags: ACK alone, no options
_WITH_TIMESTAMPS = 0x8010
_TIMESTAMPS = b"\x01\x01\x08\x0a"  # as RFC 7323 appendix A aligns them
_UNKNOWN, _VALID = Checksum.UNKNOWN, Checksum.VALID

_Ack = tuple[bytes, int, bytes]
"""The flow (addresses and ports), the acknowledgment number, what must be equal besides."""


def leave_out_superseded(frames: list[Frame], medium: Medium) -> list[Frame]:
    """Return ``frames`` without the pure ACKs that the next one of their flow supersedes.

    The next takes the place of the one before, and its ``segments`` count both. What tells more
    than an acknowledgment number, by SACK, a flag, a repeated number or another timestamp, stays,
    and so does what has a bad checksum. No ACK passes any other frame.
    """
    link = _LINK[medium]
    kept: list[Frame] = []
    last: dict[bytes, tuple[int, int, bytes]] = {}  # by flow: place, number, what must be equal
    for frame in frames:
        ack = _read(frame, link) if len(frame.header) - frame.start <= _LARGEST else None
        if ack is None:
            last.clear()
            kept.append(frame)
            continue
        flow, number, same = ack
        place, before, wanted = last.get(flow, (0, number, same))
        if 0 < number - before & 0xFFFFFFFF < 0x80000000 and same == wanted:
            frame.segments += kept[place].segments
            kept[place] = frame
        else:
            place = len(kept)
            kept.append(frame)
        last[flow] = place, number, same
    return kept


def _read(frame: Frame, link: int) -> _Ack | None:
    """Return what a pure ACK with no options but timestamps says; None if ``frame`` is none.

    Its checksums are verified, since it may take another's place.
    """
    header, start = frame.header, frame.start
    ip = start + link
    if len(header) < ip + 40 or frame.payload:
        return None
    version, total, _, fragment, _, flow, seq, ack, flags = _HEADERS.unpack_from(header, ip)
    end = ip + total
    if flags == _WITH_TIMESTAMPS:
        if total != 52 or len(header) < end or header[ip + 40 : ip + 44] != _TIMESTAMPS:
            return None
    elif flags != _PLAIN or total != 40:
        return None
    if version >> 8 != 0x45 or fragment[0] & 0xBF or fragment[1] or fragment[3] != 6:
        return None
    if internet_sum(header[ip : ip + 20]) != 0xFFFF:
        return None
    if frame.checksum is _UNKNOWN:
        if (internet_sum(header[ip + 12 : end]) + 6 + total - 20) % 0xFFFF:
            return None
        frame.checksum = _VALID
    elif frame.checksum is not _VALID:
        return None
    same = bytes(header[start : ip + 2]) + fragment + seq + bytes(header[ip + 38 : end])
    return flow, ack, same
