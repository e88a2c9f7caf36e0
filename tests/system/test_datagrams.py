"""UDP sockets between two simulated hosts, with Linux's errno values."""

import errno
import socket as std

import pytest


def code_of(call, *args):
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the errno is what is asked for
        call(*args)
    return caught.value.errno


@pytest.fixture
def sockets(pair):
    a = pair.a.socket(std.AF_INET, std.SOCK_DGRAM)
    b = pair.b.socket(std.AF_INET, std.SOCK_DGRAM)
    with a, b:
        b.bind(("", 53))
        yield a, b


def test_datagrams_go_both_ways(sockets):
    a, b = sockets
    assert a.sendto(b"question", ("10.0.0.2", 53)) == 8
    data, peer = b.recvfrom(100)
    assert (data, peer[0]) == (b"question", "10.0.0.1")
    b.sendto(b"answer", 0, peer)
    assert a.recv(3) == b"ans"  # the rest of the datagram is lost


def test_connected_socket_hears_its_peer_only(pair, sockets):
    a, b = sockets
    a.connect(("10.0.0.2", 53))
    assert a.getpeername() == ("10.0.0.2", 53)
    a.send(b"x")
    _, peer = b.recvfrom(10)
    with pair.b.socket(std.AF_INET, std.SOCK_DGRAM) as other:
        other.sendto(b"forged", peer)
    b.sendto(b"true", peer)
    buffer = bytearray(10)
    assert a.recv_into(buffer) == 4
    assert bytes(buffer[:4]) == b"true"


def test_closed_port_is_told_to_a_connected_socket_only(pair, sockets):
    a, _ = sockets
    a.sendto(b"x", ("10.0.0.2", 54))
    a.settimeout(1.0)
    with pytest.raises(TimeoutError):
        a.recv(10)
    a.connect(("10.0.0.2", 54))
    a.send(b"x")
    with pytest.raises(ConnectionRefusedError):
        a.recv(10)
    a.send(b"x")
    pair.network.run(until=5.0)
    assert a.getsockopt(std.SOL_SOCKET, std.SO_ERROR) == errno.ECONNREFUSED
    assert a.getsockopt(std.SOL_SOCKET, std.SO_ERROR) == 0


def test_errno_values(pair, sockets):
    a, b = sockets
    assert code_of(a.send, b"x") == errno.EDESTADDRREQ
    assert code_of(a.getpeername) == errno.ENOTCONN
    assert code_of(a.sendto, bytes(65_508), ("10.0.0.2", 53)) == errno.EMSGSIZE
    assert code_of(a.sendto, b"x", ("192.0.2.1", 53)) == errno.ENETUNREACH
    assert code_of(a.sendto, b"x", ("255.255.255.255", 53)) == errno.EACCES
    assert code_of(a.sendto, b"x", ("10.0.0.2", 0)) == errno.EINVAL
    assert code_of(b.bind, ("", 54)) == errno.EINVAL
    assert code_of(b.recv, 10, std.MSG_DONTWAIT) == errno.EAGAIN
    assert code_of(b.recv, 10, std.MSG_OOB) == errno.EOPNOTSUPP
    with pair.b.socket(std.AF_INET, std.SOCK_DGRAM) as other:
        assert code_of(other.bind, ("", 53)) == errno.EADDRINUSE
        assert code_of(other.bind, ("10.0.0.99", 5)) == errno.EADDRNOTAVAIL
    with pytest.raises(TypeError):
        a.sendto(b"x")


def test_broadcast_needs_leave(sockets):
    a, b = sockets
    a.setsockopt(std.SOL_SOCKET, std.SO_BROADCAST, 1)
    a.sendto(b"everybody", ("10.0.0.255", 53))
    assert b.recv(100) == b"everybody"


def test_large_datagrams_are_fragmented(sockets):
    a, b = sockets
    data = bytes(range(256)) * 200
    a.sendto(data, ("10.0.0.2", 53))
    assert b.recv(65_536) == data


def test_close_wakes_recv(pair, sockets):
    _, b = sockets
    task = pair.b.spawn(b.recv, 10)
    pair.b.sleep(1.0)
    b.close()
    assert code_of(task.join) == errno.EBADF
    assert code_of(b.recv, 10) == errno.EBADF


def test_options(sockets):
    a, _ = sockets
    for level, name, value in (
        (std.IPPROTO_IP, std.IP_TTL, 3),
        (std.IPPROTO_IP, std.IP_TOS, 8),
        (std.SOL_SOCKET, std.SO_RCVBUF, 4000),
        (std.SOL_SOCKET, std.SO_BROADCAST, 1),
    ):
        a.setsockopt(level, name, value)
        assert a.getsockopt(level, name) == value
    a.sendto(b"x", ("10.0.0.2", 53))
    assert a.getsockopt(std.IPPROTO_IP, std.IP_TTL) == 3
    assert a.getsockname()[1] >= 1024


def test_datagram_to_oneself(pair):
    with pair.a.socket(std.AF_INET, std.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 1000))
        sock.sendto(b"x", ("127.0.0.1", 1000))
        assert sock.recvfrom(10) == (b"x", ("127.0.0.1", 1000))


def test_empty_datagram_is_one(sockets):
    a, b = sockets
    a.sendto(b"", ("10.0.0.2", 53))
    assert b.recvfrom(10)[0] == b""
