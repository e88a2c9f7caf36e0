"""Streams over hostile links: nothing is changed, and nothing waits longer than its timeout."""

import hashlib
import random

import pytest

from netstack.bench.path import Path
from netstack.core.config import TcpConfig
from netstack.transport.tcp.isn import IsnGenerator

WORST = {"loss": 0.20, "reorder": 0.25, "duplicate": 0.10, "corrupt": 0.05}
GIVE_UP = 20_000.0  # seconds of virtual time


class NextToTheWrap(IsnGenerator):
    """Initial sequence numbers from which few octets lead over 2^32."""

    def __init__(self, rng, distance):
        super().__init__(rng)
        self.distance = distance

    def isn(self, four_tuple, now):
        return 2**32 - self.distance


class Stall:
    """Whether a sender that is owed an answer acted in time: sent again, or made progress."""

    def __init__(self, connection):
        self.sender = connection.sender
        self.acted = 0.0
        self.allowed = None
        self.longest = 0.0

    def __call__(self, now):
        sender = self.sender
        acted = max(sender.last_sent, sender.last_progress)
        if self.allowed is not None and acted > self.acted:
            gap = acted - self.acted
            self.longest = max(self.longest, gap - self.allowed)
        if acted > self.acted or acted == now or self.allowed is None:
            self.acted = acted
            self.allowed = sender.rtt.timeout()
        if not sender.queue:
            self.allowed = None


def draw(seed):
    """Return the link, the configuration and the distance of the first number from the wrap."""
    rng = random.Random(f"hostile {seed}")
    link = {name: most * rng.random() for name, most in WORST.items()}
    link["delay"] = rng.choice((0.0, 50e-6, 0.005, 0.05))
    link["jitter"] = link["delay"] * rng.choice((0, 0.5, 1))
    link["rate"] = rng.choice((None, 1e7, 1e9))
    config = TcpConfig(
        congestion=rng.choice(("cubic", "newreno")),
        sack=rng.random() < 0.8,
        timestamps=rng.random() < 0.8,
        super_segments=rng.random() < 0.5,
    )
    return link, config, rng.randrange(60_000) if rng.random() < 0.25 else None


def transfer(seed, size):
    link, config, distance = draw(seed)
    path = Path(seed, config, **link)
    if distance is not None:
        for stack in (path.near, path.far):
            stack.tcp.isn = NextToTheWrap(stack.context.rng, distance)
    data = random.Random(seed).randbytes(size)
    flow = path.start(size, data=data)
    stall = Stall(flow.connection)
    assert path.run(GIVE_UP, stall), (seed, path.now, flow.connection.error)
    assert flow.digest.digest() == hashlib.sha256(data).digest(), seed
    assert stall.longest <= 1e-6, (seed, stall.longest)
    for stack in (path.near, path.far):
        assert stack.counters().get("stack.internal_error", 0) == 0, seed


@pytest.mark.parametrize("part", range(10))
def test_30_kb_over_200_hostile_links(part):
    for seed in range(20 * part, 20 * part + 20):
        transfer(seed, 30_000)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("part", range(10))
def test_64_kib_over_10_000_hostile_links(part):
    for seed in range(1_000 * part, 1_000 * part + 1_000):
        transfer(seed, 65_536)
