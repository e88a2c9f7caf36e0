"""TCP Fast Open (RFC 7413) by sockets: one round trip less, whatever the network does."""

import errno
import hashlib
import socket as std

import pytest

from netstack.core.config import Config, TcpConfig
from netstack.core.trace import SegmentReceived

TFO = std.IPPROTO_TCP, std.TCP_FASTOPEN
TFO_CONNECT = std.IPPROTO_TCP, 30  # the standard library has no name for it
DELAY = 0.05
SYN_DATA = 32  # TCPI_OPT_SYN_DATA


def hosts(network, **link):
    config = Config(tcp=TcpConfig(super_segments=link.pop("super_segments", True)))
    client = network.host("client", "10.0.0.1/24", config=config)
    server = network.host("server", "10.0.0.2/24", config=config)
    return client, server, network.link(client, server, **{"delay": DELAY, **link})


def serve(host, size=3):
    """Answer each request of ``size`` octets, again and again."""
    listener = host.create_server(("", 80))
    listener.setsockopt(*TFO, 16)

    def answer():
        while True:
            connection, _ = listener.accept()
            host.spawn(attend, connection)

    def attend(connection):
        try:
            with connection:
                request = connection.recv(size, std.MSG_WAITALL)
                connection.sendall(hashlib.sha256(request).digest())
        except OSError:
            pass  # what a lost client leaves behind

    host.spawn(answer)


def ask(network, host, request=b"ask"):
    """Return how long it took; the answer must be right."""
    begun = network.now
    with host.socket(std.AF_INET, std.SOCK_STREAM) as sock:
        sock.settimeout(None)
        sent = sock.sendto(request, std.MSG_FASTOPEN, ("10.0.0.2", 80))
        sock.sendall(request[sent:])
        answer = sock.recv(32, std.MSG_WAITALL)
        assert answer == hashlib.sha256(request).digest()
        early = sock.getsockopt(std.IPPROTO_TCP, std.TCP_INFO, 104)[5] & SYN_DATA
    return network.now - begun, bool(early)


@pytest.mark.parametrize("super_segments", [True, False])
def test_second_request_takes_one_round_trip(network, super_segments):
    client, server, _ = hosts(network, super_segments=super_segments)
    serve(server)
    client.create_connection(("10.0.0.2", 80)).close()  # finds the neighbour
    first, early = ask(network, client)
    assert first == pytest.approx(4 * DELAY, abs=0.01)
    assert not early
    second, early = ask(network, client)
    assert second == pytest.approx(2 * DELAY, abs=0.01)
    assert early
    assert server.counters()["tcp.fast_open_passive"] == 1
    assert client.counters()["tcp.fast_open_active"] == 1


def test_connect_waits_for_the_first_send(network):
    client, server, _ = hosts(network)
    serve(server)
    ask(network, client)
    before = client.counters()["tcp.segments_sent"]
    with client.socket(std.AF_INET, std.SOCK_STREAM) as sock:
        sock.setsockopt(*TFO_CONNECT, 1)
        begun = network.now
        sock.connect(("10.0.0.2", 80))
        assert network.now == begun
        assert client.counters()["tcp.segments_sent"] == before
        with pytest.raises(OSError, match="connected") as caught:
            sock.connect(("10.0.0.2", 80))
        assert caught.value.errno == errno.EISCONN
        sock.settimeout(0)
        assert sock.send(b"ask") == 3
        sock.settimeout(None)
        assert sock.recv(32) == hashlib.sha256(b"ask").digest()
        assert network.now - begun == pytest.approx(2 * DELAY, abs=0.01)


def test_who_reads_first_is_not_left_waiting(network):
    client, server, _ = hosts(network)
    with server.create_server(("", 80)) as listener:
        listener.setsockopt(*TFO, 16)
        with client.socket(std.AF_INET, std.SOCK_STREAM) as sock:
            sock.sendto(b"x", std.MSG_FASTOPEN, ("10.0.0.2", 80))
        with client.socket(std.AF_INET, std.SOCK_STREAM) as sock:
            sock.setsockopt(*TFO_CONNECT, 1)
            sock.connect(("10.0.0.2", 80))
            task = client.spawn(sock.recv, 10)
            listener.accept()[0].close()
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"hello")
            assert task.join() == b"hello"


def test_without_blocking(network):
    client, server, _ = hosts(network)
    serve(server)
    with client.socket(std.AF_INET, std.SOCK_STREAM) as sock:
        sock.settimeout(0)
        with pytest.raises(BlockingIOError) as caught:
            sock.sendto(b"ask", std.MSG_FASTOPEN, ("10.0.0.2", 80))
        assert caught.value.errno == errno.EINPROGRESS
        with pytest.raises(BlockingIOError) as caught:
            sock.sendto(b"ask", std.MSG_FASTOPEN, ("10.0.0.2", 80))
        assert caught.value.errno == errno.EALREADY
        client.sleep(1)
        assert sock.send(b"ask") == 3
    with client.socket(std.AF_INET, std.SOCK_STREAM) as sock:
        with pytest.raises(OSError, match="Invalid") as caught:
            sock.send(b"ask", std.MSG_FASTOPEN)
        assert caught.value.errno == errno.EINVAL
        sock.settimeout(0)
        assert sock.sendto(b"ask", std.MSG_FASTOPEN, ("10.0.0.2", 80)) == 3


def test_refused(network):
    client, server, _ = hosts(network)
    serve(server)
    ask(network, client)
    with (
        client.socket(std.AF_INET, std.SOCK_STREAM) as sock,
        pytest.raises(ConnectionRefusedError),
    ):
        sock.sendto(b"ask", std.MSG_FASTOPEN, ("10.0.0.2", 81))


@pytest.mark.parametrize("super_segments", [True, False])
@pytest.mark.parametrize("size", [1, 1400, 30_000])
def test_tcp_every_request_is_answered_under_loss(network, size, super_segments):
    """Whatever is lost, each request arrives whole, and once."""
    client, server, _ = hosts(
        network, loss=0.1, duplicate=0.05, reorder=0.1, jitter=0.01, super_segments=super_segments
    )
    serve(server, size)
    early = 0
    for number in range(40):
        request = bytes((number + n) & 0xFF for n in range(size))
        early += ask(network, client, request)[1]
        client.sleep(200)  # a path that failed is tried again
    assert early >= 10
    assert client.counters()["tcp.fast_open_active"] == early


def test_middlebox_that_swallows_data_in_syn_is_noticed(network):
    client, server, link = hosts(network)
    serve(server)
    ask(network, client)
    link.set(up=False)
    client.sleep(0.1)
    with client.socket(std.AF_INET, std.SOCK_STREAM) as sock:
        sock.settimeout(0)
        sock.sendto(b"ask", std.MSG_FASTOPEN, ("10.0.0.2", 80))
        client.sleep(0.5)
        link.set(up=True)
        client.sleep(3)
        sock.settimeout(None)
        assert sock.recv(32) == hashlib.sha256(b"ask").digest()
    assert client.counters()["tcp.fast_open_active_failed"] == 1
    assert not ask(network, client)[1]
    assert client.counters()["tcp.fast_open_paused"] == 1
    client.sleep(100)
    assert ask(network, client)[1]


def test_data_in_syn_is_traced(network):
    client, server, _ = hosts(network)
    serve(server)
    ask(network, client)
    seen = []
    with server.stack.trace(lambda event: seen.append(event)):
        ask(network, client, b"yes")
    received = [event for event in seen if isinstance(event, SegmentReceived)]
    assert [event.length for event in received if event.flags & 2] == [3]
