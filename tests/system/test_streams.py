"""TCP sockets between two simulated hosts, with Linux's errno values."""

import errno
import io
import socket as std
import struct

import pytest

from netstack.core.errors import Deadlock, Refused, Reset, TimedOut


def code_of(call, *args):
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the errno is what is asked for
        call(*args)
    return caught.value.errno


def test_client_and_server_share_one_thread(connected):
    connected.client.sendall(b"hello")
    assert connected.server.recv(100) == b"hello"
    connected.server.sendall(b"world")
    connected.server.close()
    assert connected.client.recv(100) == b"world"
    assert connected.client.recv(100) == b""


def test_names_of_both_ends(connected):
    assert connected.client.getpeername() == ("10.0.0.2", 80)
    assert connected.server.getsockname() == ("10.0.0.2", 80)
    assert connected.server.getpeername() == connected.client.getsockname()


def test_sendall_of_a_megabyte_to_a_task(pair):
    data = bytes(range(256)) * 4096

    def serve(listener):
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as stream:
            return stream.read()

    with pair.b.create_server(("", 80)) as listener:
        task = pair.b.spawn(serve, listener)
        with pair.a.create_connection(("10.0.0.2", 80)) as client:
            client.sendall(data)
        assert task.join() == data


def test_connect_to_a_closed_port_is_refused(pair):
    with pytest.raises(ConnectionRefusedError) as caught:
        pair.a.create_connection(("10.0.0.2", 81))
    assert isinstance(caught.value, Refused)
    assert caught.value.errno == errno.ECONNREFUSED


def test_connect_to_nobody_is_unreachable(pair):
    assert code_of(pair.a.create_connection, ("10.0.0.99", 80)) == errno.EHOSTUNREACH
    assert code_of(pair.a.create_connection, ("192.0.2.1", 80)) == errno.ENETUNREACH


def test_connect_times_out_on_the_virtual_clock(pair):
    pair.link.cable.set(loss=1.0)
    with pytest.raises(TimeoutError, match="timed out"):
        pair.a.create_connection(("10.0.0.2", 80), timeout=1.25)
    assert pair.network.now == 1.25


def test_connect_ex_returns_the_errno(pair):
    with pair.a.socket() as sock:
        assert sock.connect_ex(("10.0.0.2", 81)) == errno.ECONNREFUSED
        with pair.b.create_server(("", 81)):
            assert sock.connect_ex(("10.0.0.2", 81)) == 0
            assert sock.connect_ex(("10.0.0.2", 81)) == errno.EISCONN
    pair.link.cable.set(loss=1.0)
    with pair.a.socket() as sock:
        sock.settimeout(0.5)
        assert sock.connect_ex(("10.0.0.2", 81)) == errno.EAGAIN


def test_connect_without_blocking(pair):
    with pair.b.create_server(("", 80)), pair.a.socket() as sock:
        sock.setblocking(False)
        assert code_of(sock.connect, ("10.0.0.2", 80)) == errno.EINPROGRESS
        assert code_of(sock.connect, ("10.0.0.2", 80)) == errno.EALREADY
        pair.network.run(until=1.0)
        assert sock.getsockopt(std.SOL_SOCKET, std.SO_ERROR) == 0
        sock.connect(("10.0.0.2", 80))
        assert code_of(sock.connect, ("10.0.0.2", 80)) == errno.EISCONN


def test_failed_connect_without_blocking_is_told_once(pair):
    with pair.a.socket() as sock:
        sock.setblocking(False)
        assert code_of(sock.connect, ("10.0.0.2", 80)) == errno.EINPROGRESS
        pair.network.run(until=1.0)
        assert sock.getsockopt(std.SOL_SOCKET, std.SO_ERROR) == errno.ECONNREFUSED
        assert sock.getsockopt(std.SOL_SOCKET, std.SO_ERROR) == 0


def test_calls_that_would_block_without_blocking(connected):
    with connected.b.create_server(("", 81)) as listener:
        listener.setblocking(False)
        assert code_of(listener.accept) == errno.EAGAIN
    connected.client.setblocking(False)
    with pytest.raises(BlockingIOError):
        connected.client.recv(10)
    assert connected.client.send(bytes(50_000_000)) >= 65_536
    with pytest.raises(BlockingIOError):
        connected.client.send(b"x")
    connected.client.setblocking(True)
    with pytest.raises(BlockingIOError):
        connected.client.recv(10, std.MSG_DONTWAIT)


def test_recv_times_out_on_the_virtual_clock(connected):
    begun = connected.network.now
    connected.client.settimeout(2.0)
    with pytest.raises(TimeoutError):
        connected.client.recv(10)
    assert connected.network.now == pytest.approx(begun + 2.0)


def test_sendall_times_out_as_a_whole(connected):
    connected.client.settimeout(3.0)
    begun = connected.network.now
    with pytest.raises(TimedOut):
        connected.client.sendall(bytes(20_000_000))
    assert connected.network.now == pytest.approx(begun + 3.0)


def test_sendall_nobody_reads_is_a_deadlock(connected):
    with pytest.raises(Deadlock, match="sendall"):
        connected.client.sendall(bytes(20_000_000))


def test_close_wakes_whoever_blocks(connected):
    task = connected.a.spawn(connected.client.recv, 10)
    connected.a.sleep(1.0)
    connected.client.close()
    assert code_of(task.join) == errno.EBADF
    listener = connected.b.create_server(("", 81))
    task = connected.b.spawn(listener.accept)
    connected.b.sleep(1.0)
    listener.close()
    assert code_of(task.join) == errno.EBADF


def test_closed_socket_is_a_bad_descriptor(connected):
    client = connected.client
    client.close()
    client.close()
    for call, *args in (
        (client.recv, 1), (client.send, b"x"), (client.sendall, b"x"), (client.accept,),
        (client.listen,), (client.getpeername,), (client.getsockname,),
        (client.connect, ("10.0.0.2", 80)), (client.shutdown, std.SHUT_WR),
        (client.setsockopt, std.SOL_SOCKET, std.SO_KEEPALIVE, 1),
    ):  # fmt: skip
        assert code_of(call, *args) == errno.EBADF
    assert client.fileno() == -1
    assert "closed" in repr(client)


def test_unconnected_socket(pair):
    with pair.a.socket() as sock:
        assert code_of(sock.recv, 1) == errno.ENOTCONN
        assert code_of(sock.send, b"x") == errno.EPIPE
        assert code_of(sock.getpeername) == errno.ENOTCONN
        assert code_of(sock.shutdown, std.SHUT_RDWR) == errno.ENOTCONN
        assert code_of(sock.accept) == errno.EINVAL
        assert sock.getsockname() == ("0.0.0.0", 0)


def test_bind_and_listen(pair):
    with pair.b.socket() as sock:
        assert code_of(sock.bind, ("10.0.0.99", 80)) == errno.EADDRNOTAVAIL
        sock.bind(("10.0.0.2", 8080))
        assert code_of(sock.bind, ("", 1)) == errno.EINVAL
        sock.listen()
        sock.listen(5)
        assert sock.getsockname() == ("10.0.0.2", 8080)
        assert code_of(sock.connect, ("10.0.0.1", 1)) == errno.EISCONN
        assert sock.getsockopt(std.SOL_SOCKET, std.SO_ACCEPTCONN) == 1
        assert code_of(pair.b.create_server, ("10.0.0.2", 8080)) == errno.EADDRINUSE
        with pair.a.create_connection(("10.0.0.2", 8080)) as client:
            assert code_of(client.listen) == errno.EINVAL
    with pair.b.create_server(("", 0)) as sock:
        assert sock.getsockname()[1] >= 1024


def test_bound_client_connects_from_its_port(pair):
    with pair.b.create_server(("", 80)) as listener, pair.a.socket() as sock:
        sock.bind(("10.0.0.1", 5555))
        sock.connect(("10.0.0.2", 80))
        assert listener.accept()[1] == ("10.0.0.1", 5555)


def test_addresses_are_checked_as_the_standard_library_does(pair):
    with pair.a.socket() as sock:
        with pytest.raises(OverflowError):
            sock.connect(("10.0.0.2", 65_536))
        with pytest.raises(TypeError):
            sock.connect("10.0.0.2")
        with pytest.raises(TypeError):
            sock.connect((1, 2))


def test_half_close_lets_the_answer_come(connected):
    connected.client.sendall(b"question")
    connected.client.shutdown(std.SHUT_WR)
    assert connected.server.recv(100) == b"question"
    assert connected.server.recv(100) == b""
    connected.server.sendall(b"answer")
    assert connected.client.recv(100) == b"answer"
    with pytest.raises(BrokenPipeError):
        connected.client.send(b"more")


def test_shutdown_of_the_receiving_side_wakes_recv(connected):
    task = connected.a.spawn(connected.client.recv, 10)
    connected.a.sleep(1.0)
    connected.client.shutdown(std.SHUT_RD)
    assert task.join() == b""
    connected.client.sendall(b"x")
    assert connected.server.recv(1) == b"x"


def test_shutdown_of_a_listener_ends_accept(pair):
    with pair.b.create_server(("", 80)) as listener:
        task = pair.b.spawn(listener.accept)
        pair.b.sleep(1.0)
        listener.shutdown(std.SHUT_RDWR)
        assert code_of(task.join) == errno.EINVAL


def test_reset_is_told_once_after_what_arrived(connected):
    connected.server.sendall(b"last words")
    connected.network.run(until=1.0)
    connected.server.setsockopt(std.SOL_SOCKET, std.SO_LINGER, struct.pack("ii", 1, 0))
    connected.server.close()
    connected.network.run(until=2.0)
    assert connected.client.recv(100) == b"last words"
    with pytest.raises(ConnectionResetError) as caught:
        connected.client.recv(100)
    assert isinstance(caught.value, Reset)
    assert connected.client.recv(100) == b""
    with pytest.raises(BrokenPipeError):
        connected.client.send(b"x")


def test_linger_waits_for_the_peers_acknowledgment(connected):
    connected.client.setsockopt(std.SOL_SOCKET, std.SO_LINGER, struct.pack("ii", 1, 30))
    connected.client.sendall(b"x" * 100_000)
    begun = connected.network.now
    connected.client.close()
    assert begun < connected.network.now < begun + 1.0


def test_linger_resets_when_its_time_is_up(connected):
    connected.client.setsockopt(std.SOL_SOCKET, std.SO_LINGER, struct.pack("ii", 1, 2))
    connected.link.cable.set(up=False)
    connected.client.sendall(b"x")
    begun = connected.network.now
    connected.client.close()
    assert connected.network.now == pytest.approx(begun + 2.0)
    assert connected.a.connections() == []


def test_makefile_reads_and_writes_lines(connected):
    with connected.client.makefile("rw", encoding="utf-8", newline="\n") as stream:
        stream.write("GET /\n")
        stream.flush()
        with connected.server.makefile("rb") as other:
            assert other.readline() == b"GET /\n"
        connected.server.sendall("grüße\nzwei\n".encode())
        assert stream.readline() == "grüße\n"
        connected.server.close()
        assert stream.read() == "zwei\n"
    with pytest.raises(ValueError, match="mode"):
        connected.client.makefile("x")
    with connected.client.makefile("wb", 0) as raw:
        assert isinstance(raw, io.RawIOBase)


def test_close_waits_for_the_files(connected):
    stream = connected.client.makefile("rb")
    connected.client.close()
    connected.server.sendall(b"still")
    connected.server.close()
    assert stream.read() == b"still"
    stream.close()
    assert code_of(connected.client.recv, 1) == errno.EBADF


def test_recv_into_tells_the_end_and_errors(connected):
    buffer = bytearray(10)
    connected.client.settimeout(0)
    assert code_of(connected.client.recv_into, buffer) == errno.EAGAIN
    connected.client.settimeout(5)
    connected.server.sendall(b"last")
    connected.server.close()
    assert connected.client.recv_into(buffer) == 4
    assert connected.client.recv_into(buffer) == 0
    connected.client.close()
    assert code_of(connected.client.recv_into, buffer) == errno.EBADF


def test_recv_into_peek_and_waitall(connected):
    connected.server.sendall(b"0123456789")
    buffer = bytearray(4)
    assert connected.client.recv(3, std.MSG_PEEK) == b"012"
    assert connected.client.recv_into(buffer) == 4
    assert bytes(buffer) == b"0123"
    assert connected.client.recv_into(buffer, 2) == 2
    assert bytes(buffer) == b"4523"
    with pytest.raises(ValueError, match="nbytes"):
        connected.client.recv_into(buffer, 5)
    with pytest.raises(ValueError, match="nbytes"):
        connected.client.recv_into(buffer, -1)
    with pytest.raises(TypeError):
        connected.client.recv_into(b"1234", 1)
    assert connected.client.recvfrom(1) == (b"6", None)
    connected.b.spawn(lambda: (connected.b.sleep(1.0), connected.server.sendall(b"abc")))
    assert connected.client.recv(6, std.MSG_WAITALL) == b"789abc"
    assert connected.client.recv(0) == b""
    with pytest.raises(ValueError, match="negative"):
        connected.client.recv(-1)
    assert code_of(connected.client.recv, 1, std.MSG_OOB) == errno.EINVAL


@pytest.mark.parametrize(
    ("level", "name", "value"),
    [
        (std.SOL_SOCKET, std.SO_KEEPALIVE, 1),
        (std.SOL_SOCKET, std.SO_REUSEADDR, 1),
        (std.SOL_SOCKET, std.SO_RCVBUF, 100_000),
        (std.SOL_SOCKET, std.SO_SNDBUF, 50_000),
        (std.IPPROTO_TCP, std.TCP_NODELAY, 1),
        (std.IPPROTO_TCP, 4, 10),
        (std.IPPROTO_TCP, 5, 3),
        (std.IPPROTO_TCP, 6, 2),
        (std.IPPROTO_TCP, 18, 4500),
        (std.IPPROTO_IP, std.IP_TTL, 5),
        (std.IPPROTO_IP, std.IP_TOS, 0x10),
    ],
)
def test_options_are_kept_before_and_after_connecting(connected, level, name, value):
    connected.client.setsockopt(level, name, value)
    assert connected.client.getsockopt(level, name) == value
    with connected.b.create_server(("", 81)) as listener, connected.a.socket() as sock:
        before = sock.getsockopt(level, name)
        assert isinstance(before, int)
        sock.setsockopt(level, name, struct.pack("i", value))
        assert sock.getsockopt(level, name) == value
        listener.setsockopt(level, name, value)
        sock.connect(("10.0.0.2", 81))
        assert sock.getsockopt(level, name) == value
        accepted, _ = listener.accept()
        assert name == std.SO_REUSEADDR or accepted.getsockopt(level, name) == value
        accepted.close()


def test_options_nobody_knows(pair):
    with pair.a.socket() as sock:
        assert code_of(sock.setsockopt, 250, 1, 1) == errno.ENOPROTOOPT
        assert code_of(sock.getsockopt, 250, 1) == errno.ENOPROTOOPT
        assert code_of(sock.setsockopt, std.IPPROTO_IP, std.IP_TTL, 256) == errno.EINVAL
        assert code_of(sock.setsockopt, std.SOL_SOCKET, std.SO_LINGER, b"x") == errno.EINVAL
        assert sock.getsockopt(std.SOL_SOCKET, std.SO_TYPE) == std.SOCK_STREAM
        assert sock.getsockopt(std.IPPROTO_IP, std.IP_TTL) == 64


def test_user_timeout_ends_a_connection_whose_peer_is_gone(connected):
    connected.client.setsockopt(std.IPPROTO_TCP, 18, 5000)
    connected.link.cable.set(up=False)
    connected.client.sendall(b"x")
    begun = connected.network.now
    with pytest.raises(TimeoutError):
        connected.client.recv(1)
    assert 4.9 < connected.network.now - begun < 12.0


def test_unknown_families_and_types(pair):
    assert code_of(pair.a.socket, 10) == errno.EAFNOSUPPORT
    assert code_of(pair.a.socket, 2, 3) == errno.ESOCKTNOSUPPORT
    assert code_of(pair.a.socket, 2, 1, 17) == errno.EPROTONOSUPPORT
    with pair.a.socket(2, 1 | 0o4000) as sock:
        assert sock.getblocking() is False


def test_timeouts_are_settings(pair):
    with pair.a.socket() as sock:
        assert sock.gettimeout() is None
        sock.settimeout(3)
        assert sock.timeout == 3
        with pytest.raises(ValueError, match="range"):
            sock.settimeout(-1)


def test_connection_to_oneself(pair):
    with pair.a.create_server(("", 80)) as listener:
        for address in ("127.0.0.1", "10.0.0.1", "localhost"):
            with pair.a.create_connection((address, 80)) as client:
                server, _ = listener.accept()
                client.sendall(b"x")
                assert server.recv(1) == b"x"
                server.close()


def test_over_switch_and_router(network):
    client = network.host("client", "10.0.1.2/24", gateway="10.0.1.1")
    switch = network.switch("switch")
    router = network.router("router", "10.0.1.1/24", "10.0.2.1/24")
    server = network.host("server", "10.0.2.2/24", gateway="10.0.2.1")
    network.link(client, switch)
    network.link(switch, router)
    network.link(router, server, mtu=1000)
    data = bytes(range(256)) * 1000

    def serve(listener):
        connection, _ = listener.accept()
        with connection:
            while piece := connection.recv(65_536):
                connection.sendall(piece)

    with server.create_server(("", 7)) as listener:
        server.spawn(serve, listener)
        with client.create_connection(("10.0.2.2", 7)) as sock:
            task = client.spawn(sock.sendall, data)
            got = b""
            while len(got) < len(data):
                got += sock.recv(65_536)
            task.join()
    assert got == data


def test_host_close_drains_and_ends_its_sockets(pair):
    with pair.b.create_server(("", 80)) as listener:
        client = pair.a.create_connection(("10.0.0.2", 80))
        server, _ = listener.accept()
        client.sendall(b"x" * 100_000)
        pair.a.close()
        pair.a.close()
        assert code_of(client.recv, 1) == errno.EBADF
        with server.makefile("rb") as stream:
            assert len(stream.read()) == 100_000
        server.close()


def test_transfer_to_oneself_over_the_largest_mtu(pair):
    data = bytes(range(256)) * 2000

    def serve(listener):
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as stream:
            return stream.read()

    with pair.a.create_server(("", 80)) as listener:
        task = pair.a.spawn(serve, listener)
        with pair.a.create_connection(("127.0.0.1", 80)) as client:
            client.sendall(data)
        assert task.join() == data
