from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.app.http.headers import Headers
from netstack.app.http.reader import RequestReader, ResponseReader
from netstack.app.http.writer import (
    LAST_CHUNK,
    build_chunk,
    build_fields,
    build_request,
    build_response,
)
from netstack.core.errors import LocalProtocolError

BAD = ["a\rb", "a\nb", "a\r\nX: y", "a\x00b", "\u010d\u010a", "\u2028", "a\x7f", "a\x1b"]


def test_messages_are_built_as_they_are_read():
    reader = RequestReader()
    reader.receive(build_request("GET", "/x", [("Host", "a"), ("X", "\xe9")]))
    request = reader.next_event()
    assert (request.method, request.target) == ("GET", "/x")
    assert request.headers == Headers([("Host", "a"), ("X", "\xe9")])
    assert build_response(200, "OK", [("A", "b")]) == b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n"
    assert build_fields([]) == b"\r\n"


def test_chunks_read_back():
    reader = ResponseReader()
    reader.expect("GET")
    reader.receive(build_response(200, "", [("Transfer-Encoding", "chunked")]))
    reader.receive(build_chunk(b"x" * 20) + build_chunk(b"") + LAST_CHUNK)
    events = [reader.next_event() for _ in range(3)]
    assert events[1].data == b"x" * 20


@pytest.mark.parametrize("bad", BAD)
def test_htt_30_line_ends_raise_before_anything_is_written(bad):
    for build in (
        lambda: build_request(bad, "/", []),
        lambda: build_request("GET", bad, []),
        lambda: build_request("GET", "/", [(bad, "v")]),
        lambda: build_request("GET", "/", [("n", bad)]),
        lambda: build_response(200, bad, []),
        lambda: build_response(200, "OK", [("Location", bad)]),
        lambda: build_response(200, "OK", [("Set-Cookie", bad)]),
    ):
        with pytest.raises(LocalProtocolError):
            build()


@pytest.mark.parametrize(
    ("method", "target"), [("", "/"), ("G T", "/"), ("GET", ""), ("GET", "/ /"), ("GET", "/\xe9")]
)
def test_request_lines_keep_their_three_parts(method, target):
    with pytest.raises(LocalProtocolError):
        build_request(method, target, [])


@pytest.mark.parametrize("status", [0, 99, 1000, -1])
def test_status_has_three_digits(status):
    with pytest.raises(LocalProtocolError):
        build_response(status, "X", [])


@given(st.text(max_size=8), st.text(max_size=8), st.text(max_size=8), st.text(max_size=8))
def test_htt_30_whatever_is_built_is_one_request(method, target, name, value):
    try:
        data = build_request(method, target, [(name, value)])
    except LocalProtocolError:
        return
    assert data.count(b"\r") == data.count(b"\n") == 3
    assert data.endswith(b"\r\n\r\n")
