"""What leaves: super-segments and how they are cut (design: few, large ones)."""

import pytest

from netstack.core.address import parse_address
from netstack.core.config import Config, TcpConfig
from netstack.core.timers import NEVER
from netstack.core.trace import SegmentSent
from netstack.device.base import Capabilities, Device, GsoType, Medium
from netstack.device.offload import segment
from netstack.stack import Stack
from netstack.wire.icmpv4 import ICMPv4Header
from netstack.wire.ipv4 import IPv4Header
from netstack.wire.tcp import TcpHeader, build_syn_options

OURS, THEIRS = parse_address("10.0.0.1"), parse_address("10.0.0.2")
FIN, PSH = 1, 8


class WholeDevice(Device):
    """Takes super-segments whole, if ``gso_max_size`` allows, and keeps the frames."""

    def __init__(self, gso_max_size, mtu=1500):
        super().__init__("whole", Capabilities(Medium.IP, mtu, True, False, gso_max_size))
        self.frames = []

    def transmit(self, frame):
        self.frames.append(frame)
        return True

    def receive_burst(self, limit=64):
        return []


class Sending:
    """An established connection with an open window, and the frames that it sends."""

    def __init__(self, gso_max_size=65_535, *, timestamps=True, window=65_535, scale=7, **tcp):
        tcp.setdefault("send_buffer", 1 << 20)
        config = Config(tcp=TcpConfig(timestamps=timestamps, **tcp))
        self.stack = Stack(seed=1, config=config)
        self.stack.contain_errors = False
        self.device = WholeDevice(gso_max_size)
        self.stack.attach(self.device, "10.0.0.1/24")
        self.stack.listen(("", 80))
        self.timestamps, self.seq, self.sent = timestamps, 1, 0
        stamps = (1, 0) if timestamps else None
        self.inject(2, 0, build_syn_options(1460, scale, stamps), window)
        self.stack.poll(0.0)
        (frame,) = self.device.frames
        self.iss = TcpHeader.parse(frame.octets()[20:])[0].seq
        self.acknowledge(0, window)
        self.connection = next(iter(self.stack.tcp.connections.values()))
        self.connection.sender.congestion.cwnd = 1 << 20
        self.device.frames.clear()

    def inject(self, flags, ack, options, window):
        header = TcpHeader(
            9_000, 80, self.seq - (flags & 2) // 2, ack, flags, window, options=options
        ).with_checksum(THEIRS.packed, OURS.packed)
        packet = IPv4Header(
            source=THEIRS, destination=OURS, protocol=6, total_length=20 + len(header.build())
        ).with_checksum()
        self.stack.receive(self.device, [packet.build() + header.build()], 0.0)

    def acknowledge(self, octets, window=65_535):
        options = b"\1\1\x08\x0a\0\0\0\1\0\0\0\0" if self.timestamps else b""
        self.inject(16, self.iss + 1 + octets, options, window)
        self.stack.poll(0.0)

    def send(self, octets, *, close=False):
        """Send; return the frames, each as (flags, payload octets, gso_size)."""
        if octets:
            self.connection.send(bytes(octets), 0.0)
        if close:
            self.connection.shutdown_write(0.0)
        self.stack.poll(0.0)
        return self.take()

    def take(self):
        self.raw = list(self.device.frames)
        self.device.frames.clear()
        return [self.describe(frame) for frame in self.raw]

    @staticmethod
    def describe(frame):
        header, payload = TcpHeader.parse(frame.octets()[20:])
        return header.flags & (FIN | PSH), len(payload), frame.gso_size


def cut(frames):
    return [Sending.describe(wire) for frame in frames for wire in segment(frame)]


def test_super_segments_are_whole_multiples_of_the_mss_less_options():
    sending = Sending()
    frames = sending.send(200_000)
    sizes = [length for _, length, _ in frames]
    assert sum(sizes) == 200_000
    assert all(length % 1448 == 0 for length in sizes[:-1])
    assert {gso for _, length, gso in frames if length > 1448} == {1448}
    assert max(sizes) > 60_000
    assert all(frame.gso_type is GsoType.TCPV4 for frame in sending.raw if frame.gso_size)
    assert all(
        frame.segments == -(-length // 1448)
        for frame, (_, length, _) in zip(sending.raw, frames, strict=True)
    )


@pytest.mark.parametrize("gso_max_size", [3_100, 16_384, 65_535])
def test_no_packet_is_larger_than_the_device_takes(gso_max_size):
    sending = Sending(gso_max_size)
    sending.send(100_000)
    assert all(len(frame) <= gso_max_size for frame in sending.raw)
    assert max(frame.segments for frame in sending.raw) > 1


def test_push_and_fin_stand_on_the_last_cut_only():
    sending = Sending()
    sending.send(10_000, close=True)
    wire = cut(sending.raw)
    assert [flags for flags, _, _ in wire] == [0] * 6 + [FIN | PSH]
    assert [length for _, length, _ in wire] == [1448] * 6 + [10_000 - 6 * 1448]


def test_identification_advances_by_the_wire_segments():
    sending = Sending()
    sending.send(150_000)
    numbers = []
    for frame in sending.raw:
        numbers += [IPv4Header.parse(wire.octets())[0].identification for wire in segment(frame)]
    assert len(numbers) == len(set(numbers)) == -(-150_000 // 1448)


@pytest.mark.parametrize(("fastest", "largest"), [(0.0001, 40), (0.010, 4)])
def test_only_a_long_path_bounds_bursts_and_not_its_queues(fastest, largest):
    sending = Sending(gso_max_size=0)
    rtt = sending.connection.sender.rtt
    rtt.min_rtt, rtt.srtt = fastest, 0.010
    sending.connection.sender.congestion.cwnd = 40 * 1448
    seen = []
    with sending.stack.trace(seen.append):
        sending.send(40 * 1448)
    assert max(event.segments for event in seen if isinstance(event, SegmentSent)) == largest


def test_switched_off_every_transmission_is_one_segment():
    sending = Sending(super_segments=False)
    frames = sending.send(10_000)
    assert [length for _, length, _ in frames] == [1448] * 6 + [10_000 - 6 * 1448]
    assert {gso for _, _, gso in frames} == {0}


@pytest.mark.parametrize("gso_max_size", [0, 65_535])
def test_the_wire_carries_the_same_with_and_without_offload(gso_max_size):
    sending = Sending(gso_max_size)
    sending.send(30_000, close=True)
    lengths = [length for _, length, _ in cut(sending.raw)]
    assert lengths == [1448] * 20 + [30_000 - 20 * 1448]


def test_tail_waits_for_nagle_and_the_super_segment_before_it_goes():
    sending = Sending(timestamps=False)
    assert sending.send(100) == [(PSH, 100, 0)]
    assert sending.send(3_000) == [(0, 2_920, 1_460)]
    sending.acknowledge(100)
    assert sending.take() == [(PSH, 80, 0)]


def test_window_that_ends_inside_a_segment_is_used_in_whole_segments():
    sending = Sending(timestamps=False, window=100, scale=7)  # 12,800 octets
    assert [length for _, length, _ in sending.send(100_000)] == [8 * 1_460]


def test_timeout_sends_one_wire_segment():
    sending = Sending()
    sending.send(50_000)
    sending.stack.poll(5.0)
    assert [length for _, length, _ in sending.take()] == [1_448]


def test_smaller_path_mtu_repeats_super_segments_in_smaller_pieces():
    sending = Sending(timestamps=False)
    sending.send(20_000)
    quote = segment(sending.raw[0])[0].octets()[:28]
    message = ICMPv4Header(3, 4, 1_000).with_checksum(quote).build() + quote
    packet = IPv4Header(
        source=parse_address("10.0.0.9"), destination=OURS, protocol=1,
        total_length=20 + len(message),
    ).with_checksum()  # fmt: skip
    before = sending.connection.sender.congestion.cwnd
    sending.stack.receive(sending.device, [packet.build() + message], 0.0)
    sending.stack.poll(0.0)
    frames = sending.take()
    assert sum(length for _, length, _ in frames) == 20_000
    assert {gso for _, _, gso in frames} <= {0, 960}
    assert all(length % 960 == 0 for _, length, _ in frames[:-1])
    assert sending.connection.sender.congestion.cwnd == before
    sending.acknowledge(20_000)
    assert sending.connection.sender.timer_deadline == NEVER
