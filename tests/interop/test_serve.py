"""Our servers, asked by curl and by sockets of the kernel."""

from __future__ import annotations

import hashlib
import os
import socket

import h11
import pytest

from netstack.app import services

pytestmark = pytest.mark.needs(
    "tap", "netns", "ip", "nginx", "dnsmasq", "openssl", "tshark", "curl", "h11"
)

FULL = "TCP window specified by the receiver is now completely full"
BUSY = {
    FULL: "a sender that uses the whole window",
    "TCP Zero Window segment": "a reader that was slower than the network for a while",
}
RESET = {"Connection reset (RST)": "what the test asks for"}


@pytest.fixture
def root(tmp_path):
    at = tmp_path / "root"
    at.mkdir()
    (at / "index.html").write_text("<h1>Ours</h1>\n")
    return at


def _curl(run, *arguments, timeout=60):
    return run("curl", "-sS", "--noproxy", "*", *arguments, timeout=timeout)


@pytest.mark.parametrize(
    "size",
    [
        # On a busy machine curl takes its time, and tshark, which judges, too.
        pytest.param(10_000_000, id="10MB", marks=pytest.mark.timeout(600)),
        pytest.param(200_000_000, id="200MB", marks=[pytest.mark.soak, pytest.mark.timeout(1800)]),
    ],
)
def test_curl_fetches_a_file_with_equal_sha256(lan, run, root, tmp_path, size):
    body = os.urandom(size)
    (root / "big").write_bytes(body)
    with lan.host(expected=BUSY, opaque=("tcp.port==80",)) as host:
        host.serve(services.http(root), 80)
        _curl(run, f"http://{lan.ours}/big", "-o", f"{tmp_path}/got", timeout=None)
    with (tmp_path / "got").open("rb") as file:
        assert hashlib.file_digest(file, "sha256").digest() == hashlib.sha256(body).digest()


def test_curl_gets_pages_heads_and_errors_on_one_connection(lan, run, root):
    form = "%{http_code} %{content_type} %{num_connects}\n"
    with lan.host() as host:
        host.serve(services.http(root), 80)
        page = f"http://{lan.ours}/"
        done = _curl(run, "-w", form, page, page, f"{page}nothing", "-o", "/dev/null")
        head = _curl(run, "-I", page)
        counters = host.counters()
    assert "<h1>Ours</h1>" in done.stdout
    assert head.stdout.startswith("HTTP/1.1 200 OK")
    assert counters["tcp.passive_opens"] == 2


def test_h11_reads_pages_pipelined_on_a_kernel_socket(lan, root):
    with lan.host() as host:
        host.serve(services.http(root), 80)
        with socket.create_connection((lan.ours, 80), timeout=10) as client:
            peer = h11.Connection(h11.CLIENT)
            for _ in range(3):
                request = h11.Request(method="GET", target="/", headers=[("Host", lan.ours)])
                client.sendall(peer.send(request) + peer.send(h11.EndOfMessage()))
                assert _page(peer, client) == b"<h1>Ours</h1>\n"
                peer.start_next_cycle()


def _page(peer, client):
    body = b""
    while True:
        event = peer.next_event()
        if event is h11.NEED_DATA:
            peer.receive_data(client.recv(65_536))
        elif isinstance(event, h11.Response):
            assert event.status_code == 200
        elif isinstance(event, h11.Data):
            body += event.data
        else:
            assert isinstance(event, h11.EndOfMessage)
            return body


def test_200_connections_of_the_kernel_at_once(lan, root):
    with lan.host() as host:
        host.serve(services.http(root), 80)
        clients = [socket.socket() for _ in range(200)]
        for client in clients:
            client.setblocking(False)
            client.connect_ex((lan.ours, 80))
        for client in clients:
            client.settimeout(20)
            client.sendall(b"GET / HTTP/1.1\r\nHost: ours\r\nConnection: close\r\n\r\n")
        for client in clients:
            with client:
                answer = client.makefile("rb").read()
            assert answer.startswith(b"HTTP/1.1 200")
            assert answer.endswith(b"<h1>Ours</h1>\n")
        assert host.counters()["tcp.passive_opens"] == 200


def test_accepted_sockets_talk_with_those_of_the_kernel(lan):
    with (
        lan.host(opaque=("tcp.port==7000",)) as host,
        host.create_server(("", 7000)) as listener,
        socket.create_connection((lan.ours, 7000), timeout=10) as client,
    ):
        ours, peer = listener.accept()
        assert peer == client.getsockname()
        with ours:
            client.sendall(b"hello")
            assert ours.recv(100) == b"hello"
            ours.sendall(b"world")
            assert client.recv(100) == b"world"
            client.shutdown(socket.SHUT_WR)
            assert ours.recv(100) == b""
            ours.sendall(b"still here")
            assert client.recv(100) == b"still here"
        assert client.recv(100) == b""


def test_closed_port_of_ours_refuses(lan):
    with lan.host(expected=RESET), pytest.raises(ConnectionRefusedError):
        socket.create_connection((lan.ours, 9), timeout=10)


def test_connections_beyond_the_backlog_get_in_once_there_is_room(lan):
    expected = {
        "This frame is a (suspected) retransmission": "a SYN-ACK whose ACK found no room",
        "This frame is a (suspected) spurious retransmission": "so it seems to tshark",
        "Duplicate ACK": "the answer to it",
    }
    with lan.host(expected=expected) as host, host.create_server(("", 7001), backlog=2) as ours:
        clients = [socket.socket() for _ in range(4)]
        for client in clients:
            client.setblocking(False)
            client.connect_ex((lan.ours, 7001))
        host.sleep(0.1)
        states = [connection.state for connection in host.connections()]
        assert states.count("ESTABLISHED") == 2
        ours.settimeout(10)
        peers = {ours.accept()[1] for _ in clients}
        assert peers == {client.getsockname() for client in clients}
        for client in clients:
            client.close()


@pytest.mark.parametrize("service", ["echo", "discard", "chargen"])
def test_small_services(lan, service):
    data = os.urandom(300_000)
    expected = {**BUSY, **(RESET if service == "chargen" else {})}
    with lan.host(expected=expected, opaque=("tcp.port==7",)) as host:
        host.serve(getattr(services, service)(), 7)
        with socket.create_connection((lan.ours, 7), timeout=10) as client:
            if service == "chargen":
                assert client.recv(1000)
                return
            received = b""
            for at in range(0, len(data), 10_000):
                client.sendall(data[at : at + 10_000])
                if service == "echo":
                    received += client.recv(65_536)
            client.shutdown(socket.SHUT_WR)
            received += client.makefile("rb").read()
    assert received == (data if service == "echo" else b"")
