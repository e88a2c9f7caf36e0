"""Super-segments that a device hands over whole: one frame, several wire segments."""

from __future__ import annotations

import pytest

from netstack.device.base import Checksum, Frame, GsoType
from netstack.wire.ipv4 import IPv4Header
from netstack.wire.tcp import TcpHeader

HEADERS = 40


def whole(peer, data, gso_size, *, seq=1):
    """Return ``data`` as the kernel at the other end of a TAP sends it: not cut, not summed."""
    from tcp_peer import OURS, THEIRS

    tcp = TcpHeader(peer.port, peer.stack_port, peer.irs + seq, peer.iss + 1, 0x10, 65_535).build()
    ip = IPv4Header(
        source=THEIRS, destination=OURS, protocol=6, total_length=HEADERS + len(data)
    ).with_checksum()
    frame = Frame(ip.build() + tcp + data)
    frame.checksum = Checksum.PARTIAL
    frame.checksum_start, frame.checksum_offset = 20, 16
    frame.gso_size, frame.gso_type = gso_size, GsoType.TCPV4
    frame.segments = -(-len(data) // gso_size)
    return frame


@pytest.mark.parametrize(("pieces", "answered"), [(2, True), (1.5, False)])
def test_two_full_sized_segments_are_acknowledged_at_once(peer, pieces, answered):
    peer.established()
    # A segment first, so that the receiver has seen its peer's size.
    peer.inject("A", seq=1, ack=1, data=bytes(1460))
    peer.advance(1.0)
    peer.expect("A", ack=1461)
    data = bytes(int(1460 * pieces))
    peer.stack.receive(peer.device, [whole(peer, data, 1460, seq=1461)], peer.now)
    peer.poll()
    if answered:
        peer.expect("A", ack=1461 + len(data))
    else:
        peer.expect_nothing()


def test_first_flight_of_a_super_segment_is_acknowledged_at_once(peer):
    peer.established()
    peer.stack.receive(peer.device, [whole(peer, bytes(4848), 1448)], peer.now)
    peer.poll()
    peer.expect("A", ack=4849)
    assert peer.counter("tcp.segments_received") == 6  # SYN, ACK, and four
