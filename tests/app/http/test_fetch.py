"""``fetch`` over a host without a network, in virtual time."""

from __future__ import annotations

import gzip

import pytest

from netstack.app.http.answer import redirect_answer
from netstack.app.http.fetch import fetch
from netstack.app.http.server import HttpSession
from netstack.app.http.site import Pages
from netstack.core.errors import (
    BodyTooLarge,
    LocalProtocolError,
    NameNotFound,
    Refused,
    RemoteProtocolError,
    Reset,
    TimedOut,
    TooManyRedirects,
)

URL = "http://www.example.test/"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


def site(request):
    if request.target == "/moved":
        return redirect_answer(301, "/new?x")
    if request.target == "/away":
        return redirect_answer(302, "http://other.example.test/")
    if request.target == "/loop":
        return redirect_answer(302, "/loop")
    return Pages({"/": b"home", "/new": b"new", "/big": bytes(1_000_000)})(request)


@pytest.fixture(params=["whole", "octets"])
def host(request, fake_host):
    made = fake_host({"other.example.test": ["192.0.2.81"]})
    made.segment = 1 if request.param == "octets" else 1 << 30
    made.serve(lambda host: HttpSession(site, host.now))
    made.serve(lambda host: HttpSession(Pages({"/": b"other"}), host.now), address="192.0.2.81")
    return made


def scripted(fake_host, script, *replies, port=80):
    host = fake_host()
    server = script(*replies)
    host.serve(lambda host: server, port)
    return host, server


def test_page_with_its_timings(host):
    response = fetch(URL, host=host)
    assert (response.status, response.reason, response.version) == (200, "OK", "HTTP/1.1")
    assert response.body == b"home"
    assert response.text == "home"
    assert response.url == URL
    assert response.history == ()
    timings = response.timings
    assert (timings.resolved, timings.connected, timings.secured) == (0.25, 0.75, 0.75)
    assert timings.sent <= timings.first_octet <= timings.done
    assert all(sock.closed for sock in host.sockets)


def test_redirect_to_the_same_origin_keeps_the_connection(host):
    response = fetch("http://www.example.test/moved", host=host)
    assert response.body == b"new"
    assert response.url == "http://www.example.test/new?x"
    assert [past.status for past in response.history] == [301]
    assert len(host.sockets) == 1


def test_redirect_elsewhere_opens_a_connection_there(host):
    response = fetch("http://www.example.test/away", host=host)
    assert response.body == b"other"
    assert host.connected == [("192.0.2.80", 80), ("192.0.2.81", 80)]
    assert response.history[0].headers["location"] == "http://other.example.test/"
    assert all(sock.closed for sock in host.sockets)


def test_redirects_end(host):
    with pytest.raises(TooManyRedirects):
        fetch("http://www.example.test/loop", host=host)
    assert fetch("http://www.example.test/moved", host=host, max_redirects=0).status == 301
    assert all(sock.closed for sock in host.sockets)


def test_body_larger_than_allowed(host):
    host.segment = 1 << 30
    with pytest.raises(BodyTooLarge):
        fetch("http://www.example.test/big", host=host, max_size=999_999)
    assert (
        len(fetch("http://www.example.test/big", host=host, max_size=1_000_000).body) == 1_000_000
    )


def test_body_goes_to_a_sink_piece_by_piece(host):
    host.segment = 1000
    pieces = []
    response = fetch("http://www.example.test/big", host=host, on_body=pieces.append)
    assert response.body == b""
    assert sum(map(len, pieces)) == 1_000_000
    assert max(map(len, pieces)) <= 1000


def test_redirect_bodies_do_not_reach_the_sink(host):
    pieces = []
    response = fetch("http://www.example.test/moved", host=host, on_body=pieces.append)
    assert b"".join(pieces) == b"new"
    assert response.history[0].body.startswith(b"See ")


def test_head_and_methods(host):
    response = fetch(URL, host=host, method="HEAD")
    assert (response.status, response.headers["content-length"], response.body) == (200, "4", b"")
    assert fetch(URL, host=host, method="POST", body=b"x").status == 405


def test_post_sends_its_body(fake_host, script):
    host, server = scripted(fake_host, script, OK)
    response = fetch(URL, host=host, method="POST", body=b"a=b", headers={"X": "1"})
    assert response.body == b"hi"
    assert server.requests[0].endswith(b"Content-Length: 3\r\nX: 1\r\n\r\na=b")


def test_addresses_need_no_resolution_and_overrides_come_first(host):
    assert fetch("http://192.0.2.80/", host=host).status == 200
    assert fetch("http://Unknown.test/", host=host, resolve={"unknown.TEST": "192.0.2.80"}).body
    assert host.resolved == []
    with pytest.raises(NameNotFound):
        fetch("http://unknown.test/", host=host)


def test_next_address_is_tried(fake_host, script):
    host, _ = scripted(fake_host, script, OK)
    host.names["www.example.test"] = ["192.0.2.1", "192.0.2.2", "192.0.2.80"]
    host.listening["192.0.2.2", 80] = "silent"
    response = fetch(URL, host=host, timeout=30)
    assert response.body == b"hi"
    assert 14 < response.timings.connected < 17
    host.names["www.example.test"] = ["192.0.2.1"]
    with pytest.raises(Refused):
        fetch(URL, host=host)
    host.names["www.example.test"] = []
    with pytest.raises(RemoteProtocolError, match="no address"):
        fetch(URL, host=host)


def test_htt_36_policy_is_asked_before_each_connection(host):
    asked = []

    def allow(url, address):
        asked.append((url, address))
        return address != "192.0.2.81"

    with pytest.raises(LocalProtocolError, match=r"192\.0\.2\.81 is not allowed"):
        fetch("http://www.example.test/away", host=host, allow=allow)
    assert [address for _, address in asked] == ["192.0.2.80", "192.0.2.81"]
    assert host.connected == [("192.0.2.80", 80)]


# -- one deadline --------------------------------------------------------------------------------


def times_out(host, phase, **kwargs):
    start = host.now
    with pytest.raises(TimedOut, match=f"timed out after 4 s while {phase}") as caught:
        fetch(kwargs.pop("url", URL), host=host, timeout=4, **kwargs)
    assert host.now - start == pytest.approx(4)
    assert isinstance(caught.value, TimeoutError)
    assert all(sock.closed for sock in host.sockets)


def test_time_out_while_resolving(fake_host):
    times_out(fake_host({"www.example.test": 1e9}), "resolving www")


def test_time_out_while_connecting(fake_host):
    host = fake_host()
    host.serve("silent")
    times_out(host, r"connecting to www\.example\.test \(192\.0\.2\.80\) port 80")


def test_time_out_while_waiting(fake_host, script):
    host, _ = scripted(fake_host, script, [])
    times_out(host, "waiting for http://www")


def test_time_out_while_receiving_drop_by_drop(fake_host, script):
    drops = [(0.5, b"HTTP/1.1 200 OK\r\n\r\n"), *[(1.0, b"x")] * 100]
    host, _ = scripted(fake_host, script, drops)
    times_out(host, "receiving from http://www")


def test_time_out_while_sending(fake_host, script):
    host, server = scripted(fake_host, script)

    def stall(data, now):
        host.now += 3.25
        raise TimeoutError("timed out")

    server.receive = stall
    times_out(host, "sending to http://www")


def test_one_deadline_for_all_redirects(fake_host, script):
    slow = [(1.0, b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: /%d\r\n\r\n")]
    replies = [[(delay, data % n) for delay, data in slow] for n in range(10)]
    host, _ = scripted(fake_host, script, *replies)
    times_out(host, "waiting for http://www.example.test/2")


def test_tcp_giving_up_by_itself_keeps_its_words(fake_host, script):
    host, server = scripted(fake_host, script)

    def stall(data, now):
        raise TimedOut("no acknowledgment for 924 s")

    server.receive = stall
    with pytest.raises(TimedOut, match="no acknowledgment for 924 s while sending"):
        fetch(URL, host=host, timeout=None)


# -- servers that misbehave ----------------------------------------------------------------------


def test_incomplete_bodies_are_errors(fake_host, script):
    for data in (
        OK[:-1],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        b"HTTP/1",
    ):
        host, _ = scripted(fake_host, script, [(0, data), (0.1, "close")])
        with pytest.raises(RemoteProtocolError, match="within a message"):
            fetch(URL, host=host)


def test_close_delimited_body_is_complete_at_the_end(fake_host, script):
    host, _ = scripted(fake_host, script, [(0, b"HTTP/1.0 200 OK\r\n\r\nall"), (0.1, "close")])
    assert fetch(URL, host=host).body == b"all"


def test_no_answer_and_reset(fake_host, script):
    host, _ = scripted(fake_host, script, [(0.1, "close")])
    with pytest.raises(RemoteProtocolError, match="without an answer"):
        fetch(URL, host=host)
    host, _ = scripted(fake_host, script, [(0.1, OK[:-1]), (0.1, "reset")])
    with pytest.raises(Reset):
        fetch(URL, host=host)


def test_early_answer_to_a_body_that_was_not_taken(fake_host, script):
    host, server = scripted(fake_host, script)
    answer = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"

    def refuse(data, now):
        server._out = answer
        raise BrokenPipeError(32, "Broken pipe")

    server.receive = refuse
    assert fetch(URL, host=host, method="POST", body=b"x" * 100).status == 413


def test_kept_connection_that_was_closed_meanwhile_is_replaced_once(fake_host, script):
    moved = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: /2\r\n\r\n"
    for end in ("close", "reset"):
        first, second = script(moved, [(0.0, end)]), script(OK)
        servers = [first, second]
        host = fake_host()
        host.serve(lambda host, servers=servers: servers.pop(0))
        assert fetch(URL, host=host).body == b"hi"
        assert len(first.requests) == 2
        assert len(second.requests) == 1


def test_post_is_never_repeated(fake_host, script):
    moved = b"HTTP/1.1 307 Moved\r\nContent-Length: 0\r\nLocation: /2\r\n\r\n"
    host, server = scripted(fake_host, script, moved, [(0.0, "close")], OK)
    with pytest.raises(RemoteProtocolError, match="without an answer"):
        fetch(URL, host=host, method="POST", body=b"x")
    assert len(server.requests) == 2


def test_connection_the_server_closes_is_not_used_again(fake_host, script):
    moved = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nConnection: close\r\nLocation: /2\r\n\r\n"
    servers = [script(moved), script(OK)]
    host = fake_host()
    host.serve(lambda host: servers.pop(0))
    assert fetch(URL, host=host).body == b"hi"
    assert len(host.sockets) == 2


def test_large_redirect_body_is_not_read_to_the_end(fake_host, script):
    moved = b"HTTP/1.1 302 Found\r\nContent-Length: 9000000\r\nLocation: /2\r\n\r\n" + bytes(
        100_000
    )
    servers = [script(moved), script(OK)]
    host = fake_host()
    host.serve(lambda host: servers.pop(0))
    assert fetch(URL, host=host).body == b"hi"


def test_compressed_body_is_decoded(fake_host, script):
    data = gzip.compress(b"hello")
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(data)
    host, server = scripted(fake_host, script, head + data)
    assert fetch(URL, host=host).body == b"hello"
    assert b"Accept-Encoding: gzip, deflate\r\n" in server.requests[0]


@pytest.mark.parametrize(
    "url", ["", "x", "ftp://a/", "http://a b/", "http://www.example.test/\r\nX: y"]
)
def test_what_is_no_url_raises_value_error(fake_host, url):
    with pytest.raises(ValueError):  # noqa: PT011
        fetch(url, host=fake_host())


def test_htt_30_injected_lines_never_reach_the_wire(fake_host, script):
    host, server = scripted(fake_host, script, OK)
    for kwargs in ({"headers": {"X": "a\r\nEvil: 1"}}, {"method": "GET / HTTP/1.1\r\nX:"}):
        with pytest.raises(LocalProtocolError):
            fetch(URL, host=host, **kwargs)
    assert not server.requests
    assert not server.request
