"""The TCP header and its options (RFC 9293 section 3.1, RFC 7323, RFC 2018).

``TcpHeader`` is the value for tools and tests. ``Segment`` is what the connection logic works
on: one slotted object with the options as plain attributes, filled by ``parse_segment``.
Neither computes nor checks the checksum.
"""

from __future__ import annotations

import math
from enum import IntEnum, IntFlag
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from netstack.core.checksum import internet_sum, pseudo_header_sum
from netstack.core.errors import ParseError
from netstack.wire.layout import (
    octets_at,
    put,
    put_tcp,
    same,
    tcp_fields,
    timestamp_fields,
    u8,
    u16,
    u32,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer

HEADER_LENGTH = 20  # octets, without options
MAX_OPTIONS = 40  # octets
CHECKSUM_OFFSET = 16

FAST_OPEN_LENGTHS = frozenset({0, *range(4, 17, 2)})
"""Octets of a fast open cookie (RFC 7413 4.1.1), none for a request."""

_HEADER = Struct("!HHIIHHHH")
_TIMESTAMP = Struct("!II")
_SACKS = tuple(Struct(f"!I{2 * count}I") for count in range(5))
_SACK_HEAD = 0x01010502  # two NOPs, the kind and the length without blocks


class TcpFlag(IntFlag):
    """Control bits, RFC 9293 3.1."""

    FIN = 0x01
    SYN = 0x02
    RST = 0x04
    PSH = 0x08
    ACK = 0x10
    URG = 0x20
    ECE = 0x40
    CWR = 0x80


FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = 1, 2, 4, 8, 16, 32, 64, 128
"""The same bits as plain ints: an enum member costs a conversion at each operation."""


class TcpOption(IntEnum):
    """Option kinds, IANA's registry."""

    END = 0
    NOP = 1
    MSS = 2
    WINDOW_SCALE = 3
    SACK_PERMITTED = 4
    SACK = 5
    TIMESTAMPS = 8
    USER_TIMEOUT = 28
    FAST_OPEN = 34


# The same as plain numbers, which each segment's options are compared with.
_END, _NOP, _MSS_KIND, _WINDOW_SCALE_KIND, _SACK_PERMITTED_KIND, _SACK_KIND = 0, 1, 2, 3, 4, 5
_TIMESTAMPS_KIND, _USER_TIMEOUT_KIND, _FAST_OPEN_KIND = 8, 28, 34


#  0                   1                   2                   3
#  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
# +-------------------------------+-------------------------------+
# |          Source Port          |       Destination Port        |
# +-------------------------------+-------------------------------+
# |                        Sequence Number                        |
# +---------------------------------------------------------------+
# |                    Acknowledgment Number                      |
# +-------+-------+-+-+-+-+-+-+-+-+-------------------------------+
# | Offset| Rsrvd |C|E|U|A|P|R|S|F|            Window             |
# +-------+-------+-+-+-+-+-+-+-+-+-------------------------------+
# |           Checksum            |         Urgent Pointer        |
# +-------------------------------+-------------------------------+
# |                           [Options]                           |
class TcpHeader(NamedTuple):
    """A TCP header; ``options`` are the octets between the fixed part and the payload."""

    source_port: int
    destination_port: int
    seq: int
    ack: int
    flags: int
    window: int
    checksum: int = 0
    urgent_pointer: int = 0
    options: bytes = b""
    reserved: int = 0

    @classmethod
    def parse(cls, data: Buffer) -> tuple[TcpHeader, memoryview]:
        """Return the header at the start of ``data``, and a view of the payload.

        Raises: ParseError if ``data`` is shorter than its data offset says.
        """
        view = memoryview(data).cast("B")
        if len(view) < HEADER_LENGTH:
            raise ParseError(f"TCP header needs 20 octets, got {len(view)}")
        source, destination, seq, ack, word, window, checksum, urgent = _HEADER.unpack_from(view)
        length = word >> 12 << 2
        if length < HEADER_LENGTH or length > len(view):
            raise ParseError(f"TCP data offset of {length} octets in {len(view)}")
        options = bytes(view[HEADER_LENGTH:length])
        header = cls(
            source, destination, seq, ack, word & 0xFF, window, checksum, urgent, options,
            word >> 8 & 0xF,
        )  # fmt: skip
        return header, view[length:]

    def build(self) -> bytes:
        """Return the octets of the header, with the checksum it holds."""
        if len(self.options) & 3 or len(self.options) > MAX_OPTIONS:
            raise ValueError("TCP options take a multiple of 4 octets, 40 at most")
        word = (HEADER_LENGTH + len(self.options)) << 10 | self.reserved << 8 | self.flags
        return (
            _HEADER.pack(
                self.source_port, self.destination_port, self.seq, self.ack, word, self.window,
                self.checksum, self.urgent_pointer,
            )
            + self.options
        )  # fmt: skip

    def with_checksum(self, source: bytes, destination: bytes, payload: Buffer = b"") -> TcpHeader:
        """Return a copy with the checksum for ``payload`` between two packed addresses."""
        blank = self._replace(checksum=0)
        octets = blank.build() + bytes(payload)
        initial = pseudo_header_sum(source, destination, 6, len(octets))
        return blank._replace(checksum=~internet_sum(octets, initial) & 0xFFFF)


class Segment:
    """One arriving TCP segment (a coalesced one stands for ``segments`` wire segments).

    ``length`` counts payload octets. Option attributes are None where the option is absent.
    """

    __slots__ = (
        "ack",
        "ecn",
        "fast_open",
        "flags",
        "gso_size",
        "length",
        "mss",
        "payload",
        "sack_blocks",
        "sack_permitted",
        "segments",
        "seq",
        "ts_ecr",
        "ts_val",
        "urgent_pointer",
        "user_timeout",
        "window",
        "window_scale",
    )

    def __init__(self, seq: int, ack: int, flags: int, window: int, urgent_pointer: int) -> None:
        self.seq = seq
        self.ack = ack
        self.flags = flags
        self.window = window
        self.urgent_pointer = urgent_pointer
        self.length = 0
        self.payload: Sequence[bytes | memoryview] = ()
        self.segments = 1
        self.gso_size = 0  # payload of each but the last of them; 0: it is one
        self.ecn = 0
        self.mss: int | None = None
        self.window_scale: int | None = None
        self.sack_permitted = False
        self.sack_blocks: tuple[tuple[int, int], ...] = ()
        self.ts_val: int | None = None
        self.ts_ecr = 0
        self.user_timeout = 0.0  # seconds
        self.fast_open: bytes | None = None  # a cookie; empty: the request for one


_COPIED = 256  # octets of text below which it is not referred to
_ALIGNED_TIMESTAMPS = b"\x01\x01\x08\x0a"
_SACK_AND_TIMESTAMPS = b"\x04\x02\x08\x0a"
_ALIGNED_SACK_PERMITTED = b"\x01\x01\x04\x02"


def parse_segment(
    header: Buffer, start: int, length: int, payload: Sequence[Buffer] = ()
) -> Segment:
    """Return the segment at ``header[start:]``; ``length`` counts header and all payload.

    ``payload`` are further buffers after ``header``'s end. Ports are left to the caller. Text is
    referred to, but a little of it is copied: that costs less than a view.

    Raises: ParseError for a bad data offset. Malformed options end option processing: what
    came before them counts (RFC 9293 MUST-7 leaves the choice).
    """
    if length < HEADER_LENGTH or len(header) - start < HEADER_LENGTH:  # type: ignore[arg-type]
        raise ParseError("TCP segment shorter than its header")
    seq, ack, word, window, urgent = tcp_fields(header, start)
    offset = word >> 12 << 2
    if offset < HEADER_LENGTH or offset > length:
        raise ParseError("TCP data offset beyond the segment")
    if start + (offset if payload else length) > len(header):  # type: ignore[arg-type]
        raise ParseError("TCP segment ends before its length")
    segment = Segment(seq, ack, word & 0xFF, window, urgent)
    if offset > HEADER_LENGTH:
        options = start + HEADER_LENGTH
        if offset == 32 and same(header, options, _ALIGNED_TIMESTAMPS):
            segment.ts_val, segment.ts_ecr = timestamp_fields(header, options + 4)
        else:
            _parse_options(header, options, start + offset, segment)
    text = length - offset
    segment.length = text
    if not text:
        return segment
    if payload:
        segment.payload = _first((memoryview(header)[start + offset :], *payload), text)
    elif text < _COPIED:
        segment.payload = (octets_at(header, start + offset, text),)
    else:
        segment.payload = (memoryview(header)[start + offset : start + length],)
    return segment


def _first(pieces: Sequence[Buffer], length: int) -> list[memoryview]:
    """Return the first ``length`` octets: what follows them is a link's padding."""
    result = []
    for piece in pieces:
        view = memoryview(piece)[:length]
        if len(view):
            result.append(view)
            length -= len(view)
    if length:
        raise ParseError("TCP segment ends before its length")
    return result


def _parse_options(header: Buffer, at: int, end: int, segment: Segment) -> None:
    """Fill in what the options at ``at .. end`` say; stop at the first malformed one."""
    while at < end:
        kind = u8(header, at)
        if kind == _END:
            return
        if kind == _NOP:
            at += 1
            continue
        if at + 1 >= end:
            return
        size = u8(header, at + 1)
        if size < 2 or at + size > end:
            return
        _take_option(kind, header, at + 2, size - 2, segment)
        at += size


def _take_option(kind: int, header: Buffer, at: int, length: int, segment: Segment) -> None:
    """Take an option whose value, ``length`` octets, lies at ``at``."""
    if kind == _TIMESTAMPS_KIND and length == 8:
        segment.ts_val, segment.ts_ecr = timestamp_fields(header, at)
    elif kind == _SACK_KIND and length & 7 == 0:
        blocks = []
        for left in range(at, at + length, 8):
            blocks.append((u32(header, left), u32(header, left + 4)))  # noqa: PERF401 - for C
        segment.sack_blocks = tuple(blocks)
    elif kind == _MSS_KIND and length == 2:
        segment.mss = u16(header, at)
    elif kind == _WINDOW_SCALE_KIND and length == 1:
        segment.window_scale = u8(header, at)
    elif kind == _SACK_PERMITTED_KIND and not length:
        segment.sack_permitted = True
    elif kind == _USER_TIMEOUT_KIND and length == 2:
        number = u16(header, at)
        segment.user_timeout = (number & 0x7FFF) * (60.0 if number & 0x8000 else 1.0)
    elif kind == _FAST_OPEN_KIND and length in FAST_OPEN_LENGTHS:
        segment.fast_open = octets_at(header, at, length)


def build_syn_options(
    mss: int,
    window_scale: int | None,
    timestamps: tuple[int, int] | None,
    *,
    sack: bool = False,
) -> bytes:
    """Return the options of a SYN, padded with zeros to a multiple of four octets."""
    options = bytes((TcpOption.MSS, 4, mss >> 8, mss & 0xFF))
    if timestamps is not None:
        lead = _SACK_AND_TIMESTAMPS if sack else _ALIGNED_TIMESTAMPS
        options += lead + _TIMESTAMP.pack(*timestamps)
    elif sack:
        options += _ALIGNED_SACK_PERMITTED
    if window_scale is not None:
        options += bytes((TcpOption.NOP, TcpOption.WINDOW_SCALE, 3, window_scale))
    return options


def build_timestamps(ts_val: int, ts_ecr: int) -> bytes:
    """Return the 12 octets of an aligned timestamps option (RFC 7323 appendix A)."""
    return _ALIGNED_TIMESTAMPS + _TIMESTAMP.pack(ts_val, ts_ecr)


def build_user_timeout(seconds: float) -> bytes:
    """Return a user timeout option, rounded up to seconds or minutes (RFC 5482 3)."""
    number = max(math.ceil(seconds), 1)
    if number > 0x7FFF:
        number = min(-(-number // 60), 0x7FFF) | 0x8000
    return bytes((TcpOption.USER_TIMEOUT, 4, number >> 8, number & 0xFF))


def build_fast_open(cookie: bytes) -> bytes:
    """Return a fast open option, padded in front; without a cookie it asks for one.

    RFC 7413 4.1.1. Raises: ValueError for a cookie not of 4 to 16 octets, or of an odd number.
    """
    if len(cookie) not in FAST_OPEN_LENGTHS:
        raise ValueError(f"a fast open cookie of {len(cookie)} octets")
    padding = bytes((TcpOption.NOP,)) * (-(2 + len(cookie)) % 4)
    return padding + bytes((TcpOption.FAST_OPEN, 2 + len(cookie))) + cookie


def build_sack(blocks: Sequence[tuple[int, int]]) -> bytes:
    """Return an aligned SACK option (RFC 2018 3), or nothing without blocks.

    Raises: ValueError for more than the four that there is room for.
    """
    count = len(blocks)
    if not count:
        return b""
    if count >= len(_SACKS):
        raise ValueError(f"{count} SACK blocks")
    edges = [edge for block in blocks for edge in block]
    return _SACKS[count].pack(_SACK_HEAD + 8 * count, *edges)


def pack_header(
    buffer: bytearray,
    start: int,
    ports: bytes,
    seq: int,
    ack: int,
    flags: int,
    window: int,
    checksum: int,
    options: bytes,
) -> None:
    """Write a header at ``buffer[start:]``; ``ports`` are the first four octets."""
    word = (HEADER_LENGTH + len(options)) << 10 | flags
    put(buffer, start, ports)
    put_tcp(buffer, start, seq, ack, word, window, checksum, 0)
    if options:
        put(buffer, start + HEADER_LENGTH, options)
