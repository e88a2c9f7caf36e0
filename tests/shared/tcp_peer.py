"""A scripted peer: segments by hand against a real stack, in virtual time.

``peer.inject(...)`` sends a segment to the stack, ``peer.expect(...)`` checks what left next,
``peer.expect_nothing()`` that nothing did, ``peer.advance(seconds)`` lets time pass. Sequence
numbers are relative: 0 is the sender's SYN. Every state is reached by exchanging segments.

A pytest plugin: tests/transport/tcp takes the fixtures ``peer`` and ``make_peer`` from here,
tests/packetdrill plays whole scripts on it (``tcp_script``). Either fixture runs its test with
super-segments taken whole by the device, and without any (``both_ways``).
"""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

import pytest

from netstack.core.address import parse_address
from netstack.core.config import Config, TcpConfig
from netstack.core.rng import Rng
from netstack.core.seqnum import MASK
from netstack.device.base import Capabilities, Device, Frame, Medium
from netstack.device.offload import wire_octets
from netstack.stack import Stack
from netstack.transport.tcp.fast_open import Cookies
from netstack.transport.tcp.isn import IsnGenerator
from netstack.wire.icmpv4 import ICMPv4Header
from netstack.wire.ipv4 import IPv4Header
from netstack.wire.tcp import TcpFlag, TcpHeader, build_syn_options, build_timestamps

OURS = parse_address("10.0.0.1")
THEIRS = parse_address("10.0.0.2")
LETTERS = {"F": 1, "S": 2, "R": 4, "P": 8, "A": 16, "U": 32, "E": 64, "C": 128, "N": 256}


class WireDevice(Device):
    """Keeps what the stack transmits, as wire frames.

    With a ``gso_max_size`` it takes super-segments whole and cuts them itself.
    """

    def __init__(self, mtu: int = 1500, gso_max_size: int = 0) -> None:
        tx_checksum = gso_max_size > 0
        super().__init__("wire", Capabilities(Medium.IP, mtu, tx_checksum, False, gso_max_size))
        self.sent: deque[bytes] = deque()

    def transmit(self, frame: Frame) -> bool:
        self.sent.extend(wire_octets(frame))
        return True

    def receive_burst(self, limit: int = 64) -> list[Frame]:
        return []


class FixedIsn(IsnGenerator):
    """Gives every connection the same initial sequence number."""

    def __init__(self, rng: Rng, iss: int) -> None:
        super().__init__(rng)
        self.iss = iss

    def isn(self, four_tuple: bytes, now: float) -> int:
        return self.iss


class FixedCookies(Cookies):
    """Gives every client the same fast open cookie; yesterday's has its octets reversed."""

    def __init__(self, cookie: bytes) -> None:
        super().__init__(Rng(0))
        self.cookie = cookie

    def make(self, client: bytes, server: bytes, now: float, age: int = 0) -> bytes:
        return self.cookie[::-1] if age else self.cookie


class Seen(NamedTuple):
    """A segment that the stack sent; numbers relative to both sides' SYN."""

    flags: str
    seq: int
    ack: int
    data: bytes
    window: int
    header: TcpHeader


def flag_bits(letters: str) -> int:
    return sum(LETTERS[letter] for letter in letters)


def flag_letters(bits: int) -> str:
    return "".join(letter for letter, bit in LETTERS.items() if bits & bit)


class Peer:
    """The other end of one connection, played by the test."""

    def __init__(
        self, *, seed: int = 1, irs: int = 5_000, timestamps: bool = False, mtu: int = 1500,
        gso_max_size: int | None = None, iss: int | None = None, cookie: str = "", **tcp: Any,
    ) -> None:  # fmt: skip
        tcp.setdefault("timestamps", timestamps)
        self.config = TcpConfig(**tcp)
        self.stack = Stack("tested", seed=seed, config=Config(tcp=self.config))
        self.stack.contain_errors = False
        if iss is not None:
            self.stack.tcp.isn = FixedIsn(Rng(seed, "isn"), iss)
        if gso_max_size is None:
            gso_max_size = 65_535 if self.config.super_segments else 0
        if cookie:
            self.stack.tcp.fast_open_cookies = FixedCookies(bytes.fromhex(cookie))
        self.device = WireDevice(mtu, gso_max_size)
        self.stack.attach(self.device, "10.0.0.1/24")
        self.now = 0.0
        self.irs = irs  # our own (the peer's) initial sequence number
        self.iss = 0  # the stack's, learnt from its SYN
        self.port = 40_000
        self.stack_port = 80
        self.timestamps = timestamps
        self.ts_val = 1_000
        self.ts_ecr = 0
        self.scale = 0
        self.traffic_class = 0  # of what we send
        self.script: list[str] = []
        self.last_packet = b""  # as the last segment taken stood on the wire
        self.connection: Any = None
        self.listener: Any = None

    # -- segments -----------------------------------------------------------------------------

    def inject(
        self, flags: str, *, seq: int, ack: int | None = None, data: bytes = b"",
        window: int = 65_535, options: bytes | None = None, corrupt: bool = False,
        poll: bool = True,
    ) -> None:  # fmt: skip
        """Send a segment to the stack; then poll it."""
        if options is None:
            options = b""
            if "S" in flags:
                stamps = (self.ts_val, self.ts_ecr) if self.timestamps else None
                options = build_syn_options(1460, None, stamps)
            elif self.timestamps and "R" not in flags:
                options = build_timestamps(self.ts_val, self.ts_ecr)
        header = TcpHeader(
            self.port, self.stack_port, (self.irs + seq) & MASK,
            (self.iss + ack) & MASK if ack is not None else 0,
            flag_bits(flags) & 0xFF, window, options=options, reserved=flag_bits(flags) >> 8,
        ).with_checksum(THEIRS.packed, OURS.packed, data)  # fmt: skip
        if corrupt:
            header = header._replace(checksum=header.checksum ^ 1)
        self.note(f"< {flags or '.'} seq {seq} ack {ack} len {len(data)} win {window}")
        self.inject_octets(header.build() + data, poll=poll)

    def inject_segment(self, header: TcpHeader, data: bytes, *, traffic_class: int = 0) -> None:
        """Send ``header``, its checksum set right, and ``data``."""
        header = header.with_checksum(THEIRS.packed, OURS.packed, data)
        self.inject_octets(header.build() + data, traffic_class=traffic_class)

    def inject_octets(self, segment: bytes, *, poll: bool = True, traffic_class: int = 0) -> None:
        """Send ``segment`` as it is in a good packet."""
        packet = IPv4Header(
            source=THEIRS, destination=OURS, protocol=6, total_length=20 + len(segment),
            traffic_class=traffic_class or self.traffic_class,
        ).with_checksum()  # fmt: skip
        self.stack.receive(self.device, [packet.build() + segment], self.now)
        if poll:
            self.poll()

    def inject_icmp(self, type: int, code: int, quote: bytes, *, mtu: int = 0) -> None:
        """Send an ICMP error about ``quote``, a packet of the stack's, from a router."""
        self.note(f"< icmp {type}/{code} mtu {mtu}")
        message = ICMPv4Header(type, code, mtu).with_checksum(quote[:28]).build() + quote[:28]
        header = IPv4Header(
            source=parse_address("10.0.0.254"), destination=OURS, protocol=1,
            total_length=20 + len(message),
        ).with_checksum()  # fmt: skip
        self.stack.receive(self.device, [header.build() + message], self.now)
        self.poll()

    def poll(self) -> None:
        self.stack.poll(self.now)

    def note(self, line: str) -> None:
        self.script.append(f"{self.now:9.4f} {line}")

    def advance(self, seconds: float) -> None:
        """Let virtual time pass; every deadline on the way is met."""
        end = self.now + seconds
        while True:
            deadline = self.stack.next_deadline()
            if deadline is None or deadline > end:
                break
            self.now = max(self.now, deadline)
            self.poll()
        self.now = end
        self.poll()

    def segments(self) -> list[Seen]:
        """Take all that was sent, oldest first; every one must be well-formed."""
        taken = []
        while self.device.sent:
            taken.append(self._take())
        return taken

    def _take(self) -> Seen:
        self.last_packet = self.device.sent.popleft()
        ip, payload = IPv4Header.parse(self.last_packet)
        header, data = TcpHeader.parse(payload)
        good = header.with_checksum(ip.source.packed, ip.destination.packed, data)
        assert good.checksum == header.checksum
        if header.flags & TcpFlag.SYN:
            self.iss = header.seq
        ack = (header.ack - self.irs) & MASK if header.flags & TcpFlag.ACK else 0
        if self.timestamps and len(header.options) >= 12 and not header.flags & TcpFlag.RST:
            index = header.options.find(b"\x08\x0a")
            self.ts_ecr = int.from_bytes(header.options[index + 2 : index + 6], "big")
        seq = (header.seq - self.iss) & MASK
        if header.flags & TcpFlag.RST and not header.flags & TcpFlag.ACK and not header.seq:
            seq = 0
        window = header.window << (0 if header.flags & TcpFlag.SYN else self.scale)
        seen = Seen(flag_letters(header.flags), seq, ack, bytes(data), window, header)
        self.note(f"> {seen.flags} seq {seq} ack {ack} len {len(data)} win {window}")
        return seen

    def expect(self, flags: str, **fields: Any) -> Seen:
        """Take the next segment; its flags and the named fields must be these."""
        if not self.device.sent:
            self.fail(f"expected {flags} {fields}, nothing was sent")
        seen = self._take()
        if "length" in fields:
            length = fields.pop("length")
            if len(seen.data) != length:
                self.fail(f"expected {length} octets, got {len(seen.data)}")
        if set(seen.flags) != set(flags):
            self.fail(f"expected flags {flags}, got {seen.flags}")
        for name, value in fields.items():
            if getattr(seen, name) != value:
                self.fail(f"expected {name} {value!r}, got {getattr(seen, name)!r}")
        return seen

    def expect_nothing(self) -> None:
        if self.device.sent:
            seen = self.segments()
            self.fail(f"expected nothing, got {len(seen)} segments")

    def fail(self, message: str) -> None:
        pytest.fail(message + "\n" + "\n".join(self.script), pytrace=False)

    # -- events and counters ------------------------------------------------------------------

    def events(self) -> list[str]:
        """Take the events posted since the last call, by name."""
        names = []
        while (event := self.stack.next_event()) is not None:
            names.append(type(event).__name__)
        return names

    def counter(self, name: str) -> int:
        return self.stack.counters().get(name, 0)

    @property
    def state(self) -> str:
        return str(self.connection.state.name)

    # -- states, reached by segments ----------------------------------------------------------

    def listen(self, backlog: int = 128) -> Peer:
        self.listener = self.stack.listen(("", self.stack_port), backlog=backlog)
        return self

    def syn_sent(self) -> Peer:
        self.connection = self.stack.connect((str(THEIRS), self.port), self.now)
        self.stack_port = self.connection.local[1]
        self.poll()
        self.expect("S", seq=0)
        return self

    def syn_received(self) -> Peer:
        """Passive open: SYN came in, SYN,ACK left."""
        self.listen()
        self.inject("S", seq=0)
        self.expect("SA", seq=0, ack=1)
        self.connection = next(iter(self.stack.tcp.connections.values()))
        return self

    def established(self) -> Peer:
        self.syn_received()
        self.inject("A", seq=1, ack=1)
        self.expect_nothing()
        accepted = self.listener.accept()
        assert accepted is self.connection
        self.events()
        return self

    def connected(self) -> Peer:
        """Active open."""
        self.syn_sent()
        self.inject("SA", seq=0, ack=1)
        self.expect("A", seq=1, ack=1)
        self.events()
        return self

    def fin_wait_1(self) -> Peer:
        self.established()
        self.connection.shutdown_write(self.now)
        self.poll()
        self.expect("FA", seq=1, ack=1)
        return self

    def fin_wait_2(self) -> Peer:
        self.fin_wait_1()
        self.inject("A", seq=1, ack=2)
        return self

    def close_wait(self) -> Peer:
        self.established()
        self.inject("FA", seq=1, ack=1)
        self.expect("A", seq=1, ack=2)
        return self

    def last_ack(self) -> Peer:
        self.close_wait()
        self.connection.close(self.now)
        self.poll()
        self.expect("FA", seq=1, ack=2)
        return self

    def closing(self) -> Peer:
        self.fin_wait_1()
        self.inject("FA", seq=1, ack=1)
        self.expect("A", seq=2, ack=2)
        return self

    def time_wait(self) -> Peer:
        self.fin_wait_2()
        self.inject("FA", seq=1, ack=2)
        self.expect("A", seq=2, ack=2)
        return self


@pytest.fixture
def peer(both_ways: None) -> Peer:
    return Peer()


@pytest.fixture
def make_peer(both_ways: None) -> type[Peer]:
    return Peer
