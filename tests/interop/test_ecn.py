"""Explicit congestion notification with the kernel: agreed on by either side, and heeded."""

from __future__ import annotations

import hashlib
import os
import socket

import pytest

from netstack.core.config import Config, TcpConfig

pytestmark = pytest.mark.needs("tap", "netns", "ip", "nginx", "dnsmasq", "openssl", "tshark")

ON = Config(tcp=TcpConfig(ecn="on"))
TCP_INFO_OPTIONS = 5  # offset of tcpi_options
TCPI_OPT_ECN = 8
DELIVERED_CE = 196  # offset of tcpi_delivered_ce


def _uses_ecn(connection):
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    return bool(info[TCP_INFO_OPTIONS] & TCPI_OPT_ECN)


def _digest(connection):
    digest = hashlib.sha256()
    while piece := connection.recv(262_144):
        digest.update(piece)
    return digest.hexdigest()


def test_kernel_agrees_when_asked(lan, kernel_server):
    data, result = os.urandom(2_000_000), []

    def handle(connection):
        result.append((_uses_ecn(connection), _digest(connection)))

    with (
        lan.host(config=ON, expected=lan.busy) as host,
        host.create_connection(kernel_server(lan.kernel, handle), timeout=20) as ours,
    ):
        ours.sendall(data)
        ours.shutdown(socket.SHUT_WR)
        assert ours.recv(1) == b""
    assert result == [(True, hashlib.sha256(data).hexdigest())]


def test_kernel_that_asks_is_answered(lan, sysctl):
    sysctl("tcp_ecn", 1)
    data = os.urandom(2_000_000)
    with (
        lan.host(expected=lan.busy, opaque={"tcp.port==40001"}) as host,
        host.create_server(("", 40_001)) as listener,
        socket.create_connection((lan.ours, 40_001), timeout=20) as theirs,
    ):
        assert _uses_ecn(theirs)
        ours, _ = listener.accept()
        with ours:
            task = host.spawn(ours.sendall, data)
            received = bytearray()
            while len(received) < len(data):
                received += theirs.recv(262_144)
            task.join()
    assert received == data


@pytest.mark.needs("nft")
def test_marks_that_the_kernel_echoes_slow_us_down(lan, kernel_server, filtered):
    data, result = os.urandom(4_000_000), []

    def handle(connection):
        result.append(_digest(connection))

    marks = "ip ecn != not-ect numgen inc mod 20 == 0 ip ecn set ce"
    with lan.host(config=ON, expected=lan.busy) as host, filtered("ingress", marks):
        with host.create_connection(kernel_server(lan.kernel, handle), timeout=20) as ours:
            ours.sendall(data)
            ours.shutdown(socket.SHUT_WR)
            assert ours.recv(1) == b""
        assert host.counters().get("tcp.ecn_reductions", 0) >= 1
    assert result == [hashlib.sha256(data).hexdigest()]


@pytest.mark.needs("nft")
def test_marks_that_we_echo_slow_the_kernel_down(lan, sysctl, filtered):
    sysctl("tcp_ecn", 1)
    data = os.urandom(4_000_000)
    # The hook sees what the kernel has not yet cut: some sixty packets.
    marks = "ip ecn != not-ect numgen inc mod 10 == 5 ip ecn set ce"
    with (
        lan.host(expected=lan.busy, opaque={"tcp.port==40001"}) as host,
        host.create_server(("", 40_001)) as listener,
        filtered("egress", marks),
        socket.create_connection((lan.ours, 40_001), timeout=20) as theirs,
    ):
        ours, _ = listener.accept()
        with ours:
            task = host.spawn(_digest, ours)
            theirs.sendall(data)
            theirs.shutdown(socket.SHUT_WR)
            assert task.join() == hashlib.sha256(data).hexdigest()
        info = theirs.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        delivered_ce = int.from_bytes(info[DELIVERED_CE : DELIVERED_CE + 4], "little")
    assert delivered_ce >= 1
