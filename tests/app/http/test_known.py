"""Requests whose heads were met before are known by their octets, and by nothing less."""

from __future__ import annotations

import pytest

from netstack.app.http.headers import Headers
from netstack.app.http.messages import Data, EndOfMessage, Limits, MessageError, Request
from netstack.app.http.reader import RequestReader
from netstack.app.http.recent import Recent

HEAD = b"GET /known HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def known():
    return Recent(4)


def remembered(known, data=HEAD, limits=None):
    """Return the request that ``data`` is, after it was remembered."""
    reader = RequestReader(limits, known)
    reader.receive(data)
    request = reader.next_event()
    assert isinstance(request, Request)
    reader.remember(request)
    return request


def test_nothing_is_known_before_it_is_remembered(known):
    reader = RequestReader(known=known)
    for _ in range(2):
        reader.receive(HEAD)
        assert reader.take_known() is None
        assert isinstance(reader.next_event(), Request)
        assert isinstance(reader.next_event(), EndOfMessage)


def test_a_known_head_is_taken_and_what_follows_stays(known):
    request = remembered(known)
    reader = RequestReader(known=known)
    reader.receive(HEAD + HEAD + b"POST")
    assert reader.take_known() is request
    assert reader.take_known() is request
    assert reader.take_known() is None
    assert reader.unread == 4
    reader.receive(b" / HTTP/1.0\r\n\r\n")
    assert reader.next_event() == Request("POST", "/", "HTTP/1.0", Headers())


@pytest.mark.parametrize(
    "data",
    [
        HEAD[:-1],
        HEAD[:-2],
        HEAD[:3],
        b"",
        HEAD.replace(b"Host", b"host"),
        HEAD.replace(b"GET", b"GEt"),
        HEAD.replace(b": a", b":  a"),
        HEAD.replace(b"\r\n", b"\n"),
        HEAD[:-2] + b"Content-Length: 3\r\n\r\nabc",
        b"\r\n" + HEAD,
    ],
)
def test_no_other_octets_are_taken_for_a_known_head(known, data):
    remembered(known)
    reader = RequestReader(known=known)
    reader.receive(data)
    assert reader.take_known() is None
    assert reader.unread == len(data)


def test_a_head_that_was_begun_is_read_to_its_end(known):
    request = remembered(known)
    reader = RequestReader(known=known)
    reader.receive(HEAD[:30])
    assert reader.take_known() is None
    assert reader.next_event() is None
    reader.receive(HEAD[30:])
    assert reader.take_known() is None
    assert reader.next_event() == request


def test_content_is_not_taken_for_a_known_head(known):
    remembered(known)
    reader = RequestReader(known=known)
    reader.receive(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 999\r\n\r\n" + HEAD)
    assert isinstance(reader.next_event(), Request)
    assert reader.take_known() is None
    assert reader.next_event() == Data(HEAD)


def test_an_error_is_final_for_known_heads_too(known):
    remembered(known)
    reader = RequestReader(known=known)
    reader.receive(b"\x00\r\n\r\n")
    with pytest.raises(MessageError):
        reader.next_event()
    reader.receive(HEAD)
    assert reader.take_known() is None


def test_own_limits_know_no_heads(known):
    limits = Limits(start_line=1000)
    remembered(known, limits=limits)
    assert not known
    remembered(known)
    reader = RequestReader(limits, known)
    reader.receive(HEAD)
    assert reader.take_known() is None


def test_what_is_known_is_bounded_in_number_and_octets(known):
    long = b"GET / HTTP/1.1\r\nHost: a\r\nX: %b\r\n\r\n"
    remembered(known, long % (b"x" * 2000))
    remembered(known, b"GET / HTTP/1.1\r\n" + b"A:\r\n" * 255 + b"\r\n")
    assert not known
    most = 1024 - len(long % b"")
    remembered(known, long % (b"x" * (most + 1)))
    assert not known
    remembered(known, long % (b"x" * most))
    assert known
    for number in range(100):
        remembered(known, long % b"%d" % number)
        assert len(known) <= 4
    assert all(len(head) <= 1024 for head in known)
    empty = RequestReader(known=known)
    empty.receive(b"\r\n\r\n" + HEAD)
    empty.remember(empty.next_event())
    assert HEAD in known  # without the empty lines before it
