"""An Ethernet interface on a device that keeps what is transmitted, in virtual time."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP, TCP

from netstack.core.address import BROADCAST_MAC, parse_address, parse_cidr
from netstack.core.checksum import pseudo_header_sum
from netstack.core.config import Config
from netstack.core.context import Context
from netstack.device.base import HEADROOM, Capabilities, Checksum, Device, Frame, GsoType, Medium
from netstack.link.ethernet import EthernetInterface
from netstack.link.raw_ip import RawIpInterface
from netstack.wire.arp import ArpHeader, ArpOperation
from netstack.wire.ethernet import EthernetHeader, EtherType

MAC = b"\x02\0\0\0\0\x01"
PEER_MAC = b"\x02\0\0\0\0\x02"
EVIL_MAC = b"\x02\0\0\0\0\x66"
PEER = parse_address("10.0.0.2")


class KeepingDevice(Device):
    """Keeps what is transmitted; ``room`` frames are taken before it says that it is busy."""

    def __init__(self, **capabilities) -> None:
        super().__init__("test0", Capabilities(**capabilities))
        self.sent: list[Frame] = []
        self.room = 1 << 30

    def transmit(self, frame: Frame) -> bool:
        if self.room == 0:
            return False
        self.room -= 1
        self.sent.append(frame)
        return True


class Bench:
    """One interface and the pretended link around it."""

    mac, peer_mac, evil_mac, peer = MAC, PEER_MAC, EVIL_MAC, PEER

    def __init__(self, *addresses, config=None, medium=Medium.ETHERNET, **capabilities) -> None:
        self.context = Context("host", seed=1, config=config or Config())
        self.events = []
        self.device = KeepingDevice(medium=medium, **capabilities)
        if medium is Medium.ETHERNET:
            self.interface = EthernetInterface(self.context, 0, self.device, mac=MAC)
        else:
            self.interface = RawIpInterface(self.context, 0, self.device)
        self.interface.addresses += [parse_cidr(text) for text in addresses or ["10.0.0.1/24"]]
        self.packets = []  # what reached the internet layer: frame, octets from the IP header on
        self.interface.handlers[EtherType.IPV4] = lambda frame, offset, interface: (
            self.packets.append((frame, bytes(frame.header[offset:])))
        )
        self.unresolved = []
        self.interface.on_unresolved = lambda next_hop, frame, offset: self.unresolved.append(
            (str(next_hop), bytes(frame.header[offset:]), self.context.now)
        )
        self.changes = 0
        self.interface.on_change = self._changed

    def _changed(self) -> None:
        self.changes += 1

    @property
    def counters(self):
        return self.context.counters

    @property
    def cache(self):
        return self.interface.neighbours

    def state(self, address=PEER):
        entry = self.cache.get(address)
        return None if entry is None else entry.state.name

    def trace(self):
        self.context.listen(self.events.append)

    def advance(self, seconds) -> None:
        """Let time pass, timer by timer; what is sent gathers in the device."""
        end = self.context.now + seconds
        while True:
            deadline = self.context.timers.next_deadline()
            if deadline is None or deadline > end:
                break
            self.context.now = max(self.context.now, deadline)
            self.context.timers.run_due(self.context.now)
            self.interface.flush(1 << 20)
        self.context.now = end

    def packet(self, payload=b"data", source=b"\x0a\0\0\x01", destination=b"\x0a\0\0\x02"):
        """Return a frame that starts at an IPv4 header (checksums are not looked at here)."""
        total = (20 + len(payload)).to_bytes(2)
        header = b"\x45\0" + total + bytes(4) + b"\x40\x11\0\0" + source + destination
        return Frame(bytearray(HEADROOM) + header, (payload,), start=HEADROOM)

    def send(self, next_hop="10.0.0.2", payload=b"data", flow=None) -> bool:
        address = parse_address(next_hop)
        frame = self.packet(payload, destination=address.packed)
        return self.interface.send_packet(address, frame, flow)

    def receive(self, *frames, coalesce=False) -> None:
        self.interface.receive_burst([Frame(octets) for octets in frames], coalesce)

    def ethernet(self, payload, ethertype=EtherType.IPV4, to=MAC, source=PEER_MAC) -> bytes:
        return EthernetHeader(to, source, ethertype).build() + payload

    def arp(
        self,
        operation=ArpOperation.REQUEST,
        sender_ip="10.0.0.2",
        target_ip="10.0.0.1",
        sender_mac=PEER_MAC,
        target_mac=bytes(6),
        to=BROADCAST_MAC,
    ) -> bytes:
        """Return a frame with an ARP packet."""
        header = ArpHeader(
            operation,
            sender_mac,
            parse_address(sender_ip).packed,
            target_mac,
            parse_address(target_ip).packed,
        )
        return self.ethernet(header.build() + bytes(18), EtherType.ARP, to, PEER_MAC)

    def answer(self, sender_mac=PEER_MAC, sender_ip="10.0.0.2") -> None:
        """Let a reply to our request arrive."""
        self.receive(self.arp(ArpOperation.REPLY, sender_ip, "10.0.0.1", sender_mac, MAC, to=MAC))

    def resolve(self) -> None:
        """Make the peer a REACHABLE neighbour and forget what was sent meanwhile."""
        self.send()
        self.interface.flush()
        self.answer()
        self.interface.flush()
        self.device.sent.clear()
        assert self.state() == "REACHABLE"

    def sent(self):
        """Flush; return and forget the frames sent: (Ethernet header, payload)."""
        self.interface.flush(1 << 20)
        frames = [EthernetHeader.parse(frame.octets()) for frame in self.device.sent]
        self.device.sent.clear()
        return [(header, bytes(payload)) for header, payload in frames]

    def sent_arp(self):
        """Flush; return and forget the ARP packets sent: (Ethernet header, ARP header)."""
        return [
            (header, ArpHeader.parse(payload)[0])
            for header, payload in self.sent()
            if header.ethertype == EtherType.ARP
        ]


@pytest.fixture(scope="session")
def make_bench():
    return Bench


@pytest.fixture
def bench():
    return Bench()


def tcp_super(payload, size, *, options=b"", destination="10.0.0.2"):
    """Return a super-segment from its IP header on, checksum PARTIAL, as TCP hands it down."""
    header = bytes(
        IP(src="10.0.0.1", dst=destination, id=7, flags="DF", len=40 + len(options) + len(payload))
        / TCP(sport=1, dport=2, seq=1000, ack=5, flags="PA", window=100)
    )
    data_offset = (20 + len(options)) << 2
    header = header[:32] + bytes([data_offset]) + header[33:36] + bytes(4) + options
    frame = Frame(bytearray(HEADROOM) + header, (payload,), start=HEADROOM)
    frame.checksum = Checksum.PARTIAL
    frame.checksum_start = HEADROOM + 20
    frame.checksum_offset = 16
    pseudo = pseudo_header_sum(
        b"\x0a\0\0\x01", b"\x0a\0\0\x02", 6, len(header) - 20 + len(payload)
    )
    frame.header[HEADROOM + 36 : HEADROOM + 38] = pseudo.to_bytes(2)
    if len(payload) > size:
        frame.gso_size = size
        frame.gso_type = GsoType.TCPV4
        frame.segments = -(-len(payload) // size)
    return frame


@pytest.fixture
def make_super():
    return tcp_super
