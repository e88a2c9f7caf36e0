"""The pcap file format (draft-ietf-opsawg-pcap): a header, and records of one link type.

Read in either octet order, in micro- or nanoseconds, and in the variant with longer record
headers that some Linux kernels of the 1990s wrote. Written in little-endian with nanoseconds.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from netstack.capture.packet import Packet
from netstack.capture.stream import Closing, RecordOutput
from netstack.core.errors import LocalProtocolError, ParseError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Buffer

    from netstack.capture.stream import RecordInput, Target

MAX_CAPTURED = 262_144  # octets of one packet; what libpcap takes at most
_MAGIC_NANOSECONDS = 0xA1B23C4D
_NS = 1_000_000_000

# Magic number in its own octet order -> nanoseconds a tick, octets that follow a record header.
_MAGICS = {0xA1B2C3D4: (1000, 0), _MAGIC_NANOSECONDS: (1, 0), 0xA1B2CD34: (1000, 8)}

_HEADER = Struct("<IHHiIII")
_RECORD = Struct("<IIII")


def byte_order(magic: bytes) -> str | None:
    """Return the ``struct`` prefix of the order in which this is a pcap magic, None if neither."""
    if int.from_bytes(magic, "little") in _MAGICS:
        return "<"
    return ">" if int.from_bytes(magic, "big") in _MAGICS else None


class PcapHeader:
    """The file header::

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +---------------------------------------------------------------+
    |                          Magic Number                         |
    +-------------------------------+-------------------------------+
    |          Major Version        |         Minor Version         |
    +-------------------------------+-------------------------------+
    |                           Reserved1                           |
    +---------------------------------------------------------------+
    |                           Reserved2                           |
    +---------------------------------------------------------------+
    |                            SnapLen                            |
    +-------+-+---------------------+-------------------------------+
    |FCS len|f|0 0 0 0 0 0 0 0 0 0 0|           LinkType            |
    +-------+-+---------------------+-------------------------------+
    """

    def __init__(self, source: RecordInput, magic: bytes, order: str) -> None:
        """Read what follows the magic number.

        Raises: ParseError.
        """
        number = int.from_bytes(magic, "little" if order == "<" else "big")
        self.order = order
        self.tick_ns, self.extra = _MAGICS[number]
        rest = source.take(20, "the pcap file header")
        major, minor, _, _, snaplen, network = Struct(order + "HHiIII").unpack(rest)
        if major != 2:
            raise ParseError(f"pcap version {major}.{minor} at octet 4")
        self.snaplen = int(snaplen)
        self.linktype = int(network) & 0xFFFF  # above: the length of an FCS, and reserved bits


def read_records(source: RecordInput, header: PcapHeader) -> Iterator[Packet]:
    """Yield the packets of a file whose header was read.

    Raises: TruncatedError at the end of a cut file, ParseError for an impossible length.
    """
    record = Struct(header.order + "IIII")
    size = record.size + header.extra
    while head := source.take(size, "a record header", may_end=True):
        seconds, fraction, captured, length = record.unpack_from(head)
        if captured > MAX_CAPTURED:
            at = source.offset - size
            raise ParseError(
                f"record at octet {at} says {captured} octets, {MAX_CAPTURED} at most"
            )
        data = source.take(captured, "a packet")
        time_ns = seconds * _NS + fraction * header.tick_ns
        yield Packet(time_ns, memoryview(data), length, linktype=header.linktype)


class PcapWriter(Closing):
    """Writes a pcap file of one link type; context manager.

    Each packet is with the operating system when ``write`` returns: the file is valid to its
    last whole record whenever the process ends.
    """

    def __init__(self, target: Target, linktype: int = 1) -> None:
        self._output = RecordOutput(target)
        header = _HEADER.pack(_MAGIC_NANOSECONDS, 2, 4, 0, 0, MAX_CAPTURED, linktype)
        self._output.write(header)

    def write(
        self,
        time_ns: int,
        data: Buffer,
        interface: int = 0,
        comment: str | None = None,
        original_length: int | None = None,
    ) -> None:
        """Append a packet: nanoseconds since 1970, octets captured, octets it had.

        pcap knows one interface and no comments: a comment is left out.

        Raises: LocalProtocolError for another interface, a time before 1970 or after 2106, or
        more than 262,144 octets; OSError.
        """
        octets = memoryview(data).cast("B")
        seconds, fraction = divmod(time_ns, _NS)
        if interface or not 0 <= seconds < 1 << 32 or len(octets) > MAX_CAPTURED:
            raise LocalProtocolError(
                f"pcap can't hold {len(octets)} octets of interface {interface} at {time_ns} ns"
            )
        length = len(octets) if original_length is None else original_length
        self._output.write(
            b"".join((_RECORD.pack(seconds, fraction, len(octets), length), octets))
        )

    def close(self) -> None:
        """Close a file that was opened here; idempotent."""
        self._output.close()
