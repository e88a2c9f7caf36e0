"""A 20-segment exchange of which every single packet is lost once, and every pair.

Ten segments one way, ten the other, and both ends closed. Packets are counted as they are sent,
in both directions together, retransmissions included.
"""

from itertools import combinations

import pytest

from netstack.bench.path import FAR, PORT, Path
from netstack.core.config import TcpConfig
from netstack.device.middleware import Middleware
from netstack.device.offload import wire_octets
from netstack.transport.tcp.state import State

SEGMENTS = 10
LONGEST = 30.0  # seconds of virtual time: two timeouts in a row and TIME-WAIT are shorter


class Sieve:
    """Loses the packets whose numbers are given, counted over both ends."""

    def __init__(self, lost):
        self.lost = lost
        self.count = 0

    def end(self, device):
        return SieveDevice(device, self)


class SieveDevice(Middleware):
    def __init__(self, inner, sieve):
        super().__init__(inner)
        self.sieve = sieve

    def transmit(self, frame):
        for octets in wire_octets(frame):
            number = self.sieve.count
            self.sieve.count += 1
            if number not in self.sieve.lost:
                self.inner.transmit(type(frame)(octets))
        return True


class Application:
    """Sends its data, at once or after the peer's end, and closes; keeps what arrives."""

    def __init__(self, data, *, answers):
        self.data = data
        self.answers = answers
        self.connection = None
        self.got = bytearray()
        self.ended = False

    def act(self, now):
        connection = self.connection
        if connection is None:
            return
        while not self.ended and (piece := connection.receive(100_000, now)) is not None:
            self.got += piece
            self.ended = not piece
        opened = connection.state >= State.ESTABLISHED
        if self.data and opened and (self.ended or not self.answers):
            taken = connection.send(self.data, now)
            self.data = self.data[taken:]
            if not self.data:
                connection.shutdown_write(now)

    @property
    def done(self):
        return self.ended and not self.data and self.connection.closed


def exchange(lost, config=None):
    """Exchange with the packets ``lost``; return how many were sent and how long it took."""
    sieve = Sieve(lost)
    path = Path(1, config, near_device=sieve.end, far_device=sieve.end, delay=0.01, rate=1e7)
    size = SEGMENTS * 1448
    question, answer = bytes(range(256)) * 57, bytes(range(255, -1, -1)) * 57
    asking = Application(question[:size], answers=False)
    answering = Application(answer[:size], answers=True)
    listener = path.far.listen(("", PORT + 1))
    asking.connection = path.near.connect((FAR, PORT + 1), 0.0)

    def watch(now):
        if answering.connection is None:
            answering.connection = listener.accept()
        asking.act(now)
        answering.act(now)

    ended_at = None
    while ended_at is None and path.now < LONGEST and path.step(watch):
        if answering.connection is not None and asking.done and answering.done:
            ended_at = path.now
    assert ended_at is not None, (lost, path.near.connections(), path.far.connections())
    assert answering.got == question[:size], lost
    assert asking.got == answer[:size], lost
    for stack in (path.near, path.far):
        assert stack.counters().get("stack.internal_error", 0) == 0
    assert asking.connection.error is None
    assert answering.connection.error is None
    return sieve.count, ended_at


def packets(config=None):
    count, _ = exchange((), config)
    assert count >= 30
    return count


BARE = {"sack": False, "timestamps": False, "window_scaling": False, "congestion": "newreno"}
VARIANTS = {
    "all": {},
    "no-sack": {"sack": False},
    "no-timestamps": {"timestamps": False},
    "newreno-bare": BARE,
}
pytestmark = pytest.mark.usefixtures("both_ways")


@pytest.mark.parametrize("variant", VARIANTS)
def test_any_one_packet_may_be_lost(variant):
    config = TcpConfig(**VARIANTS[variant])
    for number in range(packets(config)):
        exchange((number,), config)


@pytest.mark.parametrize("quarter", range(4))
def test_any_two_packets_may_be_lost(quarter):
    for pair in list(combinations(range(packets()), 2))[quarter::4]:
        exchange(pair)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("variant", VARIANTS)
def test_any_two_packets_may_be_lost_in_every_variant(variant):
    config = TcpConfig(**VARIANTS[variant])
    for pair in combinations(range(packets(config)), 2):
        exchange(pair, config)
