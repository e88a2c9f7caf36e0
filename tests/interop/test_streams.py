"""TCP with the kernel's sockets on the other side: windows, ends, resets."""

from __future__ import annotations

import errno
import hashlib
import os
import queue
import socket
import struct
import threading
import time

import pytest

from netstack.core.trace import Reason, SegmentSent

pytestmark = pytest.mark.needs("tap", "netns", "ip", "nginx", "dnsmasq", "openssl", "tshark")

FULL = "TCP window specified by the receiver is now completely full"
WINDOWS = {
    FULL: "the reader is slow on purpose",
    "TCP Zero Window segment": "the reader is slow on purpose",
    "TCP Zero Window Probe": "the writer asks whether there is room",
    "ACK to a TCP Zero Window Probe": "and is answered",
    "TCP keep-alive segment": "the kernel's window probe looks like one",
    "ACK to a TCP keep-alive segment": "and so does the answer",
}
RESET = {"Connection reset (RST)": "what the test asks for"}
LINGER_NO = struct.pack("ii", 1, 0)


def _read_all(connection):
    digest, count = hashlib.sha256(), 0
    while piece := connection.recv(262_144):
        digest.update(piece)
        count += len(piece)
    return count, digest.hexdigest()


def _echo(connection):
    while piece := connection.recv(262_144):
        connection.sendall(piece)


def test_kernel_reader_that_stops_and_starts_gets_every_octet(lan, kernel_server):
    data = os.urandom(4_000_000)
    go, result = threading.Event(), []

    def handle(connection):
        go.wait(20)
        result.append(_read_all(connection))

    small = [(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)]
    with lan.host(expected=WINDOWS) as host:
        with host.create_connection(kernel_server(lan.kernel, handle, options=small)) as ours:
            ours.settimeout(20)
            task = host.spawn(ours.sendall, data)
            time.sleep(0.7)  # long enough for window probes
            assert host.connections()[0].send_queue > 100_000  # all of the first buffer
            go.set()
            task.join()
            ours.shutdown(socket.SHUT_WR)
            assert ours.recv(1) == b""
        assert host.counters()["tcp.persist_timer"] >= 1
    assert result == [(len(data), hashlib.sha256(data).hexdigest())]


def test_kernel_writer_waits_for_a_reader_of_ours_and_loses_nothing(lan, kernel_server):
    data = os.urandom(6_000_000)
    address = None

    def handle(connection):
        connection.sendall(data)

    with lan.host(expected=WINDOWS) as host:
        address = kernel_server(lan.kernel, handle)
        with host.create_connection(address, timeout=20) as ours:
            time.sleep(0.7)  # our buffer is full, the kernel probes the window
            assert host.connections()[0].receive_queue > 100_000
            count, digest = _read_all(ours)
    assert (count, digest) == (len(data), hashlib.sha256(data).hexdigest())


def test_many_small_writes_arrive_in_order(lan, kernel_server):
    result = []

    def handle(connection):
        result.append(_read_all(connection))
        connection.sendall(b"done")

    with lan.host() as host:
        with host.create_connection(kernel_server(lan.kernel, handle), timeout=20) as ours:
            for number in range(10_000):
                ours.sendall(b"%06d\n" % number)
            ours.shutdown(socket.SHUT_WR)
            assert ours.recv(100) == b"done"
            assert ours.recv(100) == b""
        counters = host.counters()
    sent = b"".join(b"%06d\n" % number for number in range(10_000))
    assert result == [(len(sent), hashlib.sha256(sent).hexdigest())]
    assert counters["tcp.segments_sent"] < 5000  # Nagle's algorithm: far fewer than writes


@pytest.mark.parametrize("nodelay", [0, 1])
def test_ping_pong_of_single_octets(lan, kernel_server, nodelay):
    with (
        lan.host() as host,
        host.create_connection(kernel_server(lan.kernel, _echo), timeout=20) as ours,
    ):
        ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, nodelay)
        for number in range(500):
            octet = bytes([number & 0xFF])
            ours.sendall(octet)
            assert ours.recv(10) == octet


def test_half_close_of_ours_leaves_the_other_direction_open(lan, kernel_server):
    def handle(connection):
        count, digest = _read_all(connection)
        connection.sendall(f"{count} {digest} ".encode() + b"x" * 1_000_000)

    data = os.urandom(300_000)
    with (
        lan.host(expected={FULL: "a buffer filled at once"}) as host,
        host.create_connection(kernel_server(lan.kernel, handle), timeout=20) as ours,
    ):
        ours.sendall(data)
        ours.shutdown(socket.SHUT_WR)
        with pytest.raises(BrokenPipeError):
            ours.send(b"more")
        answer = ours.makefile("rb").read()
    head = f"{len(data)} {hashlib.sha256(data).hexdigest()} ".encode()
    assert answer == head + b"x" * 1_000_000


def test_half_close_of_the_kernel_leaves_the_other_direction_open(lan, kernel_server):
    result = queue.SimpleQueue()

    def handle(connection):
        connection.shutdown(socket.SHUT_WR)
        result.put(_read_all(connection))

    data = os.urandom(1_000_000)
    with lan.host(expected={FULL: "a buffer filled at once"}) as host:
        with host.create_connection(kernel_server(lan.kernel, handle), timeout=20) as ours:
            assert ours.recv(100) == b""
            ours.sendall(data)
        got = result.get(timeout=20)
    assert got == (len(data), hashlib.sha256(data).hexdigest())


def test_closed_port_refuses(lan):
    with (
        lan.host(expected=RESET) as host,
        pytest.raises(ConnectionRefusedError),
    ):
        host.create_connection((lan.kernel, 9), timeout=10)


def test_reset_of_the_kernel_ends_a_reader(lan, kernel_server):
    def handle(connection):
        connection.recv(10)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NO)

    with (
        lan.host(expected=RESET) as host,
        host.create_connection(kernel_server(lan.kernel, handle), timeout=20) as ours,
    ):
        ours.sendall(b"go")
        with pytest.raises(ConnectionResetError):
            ours.recv(100)
        assert ours.recv(100) == b""


def test_reset_of_ours_ends_a_reader_of_the_kernel(lan, kernel_server):
    result = []
    over = threading.Event()

    def handle(connection):
        connection.sendall(b"hello")
        try:
            connection.recv(100)
        except OSError as error:
            result.append(error.errno)
        over.set()

    with lan.host(expected=RESET) as host:
        ours = host.create_connection(kernel_server(lan.kernel, handle), timeout=20)
        assert ours.recv(5) == b"hello"
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NO)
        ours.close()
        assert over.wait(10)
    assert result == [errno.ECONNRESET]


def test_both_directions_at_once(lan, kernel_server):
    data = os.urandom(3_000_000)
    result = queue.SimpleQueue()

    def handle(connection):
        reader = threading.Thread(target=lambda: result.put(_read_all(connection)))
        reader.start()
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        reader.join(30)

    with (
        lan.host(expected=WINDOWS) as host,
        host.create_connection(kernel_server(lan.kernel, handle), timeout=30) as ours,
    ):
        writer = host.spawn(lambda: (ours.sendall(data), ours.shutdown(socket.SHUT_WR)))
        got = _read_all(ours)
        writer.join()
        theirs = result.get(timeout=20)
    assert got == theirs == (len(data), hashlib.sha256(data).hexdigest())


def test_idle_connection_is_kept_alive(lan, kernel_server):
    expected = {
        "TCP keep-alive segment": "the option is on",
        "ACK to a TCP keep-alive segment": "and answered",
    }
    probed = threading.Event()

    def listen(event):
        if isinstance(event, SegmentSent) and event.reason is Reason.KEEPALIVE:
            probed.set()

    with (
        lan.host(expected=expected) as host,
        host.create_connection(kernel_server(lan.kernel, _echo), timeout=20) as ours,
        host.trace(listen),
    ):
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
        ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
        assert probed.wait(20)
        ours.sendall(b"still there?")
        assert ours.recv(100) == b"still there?"
        assert host.counters().get("tcp.keepalive_probes", 0) >= 1
