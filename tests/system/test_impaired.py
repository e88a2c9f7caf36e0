"""Transfers over links that lose, reorder, double and corrupt: every octet arrives."""

import hashlib

import pytest

from netstack.api import Network
from netstack.core.rng import Rng


def transfer(seed, size):
    """Send ``size`` octets each way over a link as bad as the seed says; return the time taken."""
    chances = Rng(seed, "chances")
    data = Rng(seed, "data").octets(size)
    digest = hashlib.sha256(data).hexdigest()

    def serve(listener):
        connection, _ = listener.accept()
        with connection:
            received = read_all(connection, size)
            connection.sendall(received)
            connection.shutdown(1)
            connection.recv(1)
        return hashlib.sha256(received).hexdigest()

    with Network(seed=seed) as network:
        a, b = network.host("a", "10.0.0.1/24"), network.host("b", "10.0.0.2/24")
        network.link(
            a, b, delay=0.005, jitter=0.001,
            loss=0.10 * chances.random(), reorder=0.10 * chances.random(),
            duplicate=0.05 * chances.random(), corrupt=0.02 * chances.random(),
        )  # fmt: skip
        with b.create_server(("", 80)) as listener:
            task = b.spawn(serve, listener)
            with a.create_connection(("10.0.0.2", 80)) as client:
                client.sendall(data)
                back = read_all(client, size)
            assert task.join() == digest
            assert hashlib.sha256(back).hexdigest() == digest
        return network.now


def read_all(sock, size):
    pieces = []
    while size:
        piece = sock.recv(65_536)
        assert piece, f"the stream ended {size} octets early"
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


@pytest.mark.parametrize("first", range(0, 100, 10))
def test_64_kib_over_bad_links(first):
    for seed in range(first, first + 10):
        transfer(seed, 65_536)


@pytest.mark.parametrize("seed", [1, 2])
def test_10_mb_over_a_bad_link(seed):
    transfer(seed, 10_000_000)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_soak_64_kib_over_bad_links():
    for seed in range(1000):
        transfer(seed, 65_536)


@pytest.mark.soak
@pytest.mark.timeout(36_000)
def test_soak_10_mb_over_bad_links():
    for seed in range(100):
        transfer(seed, 10_000_000)
