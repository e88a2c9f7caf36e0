"""UDP against hand-made packets, and the rows of its layer in the list of attacks."""

import itertools
import tracemalloc
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.core.address import parse_address
from netstack.core.errors import LocalProtocolError, Refused, Unreachable
from netstack.device.base import Capabilities, Device, Medium
from netstack.stack import Stack
from netstack.wire.icmpv4 import ICMPv4Header
from netstack.wire.ipv4 import IPv4Header
from netstack.wire.udp import UdpHeader

OURS = parse_address("10.0.0.1")
THEIRS = parse_address("10.0.0.2")


class Wire(Device):
    def __init__(self):
        super().__init__("wire", Capabilities(Medium.IP, 1500))
        self.sent = []

    def transmit(self, frame):
        self.sent.append(frame.octets())
        return True


class World:
    def __init__(self):
        self.stack = Stack("tested", seed=1)
        self.stack.contain_errors = False
        self.device = Wire()
        self.stack.attach(self.device, "10.0.0.1/24")

    def inject(self, payload, *, source=THEIRS, destination=OURS, protocol=17):
        header = IPv4Header(
            source=source,
            destination=destination,
            protocol=protocol,
            total_length=20 + len(payload),
        ).with_checksum()
        self.stack.receive(self.device, [header.build() + payload], 0.0)
        self.stack.poll(0.0)

    def datagram(self, data=b"hello", *, source_port=9, port=53, length=None, **where):
        header = UdpHeader(source_port, port, 8 + len(data) if length is None else length)
        if length is None:
            header = header.with_checksum(
                where.get("source", THEIRS).packed, where.get("destination", OURS).packed, data
            )
        self.inject(header.build() + data, **where)

    def counter(self, name):
        return self.stack.counters().get(name, 0)


@pytest.fixture
def world():
    return World()


def test_datagram_is_received_with_its_sender(world):
    endpoint = world.stack.datagrams(("", 53))
    world.datagram(b"hello")
    assert endpoint.receive() == (b"hello", ("10.0.0.2", 9))
    assert endpoint.receive() is None


def test_datagram_goes_out_with_a_good_checksum(world):
    endpoint = world.stack.datagrams()
    assert endpoint.send(b"abc", 0.0, ("10.0.0.2", 53)) == 3
    world.stack.poll(0.0)
    ip, payload = IPv4Header.parse(world.device.sent[0])
    header, data = UdpHeader.parse(payload)
    assert bytes(data) == b"abc"
    assert header == header.with_checksum(ip.source.packed, ip.destination.packed, data)


def test_large_datagram_is_fragmented_and_empty_one_is_sent(world):
    endpoint = world.stack.datagrams()
    endpoint.send(bytes(4_000), 0.0, ("10.0.0.2", 53))
    endpoint.send(b"", 0.0, ("10.0.0.2", 53))
    world.stack.poll(0.0)
    assert len(world.device.sent) == 4


def test_checksum_zero_is_accepted_and_a_bad_one_dropped(world):
    endpoint = world.stack.datagrams(("", 53))
    world.datagram(b"none", length=12)
    assert endpoint.receive()[0] == b"none"
    world.inject(UdpHeader(9, 53, 12, 0xBEEF).build() + b"bad!")
    assert endpoint.receive() is None
    assert world.counter("udp.bad_checksum") == 1


def test_closed_port_is_answered_with_port_unreachable(world):
    world.datagram(port=54)
    _, payload = IPv4Header.parse(world.device.sent[0])
    message, _ = ICMPv4Header.parse(payload)
    assert (message.type, message.code) == (3, 3)
    assert world.counter("udp.no_port") == 1


def test_taken_port_is_refused(world):
    world.stack.datagrams(("", 53))
    with pytest.raises(Unreachable) as caught:
        world.stack.datagrams(("", 53))
    assert caught.value.errno == 98


def test_port_is_free_after_close(world):
    world.stack.datagrams(("", 53)).close(0.0)
    world.stack.datagrams(("", 53))


def test_too_long_and_peerless_sends_are_refused(world):
    endpoint = world.stack.datagrams()
    with pytest.raises(LocalProtocolError):
        endpoint.send(b"x", 0.0)
    with pytest.raises(LocalProtocolError):
        endpoint.send(bytes(65_508), 0.0, ("10.0.0.2", 53))


def test_broadcast_needs_leave(world):
    endpoint = world.stack.datagrams()
    with pytest.raises(Unreachable) as caught:
        endpoint.send(b"x", 0.0, ("10.0.0.255", 53))
    assert caught.value.errno == 13
    endpoint.broadcast = True
    endpoint.send(b"x", 0.0, ("10.0.0.255", 53))
    world.stack.poll(0.0)
    assert len(world.device.sent) == 1


def icmp_error_about(sent, code=3):
    message = ICMPv4Header(type=3, code=code, checksum=0, rest=0)
    return message.with_checksum(sent[:28]).build() + sent[:28]


def test_icmp_error_reaches_the_endpoint_that_sent(world):
    endpoint = world.stack.datagrams()
    endpoint.connect(("10.0.0.2", 53))
    endpoint.send(b"x", 0.0)
    world.stack.poll(0.0)
    world.inject(icmp_error_about(world.device.sent[0]), protocol=1)
    assert isinstance(endpoint.take_error(), Refused)
    assert endpoint.take_error() is None


def test_udp_01_length_field_is_checked_and_trimmed(world):
    endpoint = world.stack.datagrams(("", 53))
    data = b"x" * 20
    taken = dropped = 0
    for length in (*range(64), 100, 1_000, 65_535):
        world.inject(UdpHeader(9, 53, length).build() + data)
        received = endpoint.receive()
        if received is None:
            dropped += 1
        else:
            taken += 1
            assert 8 <= length <= 28
            assert len(received[0]) == length - 8
    assert taken == 21
    assert world.counter("udp.bad_length") == dropped


def test_udp_01_short_packets_are_dropped(world):
    world.stack.datagrams(("", 53))
    for size in range(8):
        world.inject(bytes(size))
    assert world.counter("udp.malformed") == 8


def test_udp_03_flood_is_bounded_and_counted(world):
    endpoint = world.stack.datagrams(("", 53))
    limit = endpoint.receive_buffer
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(5_000):
        world.datagram(b"x" * 100)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 4 * limit
    kept = 0
    while endpoint.receive() is not None:
        kept += 1
    assert kept + world.counter("udp.receive_buffer_full") == 5_000
    assert kept <= limit // 100


def test_udp_04_port_zero(world):
    endpoint = world.stack.datagrams(("", 53))
    world.datagram(b"from zero", source_port=0)
    assert endpoint.receive() == (b"from zero", ("10.0.0.2", 0))
    with pytest.raises(ValueError, match="port 0"):
        endpoint.send(b"reply", 0.0, ("10.0.0.2", 0))
    world.datagram(b"to zero", port=0)
    assert world.counter("udp.port_zero") == 1
    assert not world.device.sent


def test_udp_06_ephemeral_ports_are_uniform_and_show_no_pattern(world):
    draws = []
    for _ in range(10_000):
        endpoint = world.stack.datagrams()
        draws.append(endpoint.local_port)
        endpoint.close(0.0)
    low, high = world.stack.context.config.tcp.ephemeral_ports
    assert high - low + 1 >= 16_384
    assert low <= min(draws)
    assert max(draws) <= high
    buckets = Counter((port - low) * 64 // (high - low + 1) for port in draws)
    expected = len(draws) / 64
    chi_squared = sum((buckets[index] - expected) ** 2 / expected for index in range(64))
    assert chi_squared < 103.4  # p = 0.001 at 63 degrees of freedom
    steps = Counter(b - a for a, b in itertools.pairwise(draws))
    assert steps.most_common(1)[0][1] < 10


def test_udp_07_connected_endpoint_takes_its_peer_only(world):
    endpoint = world.stack.datagrams(("", 53))
    endpoint.connect(("10.0.0.2", 9))
    world.datagram(b"other port", source_port=10)
    world.datagram(b"other host", source=parse_address("10.0.0.3"))
    assert endpoint.receive() is None
    assert world.counter("udp.not_connected_peer") == 2
    world.datagram(b"peer")
    assert endpoint.receive()[0] == b"peer"


def test_udp_07_error_about_another_flow_is_filtered(world):
    other = world.stack.datagrams(("", 54))
    other.send(b"x", 0.0, ("10.0.0.3", 7))
    world.stack.poll(0.0)
    sent = bytearray(next(p for p in world.device.sent if p[9] == 17))
    endpoint = world.stack.datagrams(("", 53))
    endpoint.connect(("10.0.0.2", 9))
    sent[20:22] = (53).to_bytes(2, "big")  # quotes our port, but a peer that isn't ours
    world.inject(icmp_error_about(bytes(sent)), protocol=1)
    assert endpoint.take_error() is None
    assert world.counter("udp.error_for_other_peer") == 1


@given(st.binary(max_size=64))
def test_random_octets_never_raise_and_are_counted(octets):
    world = World()
    world.stack.datagrams(("", 53))
    world.inject(octets)
    taken = world.counter("udp.datagrams_received")
    dropped = sum(
        count
        for name, count in world.stack.counters().items()
        if name.startswith("udp.") and name not in ("udp.datagrams_received", "udp.datagrams_sent")
    )
    assert taken + dropped == 1
