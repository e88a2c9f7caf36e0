"""What interfaces of both media do with bursts."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP, TCP, UDP

from netstack.core.address import parse_address
from netstack.device.base import Frame, GsoType, Medium


def segments(count, size=100, **changes):
    """Return consecutive TCP segments as packets."""
    fields = {"flags": "A", "window": 9, **changes}
    headers = [
        TCP(sport=1, dport=2, seq=1 + number * size, ack=1, **fields) for number in range(count)
    ]
    return [bytes(IP(src="10.0.0.2", dst="10.0.0.1") / header / bytes(size)) for header in headers]


def test_consecutive_segments_of_a_burst_arrive_merged(bench):
    bench.receive(*map(bench.ethernet, segments(5)), coalesce=True)
    [(frame, _)] = bench.packets
    assert frame.segments == 5
    assert frame.gso_size == 100
    assert bench.counters["link.frames_received"] == 5


def test_segments_stay_apart_unless_merging_was_asked_for(bench):
    bench.receive(*map(bench.ethernet, segments(5)))
    assert len(bench.packets) == 5


def test_device_that_merges_is_helped_where_it_did_not(make_bench):
    bench = make_bench(rx_checksum=True)
    bench.receive(*map(bench.ethernet, segments(5)), coalesce=True)
    [(frame, _)] = bench.packets
    assert frame.segments == 5


def test_received_super_segment_counts_as_its_wire_frames(make_bench):
    bench = make_bench(rx_checksum=True)
    [packet] = segments(1, size=1050)
    frame = Frame(bench.ethernet(packet))
    frame.gso_size, frame.gso_type, frame.segments = 100, GsoType.TCPV4, 11
    frame.checksum_start = 34
    bench.interface.receive_burst([frame], True)
    assert bench.counters["link.frames_received"] == 11
    assert bench.counters["link.super_segments_received"] == 1
    assert bench.counters["link.octets_received"] == 1050 + 11 * 54


def test_raw_packets_go_by_their_version(make_bench):
    bench = make_bench(medium=Medium.IP)
    packet = bytes(IP(src="10.0.0.2", dst="10.0.0.1") / UDP() / b"x")
    bench.receive(packet)
    assert [octets for _, octets in bench.packets] == [packet]


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"", "raw_ip.empty"),
        (b"\x60", "raw_ip.unknown_version"),
        (b"\0", "raw_ip.unknown_version"),
        (b"\xff" * 40, "raw_ip.unknown_version"),
    ],
)
def test_raw_packet_of_no_known_version_is_dropped_and_counted(make_bench, octets, reason):
    bench = make_bench(medium=Medium.IP)
    bench.receive(octets)
    assert bench.counters[reason] == 1
    assert bench.packets == []


def test_raw_packets_leave_without_link_header_padding_or_resolution(make_bench):
    bench = make_bench(medium=Medium.IP)
    assert bench.send("203.0.113.9", payload=b"x")
    assert not bench.send(payload=bytes(1481))
    bench.interface.announce()
    bench.interface.confirm(parse_address("10.0.0.2"))
    bench.interface.flush()
    [frame] = bench.device.sent
    assert len(frame) == 21


def test_raw_super_segment_is_cut_from_its_ip_header_on(make_bench, make_super):
    bench = make_bench(medium=Medium.IP)
    bench.interface.send_packet(bench.peer, make_super(b"\xaa" * 1001, 1000))
    bench.interface.flush()
    first, second = (IP(frame.octets()) for frame in bench.device.sent)
    assert (len(first), len(second)) == (1040, 41)
    assert bench.counters["link.octets_sent"] == 1081


def test_rest_of_a_burst_is_taken_after_an_interrupt_cut_it(bench):
    interrupted = []

    def interrupt(frame, offset, interface):
        interrupted.append(frame)
        if len(interrupted) == 2:
            raise KeyboardInterrupt

    bench.interface.handlers[0x0800] = interrupt
    with pytest.raises(KeyboardInterrupt):
        bench.receive(*map(bench.ethernet, segments(5)))
    bench.interface.receive_rest()
    bench.interface.receive_rest()
    assert len(interrupted) == 5


def test_closed_interface_holds_nothing_and_no_timer(bench):
    bench.resolve()
    bench.send()
    bench.send("10.0.0.3")
    bench.interface.close()
    assert bench.interface.queued == 0
    assert len(bench.cache) == 0
    assert bench.counters["link.down"] == 2  # the packet, and the request for the other
    assert bench.sent() == []
    bench.advance(0)
    assert bench.counters["arp.handed_back"] == 1
    assert bench.context.timers.next_deadline() is None
