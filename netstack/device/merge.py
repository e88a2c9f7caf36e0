"""Merging consecutive TCP segments of one burst: the definition, and the switch.

Theory of operation. What two segments must have in common is compared as octet strings, and the
IP header is verified by adding the three fields that may differ to the sum of the rest. A run of
segments becomes one packet: the headers of the first, the payload of all. Of pure ACKs in a row
the last stays (``acks``).
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from netstack import _ext
from netstack.core.checksum import internet_sum_py
from netstack.device.acks import is_pure, supersedes
from netstack.device.burst import SPAN, span_view

if TYPE_CHECKING:
    from array import array
    from collections.abc import Sequence

    from typing_extensions import Buffer

UNKNOWN, VERIFIED, WHOLE = 0, 1, 2
"""States: of a frame whose TCP checksum nobody has looked at, of one whose checksum holds (or
was never needed), and of a super-segment, which nothing is merged with."""

_ETHERNET = 14  # octets of an Ethernet II header
_IPV4 = 20  # octets of an IPv4 header without options
_MAX_PACKET = 65_535  # RFC 791 3.1: total length has 16 bits
_TCP = 6
_FIN, _PSH, _ACK = 0x01, 0x08, 0x10
_UNMERGEABLE = 0xFF & ~(_ACK | _PSH | _FIN)

_CLOSED = 0x100
"""Beside the eight flags of a run: a piece was shorter than the first, nothing may follow."""


def _layouts(link: int) -> dict[int, Struct]:
    """Return header layouts by the octet that holds TCP's data offset (reserved bits zero)."""
    return {
        length << 2: Struct(f"!{link + 2}sHH4sH12sIIxBHxx{length - 18}s")
        for length in range(20, 61, 4)
    }


_LAYOUTS = {_ETHERNET: _layouts(_ETHERNET), 0: _layouts(0)}

_Fields = tuple[bytes, int, int, bytes, int, bytes, int, int, int, int, bytes]
"""prefix, total, identification, fragment, checksum, flow, seq, ack, flags, window, tail."""

Merged = tuple[int, int, int, bool, bytes | None]
"""The first frame's index, of ACKs the last's; how many frames became one; the length of all
payloads but the last; whether the TCP checksum is known to hold; the octets, or None where the
frame stays as it is."""


class _Run:
    """Consecutive segments of one flow: what the next must equal, and what was merged."""

    __slots__ = (
        "ack", "flags", "fragment", "head", "identification", "index", "ip_sum", "next_seq",
        "pieces", "prefix", "size", "tail", "total", "window",
    )  # fmt: skip

    index: int  # of the first frame
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
    pieces: list[memoryview]  # the first with its headers


def merge_py(frames: Sequence[Buffer], states: bytes | None, link: int) -> list[Merged]:
    """Return what becomes of the frames of one burst, in order of their first octets.

    B is merged to A only if nothing that a connection could notice is lost: no IP options or
    fragments; equal link header, DSCP and ECN, TTL, DF, four-tuple, acknowledgment, window and
    options; B starts where A ends; all pieces but the last of one length; flags within ACK and
    PSH, FIN on B only; 65,535 octets at most. A shorter piece or FIN ends a run; PSH does not,
    since what it asks for (RFC 9293 3.9.1.2) happens at the end of the burst anyway. The
    checksums of what is merged were verified. A bad one stays alone and as it is, so that the
    layer that owns it drops and counts it. The order within a flow is kept.

    A pure ACK takes the place of the one before it, and stands for both, if it supersedes it
    (``acks``). No ACK passes any other frame.

    ``states``: one octet a frame; None = all UNKNOWN. ``link``: octets of the link header, 14
    or 0.
    Raises: ValueError for another number of states than of frames, or another link header;
    BufferError for octets that don't lie in one piece.
    """
    if states is not None and len(states) != len(frames):
        raise ValueError(f"{len(states)} states of {len(frames)} frames")
    if link not in _LAYOUTS:
        raise ValueError(f"a link header of {link} octets")
    layouts = _LAYOUTS[link]
    found: list[_Run | Merged] = []  # a run, or what stays as it is
    open_runs: dict[bytes, _Run] = {}
    acks: dict[bytes, int] = {}  # the place of a flow's last ACK
    for index, view in enumerate(views := [_octets(frame) for frame in frames]):
        state = UNKNOWN if states is None else states[index]
        layout = layouts.get(view[link + 32]) if len(view) > link + 32 else None
        if layout is None or len(view) < layout.size or state == WHOLE:
            if _may_be_tcp(view, link):
                open_runs.clear()  # of which flow was not read: later segments stay behind it
            found.append((index, 1, 0, state == VERIFIED, None))
            acks.clear()
            continue
        fields = layout.unpack_from(view)
        flow = fields[5]
        run = open_runs.get(flow)
        if run is not None:
            if _extend(run, state, view, layout.size, fields):
                if run.flags & ~_PSH != _ACK:
                    del open_runs[flow]
                continue
            del open_runs[flow]
        if is_pure(view, link) and _both_hold(state, view, link, fields[1]):
            acks[flow] = _take_ack(found, acks.get(flow), views, index, link)
            continue
        acks.clear()
        run = _begin(index, state, view, link, layout.size, fields)
        if run is not None:
            open_runs[flow] = run
            found.append(run)
            continue
        if _has_ports_elsewhere(fields):
            open_runs.clear()
        found.append((index, 1, 0, state == VERIFIED, None))
    return [_result(each, link) if isinstance(each, _Run) else each for each in found]


def merge_spans_py(octets: Buffer, spans: array[int], count: int, link: int) -> list[Merged]:
    """Return what becomes of the first ``count`` frames that ``spans`` tells of (``burst``).

    Raises: ValueError for frames outside of ``octets``, or another link header.
    """
    view = memoryview(octets)
    if not 0 <= count <= len(spans) // SPAN:
        raise ValueError(f"{count} frames of fewer")
    frames = [span_view(view, spans, SPAN * index) for index in range(count)]
    return merge_py(frames, None, link)


def _octets(data: Buffer) -> memoryview:
    view = memoryview(data)
    if not view.c_contiguous:
        raise BufferError("the octets of a frame must lie in one piece")
    return view.cast("B")


def _take_ack(
    found: list[_Run | Merged], place: int | None, views: list[memoryview], index: int, link: int
) -> int:
    """Give an ACK the ``place`` of the one before it, or one of its own; return which."""
    if place is not None:
        before = found[place]
        if not isinstance(before, _Run) and supersedes(views[index], views[before[0]], link):
            found[place] = (index, 1 + before[1], 0, True, None)
            return place
    found.append((index, 1, 0, True, None))
    return len(found) - 1


def _result(run: _Run, link: int) -> Merged:
    count = len(run.pieces)
    if count == 1:
        return run.index, 1, 0, True, None
    return run.index, count, run.size, True, _merged_octets(run, link)


def _may_be_tcp(view: memoryview, link: int) -> bool:
    """Return whether an odd frame may carry TCP over IPv4 (IP options, a fragment, cut off)."""
    if link and bytes(view[12:14]) != b"\x08\x00":
        return False
    return len(view) < link + 10 or view[link + 9] == _TCP


def _has_ports_elsewhere(fields: _Fields) -> bool:
    """Return whether what was read as ports is none: behind IP options, or in a fragment."""
    prefix, fragment = fields[0], fields[3]
    if len(prefix) > 2 and prefix[12:14] != b"\x08\x00":
        return False
    return prefix[-2] != 0x45 or bool(fragment[0] & 0x3F or fragment[1])


def _holds(state: int, view: memoryview, start: int, end: int, total: int) -> bool:
    """Return whether the TCP checksum over what lies between addresses and end holds."""
    if state == VERIFIED:
        return True
    return (internet_sum_py(view[start:end]) + _TCP + total - _IPV4) % 0xFFFF == 0


def _both_hold(state: int, view: memoryview, link: int, total: int) -> bool:
    """Return whether the checksums of IP's header, without options, and of TCP hold."""
    if internet_sum_py(view[link : link + _IPV4]) != 0xFFFF:
        return False
    return _holds(state, view, link + 12, link + total, total)


def _begin(
    index: int, state: int, view: memoryview, link: int, head: int, fields: _Fields
) -> _Run | None:
    """Return a run that starts with this frame, or None if nothing may be merged to it."""
    prefix, total, identification, fragment, checksum, flow, seq, ack, flags, window, tail = fields
    end = link + total
    if flags & ~_PSH != _ACK or end <= head or end > len(view):
        return None
    if prefix[-2] != 0x45 or (link and prefix[12:14] != b"\x08\x00"):
        return None
    if fragment[0] & 0xBF or fragment[1] or fragment[3] != _TCP:
        return None
    ip_sum = internet_sum_py(prefix[-2:] + fragment + flow[:8])
    if (ip_sum + total + identification + checksum) % 0xFFFF:
        return None
    if not _holds(state, view, link + 12, end, total):
        return None
    run = _Run()
    run.index = index
    run.head = head
    run.prefix = prefix
    run.fragment = fragment
    run.identification = identification
    run.ack = ack
    run.window = window
    run.tail = tail
    run.ip_sum = ip_sum
    run.size = end - head
    run.next_seq = seq + run.size & 0xFFFFFFFF
    run.total = total
    run.flags = flags
    run.pieces = [view[:end]]
    return run


def _extend(run: _Run, state: int, view: memoryview, head: int, fields: _Fields) -> bool:
    """Merge a frame to the run if all rules allow it; return whether they do."""
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
    end = link + total
    length = end - head
    if (
        not 0 < length <= run.size
        or run.total + length > _MAX_PACKET
        or end > len(view)
        or (run.ip_sum + total + identification + checksum) % 0xFFFF
        or not _holds(state, view, link + 12, end, total)
    ):
        return False
    run.pieces.append(view[head:end])
    run.next_seq = seq + length & 0xFFFFFFFF
    run.total += length
    # Whatever else than ACK and PSH is noted here ends the run, and so does a short piece.
    run.flags |= flags if length == run.size else flags | _CLOSED
    return True


def _merged_octets(run: _Run, link: int) -> bytes:
    """Return the frame that stands for a run: headers of the first, payload of all."""
    header = bytearray(run.pieces[0][: run.head])
    checksum = -(run.ip_sum + run.total + run.identification) % 0xFFFF
    header[link + 2 : link + 4] = run.total.to_bytes(2, "big")
    header[link + 10 : link + 12] = checksum.to_bytes(2, "big")
    header[link + _IPV4 + 13] = run.flags & 0xFF
    return b"".join((header, run.pieces[0][run.head :], *run.pieces[1:]))


if _ext.COMPILED:
    from netstack._ext.coalesce import merge as merge
    from netstack._ext.coalesce import merge_spans as merge_spans
else:
    merge = merge_py
    merge_spans = merge_spans_py
