"""MSG_OOB between two hosts: in line, with a mark (RFC 6093)."""

import errno
import socket as std

import pytest


def test_urgent_data_is_read_in_line_up_to_the_mark(connected):
    client, server = connected.client, connected.server
    client.sendall(b"usual ")
    client.send(b"urgent!", std.MSG_OOB)
    client.sendall(b" usual")
    connected.network.run(connected.network.now + 1)
    assert not server.at_mark()
    assert server.recv(100) == b"usual urgent!"
    assert server.at_mark()
    assert server.recv(100) == b" usual"
    assert not server.at_mark()


def test_urgent_data_is_always_in_line(connected):
    server = connected.server
    assert server.getsockopt(std.SOL_SOCKET, std.SO_OOBINLINE) == 1
    server.setsockopt(std.SOL_SOCKET, std.SO_OOBINLINE, 1)
    for call in (
        lambda: server.setsockopt(std.SOL_SOCKET, std.SO_OOBINLINE, 0),
        lambda: server.recv(1, std.MSG_OOB),
    ):
        with pytest.raises(OSError, match="Invalid") as caught:
            call()
        assert caught.value.errno == errno.EINVAL
