"""A peer that goes away: the call ends in an error, it does not hang."""

from __future__ import annotations

import socket
import time

import pytest

import netstack
from netstack.core.config import Config, NeighbourConfig, TcpConfig

pytestmark = pytest.mark.needs("tap", "netns", "ip", "nginx", "dnsmasq", "openssl", "tshark")

# TCP's own limits end a connection; the defaults of minutes are no test's business.
IMPATIENT = Config(
    tcp=TcpConfig(r2_timeout=0.6, syn_timeout=0.6),
    arp=NeighbourConfig(retransmit_interval=0.1),
)
LOST = {
    "This frame is a (suspected) retransmission": "nobody acknowledges",
    "This frame is a (suspected) spurious retransmission": "nobody acknowledges",
    "TCP keep-alive segment": "nobody answers",
    "Connection reset (RST)": "the connection is given up",
    "Duplicate ACK": "the kernel's answer to a repetition",
    "No response seen to ICMP request": "it was unplugged",
    "DNS query retransmission": "nobody answers",
}


def _echo(connection):
    while piece := connection.recv(65_536):
        connection.sendall(piece)


@pytest.fixture(params=["link down", "address deleted"])
def unplug(request, lan, run):
    """Return a function that makes the kernel deaf."""

    def pull():
        if request.param == "link down":
            run("ip", "link", "set", lan.tap, "down")
        else:
            run("ip", "addr", "del", f"{lan.kernel}/24", "dev", lan.tap)

    return pull


def _ends_within(seconds, function, *arguments):
    start = time.monotonic()
    with pytest.raises(OSError) as raised:  # noqa: PT011 - which one depends on the layer
        function(*arguments)
    assert time.monotonic() - start < seconds
    return raised.value


def test_sender_with_unacknowledged_data_ends(lan, kernel_server, unplug):
    with (
        lan.host(expected=LOST, config=IMPATIENT) as host,
        host.create_connection(kernel_server(lan.kernel, _echo), timeout=None) as ours,
    ):
        ours.sendall(b"hello")
        assert ours.recv(5) == b"hello"
        unplug()
        ours.sendall(b"anybody?")
        error = _ends_within(8, ours.recv, 1)
    assert isinstance(error, TimeoutError) or "unreachable" in str(error).lower()


def test_sender_that_waits_for_room_ends(lan, kernel_server, unplug):
    def handle(connection):
        time.sleep(1)

    with (
        lan.host(expected=LOST, config=IMPATIENT) as host,
        host.create_connection(kernel_server(lan.kernel, handle), timeout=None) as ours,
    ):
        unplug()
        _ends_within(8, ours.sendall, bytes(20_000_000))


def test_connect_ends(lan, kernel_server, unplug):
    address = None
    with lan.host(expected=LOST, config=IMPATIENT) as host:
        address = kernel_server(lan.kernel, _echo)
        host.create_connection(address, timeout=5).close()
        unplug()
        _ends_within(8, host.create_connection, address)


def test_reader_with_keepalive_ends(lan, kernel_server, run):
    with (
        lan.host(expected=LOST, config=IMPATIENT) as host,
        host.create_connection(kernel_server(lan.kernel, _echo), timeout=None) as ours,
    ):
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
        ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
        ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 1)
        run("ip", "link", "set", lan.tap, "down")
        _ends_within(10, ours.recv, 1)


def test_fetch_resolve_and_ping_end_at_their_timeouts(lan, unplug):
    with lan.host(expected=LOST, config=IMPATIENT) as host:
        url = f"http://www.{lan.site.domain}/"
        assert netstack.fetch(url, host=host).status == 200
        unplug()
        _ends_within(3, lambda: netstack.fetch(url, host=host, timeout=0.3))
        _ends_within(3, lambda: host.resolve(f"text.{lan.site.domain}", "TXT", timeout=0.3))
        _ends_within(3, lambda: host.ping(lan.kernel, timeout=0.3))


def test_host_closes_in_time_without_its_peer(lan, kernel_server, unplug):
    with lan.host(expected=LOST) as host:
        ours = host.create_connection(kernel_server(lan.kernel, _echo), timeout=5)
        unplug()
        ours.sendall(bytes(100_000))
        start = time.monotonic()
        host.close(0.3)
        assert time.monotonic() - start < 1.5


def test_deleted_tap_is_an_error_not_a_spin(lan, kernel_server, run):
    config = IMPATIENT
    with lan.host(expected=LOST, config=config) as host:
        ours = host.create_connection(kernel_server(lan.kernel, _echo), timeout=None)
        ours.sendall(b"hello")
        assert ours.recv(5) == b"hello"
        run("ip", "link", "del", lan.tap)
        used = time.process_time()
        ours.sendall(b"anybody?")
        _ends_within(8, ours.recv, 1)
        assert time.process_time() - used < 1
