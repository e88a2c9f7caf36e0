"""Reading the pcapng file format (draft-ietf-opsawg-pcapng): sections of typed blocks.

A section header fixes the octet order and begins a new list of interfaces; enhanced, simple and
obsolete packet blocks give packets; every other block is skipped. Lengths are checked before
anything is read by them, so that no file makes the reader loop, or hold more than one block::

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +---------------------------------------------------------------+
    |                          Block Type                           |
    +---------------------------------------------------------------+
    |                      Block Total Length                       |
    +---------------------------------------------------------------+
    /                 Block Body, padded to 32 bits                 /
    +---------------------------------------------------------------+
    |                      Block Total Length                       |
    +---------------------------------------------------------------+
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Literal

from netstack.capture.packet import Packet
from netstack.core.errors import ParseError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netstack.capture.stream import RecordInput

MAX_BLOCK = 16 << 20  # octets, as libpcap
MAX_INTERFACES = 4096  # of a section
BYTE_ORDER_MAGIC = 0x1A2B3C4D
_NS = 1_000_000_000


class BlockType(IntEnum):
    """Block types that are read here, and those that are written."""

    INTERFACE = 1
    OBSOLETE_PACKET = 2
    SIMPLE_PACKET = 3
    ENHANCED_PACKET = 6
    SECTION_HEADER = 0x0A0D0D0A


class OptionCode(IntEnum):
    """Options that are read or written."""

    END = 0
    COMMENT = 1
    IF_NAME = 2
    USER_APPLICATION = 4  # of a section header
    IF_TSRESOL = 9
    IF_TSOFFSET = 14


@dataclass(frozen=True, slots=True)
class CaptureInterface:
    """Where packets were captured: ``ticks`` of its clock a second, ``offset`` in seconds."""

    name: str
    linktype: int
    snaplen: int = 0  # octets, 0: no limit
    ticks: int = 1_000_000
    offset: int = 0


class BlockReader:
    """Reads the blocks of a pcapng file from its first block type on."""

    def __init__(self, source: RecordInput) -> None:
        self._source = source
        self._order: Literal["little", "big"] = "little"
        self._body = memoryview(b"")
        self._start = 0  # of the block, in the file
        self.interfaces: list[CaptureInterface] = []

    def read_packets(self, first: bytes) -> Iterator[Packet]:
        """Yield the packets of all sections; ``first``: the block type already taken.

        Raises: TruncatedError at the end of a cut file, ParseError naming the offset.
        """
        kind = first
        while kind:
            packet = self._read_block(kind)
            if packet is not None:
                yield packet
            kind = self._source.take(4, "a block", may_end=True)

    def _fail(self, message: str) -> ParseError:
        return ParseError(f"pcapng block at octet {self._start}: {message}")

    def _u16(self, at: int) -> int:
        return int.from_bytes(self._body[at : at + 2], self._order)

    def _u32(self, at: int) -> int:
        return int.from_bytes(self._body[at : at + 4], self._order)

    def _read_block(self, kind_octets: bytes) -> Packet | None:
        source = self._source
        self._start = source.offset - 4
        length_octets = source.take(4, "a block length")
        taken = b""
        if kind_octets == b"\x0a\x0d\x0d\x0a":  # the same in both orders
            taken = source.take(4, "a byte-order magic")
            self._take_byte_order(taken)
        kind = int.from_bytes(kind_octets, self._order)
        length = int.from_bytes(length_octets, self._order)
        if length < 12 + len(taken) or length & 3 or length > MAX_BLOCK:
            raise self._fail(f"total length {length}")
        rest = source.take(length - 8 - len(taken), "a block")
        if rest[-4:] != length_octets:
            raise self._fail(f"total length {length} is another one at its end")
        self._body = memoryview(taken + rest if taken else rest)[:-4]
        if kind == BlockType.ENHANCED_PACKET:
            return self._read_enhanced_packet()
        if kind == BlockType.SECTION_HEADER:
            self._read_section_header()
        elif kind == BlockType.INTERFACE:
            self._read_interface()
        elif kind == BlockType.SIMPLE_PACKET:
            return self._read_simple_packet()
        elif kind == BlockType.OBSOLETE_PACKET:
            return self._read_obsolete_packet()
        return None

    def _take_byte_order(self, octets: bytes) -> None:
        if int.from_bytes(octets, "little") == BYTE_ORDER_MAGIC:
            self._order = "little"
        elif int.from_bytes(octets, "big") == BYTE_ORDER_MAGIC:
            self._order = "big"
        else:
            raise self._fail(f"byte-order magic {octets.hex()}")

    def _need(self, count: int) -> None:
        if len(self._body) < count:
            raise self._fail(f"{count} octets needed, {len(self._body)} there")

    def _read_section_header(self) -> None:
        # The section length may be wrong or unknown; blocks are walked one by one anyway.
        self._need(16)
        major, minor = self._u16(4), self._u16(6)
        if major != 1:
            raise self._fail(f"version {major}.{minor}")
        self.interfaces = []

    def _read_options(self, at: int) -> dict[int, list[bytes]]:
        """Return the values by option code.

        Raises: ParseError if one is longer than what is left of the block.
        """
        options: dict[int, list[bytes]] = {}
        body = self._body
        while at + 4 <= len(body):
            code, size = self._u16(at), self._u16(at + 2)
            if code == OptionCode.END:
                break
            if at + 4 + size > len(body):
                raise self._fail(f"option {code} of {size} octets")
            options.setdefault(code, []).append(bytes(body[at + 4 : at + 4 + size]))
            at += 4 + (size + 3 & ~3)
        return options

    def _read_interface(self) -> None:
        self._need(8)
        if len(self.interfaces) >= MAX_INTERFACES:
            raise self._fail(f"more than {MAX_INTERFACES} interfaces")
        options = self._read_options(8)
        name = options.get(OptionCode.IF_NAME, [b""])[0].decode(errors="replace")
        resolution = options.get(OptionCode.IF_TSRESOL, [b"\x06"])[0]
        offset = options.get(OptionCode.IF_TSOFFSET, [bytes(8)])[0]
        if len(resolution) != 1 or len(offset) != 8:
            raise self._fail("time options of wrong size")
        exponent = resolution[0]
        ticks = 1 << (exponent & 0x7F) if exponent & 0x80 else 10**exponent
        seconds = int.from_bytes(offset, self._order, signed=True)
        interface = CaptureInterface(name, self._u16(0), self._u32(4), ticks, seconds)
        self.interfaces.append(interface)

    def _interface(self, index: int) -> CaptureInterface:
        if index >= len(self.interfaces):
            raise self._fail(f"interface {index} of {len(self.interfaces)}")
        return self.interfaces[index]

    def _read_enhanced_packet(self) -> Packet:
        self._need(20)
        return self._packet(self._u32(0))

    def _read_obsolete_packet(self) -> Packet:
        self._need(20)
        return self._packet(self._u16(0))

    def _packet(self, index: int) -> Packet:
        """Return the packet of a block that begins as the enhanced one does."""
        interface = self._interface(index)
        captured = self._u32(12)
        end = 20 + captured
        if end > len(self._body):
            raise self._fail(f"{captured} octets captured, {len(self._body) - 20} there")
        ticks = self._u32(4) << 32 | self._u32(8)
        comment = None
        options_start = 20 + (captured + 3 & ~3)
        if options_start < len(self._body):
            comments = self._read_options(options_start).get(OptionCode.COMMENT)
            comment = comments and b"\n".join(comments).decode(errors="replace")
        return Packet(
            interface.offset * _NS + ticks * _NS // interface.ticks,
            self._body[20:end],
            self._u32(16),
            interface=index,
            linktype=interface.linktype,
            comment=comment or None,
        )

    def _read_simple_packet(self) -> Packet:
        """Return a packet without time and options, of the first interface (draft 4.4)."""
        self._need(4)
        interface = self._interface(0)
        length = self._u32(0)
        captured = min(length, interface.snaplen or length)
        if 4 + captured > len(self._body):
            raise self._fail(f"{captured} octets captured, {len(self._body) - 4} there")
        data = self._body[4 : 4 + captured]
        return Packet(0, data, length, linktype=interface.linktype)
