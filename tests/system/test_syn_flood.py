"""A flood of spoofed SYNs while honest clients connect (RFC 4987)."""

import gc
import random
import tracemalloc

import pytest

from netstack.core.address import IPAddress, parse_address
from netstack.core.seqnum import MASK
from netstack.device.base import Capabilities, Device, Medium
from netstack.stack import Stack
from netstack.wire.ipv4 import IPv4Header
from netstack.wire.tcp import (
    ACK,
    RST,
    SYN,
    TcpHeader,
    build_syn_options,
    build_timestamps,
    parse_segment,
)

SERVER = parse_address("10.0.0.1")
BURST = 64  # packets, as drivers read them
ROUND_TRIP = 0.05  # seconds an honest client takes to answer


class Wire(Device):
    def __init__(self):
        super().__init__("wire", Capabilities(Medium.IP, 1500))
        self.sent = []

    def transmit(self, frame):
        self.sent.append(frame.octets())
        return True

    def receive_burst(self, limit=64):
        return []


def packet(source, port, seq, ack, flags, options=b""):
    header = TcpHeader(port, 80, seq, ack, flags, 65_535, options=options)
    segment = header.with_checksum(source.packed, SERVER.packed).build()
    ip = IPv4Header(
        source=source, destination=SERVER, protocol=6, total_length=20 + len(segment)
    ).with_checksum()
    return ip.build() + segment


class Flood:
    """A server, a stream of SYNs from addresses all over the world, and clients among them."""

    def __init__(self, seed, *, stamped):
        self.rng = random.Random(seed)
        self.stamped = stamped
        self.stack = Stack("server", seed=seed)
        self.stack.contain_errors = False
        self.device = Wire()
        self.stack.attach(self.device, "10.0.0.1/8", gateway="10.0.0.254")
        self.listener = self.stack.listen(("", 80))
        self.clients = {}  # port -> its initial sequence number
        self.forged_resets = 0
        self.accepted = []
        self.now = 0.0

    def spoofed(self):
        """Return a SYN from an address that will never answer."""
        source = IPAddress((0x0B000000 + self.rng.getrandbits(28)).to_bytes(4, "big"))
        options = build_syn_options(1460, 7, (self.rng.getrandbits(32), 0), sack=True)
        port, seq = self.rng.randrange(1024, 65_536), self.rng.getrandbits(32)
        return packet(source, port, seq, 0, SYN, options)

    def forged(self):
        """Return an ACK that guesses a cookie."""
        source = IPAddress((0x0B000000 + self.rng.getrandbits(28)).to_bytes(4, "big"))
        seq, ack = self.rng.getrandbits(32), self.rng.getrandbits(32)
        options = build_timestamps(1, 1) if self.rng.random() < 0.5 else b""
        return packet(source, self.rng.randrange(1024, 65_536), seq, ack, ACK, options)

    def client_syn(self, number):
        port = 10_000 + number
        self.clients[port] = seq = self.rng.getrandbits(32)
        stamps = (1_000, 0) if self.stamped else None
        options = build_syn_options(1460, 7, stamps, sack=True)
        return packet(parse_address("10.1.2.3"), port, seq, 0, SYN, options)

    def answers(self):
        """Take what the server sent; return the honest clients' ACKs of it."""
        acks = []
        for octets in self.device.sent:
            ip, payload = IPv4Header.parse(octets)
            segment = parse_segment(octets, 20, len(octets) - 20)
            honest = str(ip.destination) == "10.1.2.3"
            self.forged_resets += bool(segment.flags & RST) and not honest
            port = int.from_bytes(payload[2:4], "big")
            if honest and segment.flags == SYN | ACK:
                options = b""
                if segment.ts_val is not None:
                    options = build_timestamps(1_050, segment.ts_val)
                seq, ack = (self.clients[port] + 1) & MASK, (segment.seq + 1) & MASK
                acks.append(packet(ip.destination, port, seq, ack, ACK, options))
        self.device.sent.clear()
        return acks

    def step(self, packets):
        for start in range(0, len(packets), BURST):  # more answers than that find no room below
            self.stack.receive(self.device, packets[start : start + BURST], self.now)
            self.stack.poll(self.now)
        while self.stack.next_event() is not None:
            pass
        while (connection := self.listener.accept()) is not None:
            self.accepted.append(connection.remote[1])
            connection.abort(self.now)  # what they do then is not the matter here

    def run(self, spoofed, clients, rate, *, forged=0):
        """Flood at ``rate`` SYNs a second; clients come evenly among them."""
        waiting = []  # (when, ACK)
        each = spoofed // clients
        for number in range(clients):
            burst = [self.spoofed() for _ in range(each)]
            burst += [self.forged() for _ in range(forged // clients)]
            burst.insert(self.rng.randrange(len(burst)), self.client_syn(number))
            while waiting and waiting[0][0] <= self.now:
                burst.append(waiting.pop(0)[1])
            self.step(burst)
            waiting += [(self.now + ROUND_TRIP, ack) for ack in self.answers()]
            self.now += each / rate
        self.now += ROUND_TRIP
        self.step([ack for _, ack in waiting])
        self.device.sent.clear()


def flood(spoofed, clients, *, forged, stamped):
    """Return the world after the flood, and how much memory the server grew by."""
    world = Flood(33, stamped=stamped)
    world.run(200, 2, 10_000)
    world.accepted.clear()
    if not stamped:  # measuring takes three times as long; once is enough
        world.run(spoofed, clients, 10_000, forged=forged)
        return world, 0
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        world.run(spoofed, clients, 10_000, forged=forged)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    return world, grown


@pytest.mark.parametrize("stamped", [True, False])
def test_honest_clients_connect_through_a_flood(stamped):
    world, grown = flood(10_000, 100, forged=1_000, stamped=stamped)
    assert set(world.accepted) == set(world.clients)
    assert grown < 8 * 1024 * 1024
    counters = world.stack.counters()
    assert counters["tcp.syn_cookies_sent"] > 8_000
    assert counters["tcp.syn_cookies_failed"] > 800  # the others came before the overflow
    assert world.forged_resets == 1_000


@pytest.mark.soak
@pytest.mark.parametrize("stamped", [True, False])
def test_a_thousand_clients_connect_through_a_hundred_thousand_spoofed_syns(stamped):
    world, grown = flood(100_000, 1_000, forged=1_000_000, stamped=stamped)
    assert len(set(world.accepted)) >= 0.999 * 1_000
    assert set(world.accepted) <= set(world.clients)
    assert grown < 8 * 1024 * 1024
    assert world.forged_resets == 1_000_000  # by their number, none was believed
    print(f"{len(world.accepted)} of 1000 connected, {grown / 2**20:.1f} MiB")
