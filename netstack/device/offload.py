"""Cutting super-segments into wire frames, and merging what one burst brought.

What costs time in a stack is the segment, not the octet, so TCP hands down few large frames and
wants few large ones back. ``segment`` cuts at the last moment, just above a device that takes
wire frames only; ``coalesce`` merges consecutive segments of one flow that a burst returned.
Both speak TCP over IPv4; everything else passes as it is.

Theory of operation. All cuts of a super-segment share every header octet except IP's total
length, identification and checksum, and TCP's sequence number, flags and checksum. The sums of
what is shared are computed once. Since a checksum is the negative of a sum modulo 65535, each
cut then costs one sum over its payload, two additions of integers and one ``pack``. Merging is
the same in the other direction: what must be equal is compared as octet strings, and the IP
header is verified by adding the three fields that may differ to the sum of the rest.
"""

from __future__ import annotations

from functools import cache
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from netstack.core.checksum import fold, internet_sum, sum_pieces
from netstack.core.errors import LocalProtocolError
from netstack.device.base import MAX_RECEIVED_BUFFERS, Checksum, Frame, GsoType, Medium

if TYPE_CHECKING:
    from typing_extensions import Buffer

_ETHERNET = 14  # octets of an Ethernet II header
_IPV4 = 20  # octets of an IPv4 header without options
_TCP_CHECKSUM = 16  # offset of the field in the TCP header
_UDP_CHECKSUM = 6
_MAX_PACKET = 65_535  # RFC 791 3.1: total length has 16 bits
_FIN, _PSH, _ACK, _CWR = 0x01, 0x08, 0x10, 0x80
_UNMERGEABLE = 0xFF & ~(_ACK | _PSH | _FIN)
_PARTIAL, _VALID, _UNKNOWN = Checksum.PARTIAL, Checksum.VALID, Checksum.UNKNOWN

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
    head = memoryview(frame.header)[start:]
    payload = frame.payload
    if not payload:
        total = internet_sum(head)
    elif len(payload) == 1 and not len(head) & 1:
        total = internet_sum(head) + internet_sum(payload[0])
    else:
        total = sum_pieces([head, *payload])
    value = -total % 0xFFFF
    if value == 0 and frame.checksum_offset == _UDP_CHECKSUM:
        value = 0xFFFF  # RFC 768: a zero field means that no checksum was computed
    field = start + frame.checksum_offset
    frame.header[field] = value >> 8
    frame.header[field + 1] = value & 0xFF
    frame.checksum = _VALID


def wire_octets(frame: Frame) -> list[bytes]:
    """Return what a wire would carry of ``frame``: cut, checksums complete, as copies.

    The frame itself stays as it is.
    """
    if frame.gso_size:
        return [cut.octets() for cut in segment(frame)]
    if frame.checksum is not _PARTIAL:
        return [frame.octets()]
    copy = Frame(bytearray(frame.octets()))
    copy.checksum = _PARTIAL
    copy.checksum_start = frame.checksum_start - frame.start
    copy.checksum_offset = frame.checksum_offset
    complete_checksum(copy)
    return [bytes(copy.header)]


# ---- cutting -------------------------------------------------------------------------------


class _Template(NamedTuple):
    """What the cuts of one super-segment share."""

    layout: Struct
    prefix: bytes  # link header, IP version and DSCP
    fragment: bytes  # flags, TTL, protocol
    addresses: bytes  # addresses, IP options, ports
    acknowledgment: bytes  # acknowledgment number, data offset
    window: bytes
    tail: bytes  # urgent pointer, TCP options
    identification: int
    seq: int
    flags: int
    ip_length: int  # octets of both headers above the link
    ip_sum: int
    tcp_start: int
    tcp_length: int
    pseudo_sum: int  # addresses and protocol, without the length
    tcp_sum: int


@cache
def _cut_layout(link: int, ip: int, tcp: int) -> Struct:
    """Return the header's layout: the fields that differ as numbers, the rest as strings."""
    return Struct(f"!{link + 2}sHH4sH{ip - 8}sI5sB2sH{tcp - 18}s")


def _link_length(header: Buffer, start: int, transport: int) -> int:
    """Return the octets in front of the IP header.

    An IPv4 header is a multiple of four octets long and an Ethernet header is not, so the
    distance to the transport header tells which medium this is.
    """
    if (transport - start) & 3 == 0:
        return 0
    view = memoryview(header)
    return _ETHERNET + 4 if bytes(view[start + 12 : start + 14]) == b"\x81\x00" else _ETHERNET


def _read_template(frame: Frame) -> _Template:
    """Take the headers of a super-segment apart and sum what its cuts will share.

    Raises: LocalProtocolError if this isn't TCP over IPv4.
    """
    header, start, tcp = frame.header, frame.start, frame.checksum_start
    link = _link_length(header, start, tcp)
    ip = tcp - start - link
    if frame.gso_type is not GsoType.TCPV4 or header[start + link] != 0x40 | ip >> 2:
        raise LocalProtocolError("only TCP over IPv4 can be cut")
    tcp_length = header[tcp + 12] >> 4 << 2
    layout = _cut_layout(link, ip, tcp_length)
    fields = layout.unpack_from(header, start)
    prefix, _, identification, fragment, _, addresses, seq, ack, flags, window, _, tail = fields
    pseudo_sum = internet_sum(addresses[:8]) + 6
    return _Template(
        layout, prefix, fragment, addresses, ack, window, tail, identification, seq, flags,
        ip + tcp_length,
        internet_sum(prefix[link:]) + internet_sum(fragment) + internet_sum(addresses[:-4]),
        tcp - start,
        tcp_length,
        pseudo_sum,
        pseudo_sum + internet_sum(addresses[-4:]) + internet_sum(ack) + internet_sum(window)
        + internet_sum(tail),  # the data offset, an odd last octet, is the high half of its word
    )  # fmt: skip


def _cut_payload(frame: Frame, start: int, size: int) -> list[tuple[Buffer, ...]]:
    """Return the payload in groups of buffers that hold ``size`` octets each, the last fewer."""
    buffers = [memoryview(buffer) for buffer in frame.payload]
    if len(frame.header) > start:
        buffers.insert(0, memoryview(frame.header)[start:])
    if len(buffers) == 1:
        view = buffers[0]
        return [(view[at : at + size],) for at in range(0, len(view), size)]  # most often
    cuts: list[tuple[Buffer, ...]] = []
    cut: list[Buffer] = []
    room = size
    for view in buffers:
        at = 0
        while at < len(view):
            piece = view[at : at + room]
            cut.append(piece)
            at += len(piece)
            room -= len(piece)
            if not room:
                cuts.append(tuple(cut))
                cut, room = [], size
    if cut or not cuts:
        cuts.append(tuple(cut))
    return cuts


def segment(frame: Frame, *, partial: bool = False) -> list[Frame]:
    """Return the wire frames that ``frame`` stands for, in order.

    Each has its own header octets and refers to the super-segment's payload, ready for
    ``writev``. Identification and sequence number advance, FIN and PSH stay on the last, CWR on
    the first (RFC 3168 6.1.2). Checksums are complete, except with ``partial``: then the device
    does that itself. A frame that is no super-segment is returned alone.

    Raises: LocalProtocolError if a super-segment isn't TCP over IPv4.
    """
    if not frame.gso_size:
        if not partial:
            complete_checksum(frame)
        return [frame]
    shared = _read_template(frame)
    pack = shared.layout.pack
    base = shared.pseudo_sum if partial else shared.tcp_sum
    cuts = _cut_payload(frame, frame.checksum_start + shared.tcp_length, frame.gso_size)
    flags = shared.flags & ~(_FIN | _PSH)
    seq, identification, last = shared.seq, shared.identification, len(cuts) - 1
    frames = []
    for number, pieces in enumerate(cuts):
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        length = len(data)  # type: ignore[arg-type]
        if number == last:
            flags |= shared.flags & (_FIN | _PSH)
        total = shared.ip_length + length
        tcp_sum = base + shared.tcp_length + length
        if partial:
            checksum = fold(tcp_sum)
        else:
            tcp_sum += (seq >> 16) + (seq & 0xFFFF) + flags + internet_sum(data)
            checksum = -tcp_sum % 0xFFFF
        header = pack(
            shared.prefix, total, identification, shared.fragment,
            -(shared.ip_sum + total + identification) % 0xFFFF, shared.addresses, seq,
            shared.acknowledgment, flags, shared.window, checksum, shared.tail,
        )  # fmt: skip
        frames.append(_wire_frame(frame, header, pieces, shared.tcp_start, partial))
        flags &= ~_CWR
        seq = seq + length & 0xFFFFFFFF
        identification = identification + 1 & 0xFFFF
    return frames


def _wire_frame(
    whole: Frame, header: bytes, pieces: tuple[Buffer, ...], tcp: int, partial: bool
) -> Frame:
    frame = Frame(header, pieces)
    frame.checksum = _PARTIAL if partial else _VALID
    frame.checksum_start = tcp
    frame.checksum_offset = _TCP_CHECKSUM
    frame.reason = whole.reason
    frame.id = whole.id
    frame.received_at = whole.received_at
    frame.group = whole.group
    return frame


# ---- merging -------------------------------------------------------------------------------


def _merge_layouts(link: int) -> dict[int, Struct]:
    """Return header layouts by the octet that holds TCP's data offset (reserved bits zero)."""
    return {
        length << 2: Struct(f"!{link + 2}sHH4sH12sIIxBHxx{length - 18}s")
        for length in range(20, 61, 4)
    }


_LAYOUTS = {Medium.ETHERNET: _merge_layouts(_ETHERNET), Medium.IP: _merge_layouts(0)}
_LINK = {Medium.ETHERNET: _ETHERNET, Medium.IP: 0}


class _Run:
    """Consecutive segments of one flow: what the next must equal, and what was merged."""

    __slots__ = (
        "ack", "flags", "fragment", "frame", "head", "header", "identification", "index",
        "ip_sum", "next_seq", "pieces", "prefix", "size", "tail", "total", "window",
    )  # fmt: skip

    frame: Frame
    header: memoryview  # of the first segment
    index: int  # place among the frames returned
    head: int  # octets of all headers
    prefix: bytes
    fragment: bytes
    identification: int
    ack: int
    window: int
    tail: bytes
    ip_sum: int  # of the IP header's octets that all segments share
    next_seq: int
    size: int
    total: int
    flags: int
    pieces: list[Buffer]


def coalesce(frames: list[Frame], medium: Medium) -> list[Frame]:
    """Return the frames of one burst with consecutive TCP segments of a flow merged.

    B is merged to A only if nothing that a connection could notice is lost: no IP options or
    fragments; equal link header, DSCP and ECN, TTL, DF, four-tuple, acknowledgment, window and
    options; B starts where A ends; all pieces but the last of one length; flags within ACK and
    PSH, FIN on B only; 65,535 octets at most. A shorter piece or FIN ends a run; PSH does not,
    since what it asks for (RFC 9293 3.9.1.2) happens at the end of the burst anyway. Checksums
    of what is merged were verified: such frames are VALID. A bad one passes alone and as it is,
    so that the layer that owns it drops and counts it. The order within a flow is kept.
    """
    if len(frames) < 2:
        return frames
    layouts, link = _LAYOUTS[medium], _LINK[medium]
    merged: list[Frame] = []
    open_runs: dict[bytes, _Run] = {}
    all_runs: list[_Run] = []
    for frame in frames:
        if frame.payload:
            view, start = memoryview(frame.octets()), 0
        else:
            view, start = memoryview(frame.header), frame.start
        size = len(view) - start
        layout = layouts.get(view[start + link + 32]) if size > link + 32 else None
        if layout is None or size < layout.size or frame.gso_size:
            if _may_be_tcp(view[start:], link):
                open_runs.clear()  # of which flow was not read: later segments stay behind it
            merged.append(frame)
            continue
        fields = layout.unpack_from(view, start)
        flow = fields[5]
        run = open_runs.get(flow)
        if run is not None:
            if _extend(run, frame, view, start, layout.size, fields):
                if run.flags & ~_PSH != _ACK or len(run.pieces) == MAX_RECEIVED_BUFFERS:
                    del open_runs[flow]
                continue
            del open_runs[flow]
        run = _begin(frame, view, start, link, layout.size, fields)
        if run is not None:
            run.index = len(merged)
            open_runs[flow] = run
            all_runs.append(run)
        elif _has_ports_elsewhere(fields):
            open_runs.clear()
        merged.append(frame)
    for run in all_runs:
        merged[run.index] = _merged_frame(run, link)
    return merged


_Fields = tuple[bytes, int, int, bytes, int, bytes, int, int, int, int, bytes]
"""prefix, total, identification, fragment, checksum, flow, seq, ack, flags, window, tail."""


def _may_be_tcp(view: memoryview, link: int) -> bool:
    """Return whether an odd frame may carry TCP over IPv4 (IP options, a fragment, cut off)."""
    if link and bytes(view[12:14]) != b"\x08\x00":
        return False
    return len(view) < link + 10 or view[link + 9] == 6


def _has_ports_elsewhere(fields: _Fields) -> bool:
    """Return whether what was read as ports is none: behind IP options, or in a fragment."""
    prefix, fragment = fields[0], fields[3]
    return prefix[-2] != 0x45 or bool(fragment[0] & 0x3F or fragment[1])


def _verified(frame: Frame, view: memoryview, start: int, end: int, total: int) -> bool:
    """Return whether the TCP checksum of addresses to end holds; note it in the frame."""
    if frame.checksum is _UNKNOWN:
        if (internet_sum(view[start:end]) + 6 + total - _IPV4) % 0xFFFF:
            return False
        frame.checksum = _VALID
    return True


def _begin(
    frame: Frame, view: memoryview, start: int, link: int, head: int, fields: _Fields
) -> _Run | None:
    """Return a run that starts with ``frame``, or None if nothing may be merged to it."""
    prefix, total, identification, fragment, checksum, flow, seq, ack, flags, window, tail = fields
    length = link + total - head
    end = start + link + total
    if flags & ~_PSH != _ACK or length <= 0 or end > len(view):
        return None
    if prefix[-2] != 0x45 or (link and prefix[12:14] != b"\x08\x00"):
        return None
    if fragment[0] & 0xBF or fragment[1] or fragment[3] != 6:
        return None
    ip_sum = internet_sum(prefix[-2:] + fragment + flow[:8])
    if (ip_sum + total + identification + checksum) % 0xFFFF:
        return None
    if not _verified(frame, view, start + link + 12, end, total):
        return None
    run = _Run()
    run.frame = frame
    run.header = view[start : start + head]
    run.head = head
    run.prefix = prefix
    run.fragment = fragment
    run.identification = identification
    run.ack = ack
    run.window = window
    run.tail = tail
    run.ip_sum = ip_sum
    run.next_seq = seq + length & 0xFFFFFFFF
    run.size = length
    run.total = total
    run.flags = flags
    run.pieces = [view[start + head : end]]
    return run


def _extend(
    run: _Run, frame: Frame, view: memoryview, start: int, head: int, fields: _Fields
) -> bool:
    """Merge ``frame`` to the run if all rules allow it; return whether they do."""
    prefix, total, identification, fragment, checksum, _, seq, ack, flags, window, tail = fields
    if (
        seq != run.next_seq
        or ack != run.ack
        or window != run.window
        or tail != run.tail
        or prefix != run.prefix
        or fragment != run.fragment
        or flags & _UNMERGEABLE
        or not flags & _ACK
    ):
        return False
    link = len(prefix) - 2
    end = start + link + total
    length = end - start - head
    if (
        not 0 < length <= run.size
        or run.total + length > _MAX_PACKET
        or end > len(view)
        or (run.ip_sum + total + identification + checksum) % 0xFFFF
        or not _verified(frame, view, start + link + 12, end, total)
    ):
        return False
    run.pieces.append(view[start + head : end])
    run.next_seq = seq + length & 0xFFFFFFFF
    run.total += length
    # Whatever else than ACK and PSH is noted here ends the run, and so does a short piece.
    run.flags |= flags if length == run.size else flags | _CLOSED
    return True


_CLOSED = 0x100
"""Beside the eight flags of a run: a piece was shorter than the first, nothing may follow."""


def _merged_frame(run: _Run, link: int) -> Frame:
    """Return the super-segment that stands for a run's frames, or its only frame."""
    if len(run.pieces) == 1:
        return run.frame
    header = bytearray(run.header)
    total = run.total
    checksum = -(run.ip_sum + total + run.identification) % 0xFFFF
    header[link + 2 : link + 4] = total.to_bytes(2, "big")
    header[link + 10 : link + 12] = checksum.to_bytes(2, "big")
    tcp = link + _IPV4
    header[tcp + 13] = run.flags & 0xFF
    frame = Frame(header, run.pieces)
    frame.gso_size = run.size
    frame.gso_type = GsoType.TCPV4
    frame.checksum = _VALID
    frame.checksum_start = tcp
    frame.checksum_offset = _TCP_CHECKSUM
    frame.segments = len(run.pieces)
    frame.received_at = run.frame.received_at
    frame.group = run.frame.group
    frame.reason = run.frame.reason
    frame.id = run.frame.id
    return frame
