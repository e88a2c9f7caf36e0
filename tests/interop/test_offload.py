"""Super-segments and the kernel: its own, ours, on a TAP and on a veth pair; and without them."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import threading
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

import netstack
from netstack.capture import read
from netstack.core.config import Config, TcpConfig
from netstack.core.rng import Rng
from netstack.device.impair import ImpairDevice
from netstack.device.packet_socket import PacketSocketDevice
from netstack.device.tap import TapDevice, configure_kernel_side
from netstack.stack import Stack

pytestmark = pytest.mark.needs(
    "tap", "netns", "ip", "nginx", "dnsmasq", "openssl", "tshark", "ethtool", "tcpdump", "nft"
)

SOAK = [pytest.mark.soak, pytest.mark.timeout(1800)]
SIZES = [
    pytest.param(10_000_000, id="10MB"),
    pytest.param(200_000_000, id="200MB", marks=SOAK),
]
OFFLOAD = pytest.mark.parametrize("offload", [True, False], ids=["offload", "plain"])


def _digest(connection):
    digest = hashlib.sha256()
    while piece := connection.recv(262_144):
        digest.update(piece)
    return digest.hexdigest()


def _reader(result):
    def handle(connection):
        result.append(_digest(connection))
        connection.sendall(b"!")

    return handle


def _send_to(host, address, data):
    """Send ``data`` and its end; wait until the reader has had it all."""
    with host.create_connection(address, timeout=60) as ours:
        ours.sendall(data)
        ours.shutdown(socket.SHUT_WR)
        assert (ours.recv(2), ours.recv(1)) == (b"!", b"")


def _sends_whole(offload=True):
    """Whether TCP makes super-segments in this run of the test; see ``both_ways``."""
    return offload and TcpConfig().super_segments


def _supers(host):
    counters = host.stack.counters()
    return tuple(counters.get(f"link.super_segments_{way}", 0) for way in ("sent", "received"))


@OFFLOAD
@pytest.mark.parametrize("size", SIZES)
def test_page_of_nginx_and_its_frames(lan, size, offload):
    body = os.urandom(size)
    (lan.site.root / "offload.bin").write_bytes(body)
    with lan.host(offload=offload, expected=lan.busy, opaque={"tcp.port==80"}) as host:
        response = netstack.fetch(f"http://www.{lan.site.domain}/offload.bin", host=host)
        assert hashlib.sha256(response.body).digest() == hashlib.sha256(body).digest()
        assert (_supers(host)[1] > 0) == offload
    assert max(packet.length for packet in read(lan.pcap)) == 1514


@OFFLOAD
@pytest.mark.parametrize("size", SIZES)
def test_kernel_gets_every_octet(lan, kernel_server, size, offload):
    data, result = os.urandom(size), []
    with lan.host(offload=offload, expected=lan.busy) as host:
        _send_to(host, kernel_server(lan.kernel, _reader(result)), data)
        assert (_supers(host)[0] > 0) == _sends_whole(offload)
    assert result == [hashlib.sha256(data).hexdigest()]


def test_raw_capture_shows_what_the_device_was_given(lan, kernel_server, tmp_path):
    raw, result = tmp_path / "raw.pcapng", []
    data = os.urandom(1_000_000)
    with lan.host(pcap_raw=raw, expected=lan.busy) as host:
        _send_to(host, kernel_server(lan.kernel, _reader(result)), data)
    assert (max(packet.length for packet in read(raw)) > 20_000) == _sends_whole()
    assert max(packet.length for packet in read(lan.pcap)) <= 1514


@OFFLOAD
@pytest.mark.parametrize("mss", [88, 536])
def test_small_segments(lan, kernel_server, mss, offload):
    """The kernel's side wants small ones, and so sends small ones."""
    data, result = os.urandom(300_000), []

    def handle(connection):
        result.append(_digest(connection))
        connection.sendall(data[::-1])

    options = [(socket.IPPROTO_TCP, socket.TCP_MAXSEG, mss)]
    with lan.host(offload=offload, expected=lan.busy) as host:
        address = kernel_server(lan.kernel, handle, options=options)
        with host.create_connection(address, timeout=60) as ours:
            ours.sendall(data)
            ours.shutdown(socket.SHUT_WR)
            assert _digest(ours) == hashlib.sha256(data[::-1]).hexdigest()
    assert result == [hashlib.sha256(data).hexdigest()]
    data_lengths = {len(p.payload) for p in read(lan.pcap) if p.tcp is not None}
    assert max(data_lengths) <= mss


# ---- a kernel in between ------------------------------------------------------------------------


@pytest.fixture
def beyond(lan, run, namespace):
    """The kernel forwards between the TAP and a second namespace, over veth without offloads.

    Yields a listening socket there, and the name of the near end.
    """
    near, far = f"{lan.tap}n", f"{lan.tap}f"
    forwarding = Path("/proc/sys/net/ipv4/ip_forward")
    with namespace():
        there = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", far, "type", "veth", "peer", "name", near)
        Path(f"/proc/sys/net/ipv6/conf/{far}/disable_ipv6").write_text("1")
        run("ip", "addr", "add", "198.51.100.2/24", "dev", far)
    try:
        pid = os.getpid()
        with namespace(there):
            run("ip", "link", "set", near, "netns", f"/proc/{pid}/fd/{lan.site.descriptor}")
        run("ip", "addr", "add", "198.51.100.1/24", "dev", near)
        run("ip", "link", "set", near, "up")
        run("ethtool", "-K", near, "tx", "off", "tso", "off", "gso", "off", "gro", "off")
        with namespace(there):
            run("ip", "link", "set", far, "up")
            run("ip", "route", "add", "default", "via", "198.51.100.1")
            listener = socket.create_server(("198.51.100.2", 0))
        forwarding.write_text("1")
        lan.opaque.add(f"tcp.port=={listener.getsockname()[1]}")
        listener.settimeout(60)
        with listener:
            yield listener, near
    finally:
        forwarding.write_text("0")
        run("ip", "link", "del", near, check=False)
        os.close(there)


def test_kernel_that_forwards_cuts_ours_and_merges_none_of_its_own(lan, beyond, judge, tmp_path):
    listener, near = beyond
    data, back = os.urandom(5_000_000), os.urandom(5_000_000)
    result = []

    def serve():
        connection, _ = listener.accept()
        with connection:
            result.append(_digest(connection))
            connection.sendall(back)

    server = threading.Thread(target=serve)
    far_side = tmp_path / "near.pcapng"
    watching = _watching(near, far_side, "tcp", "and", "src", lan.ours)
    with watching, lan.host(expected=lan.busy) as host:
        server.start()
        with host.create_connection(listener.getsockname(), timeout=60) as ours:
            ours.sendall(data)
            ours.shutdown(socket.SHUT_WR)
            assert _digest(ours) == hashlib.sha256(back).hexdigest()
        server.join(60)
        sent, received = _supers(host)
        probes = host.stack.counters().get("tcp.tail_loss_probes", 0)
    assert result == [hashlib.sha256(data).hexdigest()]
    assert (sent > 20) == _sends_whole()
    assert received > 20
    port = listener.getsockname()[1]
    expected = (*lan.busy, *_ONE_WAY)
    judge(far_side, probes=probes, expected=expected, opaque={f"tcp.port=={port}"})
    packets = [p for p in read(far_side) if p.tcp is not None]
    ours = [p for p in packets if str(p.ipv4.source) == lan.ours]
    assert max(p.length for p in ours) == 1514
    assert sum(len(p.payload) for p in ours) >= len(data)
    full = [p for p in ours if len(p.payload) == 1448]
    fins = [p for p in ours if p.tcp.flags & 1]
    assert len(fins) == 1
    assert len(full) > 3000


_ONE_WAY = ("ACKed segment that wasn't captured",)  # the other's checksums are left open


@contextmanager
def _watching(interface, path, *what):
    """Record, with the kernel's own tools, what passes an interface."""
    command = [
        shutil.which("tcpdump"), "-i", interface, "-w", str(path), "-U", "-n", "-B", "65536",
        "-s", "0", *what,
    ]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        assert b"listening" in process.stderr.readline()
        try:
            yield
        finally:
            time.sleep(1.0)
            process.terminate()
            process.stderr.read()


def test_path_mtu_shrinks_while_super_segments_are_in_flight(lan, beyond, run):
    listener, near = beyond
    data, result, under_way = os.urandom(8_000_000), [], threading.Event()

    def serve():
        connection, _ = listener.accept()
        digest, count = hashlib.sha256(), 0
        with connection:
            while piece := connection.recv(65_536):
                digest.update(piece)
                count += len(piece)
                if count > 1_000_000:
                    under_way.set()
            result.append(digest.hexdigest())

    server = threading.Thread(target=serve)
    expected = dict.fromkeys(
        (
            *lan.busy,
            "This frame is a (suspected) retransmission",
            "This frame is a (suspected) fast retransmission",
            "This frame is a (suspected) out-of-order segment",
            "This frame is a (suspected) spurious retransmission",
            "Duplicate ACK",
        ),
        "what was too large goes again",
    )
    with lan.host(expected=expected) as host:
        server.start()
        with host.create_connection(listener.getsockname(), timeout=60) as ours:
            task = host.spawn(ours.sendall, data)
            assert under_way.wait(30)
            run("ip", "link", "set", near, "mtu", "900")
            task.join()
            ours.shutdown(socket.SHUT_WR)
            assert ours.recv(1) == b""
        server.join(60)
    assert result == [hashlib.sha256(data).hexdigest()]
    small = [len(p.payload) for p in read(lan.pcap) if p.tcp is not None][-500:]
    assert max(small) <= 900 - 52


# ---- loss, ECN ----------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["outgoing", "incoming"])
def test_loss_under_super_segments_costs_time_only(lan, kernel_server, direction):
    data, result = os.urandom(3_000_000), []

    def handle(connection):
        result.append(_digest(connection))
        connection.sendall(data[::-1])

    device = ImpairDevice(TapDevice(lan.tap, offload=True), Rng(7))
    stack = Stack("host")
    stack.attach(device, f"{lan.ours}/24", gateway=lan.kernel)
    configure_kernel_side(lan.tap, lan.kernel, 24)
    address = kernel_server(lan.kernel, handle)
    with netstack.run(stack) as host, host.create_connection(address, timeout=60) as ours:
        getattr(device, direction).loss = 0.01
        ours.sendall(data)
        ours.shutdown(socket.SHUT_WR)
        assert _digest(ours) == hashlib.sha256(data[::-1]).hexdigest()
        assert getattr(device, direction).counters.lost > 0
    assert result == [hashlib.sha256(data).hexdigest()]


def test_marked_frames_are_answered_under_super_segments(lan, kernel_server, run):
    """Each packet to us is marked as having met congestion: the kernel slows down, and says so."""
    data = os.urandom(2_000_000)
    config = Config(tcp=TcpConfig(ecn="on"))

    def handle(connection):
        connection.sendall(data)

    device = TapDevice(lan.tap, offload=True)
    stack = Stack("host", config=config)
    stack.attach(device, f"{lan.ours}/24", gateway=lan.kernel)
    configure_kernel_side(lan.tap, lan.kernel, 24)
    address = kernel_server(lan.kernel, handle)
    run(
        "nft",
        "add table netdev marks; add chain netdev marks leaving "
        f"{{ type filter hook egress device {lan.tap} priority 0; }}; "
        "add rule netdev marks leaving ip ecn ect0 numgen inc mod 20 == 5 ip ecn set ce",
    )
    try:
        with netstack.run(stack) as host, host.create_connection(address, timeout=60) as ours:
            assert _digest(ours) == hashlib.sha256(data).hexdigest()
            counters = host.stack.counters()
    finally:
        run("nft", "delete table netdev marks")
    assert counters["link.super_segments_received"] > 0
    assert any(name.startswith("tcp.") and "ce" in name for name in counters), counters


# ---- a packet socket on a veth pair -------------------------------------------------------------


@OFFLOAD
def test_packet_socket_and_the_kernel_at_the_other_end(lan, run, namespace, offload):
    name, far = f"{lan.tap}p", f"{lan.tap}q"
    data, result = os.urandom(5_000_000), []
    with namespace():
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", name, "type", "veth", "peer", "name", far)
        for interface in (name, far):
            Path(f"/proc/sys/net/ipv6/conf/{interface}/disable_ipv6").write_text("1")
            run("ip", "link", "set", interface, "up")
        with namespace():
            there = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
            run("ip", "link", "set", "lo", "up")
        run("ip", "link", "set", far, "netns", f"/proc/{os.getpid()}/fd/{there}")
        with namespace(there):
            run("ip", "addr", "add", "198.51.100.2/24", "dev", far)
            run("ip", "link", "set", far, "up")
            listener = socket.create_server(("198.51.100.2", 0))
            os.close(there)

        def serve():
            connection, _ = listener.accept()
            with connection:
                result.append(_digest(connection))
                connection.sendall(data[::-1])

        server = threading.Thread(target=serve)
        server.start()
        device = PacketSocketDevice(name, offload=offload)
        stack = Stack("host")
        stack.attach(device, "198.51.100.9/24")
        address = listener.getsockname()
        with (
            closing(listener),
            netstack.run(stack) as host,
            host.create_connection(address, timeout=60) as ours,
        ):
            ours.sendall(data)
            ours.shutdown(socket.SHUT_WR)
            assert _digest(ours) == hashlib.sha256(data[::-1]).hexdigest()
            assert [count > 0 for count in _supers(host)] == [_sends_whole(offload), offload]
            counters = host.stack.counters()
            assert device.errors == 0
        server.join(60)
    assert result == [hashlib.sha256(data).hexdigest()]
    assert not counters.get("tcp.bad_checksum")
