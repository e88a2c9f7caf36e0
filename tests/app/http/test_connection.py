from __future__ import annotations

import pytest

from netstack.app.http.connection import ClientConnection
from netstack.app.http.headers import Headers
from netstack.app.http.messages import EndOfMessage, MessageError
from netstack.core.errors import LocalProtocolError

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
HOST = Headers({"Host": "a"})


def exchange(data, *, headers=HOST, eof=False):
    connection = ClientConnection()
    connection.send_request("GET", "/", headers)
    connection.receive(data)
    if eof:
        connection.receive_eof()
    while (event := connection.next_event()) is not None:
        if isinstance(event, EndOfMessage):
            return connection
    return connection


@pytest.mark.parametrize(
    ("data", "reusable"),
    [
        (OK, True),
        (OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), False),
        (OK.replace(b"HTTP/1.1", b"HTTP/1.0"), False),
        (
            OK.replace(b"HTTP/1.1", b"HTTP/1.0").replace(
                b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n"
            ),
            True,
        ),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", True),
        (b"HTTP/1.1 204 No\r\n\r\n", True),
        (OK + b"x", False),  # HTT-31: extra octets belong to nobody
        (OK + OK, False),
        (OK[:-1], False),
    ],
)
def test_htt_31_reuse_is_decided_by_both_sides_and_by_framing(data, reusable):
    assert exchange(data).reusable is reusable


def test_close_delimited_or_ended_connections_are_not_reused():
    assert not exchange(b"HTTP/1.1 200 OK\r\n\r\nall", eof=True).reusable
    assert not exchange(OK, eof=True).reusable
    assert not exchange(OK, headers=Headers({"Host": "a", "Connection": "close"})).reusable


def test_two_requests_one_after_the_other():
    connection = exchange(OK)
    assert connection.send_request("HEAD", "/x", HOST) == b"HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n"
    with pytest.raises(LocalProtocolError):
        connection.send_request("GET", "/", HOST)
    connection.receive(OK[:-2])
    assert connection.received == len(OK) - 2
    assert connection.next_event().status == 200
    assert isinstance(connection.next_event(), EndOfMessage)
    assert connection.reusable


def test_broken_response_is_an_error_and_ends_reuse():
    connection = ClientConnection()
    connection.send_request("GET", "/", HOST)
    connection.receive(b"\x00")
    with pytest.raises(MessageError):
        connection.next_event()
    assert not connection.reusable


def test_htt_30_refused_request_changes_nothing():
    connection = ClientConnection()
    for arguments in (("G\r\nT", "/", HOST), ("GET", "/\r\nX: y", HOST), ("CONNECT", "a:1", HOST)):
        with pytest.raises(LocalProtocolError):
            connection.send_request(*arguments)
    assert connection.reusable
