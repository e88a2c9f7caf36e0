"""The same sockets, servers and tasks on the system's clock, over the loopback device."""

import socket as std
import threading
import time

import pytest

from netstack.api import run
from netstack.core.errors import TimedOut
from netstack.stack import Stack


@pytest.fixture
def host():
    with run(Stack("host", seed=1)) as host:
        yield host


def test_sockets_between_two_threads(host):
    data = bytes(range(256)) * 2000

    def serve(listener):
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as stream:
            connection.sendall(stream.read()[::-1])

    with host.create_server(("127.0.0.1", 0)) as listener:
        task = host.spawn(serve, listener)
        with host.create_connection(listener.getsockname(), timeout=20.0) as client:
            client.sendall(data)
            client.shutdown(std.SHUT_WR)
            with client.makefile("rb") as stream:
                assert stream.read() == data[::-1]
        task.join(20.0)
    assert task.done
    assert task.host == "host"


def test_exception_of_a_task_is_raised_by_join(host):
    def bad():
        raise LookupError("bad")

    with pytest.raises(LookupError, match="bad"):
        host.spawn(bad).join(20.0)


def test_time_is_real(host):
    begun = time.monotonic()
    host.sleep(0.02)
    with host.socket(std.AF_INET, std.SOCK_DGRAM) as sock:
        sock.settimeout(0.02)
        with pytest.raises(TimedOut):
            sock.recv(1)
    assert 0.04 <= time.monotonic() - begun < 5.0
    assert host.now == pytest.approx(time.monotonic(), abs=1.0)


def test_ping_and_refusal(host):
    assert host.ping("localhost", timeout=20.0).address == "127.0.0.1"
    with pytest.raises(ConnectionRefusedError):
        host.create_connection(("127.0.0.1", 9), timeout=20.0)


def test_blocking_service_has_a_thread_a_connection(host):
    class Upper:
        def handle(self, connection):
            while data := connection.recv(100):
                connection.sendall(data.upper())

    with host.serve(Upper(), 0) as server:
        address = ("127.0.0.1", server.local[1])
        clients = [host.create_connection(address, timeout=20.0) for _ in range(3)]
        for client in clients:
            client.sendall(b"word")
        for client in clients:
            assert client.recv(100) == b"WORD"
            client.close()


def test_forgotten_socket_is_closed(host):
    with host.create_server(("127.0.0.1", 0)) as listener:
        host.create_connection(listener.getsockname(), timeout=20.0)
        connection, _ = listener.accept()
        connection.settimeout(20.0)
        assert connection.recv(1) == b""
        connection.close()


def test_close_gives_blocked_threads_a_bad_descriptor(host):
    listener = host.create_server(("127.0.0.1", 0))
    errors = []
    ready = threading.Event()

    def accept():
        ready.set()
        try:
            listener.accept()
        except OSError as error:
            errors.append(error.errno)

    thread = threading.Thread(target=accept)
    thread.start()
    ready.wait(20.0)
    listener.close()
    thread.join(20.0)
    assert errors == [9]
