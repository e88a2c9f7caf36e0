"""The same seed gives the same octets, whatever the process's hash seed and kernels."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from netstack.api import Network
from netstack.capture import read

ROOT = Path(__file__).parents[2]

SCRIPT = """
import hashlib, sys
from netstack.api import Network

def serve(listener):
    while True:
        connection, _ = listener.accept()
        with connection:
            while data := connection.recv(5000):
                connection.sendall(data[::-1])

def ask(host, data):
    with host.create_connection(("10.0.2.2", 80)) as sock:
        sock.sendall(data)
        sock.shutdown(1)
        with sock.makefile("rb") as stream:
            return hashlib.sha256(stream.read()).hexdigest()

with Network(seed=7) as network:
    a = network.host("a", "10.0.1.2/24", gateway="10.0.1.1")
    c = network.host("c", "10.0.1.3/24", gateway="10.0.1.1")
    switch = network.switch("switch")
    router = network.router("router", "10.0.1.1/24", "10.0.2.1/24")
    b = network.host("b", "10.0.2.2/24", gateway="10.0.2.1")
    for end in (a, c, router):
        network.link(end, switch, jitter=20e-6)
    network.link(router, b, rate=1e8, queue=50, loss=0.03, reorder=0.03, duplicate=0.02,
                 corrupt=0.01)
    with network.record(sys.argv[1]), b.create_server(("", 80)) as listener:
        b.spawn(serve, listener)
        tasks = [host.spawn(ask, host, bytes([n]) * 40_000) for n in range(3) for host in (a, c)]
        for task in tasks:
            print(task.join())
    print(network.now)
"""


def run_course(path, hash_seed, pure):
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "NETSTACK_PURE": pure}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path)],
        check=True, capture_output=True, text=True, env=environment, timeout=100,
    )  # fmt: skip
    return done.stdout, hashlib.sha256(path.read_bytes()).hexdigest()


def test_one_sha256_of_the_capture_across_processes_and_builds(tmp_path):
    courses = {
        run_course(tmp_path / f"{n}.pcapng", hash_seed, pure)
        for n, (hash_seed, pure) in enumerate((("1", "0"), ("2", "0"), ("3", "1")))
    }
    assert len(courses) == 1
    assert len(list(read(tmp_path / "0.pcapng"))) > 500


def talk(seed, path):
    with Network(seed=seed) as network:
        a, b = network.host("a", "10.0.0.1/24"), network.host("b", "10.0.0.2/24")
        network.link(a, b)
        with network.record(path) as recorder, b.create_server(("", 80)) as listener:
            client = a.create_connection(("10.0.0.2", 80))
            server, _ = listener.accept()
            client.sendall(b"hello")
            assert server.recv(10) == b"hello"
            server.close()
            client.close()
        return recorder.recorded


def test_another_seed_gives_other_numbers(tmp_path):
    paths = [tmp_path / f"{seed}.pcapng" for seed in (1, 1, 2)]
    for seed, path in zip((1, 1, 2), paths, strict=True):
        talk(seed, path)
    first, second, third = (path.read_bytes() for path in paths)
    assert first == second != third


def test_capture_holds_every_frame_with_the_links_name(tmp_path):
    path = tmp_path / "talk.pcapng"
    recorded = talk(1, path)
    packets = list(read(path))
    assert len(packets) == recorded
    segments = [packet.tcp for packet in packets if packet.tcp is not None]
    assert segments[0].destination_port == 80
    assert packets[0].time == pytest.approx(1_577_836_800.0, abs=1.0)


def test_one_recorder_at_a_time(network, tmp_path):
    a, b = network.host("a", "10.0.0.1/24"), network.host("b", "10.0.0.2/24")
    with network.record(tmp_path / "one.pcapng") as recorder:
        with pytest.raises(RuntimeError, match="at work"):
            network.record(tmp_path / "two.pcapng")
        network.link(a, b)
        a.ping("10.0.0.2")
        count = recorder.recorded
        assert count >= 4
    a.ping("10.0.0.2")
    assert recorder.recorded == count
    network.record(tmp_path / "two.pcapng")
