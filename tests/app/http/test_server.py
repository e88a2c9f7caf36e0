"""The server's connection: order, limits, deadlines, and the attack rows about them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.app.http.answer import Answer, BytesBody, text_answer
from netstack.app.http.recent import Recent
from netstack.app.http.server import HttpSession, Remembered, SessionLimits
from netstack.app.http.site import Pages

PAGES = Pages({"/": b"home", "/big": bytes(1_000_000), "/a b": b"spaced", "/d/index.html": b"<p>"})
GET = b"GET / HTTP/1.1\r\nHost: a\r\n"


@pytest.fixture
def server():
    """What the sessions of one server remember; of few requests and heads."""
    made = Remembered()
    made.requests, made.heads = Recent(4), Recent(4)
    return made


@pytest.fixture
def serve(talk, step, server):
    def make(handler=PAGES, **kwargs):
        kwargs["remembered"] = server
        return talk(HttpSession(handler, 0.0, **kwargs), step)

    return make


def statuses(conversation):
    return [head.status for head, _ in conversation.responses()]


def test_get_and_keep_alive(serve):
    conversation = serve(epoch=784_111_777.0).send(GET + b"\r\n")
    head, body = conversation.response()
    assert (head.status, head.reason, body) == (200, "OK", b"home")
    assert head.headers["Date"] == "Sun, 06 Nov 1994 08:49:37 GMT"
    assert head.headers["Content-Length"] == "4"
    assert head.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "Connection" not in head.headers
    assert conversation.closed is None
    conversation.send(GET + b"\r\n")
    assert statuses(conversation) == [200, 200]


def test_a_server_without_a_clock_sends_no_date(serve):
    assert "Date" not in serve().send(GET + b"\r\n").response()[0].headers


def test_head_has_the_fields_of_get_and_no_content(serve):
    conversation = serve().send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    head, body = conversation.response("HEAD")
    assert (head.status, head.headers["Content-Length"], body) == (200, "4", b"")
    assert conversation.closed is None


def test_pipelined_requests_are_answered_in_order(serve):
    request = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n"
    conversation = serve().send(
        b"".join(request % path for path in (b"/", b"/a%20b", b"/x", b"/d/"))
    )
    assert [body for _, body in conversation.responses()][:2] == [b"home", b"spaced"]
    assert statuses(conversation) == [200, 200, 404, 200]


def test_pipelined_requests_wait_while_the_peer_does_not_read(talk):
    session = HttpSession(PAGES, 0.0)
    request = b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n"
    session.receive(request * 3, 0.0)
    assert len(bytes(session.outgoing(10))) == 10
    assert not session.paused
    session.receive(request * 3000, 0.0)
    assert session.paused
    session.receive(request * 3000, 0.0)
    session.receive(request, 0.0)
    assert session.abort
    assert not session.outgoing(10)


@pytest.mark.parametrize(
    ("request_", "closes"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close, keep-alive\r\n\r\n", True),
        (b"GET / HTTP/1.0\r\n\r\n", True),
        (b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Host, Content-Length, x\r\n\r\n", False),
    ],
)
def test_htt_22_connection_options_decide_only_about_the_connection(serve, request_, closes):
    conversation = serve().send(request_)
    head, body = conversation.response()
    assert (head.status, body) == (200, b"home")
    assert (conversation.closed == "close") is closes
    if closes:
        assert head.headers["Connection"] == "close"
    elif b"1.0" in request_:
        assert head.headers["Connection"] == "keep-alive"


def test_requests_on_one_connection_are_limited(serve):
    conversation = serve(limits=SessionLimits(max_requests=2)).send((GET + b"\r\n") * 5)
    assert statuses(conversation) == [200, 200]
    assert conversation.closed == "close"


@pytest.mark.parametrize(
    ("method", "status"),
    [
        ("POST", 405),
        ("DELETE", 405),
        ("OPTIONS", 405),
        ("TRACE", 405),
        ("get", 501),
        ("BREW", 501),
    ],
)
def test_methods_not_served(serve, method, status):
    conversation = serve().send(f"{method} / HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    head, body = conversation.response()
    assert head.status == status
    assert body.startswith(str(status).encode())
    assert status != 405 or head.headers["Allow"] == "GET, HEAD"


def test_connect_and_options_of_the_server_are_not_served(serve):
    assert statuses(serve().send(b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n")) == [405]
    assert statuses(serve().send(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")) == [405]
    assert statuses(serve().send(b"GET * HTTP/1.1\r\nHost: a\r\n\r\n")) == [400]


def test_absolute_form_is_understood(serve):
    assert statuses(serve().send(b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n")) == [200]
    assert statuses(serve().send(b"GET http://a HTTP/1.1\r\nHost: a\r\n\r\n")) == [200]
    assert statuses(serve().send(b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n")) == [400]


@pytest.mark.parametrize(
    "fields",
    [
        b"",
        b"Host: a\r\nHost: a\r\n",
        b"Host:\r\n",
        b"Host: u@a\r\n",
        b"Host: a/b\r\n",
        b"Host: a, b\r\n",
        b"Host: a b\r\n",
        b"Host: a:99999\r\n",
        b"Host: http://a\r\n",
        b"Host: [::1\r\n",
    ],
)
def test_htt_21_malformed_hosts_are_refused(serve, fields):
    conversation = serve().send(b"GET / HTTP/1.1\r\n" + fields + b"\r\n")
    assert statuses(conversation) == [400]
    assert conversation.response()[0].headers["Connection"] == "close"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01", 400),  # HTT-25
        (b"SSH-2.0-x\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),  # HTT-24
        (b"GET /" + b"a" * 100_000, 414),  # HTT-18
        (GET + b"A: " + b"a" * 100_000, 431),
        (GET + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400),  # HTT-01
        (GET + b"Transfer-Encoding: gzip\r\n\r\n", 501),
        (GET + b"Expect: 200-maybe\r\n\r\n", 417),
        (GET + b"Content-Length: 99999999\r\n\r\n", 413),
        (b"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ],
)
def test_what_cannot_be_understood_is_explained_and_closed(serve, data, status):
    conversation = serve().send(data)
    head, body = conversation.response()
    assert head.status == status
    assert head.headers["Connection"] == "close"
    assert body.endswith(b"\n")
    assert len(body) < 500
    assert conversation.closed is None  # what is still coming is thrown away for a moment
    assert conversation.wait(3).closed == "close"


def test_htt_24_upgrades_are_ignored(serve):
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c, websocket\r\n\r\n"
    assert statuses(serve().send(GET + upgrade)) == [200]


def test_after_an_error_input_is_thrown_away_and_bounded(serve):
    conversation = serve(limits=SessionLimits(linger_octets=1000)).send(b"\x00")
    conversation.send(GET * 10)
    assert conversation.closed is None
    conversation.send(bytes(1000))
    assert conversation.closed == "close"
    assert statuses(conversation) == [400]
    assert serve().send(b"\x00").eof().closed == "close"


def test_htt_28_content_of_a_get_never_becomes_a_request(serve):
    smuggled = b"GET /evil HTTP/1.1\r\nHost: a\r\n\r\n"
    length = b"Content-Length: %d\r\n\r\n" % len(smuggled)
    conversation = serve().send(GET + length + smuggled + GET + b"\r\n")
    assert statuses(conversation) == [200, 200]
    chunked = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (
        len(smuggled),
        smuggled,
    )
    assert statuses(serve().send(GET + chunked + GET + b"\r\n")) == [200, 200]


def test_endless_chunked_content_is_refused(serve):
    limits = SessionLimits(max_content=10_000)
    chunk = b"3e8\r\n" + bytes(1000) + b"\r\n"
    conversation = serve(limits=limits).send(
        GET + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 12
    )
    assert statuses(conversation) == [413]


def test_expectation_is_answered_with_the_final_word(serve):
    conversation = serve().send(
        b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    )
    assert statuses(conversation) == [405]
    assert conversation.send(b"hello").wait(3).closed == "close"
    assert statuses(serve().send(GET + b"Expect: 100-continue\r\n\r\n")) == [200]


def test_half_closed_peer_still_gets_its_answers(talk):
    conversation = talk(HttpSession(PAGES, 0.0))
    conversation.session.receive((GET + b"\r\n") * 2 + b"GET /", 0.0)
    conversation.session.receive(b"", 0.0)
    conversation.pump()
    assert statuses(conversation)[:2] == [200, 200]
    assert conversation.wait(3).closed == "close"


def test_end_between_requests_closes(serve):
    assert serve().eof().closed == "close"
    assert serve().send(b"GET").eof().closed == "close"


# -- deadlines (HTT-27) --------------------------------------------------------------------------


def test_idle_connection_is_closed_without_a_word(serve):
    conversation = serve().wait(59)
    assert conversation.closed is None
    assert conversation.wait(2).closed == "close"
    assert not conversation.received


def test_htt_27_head_in_drops_times_out(talk):
    conversation = talk(HttpSession(PAGES, 0.0))
    for octet in GET:
        conversation.send(bytes((octet,))).wait(10)
    assert conversation.closed == "close"
    assert statuses(conversation) == [408]
    assert conversation.now >= 20


def test_htt_27_content_in_drops_times_out(talk):
    conversation = talk(HttpSession(PAGES, 0.0)).send(GET + b"Content-Length: 1000\r\n\r\n")
    for _ in range(10):
        conversation.send(b"x").wait(10)
    assert statuses(conversation) == [408]


def test_htt_27_slow_reader_is_reset(talk):
    session = HttpSession(PAGES, 0.0)
    session.receive(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n", 0.0)
    conversation = talk(session)
    for _ in range(10):
        if not session.abort:
            assert session.outgoing(100)
        session.handle_timers(conversation.now)
        conversation.now += 10.0
    assert session.abort
    assert session.next_deadline() is None


def test_steady_reader_is_served_to_the_end(talk):
    session = HttpSession(PAGES, 0.0)
    session.receive(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n", 0.0)
    now, total = 0.0, 0
    while data := session.outgoing(5000):
        total += len(data)
        now += 20.0
        if session.next_deadline() <= now:
            session.handle_timers(now)
    assert total > 1_000_000
    assert not session.abort
    # The next request has its full time although the answer took long.
    assert session.next_deadline() <= now + 60
    session.handle_timers(session.next_deadline())
    assert not session.finished


def test_handle_timers_before_the_deadline_does_nothing(serve):
    conversation = serve()
    conversation.session.handle_timers(1.0)
    assert not conversation.session.finished


def test_htt_27_many_slow_clients_hold_little(talk):
    slow = [HttpSession(PAGES, 0.0) for _ in range(200)]
    for session in slow:
        session.receive(b"GET / HTTP/1.1\r\nA: b", 0.0)
    fast = talk(HttpSession(PAGES, 0.0)).send(GET + b"\r\n")
    assert statuses(fast) == [200]
    for session in slow:
        session.handle_timers(session.next_deadline())
        while session.outgoing(10_000):
            pass
        assert session.finished


# -- handlers ------------------------------------------------------------------------------------


def test_htt_30_a_handler_cannot_split_a_response(serve):
    evil = ("Location", "http://x/\r\nSet-Cookie: a=b")
    conversation = serve(lambda request: text_answer(302, "go", evil)).send(GET + b"\r\n")
    assert statuses(conversation) == [500]
    assert b"Set-Cookie" not in conversation.received


class Shrinking(BytesBody):
    @property
    def length(self):
        return super().length + 1


def test_htt_40_lost_content_aborts_instead_of_padding(serve):
    handler = lambda request: Answer(200, (), Shrinking(b"abc"))  # noqa: E731
    conversation = serve(handler).send(GET + b"\r\n")
    assert conversation.closed == "abort"
    assert conversation.received.endswith(b"\r\n\r\nabc")
    assert not conversation.session.finished


def test_closing_releases_the_body():
    closed = []

    class Held(BytesBody):
        def close(self):
            closed.append(True)

    session = HttpSession(lambda request: Answer(200, (), Held(b"x" * 100)), 0.0)
    session.receive(GET + b"\r\n", 0.0)
    session.outgoing(10)
    session.close()
    assert closed == [True]


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=30),
            st.sampled_from(
                [GET, b"\r\n", b"GET / HTTP/1.1\r\n", b"Content-Length: 3\r\n", b"abc"]
            ),
            st.floats(0, 50),
            st.none(),
        ),
        max_size=10,
    )
)
def test_session_never_raises(actions):
    session = HttpSession(PAGES, 0.0)
    now = 0.0
    for action in actions:
        if isinstance(action, float):
            now += action
            session.handle_timers(now)
        elif action is None or action:
            session.receive(action or b"", now)
        while session.outgoing(100):
            pass
    deadline = session.next_deadline()
    assert deadline is None or deadline >= 0


# -- requests that were met before ---------------------------------------------------------------


@pytest.fixture
def known(server):
    return server.requests


def test_answers_to_requests_that_came_together_go_together(known):
    session = HttpSession(PAGES, 0.0)
    session.receive(GET + b"\r\n", 0.0)
    one = session.outgoing(10_000)
    session.receive((GET + b"\r\n") * 5, 0.0)
    assert session.outgoing(100_000) == one * 5
    assert not session.outgoing(100_000)
    session.receive((GET + b"\r\n") * 5, 0.0)
    pieces = list(iter(lambda: session.outgoing(len(one) * 2 - 1), b""))
    assert b"".join(pieces) == one * 5
    assert max(map(len, pieces)) < len(one) * 2


def test_answers_gathered_keep_their_order_and_the_connection_its_rules(known, serve):
    request = b"%b %b HTTP/1.1\r\nHost: a\r\n%b\r\n"
    requests = [
        request % (method, path, b"")
        for method in (b"GET", b"HEAD", b"POST")
        for path in (b"/", b"/a%20b", b"/x", b"/big")
    ] + [request % (b"GET", b"/", b"Connection: close\r\n")]
    known._entries = 100
    first, second = (serve().send(b"".join(requests)) for _ in range(2))
    assert len(known) == len(requests)
    assert first.received == second.received
    assert first.closed == second.closed == "close"


def test_an_answer_read_in_drops_is_whole_before_the_next(known, serve):
    class Drops(BytesBody):
        def read(self, limit):
            return super().read(min(limit, 3))

    handler = lambda request: Answer(200, (), Drops(b"0123456789"))  # noqa: E731
    for _ in range(2):
        conversation = serve(handler).send((GET + b"\r\n") * 3)
        assert [body for _, body in conversation.responses()] == [b"0123456789"] * 3


def test_a_target_that_is_refused_is_refused_again(known, serve):
    data = GET + b"\r\n" + b"GET /.. HTTP/1.1\r\nHost: a\r\n\r\n" + GET + b"\r\n"
    for _ in range(3):
        conversation = serve().send(data)
        assert statuses(conversation) == [200, 404]
        assert conversation.wait(3).closed == "close"


def test_requests_on_one_connection_are_limited_when_gathered(known, serve):
    for _ in range(2):
        conversation = serve(limits=SessionLimits(max_requests=3)).send((GET + b"\r\n") * 5)
        assert statuses(conversation) == [200, 200, 200]
        assert conversation.closed == "close"


def test_htt_27_who_does_not_take_gathered_answers_is_reset(known):
    session = HttpSession(PAGES, 0.0)
    session.receive((GET + b"\r\n") * 4, 0.0)
    session.outgoing(100_000)
    session.receive((GET + b"\r\n") * 4, 0.0)
    assert session.outgoing(100_000)
    # Handed out, but not taken: nobody asks for more.
    while not session.abort:
        assert session.next_deadline() <= 100
        session.handle_timers(session.next_deadline())


@pytest.mark.parametrize("name", ["Cookie", "authorization", "Proxy-Authorization"])
def test_heads_with_credentials_are_not_kept(known, serve, name):
    serve().send(GET + f"{name}: a=b\r\n\r\n".encode())
    assert not known
    serve().send(GET + b"\r\n")
    assert list(known) == [GET + b"\r\n"]


@pytest.mark.parametrize(
    "head",
    [
        GET + b"Host: b\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        GET + b"Expect: 100-continue\r\n\r\n",
        GET + b"Content-Length: 3\r\n\r\n",
        GET + b"Transfer-Encoding: chunked\r\n\r\n",
        GET + b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_only_sound_requests_without_content_are_known(known, serve, head):
    serve().send(head)
    assert not known


def test_the_date_goes_on_and_the_answer_is_the_handlers(serve):
    texts = iter("abcdef")
    conversation = serve(lambda request: text_answer(200, next(texts)), epoch=784_111_777.0)
    for _ in range(3):
        conversation.send(GET + b"\r\n").wait(0.6)
    answers = conversation.responses()
    assert [body for _, body in answers] == [b"a", b"b", b"c"]
    assert [head.headers["Date"][-6:] for head, _ in answers] == ["37 GMT", "37 GMT", "38 GMT"]


def test_heads_of_answers_are_kept_in_bounds(server, serve):
    heads = server.heads
    sizes = iter(range(0, 2000, 50))
    handler = lambda request: text_answer(200, "", ("X", "x" * next(sizes)))  # noqa: E731
    conversation = serve(handler)
    for _ in range(40):
        conversation.send(GET + b"\r\n")
        assert len(heads) <= 4
    assert max(map(len, heads.values())) <= 1024
    found = [len(head.headers["X"]) for head, _ in conversation.responses()]
    assert found == list(range(0, 2000, 50))


_PIECES = st.sampled_from(
    [
        GET + b"\r\n",
        b"GET /a%20b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /.. HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 39\r\n\r\n",
        GET + b"Transfer-Encoding: chunked\r\n\r\n",
        b"1b\r\n" + GET + b"\r\n" + b"\r\n",
        b"0\r\n\r\n",
        GET,
        b"\r\n",
        b"\n",
        b"\x00",
        b"",
    ]
)


@given(st.lists(_PIECES, max_size=12), st.lists(st.integers(1, 60), max_size=20))
def test_what_is_known_changes_no_answer(pieces, cuts):
    server = Remembered()

    def outcome():
        session = HttpSession(PAGES, 0.0, remembered=server)
        sent, received = b"".join(pieces), bytearray()
        for size in [*cuts, len(sent)]:
            data, sent = sent[:size], sent[size:]
            if data:
                session.receive(data, 0.0)
            while piece := session.outgoing(70_000):
                received += piece
        return bytes(received), session.finished, session.abort, session.next_deadline()

    assert outcome() == outcome()
