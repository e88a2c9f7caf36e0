"""An internet layer between fake interfaces: packets in as octets, packets out as octets."""

import struct
from dataclasses import replace

import pytest

from netstack.core.address import parse_address, parse_cidr
from netstack.core.checksum import internet_checksum
from netstack.core.config import Config, Ipv4Config
from netstack.core.context import Context
from netstack.device.base import HEADROOM, Capabilities, Device, Frame
from netstack.internet.internet import Internet
from netstack.link.interface import Interface
from netstack.wire.ethernet import EtherType
from netstack.wire.icmpv4 import ICMPv4Header
from netstack.wire.ipv4 import IPv4Header


class FakeInterface(Interface):
    """What the internet layer asks of an interface; keeps the packets that were sent."""

    def __init__(self, name, addresses, mtu):
        self.name = name
        self.mtu = mtu
        self.addresses = [parse_cidr(address) for address in addresses]
        self.up = True
        self.handlers = {}
        self.device = Device(name, Capabilities(mtu=mtu))
        self.on_change = None
        self.on_unresolved = None
        self.refuse_after = None
        self.sent = []
        self.flows = []
        self.next_hops = []

    def send_packet(self, next_hop, frame, flow=None):
        if self.refuse_after is not None and len(self.sent) >= self.refuse_after:
            return False
        self.flows.append(flow)
        self.sent.append(frame)
        self.next_hops.append(str(next_hop))
        return True

    def room(self, flow):
        return 1000

    def take(self):
        """Return the packets sent since the last call."""
        packets = [frame.octets() for frame in self.sent]
        self.sent.clear()
        self.next_hops.clear()
        return packets


class World:
    """A host at 192.0.2.1/24 (router: also 198.51.100.1/24) with a loopback interface."""

    def __init__(self, *, router=False, mtu=1500, seed=1, **ipv4):
        config = Config(ipv4=replace(Ipv4Config(), forwarding=router, **ipv4))
        self.context = Context("host", seed=seed, config=config)
        self.counters = self.context.counters
        self.internet = Internet(self.context)
        self.lo = self.add("lo", "127.0.0.1/8", mtu=65536)
        self.eth = self.add("eth0", "192.0.2.1/24", mtu=mtu)
        if router:
            self.eth1 = self.add("eth1", "198.51.100.1/24", mtu=mtu)
        self.received = []
        self.errors = []
        self.believe = True
        for protocol in (6, 17):
            self.internet.register(protocol, self._receive, self._receive_error)

    def add(self, name, *addresses, mtu=1500):
        interface = FakeInterface(name, addresses, mtu)
        self.internet.add_interface(interface)
        return interface

    def _receive(self, packet):
        self.received.append(packet)

    def _receive_error(self, error):
        self.errors.append(error)
        return self.believe

    def inject(self, data, interface=None, *, group=False, padding=b""):
        """Let a packet arrive, behind an Ethernet header's worth of octets."""
        interface = interface or self.eth
        frame = Frame(bytes(14) + bytes(data) + padding)
        frame.group = group
        interface.handlers[EtherType.IPV4](frame, 14, interface)
        return frame

    def inject_frame(self, frame, offset=0, interface=None):
        interface = interface or self.eth
        interface.handlers[EtherType.IPV4](frame, offset, interface)

    def advance(self, seconds):
        """Let time pass, firing timers on their way."""
        end = self.context.now + seconds
        while True:
            deadline = self.context.timers.next_deadline()
            if deadline is None or deadline > end:
                break
            self.context.now = max(self.context.now, deadline)
            self.context.timers.run_due(self.context.now)
        self.context.now = end

    def send(self, remote, payload, protocol=17, *, source=None, **options):
        path = self.internet.path(parse_address(remote), source and parse_address(source))
        frame = Frame(bytearray(HEADROOM + len(payload)), start=HEADROOM)
        frame.header[HEADROOM:] = payload
        return self.internet.send(path, protocol, frame, **options)

    def changed(self, before):
        """Return the counters that differ from the copy ``before``."""
        return {
            name: value - before.get(name, 0)
            for name, value in self.counters.items()
            if value != before.get(name, 0)
        }


def make_packet(
    payload=b"",
    *,
    source="192.0.2.9",
    destination="192.0.2.1",
    protocol=17,
    options=b"",
    **fields,
):
    """Return a packet with a right checksum; ``fields`` are those of IPv4Header."""
    fields.setdefault("total_length", 20 + len(options) + len(payload))
    header = IPv4Header(
        parse_address(source), parse_address(destination), protocol, options=options, **fields
    )
    return header.with_checksum().build() + payload


def fix_checksum(data):
    """Return the packet with the checksum that its header length asks for."""
    data = bytearray(data)
    data[10:12] = b"\0\0"
    data[10:12] = internet_checksum(data[: (data[0] & 15) * 4]).to_bytes(2, "big")
    return bytes(data)


def make_udp(payload=b"hello", source_port=1000, destination_port=2000):
    return struct.pack("!HHHH", source_port, destination_port, 8 + len(payload), 0) + payload


def make_icmp(type_, code=0, rest=0, payload=b""):
    return ICMPv4Header(type_, code, rest).with_checksum(payload).build() + payload


def parse_error(data):
    """Return (outer IP header, ICMP header, quotation) of a packet that carries an error."""
    header, payload = IPv4Header.parse(data)
    icmp, quoted = ICMPv4Header.parse(payload)
    assert header.protocol == 1
    assert internet_checksum(data[: header.header_length]) == 0
    assert internet_checksum(payload) == 0
    return header, icmp, bytes(quoted)


@pytest.fixture
def world():
    return World()


@pytest.fixture(scope="session")
def make_world():
    return World


@pytest.fixture
def router():
    return World(router=True)


@pytest.fixture(scope="session")
def packet():
    return make_packet


@pytest.fixture(scope="session")
def udp():
    return make_udp


@pytest.fixture(scope="session")
def icmp():
    return make_icmp


@pytest.fixture(scope="session")
def checksummed():
    return fix_checksum


@pytest.fixture(scope="session")
def parsed():
    return parse_error
