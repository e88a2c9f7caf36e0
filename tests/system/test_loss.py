"""Streams across links that lose, reorder, duplicate and corrupt: nothing may be lost above."""

import hashlib
import random
import socket as std

import pytest

from netstack.api import Network

pytestmark = pytest.mark.usefixtures("both_ways")

HOSTILE = {"loss": 0.10, "reorder": 0.10, "duplicate": 0.05, "corrupt": 0.02}


def transfer(seed, size, **link):
    """Send ``size`` octets one way and their digest back; return what both ends computed."""
    data = random.Random(seed).randbytes(size)
    with Network(seed=seed) as network:
        a = network.host("a", "10.0.0.1/24")
        b = network.host("b", "10.0.0.2/24")
        network.link(a, b, **link)
        listener = b.create_server(("", 80))

        def serve():
            connection, _ = listener.accept()
            digest = hashlib.sha256()
            with connection:
                while piece := connection.recv(65_536):
                    digest.update(piece)
                connection.sendall(digest.digest())

        task = b.spawn(serve)
        answer = b""
        with a.create_connection(("10.0.0.2", 80)) as client:
            client.sendall(data)
            client.shutdown(std.SHUT_WR)
            while piece := client.recv(100):
                answer += piece
        task.join()
        for host in (a, b):
            assert host.counters().get("stack.internal_error", 0) == 0
        return hashlib.sha256(data).digest(), answer


def draw_link(seed):
    """Impairments up to the full figures, different for each seed."""
    rng = random.Random(f"link {seed}")
    link = {name: most * rng.random() for name, most in HOSTILE.items()}
    link["delay"] = rng.choice((0.0, 50e-6, 0.005, 0.05))
    link["jitter"] = link["delay"] * rng.choice((0, 0.5))
    return link


@pytest.mark.parametrize("decade", range(10))
def test_64_kib_arrive_whole_over_hostile_links(decade):
    for seed in range(10 * decade, 10 * decade + 10):
        sent, received = transfer(seed, 65_536, **draw_link(seed))
        assert received == sent, seed


@pytest.mark.parametrize("seed", [0, 1])
def test_10_mb_arrive_whole_at_the_full_figures(seed):
    sent, received = transfer(seed, 10_000_000, delay=0.005, **HOSTILE)
    assert received == sent


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_64_kib_over_a_thousand_hostile_links():
    for seed in range(1_000):
        sent, received = transfer(seed, 65_536, **draw_link(seed))
        assert received == sent, seed


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_10_mb_a_hundred_times_at_the_full_figures():
    for seed in range(100):
        sent, received = transfer(seed, 10_000_000, delay=0.005, **HOSTILE)
        assert received == sent, seed
