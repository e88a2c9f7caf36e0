"""Reading captures of either format; the first four octets tell which."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netstack.capture import pcap
from netstack.capture.pcapng import BlockReader, CaptureInterface
from netstack.capture.stream import Closing, RecordInput
from netstack.core.errors import ParseError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netstack.capture.packet import Packet
    from netstack.capture.stream import Source

_SECTION_HEADER = b"\x0a\x0d\x0d\x0a"


class CaptureReader(Closing):
    """An open capture: an iterator of its packets; context manager.

    A packet is held only while the caller holds it, so files may be larger than memory, and
    pipes are read as they come. ``format`` is "pcap" or "pcapng".
    """

    def __init__(self, source: Source) -> None:
        """Open ``source`` and read its header.

        Raises: OSError, TruncatedError, ParseError.
        """
        self._input = RecordInput(source)
        try:
            self._open()
        except BaseException:
            self._input.close()
            raise

    def _open(self) -> None:
        magic = self._input.take(4, "the magic number")
        self._blocks: BlockReader | None = None
        if magic == _SECTION_HEADER:
            self.format = "pcapng"
            self._blocks = BlockReader(self._input)
            self._packets = self._blocks.read_packets(magic)
            return
        order = pcap.byte_order(magic)
        if order is None:
            raise ParseError(f"no capture file: magic number {magic.hex()} at octet 0")
        self.format = "pcap"
        header = pcap.PcapHeader(self._input, magic, order)
        ticks = 1_000_000_000 // header.tick_ns
        self._interface = CaptureInterface("", header.linktype, header.snaplen, ticks)
        self._packets = pcap.read_records(self._input, header)

    @property
    def interfaces(self) -> list[CaptureInterface]:
        """The interfaces described so far (in pcapng: in this section)."""
        return [self._interface] if self._blocks is None else list(self._blocks.interfaces)

    def __iter__(self) -> Iterator[Packet]:
        return self

    def __next__(self) -> Packet:
        return next(self._packets)

    def close(self) -> None:
        """Close a file that was opened here; idempotent."""
        self._input.close()


def read(path: Source) -> Iterator[Packet]:
    """Yield the packets of a pcap or pcapng file, given by its path or open in binary mode.

    Raises: OSError; ParseError for what is no capture; TruncatedError, after all whole packets,
    if the file ends within a record.
    """
    with CaptureReader(path) as reader:
        yield from reader
