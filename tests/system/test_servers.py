"""Built-in services: sessions in the stack's turn, and tasks for those that block."""

import socket as std

import pytest

from netstack.core.errors import LocalProtocolError


class EchoSession:
    """Sends back what it gets; bounded by pausing."""

    def __init__(self, service):
        self.service = service
        self.buffer = bytearray()
        self.finished = self.abort = False
        self.deadline = None

    @property
    def paused(self):
        return len(self.buffer) > 100_000

    def receive(self, data, now):
        if data == b"abort":
            self.abort = True
        elif data == b"break":
            raise LocalProtocolError("broken")
        elif data == b"later":
            self.deadline = now + 5.0
        elif data:
            self.buffer += data
        else:
            self.finished = True

    def outgoing(self, limit):
        data = bytes(self.buffer[:limit])
        del self.buffer[:limit]
        return data

    def next_deadline(self):
        return self.deadline

    def handle_timers(self, now):
        self.deadline = None
        self.buffer += b"late"

    def close(self):
        self.service.closed += 1


class Echo:
    stream = True
    datagram = True

    def __init__(self):
        self.opened = self.closed = 0

    def open(self, peer, local, now):
        self.opened += 1
        return EchoSession(self)

    def receive_datagram(self, data, peer, now):
        return data[::-1] or None


@pytest.fixture
def echo():
    return Echo()


@pytest.fixture
def server(pair, echo):
    return pair.b.serve(echo, 7)


def test_session_echoes_without_a_task(pair, server, echo):
    assert server.local == ("0.0.0.0", 7)
    with pair.a.create_connection(("10.0.0.2", 7)) as client:
        for word in (b"one", b"two"):
            client.sendall(word)
            assert client.recv(10) == word
        assert server.connections == 1
        client.shutdown(std.SHUT_WR)
        assert client.recv(10) == b""
    assert (server.connections, echo.opened, echo.closed) == (0, 1, 1)


def test_large_transfer_through_a_session(pair, server):
    data = bytes(range(256)) * 8000
    with pair.a.create_connection(("10.0.0.2", 7)) as client:
        task = pair.a.spawn(lambda: (client.sendall(data), client.shutdown(std.SHUT_WR)))
        with client.makefile("rb") as stream:
            assert stream.read() == data
        task.join()


def test_peer_that_does_not_read_is_not_read_from(pair, server):
    with pair.a.create_connection(("10.0.0.2", 7)) as client:
        client.settimeout(20.0)
        with pytest.raises(TimeoutError):
            client.sendall(bytes(50_000_000))
    pair.network.run(until=pair.network.now + 100.0)


def test_sessions_deadline(pair, server):
    with pair.a.create_connection(("10.0.0.2", 7)) as client:
        client.sendall(b"later")
        begun = pair.network.now
        assert client.recv(10) == b"late"
        assert pair.network.now == pytest.approx(begun + 5.0, abs=0.1)


@pytest.mark.parametrize("word", [b"abort", b"break"])
def test_session_that_aborts_or_fails_resets(pair, server, echo, word):
    with pair.a.create_connection(("10.0.0.2", 7)) as client:
        client.sendall(word)
        with pytest.raises(ConnectionResetError):
            client.recv(10)
    assert (server.connections, echo.closed) == (0, 1)


def test_peer_that_resets_ends_its_session(pair, server, echo):
    client = pair.a.create_connection(("10.0.0.2", 7))
    pair.network.run(until=1.0)
    assert server.connections == 1
    client.setsockopt(std.SOL_SOCKET, std.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    pair.network.run(until=2.0)
    assert (server.connections, echo.closed) == (0, 1)


def test_datagrams_are_answered(pair, server):
    with pair.a.socket(std.AF_INET, std.SOCK_DGRAM) as sock:
        sock.sendto(b"abc", ("10.0.0.2", 7))
        assert sock.recvfrom(10) == (b"cba", ("10.0.0.2", 7))


def test_closed_server_takes_no_more_but_finishes(pair, server):
    with pair.a.create_connection(("10.0.0.2", 7)) as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        server.close()
        server.close()
        client.sendall(b"y")
        assert client.recv(1) == b"y"
        with pytest.raises(ConnectionRefusedError):
            pair.a.create_connection(("10.0.0.2", 7))
        server.abort()
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_blocking_service_runs_in_tasks(pair):
    class Slow:
        def handle(self, connection):
            data = connection.recv(100)
            pair.b.sleep(3.0)
            connection.sendall(data.upper())
            connection.recv(100)

    pair.b.serve(Slow(), 80)
    clients = [pair.a.create_connection(("10.0.0.2", 80)) for _ in range(2)]
    for client in clients:
        client.sendall(b"word")
    for client in clients:
        assert client.recv(10) == b"WORD"
    assert 3.0 < pair.network.now < 3.1
    # Tasks of a service block forever without anybody waiting for them.
    pair.network.run()
