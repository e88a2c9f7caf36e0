from __future__ import annotations

import gzip

import pytest

from netstack._version import __version__
from netstack.app.http.client import Exchange, Redirects, request_headers
from netstack.app.http.connection import ClientConnection
from netstack.app.http.headers import Headers
from netstack.app.http.url import parse_url
from netstack.core.errors import (
    BodyTooLarge,
    LocalProtocolError,
    RemoteProtocolError,
    TooManyRedirects,
)

URL = "http://a/x"


def run(response, *, method="GET", headers=None, body=None, max_size=None, eof=True):
    connection = ClientConnection()
    redirects = Redirects(URL, method, headers, body)
    exchange = Exchange(connection, redirects, max_size=max_size)
    connection.receive(response)
    if eof:
        connection.receive_eof()
    return exchange, b"".join(exchange.content())


def moved(location, status=302):
    return status, Headers({"Location": location})


# -- requests ------------------------------------------------------------------------------------


def test_request_carries_what_every_request_needs():
    exchange, _ = run(b"", eof=False)
    assert exchange.outgoing == (
        b"GET /x HTTP/1.1\r\nHost: a\r\nUser-Agent: netstack/%b\r\nAccept: */*\r\n"
        b"Accept-Encoding: gzip, deflate\r\n\r\n" % __version__.encode()
    )


def test_caller_fields_replace_defaults():
    exchange, _ = run(b"", eof=False, headers={"host": "b", "ACCEPT": "text/html", "X": "1"})
    head = exchange.outgoing.decode().split("\r\n")
    assert "host: b" in head
    assert "Host: a" not in head
    assert "ACCEPT: text/html" in head
    assert "Accept: */*" not in head


@pytest.mark.parametrize(
    ("method", "body", "length"),
    [
        ("POST", b"abc", "3"),
        ("POST", None, "0"),
        ("PUT", None, "0"),
        ("GET", None, None),
        ("DELETE", b"", "0"),
    ],
)
def test_content_length_of_requests(method, body, length):
    headers = request_headers(parse_url(URL), method, Headers(), body)
    assert headers.get("content-length") == length


@pytest.mark.parametrize(
    "fields",
    [
        {"Content-Length": "4"},
        {"Transfer-Encoding": "chunked"},
        {"X": "a\r\nY: b"},
        {"X\r\nY": "b"},
        {"Cookie": "a\x00"},
        {"X": "\u010d\u010a"},
    ],
)
def test_htt_30_fields_that_break_the_framing_raise(fields):
    with pytest.raises(LocalProtocolError):
        run(b"", headers=fields, body=b"abc", method="POST", eof=False)


# -- responses -----------------------------------------------------------------------------------


def test_content_is_decoded():
    data = gzip.compress(b"hello")
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(data)
    exchange, content = run(head + data)
    assert content == b"hello"
    assert exchange.done


def test_cut_compressed_content_is_incomplete():
    data = gzip.compress(b"hello")[:-3]
    with pytest.raises(RemoteProtocolError):
        run(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + data)


def test_coding_that_only_the_caller_knows_is_left_to_him():
    response = b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\n\r\nxyz"
    assert run(response, headers={"Accept-Encoding": "br"})[1] == b"xyz"
    with pytest.raises(RemoteProtocolError, match="br"):
        run(response)


def test_max_size_is_checked_before_and_while_content_arrives():
    fixed = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    assert run(fixed + b"hello", max_size=5)[1] == b"hello"
    with pytest.raises(BodyTooLarge):
        run(fixed, max_size=4, eof=False)
    with pytest.raises(BodyTooLarge):
        run(b"HTTP/1.1 200 OK\r\n\r\nhello", max_size=4)
    assert run(fixed, max_size=4, method="HEAD")[0].done


def test_head_with_content_encoding_has_no_content():
    response = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 50\r\n\r\n"
    exchange, content = run(response, method="HEAD")
    assert exchange.done
    assert content == b""


def test_interim_responses_are_passed_over():
    exchange, content = run(b"HTTP/1.1 103 Hints\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\n\r\nx")
    assert exchange.head.status == 200
    assert content == b"x"


# -- redirects -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "status", "expected", "body"),
    [
        ("GET", 301, "GET", None),
        ("HEAD", 302, "HEAD", None),
        ("HEAD", 303, "HEAD", None),
        ("POST", 301, "GET", None),
        ("POST", 302, "GET", None),
        ("POST", 303, "GET", None),
        ("PUT", 303, "GET", None),
        ("PUT", 301, "PUT", b"x"),
        ("POST", 307, "POST", b"x"),
        ("POST", 308, "POST", b"x"),
    ],
)
def test_method_and_body_after_a_redirect(method, status, expected, body):
    headers = {"Content-Type": "text/plain", "X": "y", "Content-Length": "1"}
    redirects = Redirects(URL, method, headers, b"x" if method in ("POST", "PUT") else None)
    assert redirects.follow(*moved("/y", status))
    assert (redirects.method, redirects.body) == (expected, body)
    assert str(redirects.url) == "http://a/y"
    assert ("content-type" in redirects.headers) is (method == expected)
    assert redirects.headers["X"] == "y"


def test_credentials_stay_with_their_origin():
    secret = {"Authorization": "Basic x", "Cookie": "a=b", "Host": "alias", "X": "y"}
    redirects = Redirects(URL, headers=secret)
    redirects.follow(*moved("/y"))
    assert redirects.headers["authorization"] == "Basic x"
    assert "host" not in redirects.headers
    for elsewhere in ("http://b/", "http://a:8080/", "https://a/"):
        redirects = Redirects(URL, headers=secret)
        redirects.follow(*moved(elsewhere))
        assert dict(redirects.headers) == {"X": "y"}


def test_loops_and_long_chains_end():
    redirects = Redirects(URL)
    redirects.follow(*moved("/y"))
    with pytest.raises(TooManyRedirects, match="lead back"):
        redirects.follow(*moved("/x"))
    redirects = Redirects(URL, max_redirects=3)
    for number in range(3):
        assert redirects.follow(*moved(f"/{number}"))
    with pytest.raises(TooManyRedirects, match="more redirects"):
        redirects.follow(*moved("/4"))


def test_post_may_be_sent_back_to_its_own_url_as_get():
    redirects = Redirects(URL, "POST", body=b"x")
    assert redirects.follow(*moved("/x", 303))
    assert redirects.method == "GET"


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (200, {"Location": "/y"}),
        (302, {}),
        (304, {"Location": "/y"}),
        (300, {"Location": "/y"}),
        (201, {"Location": "/y"}),
    ],
)
def test_what_is_no_redirect_is_final(status, headers):
    assert not Redirects(URL).follow(status, Headers(headers))


def test_without_redirects_every_response_is_final():
    assert not Redirects(URL, max_redirects=0).follow(*moved("/y"))


@pytest.mark.parametrize(
    "location",
    ["ftp://a/", "javascript:x", "http://", "http://u:p@b/", "http://0177.0.0.1/", "/\x01", ""],
)
def test_htt_36_redirects_to_nowhere_are_refused(location):
    redirects = Redirects(URL)
    with pytest.raises((RemoteProtocolError, TooManyRedirects)):
        redirects.follow(*moved(location))


def test_redirect_from_https_to_http_is_refused():
    redirects = Redirects("https://a/")
    with pytest.raises(RemoteProtocolError, match="not secure"):
        redirects.follow(*moved("http://a/"))


def test_contradicting_locations_are_refused_and_utf8_is_read():
    redirects = Redirects(URL)
    with pytest.raises(RemoteProtocolError, match="several"):
        redirects.follow(302, Headers([("Location", "/a"), ("Location", "/b")]))
    redirects.follow(*moved("/\xe9".encode().decode("latin-1")))
    assert redirects.url.path == "/%C3%A9"
