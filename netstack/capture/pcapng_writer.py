"""Writing pcapng: one little-endian section, nanoseconds, packet comments.

Nothing of the machine gets into the file: no host name, no operating system, no version. The
same packets give the same octets.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from netstack.capture.pcap import MAX_CAPTURED
from netstack.capture.pcapng import (
    BYTE_ORDER_MAGIC,
    MAX_INTERFACES,
    BlockType,
    CaptureInterface,
    OptionCode,
)
from netstack.capture.stream import Closing, RecordOutput
from netstack.core.errors import LocalProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Buffer

    from netstack.capture.stream import Target

APPLICATION = b"netstack"
MAX_COMMENT = 4096  # octets; longer comments are cut
_TSRESOL_NS = b"\x09"

_LENGTHS = Struct("<II")
_LENGTH = Struct("<I")
_OPTION = Struct("<HH")
_SECTION = Struct("<IHHq")
_INTERFACE = Struct("<HHI")
_PACKET = Struct("<IIIIIII")
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")


def _option(code: int, value: bytes) -> bytes:
    return _OPTION.pack(code, len(value)) + value + _PADDING[len(value) & 3]


def _block(kind: int, body: bytes) -> bytes:
    length = len(body) + 12
    return _LENGTHS.pack(kind, length) + body + _LENGTH.pack(length)


class PcapngWriter(Closing):
    """Writes a pcapng file; interfaces may be added at any time; context manager.

    Each packet is with the operating system when ``write`` returns: the file is valid to its
    last whole record whenever the process ends.
    """

    def __init__(self, target: Target, interfaces: Iterable[CaptureInterface] = ()) -> None:
        self._output = RecordOutput(target)
        self._interfaces = 0
        options = _option(OptionCode.USER_APPLICATION, APPLICATION) + _option(OptionCode.END, b"")
        # A section length of -1: unknown, since packets are still to come.
        body = _SECTION.pack(BYTE_ORDER_MAGIC, 1, 0, -1) + options
        self._output.write(_block(BlockType.SECTION_HEADER, body))
        for interface in interfaces:
            self.add_interface(interface.name, interface.linktype, interface.snaplen)

    def add_interface(self, name: str, linktype: int = 1, snaplen: int = 0) -> int:
        """Describe one more interface and return its number; its clock counts nanoseconds.

        Raises: LocalProtocolError if there are 4,096; OSError.
        """
        if self._interfaces >= MAX_INTERFACES:
            raise LocalProtocolError(f"more than {MAX_INTERFACES} interfaces in a capture")
        body = _INTERFACE.pack(linktype, 0, snaplen)
        if name:
            body += _option(OptionCode.IF_NAME, _text(name))
        body += _option(OptionCode.IF_TSRESOL, _TSRESOL_NS) + _option(OptionCode.END, b"")
        self._output.write(_block(BlockType.INTERFACE, body))
        self._interfaces += 1
        return self._interfaces - 1

    def write(
        self,
        time_ns: int,
        data: Buffer,
        interface: int = 0,
        comment: str | None = None,
        original_length: int | None = None,
    ) -> None:
        """Append a packet: nanoseconds since 1970, octets captured, octets it had.

        Raises: LocalProtocolError for an unknown interface, a time before 1970, or more than
        262,144 octets; OSError.
        """
        octets = memoryview(data).cast("B")
        captured = len(octets)
        if (
            not 0 <= interface < self._interfaces
            or captured > MAX_CAPTURED
            or not 0 <= time_ns < 1 << 64
        ):
            raise LocalProtocolError(
                f"can't write {captured} octets of interface {interface} of {self._interfaces} "
                f"at {time_ns} ns"
            )
        options = b""
        if comment:
            options = _option(OptionCode.COMMENT, _text(comment)) + _option(OptionCode.END, b"")
        padding = _PADDING[captured & 3]
        length = 32 + captured + len(padding) + len(options)
        head = _PACKET.pack(
            BlockType.ENHANCED_PACKET, length, interface, time_ns >> 32, time_ns & 0xFFFFFFFF,
            captured, captured if original_length is None else original_length,
        )  # fmt: skip
        self._output.write(b"".join((head, octets, padding, options, _LENGTH.pack(length))))

    def close(self) -> None:
        """Close a file that was opened here; idempotent."""
        self._output.close()


def _text(text: str) -> bytes:
    """Return UTF-8 of at most ``MAX_COMMENT`` octets, cut between characters."""
    octets = text.encode(errors="replace")
    return octets[:MAX_COMMENT].decode(errors="ignore").encode()
