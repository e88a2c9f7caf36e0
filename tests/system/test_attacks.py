"""Rows of the list of attacks that need a whole stack; the others stand with their layer."""

import hashlib
import random
import socket as std

import pytest

from netstack.core.address import parse_address
from netstack.device.base import Capabilities, Device, Frame, Medium
from netstack.stack import Stack
from netstack.wire.arp import ArpHeader, ArpOperation
from netstack.wire.ethernet import EthernetHeader, EtherType
from netstack.wire.icmpv4 import ICMPv4Header
from netstack.wire.ipv4 import IPv4Header
from netstack.wire.tcp import TcpFlag, TcpHeader
from netstack.wire.udp import UdpHeader

OURS = parse_address("10.0.0.1")
THEIRS = parse_address("10.0.0.2")
THEIR_MAC = bytes.fromhex("020000000002")
BROADCAST = b"\xff" * 6


class Wire(Device):
    def __init__(self):
        super().__init__("wire", Capabilities(Medium.ETHERNET, 1500))
        self.sent = []

    def transmit(self, frame: Frame) -> bool:
        self.sent.append(frame.octets())
        return True

    def receive_burst(self, limit=64):
        return []


class World:
    """A stack with a listener on port 80, on a wire that the test holds."""

    def __init__(self):
        self.stack = Stack("tested", seed=1)
        self.stack.contain_errors = False
        self.device = Wire()
        self.interface = self.stack.attach(self.device, "10.0.0.1/24")
        self.stack.listen(("", 80))
        self.now = 0.0
        self.arp(THEIRS)  # announces itself by asking
        self.device.sent.clear()

    def arp(self, sender, mac=THEIR_MAC):
        request = ArpHeader(ArpOperation.REQUEST, mac, sender.packed, bytes(6), OURS.packed)
        self.frame(EtherType.ARP, request.build(), destination=BROADCAST, source=mac)

    def frame(self, ethertype, payload, *, destination=None, source=THEIR_MAC):
        destination = destination or self.interface.mac
        header = EthernetHeader(destination, source, ethertype)
        self.stack.receive(self.device, [header.build() + payload], self.now)
        self.stack.poll(self.now)

    def packet(self, protocol, payload, *, source=THEIRS, destination=OURS, mac=None):
        header = IPv4Header(
            source=source,
            destination=destination,
            protocol=protocol,
            total_length=20 + len(payload),
        ).with_checksum()
        self.frame(EtherType.IPV4, header.build() + payload, destination=mac)

    def syn(self, *, source=THEIRS, destination=OURS, port=80, source_port=4000, mac=None):
        header = TcpHeader(source_port, port, 7, 0, TcpFlag.SYN, 1000)
        header = header.with_checksum(source.packed, destination.packed)
        self.packet(6, header.build(), source=source, destination=destination, mac=mac)

    def udp(self, *, source=THEIRS, destination=OURS, port=9, mac=None):
        header = UdpHeader(4000, port, 12).with_checksum(
            source.packed, destination.packed, b"abcd"
        )
        payload = header.build() + b"abcd"
        self.packet(17, payload, source=source, destination=destination, mac=mac)

    def echo(self, *, source=THEIRS, destination=OURS, mac=None):
        message = ICMPv4Header(8, 0, 1).with_checksum(b"ping").build() + b"ping"
        self.packet(1, message, source=source, destination=destination, mac=mac)

    def taken(self):
        """Return how many IP packets left; ARP is not counted."""
        sent, self.device.sent = self.device.sent, []
        return sum(frame[12:14] == b"\x08\x00" for frame in sent)

    def run(self, seconds):
        end = self.now + seconds
        while (deadline := self.stack.next_deadline()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.stack.poll(self.now)
        self.now = end


@pytest.fixture
def world():
    return World()


def test_the_world_answers_honest_packets(world):
    world.syn()
    world.udp()
    world.echo()
    assert world.taken() == 3


@pytest.mark.parametrize("kind", ["syn", "udp"])
def test_arp_06_unicast_packet_in_a_broadcast_frame_gets_no_answer(world, kind):
    getattr(world, kind)(mac=BROADCAST)
    getattr(world, kind)(mac=bytes.fromhex("01005e000001"))
    world.run(5)
    assert world.taken() == 0
    assert not world.stack.connections()


def test_ip4_24_land_makes_no_loop(world):
    world.syn(source=OURS, source_port=80)
    world.run(5)
    assert world.taken() == 0
    assert not world.stack.connections()


@pytest.mark.parametrize(
    "source",
    ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "10.0.0.1", "10.0.0.255",
     "240.0.0.1"],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["syn", "udp", "echo"])
def test_ip4_25_martian_source_is_never_answered(world, kind, source):
    getattr(world, kind)(source=parse_address(source))
    world.run(5)
    assert world.taken() == 0
    assert sum("martian" in name for name in world.stack.counters()) == 1


@pytest.mark.parametrize("destination", ["10.0.0.255", "255.255.255.255"])
@pytest.mark.parametrize("kind", ["syn", "udp", "echo"])
def test_ip4_27_broadcast_destination_is_never_answered(world, kind, destination):
    getattr(world, kind)(destination=parse_address(destination), mac=BROADCAST)
    world.run(5)
    assert world.taken() == 0


def test_arp_12_open_to_an_address_nobody_has_ends_after_the_retries(world):
    connection = world.stack.connect(("10.0.0.77", 80), world.now)
    world.stack.poll(world.now)
    world.run(10)
    assert connection.state.name == "CLOSED"
    with pytest.raises(OSError, match="unreachable") as caught:
        connection.receive(1, world.now)
    assert caught.value.errno == 113  # EHOSTUNREACH


def test_arp_12_opens_to_many_unresolvable_addresses_stay_bounded(world):
    asked = 0
    for index in range(2_000):
        address = f"10.0.0.{3 + index % 250}"
        world.stack.connect((address, 80), world.now)
        world.stack.poll(world.now)
    for _ in range(150):
        world.run(0.1)
        asked += sum(frame[12:14] == b"\x08\x06" for frame in world.device.sent)
        world.device.sent.clear()
    assert asked <= 250 * 15  # one request a second for each of 250 addresses
    assert not any(info.state == "SYN-SENT" for info in world.stack.connections())


def test_arp_09_forged_replies_do_not_break_a_transfer(pair):
    data = random.Random(9).randbytes(2_000_000)
    listener = pair.b.create_server(("", 80))

    def serve():
        connection, _ = listener.accept()
        digest = hashlib.sha256()
        with connection:
            while piece := connection.recv(65_536):
                digest.update(piece)
            connection.sendall(digest.digest())

    pair.b.spawn(serve)
    interface = pair.a.stack.interfaces[1]
    evil = bytes.fromhex("0666deadbeef")
    forged = ArpHeader(ArpOperation.REPLY, evil, THEIRS.packed, interface.mac, OURS.packed).build()
    frame = EthernetHeader(interface.mac, evil, EtherType.ARP).build() + forged

    with pair.a.create_connection(("10.0.0.2", 80)) as client:
        for start in range(0, len(data), 100_000):
            client.sendall(data[start : start + 100_000])
            pair.a.stack.receive(interface.device, [frame], pair.network.now)
        client.shutdown(std.SHUT_WR)
        answer = b""
        while piece := client.recv(100):
            answer += piece
    assert answer == hashlib.sha256(data).digest()
