"""Many connections one after the other leave nothing behind."""

from __future__ import annotations

import gc
import os
import socket
import sys
import time
from collections import Counter

import pytest

import netstack
from netstack.core.config import Config, NeighbourConfig, TcpConfig
from netstack.core.errors import Unreachable

pytestmark = pytest.mark.needs("tap", "netns", "ip", "nginx", "dnsmasq", "openssl", "tshark")

QUICK = Config(tcp=TcpConfig(msl=0.2))  # TIME-WAIT ends while we watch
COUNTS = [
    pytest.param(500, id="500"),
    pytest.param(10_000, id="10000", marks=[pytest.mark.soak, pytest.mark.timeout(1800)]),
]
REUSED = {"A new tcp session is started with the same ports": "28,000 ports, thousands of opens"}
KINDS = ("Connection", "Sender", "Receiver", "StreamSocket", "Waiter", "Timer", "Path", "Frame")
SWEPT = 64  # a stale timer, and its connection, may stay until they are so many
BLOCKS = 10_000  # of memory: 20 for one connection would be more in the shortest run


class Census:
    """What a process holds: descriptors, objects by kind, blocks of memory."""

    def __init__(self):
        gc.collect()
        self.descriptors = len(os.listdir("/proc/self/fd"))
        kinds = Counter(type(each).__name__ for each in gc.get_objects())
        self.objects = {kind: kinds[kind] for kind in KINDS}
        self.blocks = sys.getallocatedblocks()

    def assert_no_more_in(self, later):
        assert later.descriptors <= self.descriptors
        grown = {kind: later.objects[kind] - self.objects[kind] for kind in KINDS}
        assert max(grown.values()) <= SWEPT, grown
        assert later.blocks - self.blocks < BLOCKS


def _await_no_connections(host):
    end = time.monotonic() + 10
    while host.connections() and time.monotonic() < end:
        host.sleep(0.05)
    assert host.connections() == []


def _closed_by_us(host, lan, server):
    with host.create_connection(server, timeout=10) as ours:
        ours.sendall(b"x")
        assert ours.recv(1) == b"x"


def _closed_by_the_server(host, lan, server):
    url = f"http://{lan.site.address}/"
    response = netstack.fetch(url, host=host, headers={"Connection": "close"})
    assert response.body == b"<h1>It works</h1>\n"


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("once", [_closed_by_us, _closed_by_the_server])
def test_opened_connections_leave_nothing(lan, kernel_server, once, count):
    def handle(connection):
        connection.sendall(connection.recv(1))
        connection.recv(1)

    server = None
    with lan.host(config=QUICK, expected=REUSED) as host:
        server = kernel_server(lan.kernel, handle)
        for _ in range(20):
            once(host, lan, server)
        _await_no_connections(host)
        before = Census()
        for _ in range(count):
            once(host, lan, server)
        _await_no_connections(host)
        time.sleep(0.1)  # the server's last thread ends
        before.assert_no_more_in(Census())


@pytest.mark.parametrize("count", COUNTS)
def test_accepted_connections_leave_nothing(lan, count):
    def once(listener):
        with socket.create_connection((lan.ours, 7000), timeout=10) as client:
            ours, _ = listener.accept()
            with ours:
                client.sendall(b"x")
                assert ours.recv(1) == b"x"
            assert client.recv(1) == b""

    with (
        lan.host(config=QUICK, expected=REUSED, opaque=("tcp.port==7000",)) as host,
        host.create_server(("", 7000)) as listener,
    ):
        for _ in range(20):
            once(listener)
        _await_no_connections(host)
        before = Census()
        for _ in range(count):
            once(listener)
        _await_no_connections(host)
        before.assert_no_more_in(Census())


def test_refused_and_timed_out_opens_leave_nothing(lan):
    expected = {"Connection reset (RST)": "nobody listens", **REUSED}

    def once(host):
        with pytest.raises(ConnectionRefusedError):
            host.create_connection((lan.kernel, 9), timeout=5)
        with pytest.raises((TimeoutError, Unreachable)):
            host.create_connection((f"{lan.net}.77", 9), timeout=0.001)

    config = Config(arp=NeighbourConfig(retransmit_interval=0.05))
    with lan.host(expected=expected, config=config) as host:
        for _ in range(5):
            once(host)
        _await_no_connections(host)
        before = Census()
        for _ in range(200):
            once(host)
        _await_no_connections(host)
        host.sleep(0.5)  # nobody answers ARP, and what waits for that is dropped
        before.assert_no_more_in(Census())
