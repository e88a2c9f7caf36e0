"""TCP mechanisms with the kernel's TCP on the other side, told by what both ends report."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import select
import socket
import struct
import threading
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest

from netstack.core.config import Config, TcpConfig
from netstack.core.rng import Rng
from netstack.core.trace import SegmentReceived
from netstack.device import tap
from netstack.device.impair import ImpairDevice

pytestmark = pytest.mark.needs(
    "tap", "netns", "ip", "nginx", "dnsmasq", "openssl", "tshark", "nft"
)

PORT = 40_001
OURS = {f"tcp.port=={PORT}"}
SIOCATMARK = 0x8905
URGENT = {"The urgent pointer field": "urgent data is what the test sends"}
LOSS = {
    "This frame is a (suspected)": "segments are lost on purpose",
    "Previous segment(s) not captured": "the hole",
    "Duplicate ACK": "what came after a hole",
    "This frame is a (suspected) out-of-order segment": "as the recorder sees what fills a hole",
    "TCP window specified by the receiver is now completely full": "it waits for a hole",
    "TCP Zero Window": "the reader shares its processor with others",
    "ACK to a TCP Zero Window Probe": "the same",
}


@pytest.fixture
def digest_server(kernel_server, lan):
    """Return a function: serve the sha256 of as many octets, as the kernel's sockets got them."""

    def start(octets):
        def handle(connection):
            data = connection.makefile("rb").read(octets)
            connection.sendall(hashlib.sha256(data).digest())
            connection.recv(1)

        return kernel_server(lan.kernel, handle)

    return start


@pytest.fixture
def impaired(monkeypatch):
    """Return a function: impair what arrives from the host's TAP, until the block ends."""
    make, taps = tap.TapDevice, []

    class BadTap(ImpairDevice):
        created = True

    def wrap(name, **options):
        taps.append(BadTap(make(name, **options), Rng(1)))
        return taps[-1]

    @contextmanager
    def apply(**probabilities):
        for kind, probability in probabilities.items():
            setattr(taps[-1].incoming, kind, probability)
        try:
            yield
        finally:
            for kind in probabilities:
                setattr(taps[-1].incoming, kind, 0.0)

    monkeypatch.setattr(tap, "TapDevice", wrap)
    return apply


def upload(ours, octets):
    """Send ``octets``; True if the other side got just them."""
    data = os.urandom(octets)
    ours.sendall(data)
    return ours.makefile("rb").read(32) == hashlib.sha256(data).digest()


@contextmanager
def arrivals(host, length):
    """Yield a function: wait for the next segment with ``length`` octets from the kernel."""
    there = threading.Semaphore(0)

    def listen(event):
        if isinstance(event, SegmentReceived) and event.length == length:
            there.release()

    def wait():
        assert there.acquire(timeout=20)

    with host.trace(listen):
        yield wait


def at_mark(connection):
    return bool(struct.unpack("i", fcntl.ioctl(connection, SIOCATMARK, bytes(4)))[0])


# ---- urgent data --------------------------------------------------------------------------------


def test_urgent_data_of_ours_is_marked_for_the_kernel(lan, kernel_server):
    result, over = [], threading.Event()

    def handle(connection):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        connection.sendall(b"go")
        select.select([], [], [connection], 20)  # the mark is known
        seen = b""
        while not at_mark(connection):
            seen += connection.recv(1)
        result.extend((seen, connection.recv(1), connection.makefile("rb").read()))
        over.set()

    with (
        lan.host(expected=URGENT) as host,
        host.create_connection(kernel_server(lan.kernel, handle), timeout=20) as ours,
    ):
        assert ours.recv(2) == b"go"
        ours.sendall(b"usual ")
        ours.send(b"!", socket.MSG_OOB)
        ours.sendall(b" usual")
        ours.shutdown(socket.SHUT_WR)
        assert over.wait(20)
    assert result == [b"usual ", b"!", b" usual"]


def test_urgent_data_of_the_kernel_is_in_line_before_the_mark(lan):
    with (
        lan.host(expected=URGENT, opaque=OURS) as host,
        host.create_server(("", PORT)) as listener,
        socket.create_connection((lan.ours, PORT), timeout=20) as theirs,
    ):
        ours, _ = listener.accept()
        with ours:
            theirs.sendall(b"usual ")
            theirs.send(b"!", socket.MSG_OOB)
            theirs.sendall(b" usual")
            theirs.shutdown(socket.SHUT_WR)
            read = b""
            while not ours.at_mark():
                read += ours.recv(100)
            assert read == b"usual !"
            assert ours.makefile("rb").read() == b" usual"


# ---- path MTU -----------------------------------------------------------------------------------


def test_icm_10_black_hole_before_the_kernel_is_found(lan, digest_server, filtered):
    with lan.host(expected=LOSS) as host, filtered("ingress", "meta length > 1300 drop"):
        with host.create_connection(digest_server(100_000), timeout=60) as ours:
            assert upload(ours, 100_000)
        assert host.counters()["tcp.black_holes"] >= 1


def test_router_that_says_what_fits_is_heeded(lan, sysctl, narrow_network):
    sysctl("ip_forward", 1)
    listener, data, result = narrow_network(), os.urandom(200_000), []

    def serve():
        connection, _ = listener.accept()
        with connection:
            result.append(connection.makefile("rb").read(len(data)))
            connection.sendall(b"ok")
            connection.recv(1)

    thread = threading.Thread(target=serve)
    thread.start()
    with lan.host(expected=LOSS) as host:
        with host.create_connection(listener.getsockname(), timeout=20) as ours:
            ours.sendall(data)
            assert ours.recv(2) == b"ok"
            assert host.connections()[0].mss == 1400 - 52
        counters = host.counters()
    thread.join(20)
    assert result == [data]
    assert counters.get("tcp.black_holes", 0) == 0


# ---- SYN cookies --------------------------------------------------------------------------------


def test_cookies_of_the_kernel_keep_our_options(lan, sysctl, digest_server):
    sysctl("tcp_syncookies", 2)  # always
    before = kernel_counters()
    with (
        lan.host(expected=LOSS) as host,
        host.create_connection(digest_server(1_000_000), timeout=20) as ours,
    ):
        (info,) = host.connections()
        assert (info.timestamps, info.sack) == (True, True)
        assert info.send_scale > 0
        assert upload(ours, 1_000_000)
    assert (kernel_counters() - before)["SyncookiesRecv"] == 1


def test_cookies_of_ours_keep_the_options_of_the_kernel(lan):
    config = Config(tcp=TcpConfig(max_syn_received=0))
    data = os.urandom(1_000_000)
    with (
        lan.host(config=config, opaque=OURS, expected=LOSS) as host,
        host.create_server(("", PORT)) as listener,
        socket.create_connection((lan.ours, PORT), timeout=20) as theirs,
    ):
        theirs.sendall(b"x")  # what opens the connection is an ACK that may be lost: data is not
        ours, _ = listener.accept()
        with ours:
            (info,) = host.connections()
            assert (info.timestamps, info.sack) == (True, True)
            assert info.send_scale > 0
            assert ours.recv(1) == b"x"
            task = host.spawn(ours.sendall, data)
            got = theirs.makefile("rb").read(len(data))
            task.join()
        assert host.counters()["tcp.syn_cookies_received"] == 1
    assert got == data


# ---- loss ---------------------------------------------------------------------------------------


def test_holes_that_the_kernel_reports_are_filled(lan, digest_server, filtered):
    lost = "tcp flags & (syn | fin) == 0 numgen inc mod 50 == 7 drop"
    with (
        lan.host(expected=LOSS) as host,
        filtered("ingress", lost),
        host.create_connection(digest_server(2_000_000), timeout=60) as ours,
    ):
        assert upload(ours, 2_000_000)
        (info,) = host.connections()
    assert info.retransmitted >= 20
    assert info.lost == info.sacked == info.unacked == 0


def test_dsack_of_the_kernel_is_read(lan, kernel_server, filtered):
    go = threading.Event()

    def handle(connection):
        go.wait(30)
        connection.makefile("rb").read()

    lost = "tcp flags == ack numgen inc mod 1000 < 2 drop"
    with lan.host(expected=LOSS) as host:
        with (
            filtered("egress", lost),
            host.create_connection(kernel_server(lan.kernel, handle), timeout=30) as ours,
            arrivals(host, 0) as wait_for_ack,
        ):
            ours.sendall(b"x" * 1_000)
            while not host.connections()[0].dsacks:
                wait_for_ack()
            assert host.connections()[0].unacked == 0
        go.set()


@pytest.fixture
def download(lan, impaired):
    """Return a function: take ``octets`` of the kernel's; tell what it counted meanwhile."""

    def take(octets, **probabilities):
        data, before = os.urandom(octets), kernel_counters()
        with (
            lan.host(opaque=OURS, expected=LOSS) as host,
            host.create_server(("", PORT)) as listener,
            socket.create_connection((lan.ours, PORT), timeout=60) as theirs,
        ):
            ours, _ = listener.accept()
            with ours, impaired(**probabilities):
                task = host.spawn(ours.makefile("rb").read)
                theirs.sendall(data)
                theirs.shutdown(socket.SHUT_WR)
                assert task.join() == data
        return kernel_counters() - before

    return take


def test_kernel_fills_the_holes_that_we_report(download):
    counted = download(2_000_000, loss=0.02)
    assert counted["TCPSackRecovery"] >= 1
    assert counted["TCPFastRetrans"] >= 10
    assert counted["TCPSACKDiscard"] == counted["TCPSACKReneging"] == 0


def test_kernel_is_told_of_what_came_twice(download):
    counted = download(2_000_000, loss=0.02, duplicate=0.3)
    assert counted["TCPDSACKRecv"] >= 1
    assert counted["TCPDSACKOfoRecv"] >= 1
    assert counted["TCPSACKReneging"] == 0


def test_kernel_is_told_that_what_it_sent_again_had_arrived(lan, filtered):
    before = kernel_counters()
    with (
        lan.host(opaque=OURS, expected=LOSS) as host,
        host.create_server(("", PORT)) as listener,
        socket.create_connection((lan.ours, PORT), timeout=60) as theirs,
    ):
        ours, _ = listener.accept()
        with (
            ours,
            arrivals(host, 1_000) as wait_for_data,
            filtered("ingress", "tcp flags == ack numgen inc mod 1000 < 1 drop"),
        ):
            theirs.sendall(b"x" * 1_000)
            wait_for_data()
            wait_for_data()
            assert ours.makefile("rb").read(1_000) == b"x" * 1_000
            ours.sendall(b"y")
            assert theirs.recv(1) == b"y"  # what told of it has gone before
            counted = kernel_counters() - before
    assert counted["TCPDSACKRecv"] == 1
    assert counted["TCPSACKDiscard"] == counted["TCPDSACKIgnoredDubious"] == 0


def kernel_counters():
    """Return what the kernel has counted of TCP in this namespace."""
    names, values = Path("/proc/thread-self/net/netstat").read_text().splitlines()[:2]
    return Counter(dict(zip(names.split()[1:], map(int, values.split()[1:]), strict=True)))


# ---- what both ends say -------------------------------------------------------------------------


@pytest.mark.needs("ss")
def test_tcp_info_agrees_with_ss_of_the_other_end(lan, kernel_server, run):
    data, got, go = os.urandom(500_000), threading.Event(), threading.Event()

    def handle(connection):
        connection.makefile("rb").read(len(data))
        connection.sendall(b"y" * 1000)
        got.set()
        go.wait(30)

    with (
        lan.host(expected=LOSS) as host,
        host.create_connection(kernel_server(lan.kernel, handle), timeout=20) as ours,
    ):
        ours.sendall(data)
        assert ours.makefile("rb").read(1000) == b"y" * 1000
        assert got.wait(20)
        shown = run("ss", "-Htino", f"sport = :{ours.getpeername()[1]}").stdout
        (info,) = host.connections()
        go.set()
    words = dict(re.findall(r"(\w+):(\S+)", shown))
    assert "ESTAB" in shown
    assert info.state == "ESTABLISHED"
    assert {" ts ", " sack "} <= {f" {word} " for word in shown.split()}
    assert info.timestamps
    assert info.sack
    assert words["wscale"] == f"{info.receive_scale},{info.send_scale}"
    assert int(words["bytes_received"]) == len(data)
    assert info.unacked == info.send_queue == 0
    assert info.mss == int(words["mss"]) == 1448
    assert 10 * info.mss <= info.cwnd
    assert 0 < info.min_rtt <= info.srtt < info.rto
    assert info.rto >= 0.2


def test_keepalive_of_the_kernel_is_answered(lan):
    expected = {"TCP keep-alive": "the option is on", "ACK to a TCP keep-alive": "answered"}
    with (
        lan.host(expected=expected, opaque=OURS) as host,
        host.create_server(("", PORT)) as listener,
        socket.create_connection((lan.ours, PORT), timeout=20) as theirs,
    ):
        ours, _ = listener.accept()
        with ours, arrivals(host, 0) as wait_for_probe:
            for option, value in (("TCP_KEEPIDLE", 1), ("TCP_KEEPINTVL", 1), ("TCP_KEEPCNT", 1)):
                theirs.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            # One probe without an answer would end it: the second shows that the first had one.
            wait_for_probe()
            wait_for_probe()
            ours.sendall(b"still here")
            assert theirs.recv(100) == b"still here"
