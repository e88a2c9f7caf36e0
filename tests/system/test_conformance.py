"""One set of socket tests for the kernel's sockets, which are the oracle, and for ours."""

import errno
import socket as std
import struct
from types import SimpleNamespace

import pytest

from netstack.api import run
from netstack.stack import Stack

TCP_FASTOPEN_CONNECT = 30  # the standard library has no name for it
LINGER_RESET = struct.pack("ii", 1, 0)


@pytest.fixture(params=["kernel", "netstack"])
def system(request):
    """How to make sockets, over a loopback device."""
    if request.param == "kernel":
        yield SimpleNamespace(name="kernel", socket=std.socket)
        return
    with run(Stack("host", seed=1)) as host:
        yield SimpleNamespace(name="netstack", socket=host.socket)


@pytest.fixture
def tcp(system):
    made = []

    def make():
        made.append(system.socket(std.AF_INET, std.SOCK_STREAM))
        # Python polls before it calls the kernel where there is a timeout; errno values differ.
        made[-1].settimeout(None)
        return made[-1]

    yield make
    for sock in made:
        sock.close()


@pytest.fixture
def listener(tcp):
    sock = tcp()
    sock.bind(("127.0.0.1", 0))
    sock.listen(5)
    return sock


@pytest.fixture
def joined(tcp, listener):
    client = tcp()
    client.connect(listener.getsockname())
    server, _ = listener.accept()
    with server:
        yield SimpleNamespace(client=client, server=server)


def code_of(call, *args):
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the errno is what is asked for
        call(*args)
    return caught.value.errno


def reset(sock):
    sock.setsockopt(std.SOL_SOCKET, std.SO_LINGER, LINGER_RESET)
    sock.close()


def test_fresh_socket(tcp):
    sock = tcp()
    assert sock.getsockname() == ("0.0.0.0", 0)
    assert code_of(sock.getpeername) == errno.ENOTCONN
    assert code_of(sock.recv, 1) == errno.ENOTCONN
    assert code_of(sock.send, b"x") == errno.EPIPE
    assert code_of(sock.shutdown, std.SHUT_RD) == errno.ENOTCONN
    assert code_of(sock.accept) == errno.EINVAL


def test_refused_connection_leaves_a_usable_socket(tcp, listener):
    address = listener.getsockname()
    port = tcp()
    port.bind(("127.0.0.1", 0))
    closed = port.getsockname()
    port.close()
    sock = tcp()
    if closed[1]:
        assert code_of(sock.connect, closed) == errno.ECONNREFUSED
    sock.connect(address)
    assert sock.getpeername() == address
    assert sock.connect_ex(address) == errno.EISCONN


def test_second_bind_and_taken_port(tcp, listener):
    sock = tcp()
    sock.bind(("127.0.0.1", 0))
    assert code_of(sock.bind, ("127.0.0.1", 0)) == errno.EINVAL
    other = tcp()

    def take():
        other.bind(listener.getsockname())
        other.listen()

    assert code_of(take) == errno.EADDRINUSE
    assert code_of(tcp().bind, ("192.0.2.77", 0)) == errno.EADDRNOTAVAIL


def test_listener_is_no_connection(listener):
    assert code_of(listener.connect, ("127.0.0.1", 9)) == errno.EISCONN
    assert code_of(listener.recv, 1) == errno.ENOTCONN
    assert code_of(listener.send, b"x") == errno.EPIPE
    assert listener.getsockopt(std.SOL_SOCKET, std.SO_ACCEPTCONN) == 1
    assert code_of(listener.getpeername) == errno.ENOTCONN


def test_end_of_stream_and_broken_pipe(joined):
    joined.client.shutdown(std.SHUT_WR)
    assert joined.server.recv(1) == b""
    assert joined.server.recv(1) == b""
    assert code_of(joined.client.send, b"x") == errno.EPIPE
    joined.server.sendall(b"late")
    assert joined.client.recv(10) == b"late"


def test_reset_is_told_once(joined):
    reset(joined.server)
    assert code_of(joined.client.recv, 1) == errno.ECONNRESET
    assert joined.client.recv(1) == b""
    assert code_of(joined.client.send, b"x") == errno.EPIPE


def test_reset_after_so_error(joined):
    reset(joined.server)
    joined.client.settimeout(5.0)
    with pytest.raises(ConnectionResetError):
        joined.client.recv(1)
    assert joined.client.getsockopt(std.SOL_SOCKET, std.SO_ERROR) == 0
    assert code_of(joined.client.getpeername) == errno.ENOTCONN


def test_close_with_unread_octets_resets(joined):
    joined.client.sendall(b"unread")
    joined.server.recv(1)
    joined.server.close()
    assert code_of(joined.client.recv, 1) == errno.ECONNRESET


def test_shutdown_both_ways(joined):
    joined.client.shutdown(std.SHUT_RDWR)
    assert joined.client.recv(1) == b""
    assert code_of(joined.client.send, b"x") == errno.EPIPE
    assert joined.server.recv(1) == b""


def test_nothing_is_read_of_zero_octets(joined):
    assert joined.client.recv(0) == b""
    assert joined.client.send(b"") == 0
    assert joined.client.recv_into(bytearray(0)) == 0


def test_peeking_leaves_the_octets(joined):
    joined.server.sendall(b"abc")
    assert joined.client.recv(2, std.MSG_PEEK) == b"ab"
    assert joined.client.recv(10) == b"abc"
    assert code_of(joined.client.recv, 1, std.MSG_DONTWAIT) == errno.EAGAIN


def test_timeouts(joined, listener):
    joined.client.settimeout(0.02)
    with pytest.raises(TimeoutError, match="timed out"):
        joined.client.recv(1)
    listener.settimeout(0.02)
    with pytest.raises(TimeoutError, match="timed out"):
        listener.accept()
    joined.client.settimeout(0)
    assert code_of(joined.client.recv, 1) == errno.EAGAIN
    assert not joined.client.getblocking()


def test_options(tcp, joined):
    for sock in (tcp(), joined.client):
        for level, name, value in (
            (std.SOL_SOCKET, std.SO_KEEPALIVE, 1),
            (std.SOL_SOCKET, std.SO_REUSEADDR, 1),
            (std.IPPROTO_TCP, std.TCP_NODELAY, 1),
            (std.IPPROTO_TCP, std.TCP_CORK, 1),
            (std.IPPROTO_TCP, std.TCP_QUICKACK, 1),
            (std.IPPROTO_TCP, std.TCP_KEEPIDLE, 7),
            (std.IPPROTO_TCP, std.TCP_KEEPINTVL, 8),
            (std.IPPROTO_TCP, std.TCP_KEEPCNT, 3),
            (std.IPPROTO_TCP, std.TCP_USER_TIMEOUT, 1500),
            (std.IPPROTO_IP, std.IP_TTL, 9),
            (std.IPPROTO_IP, std.IP_TOS, 16),
        ):
            sock.setsockopt(level, name, value)
            assert sock.getsockopt(level, name) == value
            assert sock.getsockopt(level, name, 4) == struct.pack("i", value)
        assert code_of(sock.setsockopt, std.IPPROTO_IP, std.IP_TTL, 256) == errno.EINVAL
        assert code_of(sock.setsockopt, std.IPPROTO_TCP, 9999, 1) == errno.ENOPROTOOPT
        assert sock.getsockopt(std.SOL_SOCKET, std.SO_LINGER, 8) == struct.pack("ii", 0, 0)
        assert sock.getsockopt(std.SOL_SOCKET, std.SO_TYPE) == std.SOCK_STREAM


def test_quickack_is_over_once_the_application_answers(joined):
    joined.client.setsockopt(std.IPPROTO_TCP, std.TCP_QUICKACK, 1)
    for _ in range(4):
        joined.server.sendall(b"question")
        assert joined.client.recv(100)
        joined.client.sendall(b"answer")
        assert joined.server.recv(100)
    assert joined.client.getsockopt(std.IPPROTO_TCP, std.TCP_QUICKACK) == 0
    assert joined.client.getsockopt(std.IPPROTO_TCP, std.TCP_QUICKACK, 4) == bytes(4)


def test_options_of_a_fresh_socket(tcp):
    sock = tcp()
    assert sock.getsockopt(std.SOL_SOCKET, std.SO_KEEPALIVE) == 0
    assert sock.getsockopt(std.IPPROTO_TCP, std.TCP_NODELAY) == 0
    assert sock.getsockopt(std.IPPROTO_TCP, std.TCP_KEEPIDLE) == 7200
    assert sock.getsockopt(std.IPPROTO_TCP, std.TCP_KEEPCNT) == 9
    assert sock.getsockopt(std.IPPROTO_TCP, std.TCP_USER_TIMEOUT) == 0
    assert sock.getsockopt(std.IPPROTO_IP, std.IP_TTL) == 64
    sock.setsockopt(std.IPPROTO_IP, std.IP_TTL, -1)
    assert sock.getsockopt(std.IPPROTO_IP, std.IP_TTL) == 64


def test_files(joined):
    with joined.client.makefile("rwb") as stream:
        stream.write(b"line\n")
        stream.flush()
        assert joined.server.recv(10) == b"line\n"
        joined.server.sendall(b"one\ntwo\n")
        assert stream.readline() == b"one\n"
        joined.client.close()
        joined.server.close()
        assert stream.read() == b"two\n"
    assert code_of(joined.client.recv, 1) == errno.EBADF


def test_closed_socket(tcp):
    sock = tcp()
    sock.close()
    assert sock.fileno() == -1
    assert code_of(sock.recv, 1) == errno.EBADF
    assert code_of(sock.getsockname) == errno.EBADF


@pytest.fixture
def udp(system):
    made = [system.socket(std.AF_INET, std.SOCK_DGRAM) for _ in range(2)]
    for sock in made:
        sock.bind(("127.0.0.1", 0))
    yield made
    for sock in made:
        sock.close()


def test_datagrams(udp):
    a, b = udp
    a.sendto(b"hello", b.getsockname())
    assert b.recvfrom(3) == (b"hel", a.getsockname())
    a.connect(b.getsockname())
    a.send(b"")
    assert b.recv(10) == b""
    assert a.getpeername() == b.getsockname()


def test_datagram_errors(udp):
    a, b = udp
    assert code_of(a.send, b"x") == errno.EDESTADDRREQ
    assert code_of(a.sendto, bytes(65_508), b.getsockname()) == errno.EMSGSIZE
    assert code_of(a.sendto, b"x", ("127.0.0.1", 0)) == errno.EINVAL
    assert code_of(a.getpeername) == errno.ENOTCONN
    assert code_of(a.bind, ("127.0.0.1", 0)) == errno.EINVAL
    assert code_of(a.recv, 1, std.MSG_DONTWAIT) == errno.EAGAIN
    a.connect(b.getsockname())
    b.close()
    a.send(b"x")
    assert code_of(a.recv, 1) == errno.ECONNREFUSED


def test_fast_open_options(tcp, listener, joined):
    listener.setsockopt(std.IPPROTO_TCP, std.TCP_FASTOPEN, 7)
    assert listener.getsockopt(std.IPPROTO_TCP, std.TCP_FASTOPEN) == 7
    assert tcp().getsockopt(std.IPPROTO_TCP, std.TCP_FASTOPEN) == 0
    assert tcp().getsockopt(std.IPPROTO_TCP, TCP_FASTOPEN_CONNECT) == 0
    for sock, name, value in (
        (listener, std.TCP_FASTOPEN, -1),
        (listener, TCP_FASTOPEN_CONNECT, 1),
        (joined.client, std.TCP_FASTOPEN, 1),
        (joined.client, TCP_FASTOPEN_CONNECT, 1),
        (tcp(), TCP_FASTOPEN_CONNECT, 2),
    ):
        assert code_of(sock.setsockopt, std.IPPROTO_TCP, name, value) == errno.EINVAL
    address = listener.getsockname()
    code = code_of(joined.client.sendto, b"x", std.MSG_FASTOPEN, address)
    assert code == errno.EISCONN


def test_fast_open_without_a_cookie_is_an_ordinary_open(tcp, listener):
    first, second = tcp(), tcp()
    assert first.sendto(b"one", std.MSG_FASTOPEN, listener.getsockname()) == 3
    second.setsockopt(std.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)
    second.connect(listener.getsockname())
    second.sendall(b"two")
    for wanted in (b"one", b"two"):
        server, _ = listener.accept()
        with server:
            assert server.recv(10) == wanted
