"""Cutting super-segments into wire frames, and merging what one burst brought.

What costs time in a stack is the segment, not the octet, so TCP hands down few large frames and
wants few large ones back. ``segment`` and ``cut_frame`` cut at the last moment, just above a
device that takes wire frames only; ``coalesce`` merges consecutive segments of one flow that a
burst returned. Both speak TCP over IPv4; everything else passes as it is. What happens to the
octets is in ``cut`` and ``merge``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netstack.core.checksum import copy_and_sum, internet_sum, sum_pieces
from netstack.core.errors import LocalProtocolError
from netstack.device.base import Checksum, Frame, GsoType, Medium, as_frame, only_octets
from netstack.device.burst import Burst
from netstack.device.cut import cut
from netstack.device.merge import UNKNOWN, VERIFIED, WHOLE, merge, merge_spans
from netstack.wire.layout import header_sum, u16

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer

    from netstack.device.merge import Merged

_VLAN = 0x8100
_ETHERNET = 14  # octets of an Ethernet II header
_IPV4 = 20  # octets of an IPv4 header without options
_TCP_CHECKSUM = 16  # offsets of the fields in their headers
_UDP_CHECKSUM = 6
_PARTIAL, _VALID, _UNKNOWN = Checksum.PARTIAL, Checksum.VALID, Checksum.UNKNOWN
_TCPV4 = GsoType.TCPV4
_SHORT = 128  # octets: less than a view of them would cost
_LINK = {Medium.ETHERNET: _ETHERNET, Medium.IP: 0}

# ---- checksums -----------------------------------------------------------------------------


def complete_checksum(frame: Frame) -> None:
    """Fill in the transport checksum of a PARTIAL frame, in place; leave any other alone.

    The field holds the pseudo-header's sum so far. A read-only header is replaced by a copy.
    """
    if frame.checksum is not _PARTIAL:
        return
    if not isinstance(frame.header, bytearray):
        frame.header = bytearray(frame.header)
    start = frame.checksum_start
    length = len(frame.header) - start
    payload = frame.payload
    if length < _SHORT and not length & 1:
        total = header_sum(frame.header, start, length)
        if payload:
            total = sum_pieces(payload, total)
    else:
        total = sum_pieces((memoryview(frame.header)[start:], *payload))
    _put_checksum(frame.header, start + frame.checksum_offset, total, frame.checksum_offset)
    frame.checksum = _VALID


def _put_checksum(octets: bytearray, field: int, total: int, offset: int) -> None:
    value = -total % 0xFFFF
    if value == 0 and offset == _UDP_CHECKSUM:
        value = 0xFFFF  # RFC 768: a zero field means that no checksum was computed
    octets[field] = value >> 8
    octets[field + 1] = value & 0xFF


def wire_octets(frame: Frame) -> list[bytes]:
    """Return what a wire would carry of ``frame``: cut, checksums complete, as copies.

    The frame itself stays as it is.
    """
    if frame.gso_size:
        octets, step = cut_frame(frame)
        view = memoryview(octets)
        return [bytes(view[at : at + step]) for at in range(0, len(view), step)]
    if frame.checksum is not _PARTIAL:
        return [frame.octets()]
    return [_completed(frame)]


def _completed(frame: Frame) -> bytes:
    """Return a copy of a PARTIAL frame with its checksum, summed while it is copied."""
    start, octets = frame.start, bytearray(len(frame))
    at = len(frame.header) - start
    octets[:at] = memoryview(frame.header)[start:]
    transport = frame.checksum_start - start
    total = internet_sum(memoryview(octets)[transport:at])
    for piece in frame.payload:
        part = copy_and_sum(octets, at, piece)
        # An octet in the low half weighs 1/256 of one in the high half: swap the sum's octets.
        total += (part >> 8 | (part & 0xFF) << 8) if (at - transport) & 1 else part
        at += len(piece)  # type: ignore[arg-type]
    _put_checksum(octets, transport + frame.checksum_offset, total, frame.checksum_offset)
    return bytes(octets)


# ---- cutting -------------------------------------------------------------------------------


def link_length(header: Buffer, start: int, transport: int) -> int:
    """Return the octets in front of the IP header.

    An IPv4 header is a multiple of four octets long and an Ethernet header is not, so the
    distance to the transport header tells which medium this is.
    """
    if (transport - start) & 3 == 0:
        return 0
    return _ETHERNET + 4 if u16(header, start + 12) == _VLAN else _ETHERNET


def cut_frame(frame: Frame, *, partial: bool = False) -> tuple[bytearray, int]:
    """Return the octets of a super-segment's wire frames, end to end, and a frame's length.

    The last has what is left, the others that length.

    Checksums are complete, except with ``partial``: then the device does that itself.

    Raises: LocalProtocolError if this isn't TCP over IPv4.
    """
    if frame.gso_type is not _TCPV4:
        raise LocalProtocolError("only TCP over IPv4 can be cut")
    header, start, transport = frame.header, frame.start, frame.checksum_start
    ip = start + link_length(header, start, transport)
    try:
        return cut(header, start, ip, transport, frame.payload, frame.gso_size, partial)
    except ValueError as error:
        raise LocalProtocolError(str(error)) from None


def segment(frame: Frame, *, partial: bool = False) -> list[Frame]:
    """Return the wire frames that ``frame`` stands for, in order.

    Those of a super-segment refer to one buffer. Checksums are complete, except with ``partial``:
    then the device does that itself. A frame that is no super-segment is returned alone.

    Raises: LocalProtocolError if a super-segment isn't TCP over IPv4.
    """
    if not frame.gso_size:
        if not partial:
            complete_checksum(frame)
        return [frame]
    octets, step = cut_frame(frame, partial=partial)
    return wire_frames(frame, octets, step, partial)


def wire_frames(whole: Frame, octets: bytearray, step: int, partial: bool) -> list[Frame]:
    """Return the frames that ``whole`` was cut into by ``cut_frame``, all in one buffer."""
    view, frames = memoryview(octets), []
    for at in range(0, len(view), step):
        frame = Frame(view[at : at + step])
        frame.checksum = _PARTIAL if partial else _VALID
        frame.checksum_start = whole.checksum_start - whole.start
        frame.checksum_offset = _TCP_CHECKSUM
        frame.reason = whole.reason
        frame.id = whole.id
        frame.received_at = whole.received_at
        frame.group = whole.group
        frames.append(frame)
    return frames


# ---- merging -------------------------------------------------------------------------------


def coalesce(frames: Burst | Sequence[Frame | bytes], medium: Medium) -> list[Frame]:
    """Return the frames of one burst with consecutive TCP segments of a flow merged.

    Of pure ACKs in a row the last stays, and counts for all. The rules are those of ``merge``.
    What was merged lies in octets of its own and is VALID.
    """
    link = _LINK[medium]
    found: list[Merged]
    if isinstance(frames, Burst):
        found = merge_spans(frames.octets, frames.spans, len(frames), link)
    else:
        octets, states = _read(frames)
        found = merge(octets, states, link)
    merged = []
    for index, count, size, verified, whole in found:
        if whole is not None:
            frame = _merged_frame(whole, link)
            frame.gso_size = size
            frame.segments = count
            if not isinstance(frames, Burst):
                _note_first(frame, frames[index])
        else:
            frame = as_frame(frames[index])
            if verified and frame.checksum is _UNKNOWN:
                frame.checksum = _VALID
            if count > 1:
                frame.segments = count
        merged.append(frame)
    return merged


def _read(frames: Sequence[Frame | bytes]) -> tuple[Sequence[Buffer], bytes | None]:
    """Return the octets of each frame, and what is known of each; None = nothing of any."""
    if only_octets(frames):
        return frames, None
    octets: list[Buffer] = []
    states = bytearray()
    for frame in frames:
        if isinstance(frame, bytes):
            octets.append(frame)
            states.append(UNKNOWN)
            continue
        if frame.payload:
            octets.append(frame.octets())
        else:
            octets.append(memoryview(frame.header)[frame.start :])
        if frame.gso_size:
            states.append(WHOLE)
        else:
            states.append(UNKNOWN if frame.checksum is _UNKNOWN else VERIFIED)
    return octets, bytes(states) if any(states) else None


def _merged_frame(octets: bytes, link: int) -> Frame:
    """Return the super-segment that stands for the frames of a run."""
    frame = Frame(octets)
    frame.gso_type = _TCPV4
    frame.checksum = _VALID
    frame.checksum_start = link + _IPV4
    frame.checksum_offset = _TCP_CHECKSUM
    return frame


def _note_first(whole: Frame, first: Frame | bytes) -> None:
    """Note of a run what is known of its first frame."""
    if isinstance(first, Frame):
        whole.received_at = first.received_at
        whole.group = first.group
        whole.reason = first.reason
        whole.id = first.id
