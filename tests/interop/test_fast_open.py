"""TCP Fast Open (RFC 7413) with the kernel, as client and as server."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.needs("tap", "netns", "ip", "nginx", "dnsmasq", "openssl", "tshark")

TFO_CONNECT = 30  # TCP_FASTOPEN_CONNECT, for which the standard library has no name
TCP_INFO_OPTIONS = 5  # offset of tcpi_options
TCPI_OPT_SYN_DATA = 32
PORT = 40_001
IGNORED = {
    "TCP SYN with TFO Cookie": "it was another host's",
    "TCP SYN-ACK ignoring TFO data": "for that reason",
}
SERVER_OPTIONS = [(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 16)]
REMARKS = {
    "TCP SYN with TFO Cookie": "what is tried here",
    "TCP SYN-ACK accepting TFO data": "what is tried here",
}


@pytest.fixture
def kernel_fast_open():
    """net.ipv4.tcp_fastopen = 3 in the namespace of the test, for as long as it runs."""
    setting = Path("/proc/sys/net/ipv4/tcp_fastopen")
    before = setting.read_text()
    setting.write_text("3")
    yield
    setting.write_text(before)


def _had_data_in_syn(connection):
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    return bool(info[TCP_INFO_OPTIONS] & TCPI_OPT_SYN_DATA)


def _syns(pcap):
    """Return what tshark says of each SYN: (acknowledges, octets, kind 34's cookie)."""
    done = subprocess.run(
        ["tshark", "-n", "-r", str(pcap), "-Y", "tcp.flags.syn==1", "-T", "fields",
         "-e", "tcp.flags.ack", "-e", "tcp.len", "-e", "tcp.options.tfo.request",
         "-e", "tcp.options.tfo.cookie"],
        check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    syns = []
    for line in done.stdout.splitlines():
        ack, octets, request, cookie = line.split("\t")
        syns.append((ack in ("1", "True"), int(octets), bool(request), cookie))
    return syns


def test_kernel_serves_data_in_our_syn(lan, kernel_server, kernel_fast_open):
    seen = []

    def handle(connection):
        request = b""
        while len(request) < 4000:
            request += connection.recv(4000)
        seen.append((request, _had_data_in_syn(connection)))
        connection.sendall(b"answer")

    ours = []
    with lan.host(expected=REMARKS) as host:
        address = kernel_server(lan.kernel, handle, options=SERVER_OPTIONS)
        for number in range(3):
            with host.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
                sock.settimeout(20)
                request = bytes((number,)) * 4000
                sent = sock.sendto(request, socket.MSG_FASTOPEN, address)
                sock.sendall(request[sent:])
                assert sock.recv(6) == b"answer"
                ours.append(_had_data_in_syn(sock))
        counters = host.counters()
    assert [request[0] for request, _ in seen] == [0, 1, 2]
    assert [early for _, early in seen] == ours == [False, True, True]
    assert counters["tcp.fast_open_active"] == 2
    assert counters["tcp.fast_open_cookies_received"] == 1
    syns = _syns(lan.pcap)
    asked, told, *others = syns
    assert asked[:3] == (False, 0, True)
    assert told[0]
    assert len(told[3]) == 16
    assert [(octets > 1000, cookie) for ack, octets, _, cookie in others if not ack] == [
        (True, told[3]), (True, told[3]),
    ]  # fmt: skip


def test_kernel_sends_data_in_its_syn(lan, kernel_fast_open):
    early = []
    with (
        lan.host(expected=REMARKS, opaque={f"tcp.port=={PORT}"}) as host,
        host.create_server(("", PORT)) as listener,
    ):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 16)

        def serve():
            for _ in range(3):
                connection, _ = listener.accept()
                with connection:
                    request = connection.recv(3000, socket.MSG_WAITALL)
                    early.append(_had_data_in_syn(connection))
                    connection.sendall(request[:1] * 10_000)

        task = host.spawn(serve)
        theirs = []
        for number in range(3):
            with socket.socket() as sock:
                sock.settimeout(20)
                request = bytes((number + 65,)) * 3000
                if number == 2:
                    sock.setsockopt(socket.IPPROTO_TCP, TFO_CONNECT, 1)
                    sock.connect((lan.ours, PORT))
                    sock.sendall(request)
                else:
                    sock.settimeout(None)
                    sent = sock.sendto(request, socket.MSG_FASTOPEN, (lan.ours, PORT))
                    sock.sendall(request[sent:])
                answer = b""
                while piece := sock.recv(65_536):
                    answer += piece
                assert answer == request[:1] * 10_000
                theirs.append(_had_data_in_syn(sock))
        task.join()
        counters = host.counters()
    assert early == theirs == [False, True, True]
    assert counters["tcp.fast_open_requests"] == 1
    assert counters["tcp.fast_open_passive"] == 2
    told = [cookie for ack, _, _, cookie in _syns(lan.pcap) if ack]
    assert [len(cookie) for cookie in told] == [16, 0, 0]


def test_kernel_gets_a_new_cookie_for_a_bad_one(lan, kernel_fast_open):
    """Our host was started anew: its cookies are others, and data goes again by itself."""
    for attempt in range(2):
        with (
            lan.host(expected=IGNORED, opaque={f"tcp.port=={PORT}"}) as host,
            host.create_server(("", PORT)) as listener,
        ):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 16)
            task = host.spawn(lambda: listener.accept()[0].recv(5, socket.MSG_WAITALL))
            with socket.socket() as sock:
                sock.sendto(b"hello", socket.MSG_FASTOPEN, (lan.ours, PORT))
                assert task.join() == b"hello"
            assert host.counters().get("tcp.fast_open_bad_cookies", 0) == attempt
            assert host.counters()["tcp.fast_open_cookies_sent"] == 1


@pytest.mark.needs("nft")
def test_lost_syn_with_data_is_repeated_without(
    lan, kernel_server, kernel_fast_open, run, tmp_path
):
    def handle(connection):
        connection.sendall(connection.recv(100))

    rules = tmp_path / "rules"
    expected = {
        **REMARKS,
        "TCP SYN-ACK ignoring TFO data": "it got a SYN without",
        "This frame is a (suspected) retransmission": "that SYN, and the data",
    }
    with lan.host(expected=expected) as host:
        address = kernel_server(lan.kernel, handle, options=SERVER_OPTIONS)

        def ask():
            with host.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
                sock.sendto(b"question", socket.MSG_FASTOPEN, address)
                sock.settimeout(20)
                assert sock.recv(8) == b"question"
                return _had_data_in_syn(sock)

        assert not ask()
        rules.write_text(
            f"table netdev box {{ chain arrive {{ type filter hook ingress device {lan.tap} "
            "priority 0; tcp flags & (syn|ack) == syn ip length > 70 drop; }; }"
        )
        run("nft", "-f", str(rules))
        begun = time.monotonic()
        assert not ask()
        assert time.monotonic() - begun > 0.9
        begun = time.monotonic()
        assert not ask()
        assert time.monotonic() - begun < 0.9
        run("nft", "delete", "table", "netdev", "box")
        assert host.counters()["tcp.fast_open_active_failed"] == 1
        assert host.counters()["tcp.fast_open_paused"] == 1
