"""Segments without a connection object: resets, SYN cookies, answers from TIME-WAIT.

All that such a segment needs is a path, the four-tuple's key and its own numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netstack.core.address import IPAddress
from netstack.core.checksum import fold
from netstack.core.trace import SegmentSent
from netstack.device.base import HEADROOM, Checksum, Frame
from netstack.wire.tcp import CHECKSUM_OFFSET, HEADER_LENGTH, pack_header

if TYPE_CHECKING:
    from netstack.core.trace import Reason
    from netstack.internet.path import Path
    from netstack.transport.tcp.protocol import Tcp

_PROTOCOL = 6


def endpoints(key: bytes) -> tuple[tuple[IPAddress, int], tuple[IPAddress, int]]:
    """Return our and the peer's address and port; ``key`` as ``Tcp.connections`` has it."""
    size = (len(key) - 4) // 2
    local = IPAddress(key[size : 2 * size]), int.from_bytes(key[-2:], "big")
    return local, (IPAddress(key[:size]), int.from_bytes(key[-4:-2], "big"))


def send_bare(
    tcp: Tcp,
    path: Path,
    key: bytes,
    numbers: tuple[int, int],
    flags: int,
    reason: Reason,
    *,
    window: int = 0,
    options: bytes = b"",
) -> None:
    """Send a segment without text; ``numbers`` are SEQ and ACK as on the wire."""
    header_length = HEADER_LENGTH + len(options)
    header = bytearray(HEADROOM + header_length)
    partial = fold(path.pseudo_header_sum + _PROTOCOL + header_length)
    ports = key[-2:] + key[-4:-2]
    pack_header(header, HEADROOM, ports, *numbers, flags, window, partial, options)
    frame = Frame(header, start=HEADROOM)
    frame.checksum = Checksum.PARTIAL
    frame.checksum_start = HEADROOM
    frame.checksum_offset = CHECKSUM_OFFSET
    frame.reason = reason
    context = tcp.context
    context.count("tcp.segments_sent")
    if context.trace is not None:
        frame.id = context.trace.frame_id()
        local, remote = endpoints(key)
        context.trace.emit(
            SegmentSent(
                context.now, context.name, "tcp", f"{local[0]}:{local[1]}",
                f"{remote[0]}:{remote[1]}", *numbers, flags, window, 0, 0, reason, 1, frame.id,
            )
        )  # fmt: skip
    tcp.internet.send(path, _PROTOCOL, frame, dont_fragment=True, flow=None)
