"""The WSGI server over a socket in memory."""

from __future__ import annotations

import sys
from wsgiref.validate import validator

import pytest

from netstack.app import services
from netstack.app.http.messages import Data, ResponseHead
from netstack.app.http.reader import ResponseReader

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"


class Wire:
    """A connection whose peer has sent ``data`` and nothing more."""

    def __init__(self, data, step=1 << 30, then=b""):
        self._data = data
        self._step = step
        self._then = then
        self.sent = b""
        self.options = []

    def recv(self, limit):
        size = min(limit, self._step)
        piece, self._data = self._data[:size], self._data[size:]
        if not piece and isinstance(self._then, Exception):
            raise self._then
        return piece

    def sendall(self, data):
        self.sent += data

    def settimeout(self, timeout):
        assert timeout > 0

    def setsockopt(self, *option):
        self.options.append(option)

    def getsockname(self):
        return ("192.0.2.2", 80)

    def getpeername(self):
        return ("192.0.2.1", 40_000)


def hello(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


def serve(application, data, methods=("GET",), **kwargs):
    wire = Wire(data, **kwargs)
    services.wsgi(application).handle(wire)
    reader = ResponseReader()
    for method in methods:
        reader.expect(method)
    reader.receive(wire.sent)
    reader.receive_eof()
    found = []
    while (event := reader.next_event()) is not None:
        if isinstance(event, ResponseHead):
            found.append([event, b""])
        elif isinstance(event, Data):
            found[-1][1] += event.data
    return wire, found


def seen(data, **kwargs):
    """Return the environ that an application sees, with what it reads."""
    environs = []

    def application(environ, start_response):
        environs.append(environ)
        environ["body"] = environ["wsgi.input"].read()
        return hello(environ, start_response)

    _, found = serve(application, data, **kwargs)
    return environs[0], found


@pytest.mark.parametrize("step", [1, 1 << 30])
def test_one_piece_has_a_length_and_the_connection_stays(step):
    _, found = serve(hello, GET * 2, ("GET", "GET"), step=step)
    assert [body for _, body in found] == [b"hello", b"hello"]
    assert found[0][0].headers["Content-Length"] == "5"
    assert "Connection" not in found[0][0].headers


def test_several_pieces_are_chunked_or_end_with_the_connection():
    def pieces(environ, start_response):
        write = start_response("200 OK", [])
        write(b"a")
        yield b""
        yield b"b"

    def application(environ, start_response):
        return pieces(environ, start_response)

    wire, found = serve(application, GET)
    assert found[0][1] == b"ab"
    assert found[0][0].headers["Transfer-Encoding"] == "chunked"
    wire, found = serve(application, b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert found[0][1] == b"ab"
    assert found[0][0].headers["Connection"] == "close"
    assert not wire.options


def test_environ():
    environ, _ = seen(
        b"POST http://a/x%20y/%C3%A9?q=%20 HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n"
        b"Content-Type: text/plain\r\nX-A: 1\r\nX-A: 2\r\nX_A: 3\r\nProxy: evil\r\n\r\nhello"
    )
    assert environ["REQUEST_METHOD"] == "POST"
    assert environ["PATH_INFO"] == "/x y/\xc3\xa9"
    assert environ["QUERY_STRING"] == "q=%20"
    assert environ["CONTENT_LENGTH"] == "5"
    assert environ["CONTENT_TYPE"] == "text/plain"
    assert environ["HTTP_X_A"] == "1, 2"
    assert "HTTP_PROXY" not in environ
    assert environ["REMOTE_ADDR"] == "192.0.2.1"
    assert environ["body"] == b"hello"


def test_standard_validator_has_no_complaint():
    def application(environ, start_response):
        environ["wsgi.input"].read(3)
        environ["wsgi.input"].readline()
        return hello(environ, start_response)

    _, found = serve(validator(application), POST + b"\r\nhe\nlo")
    assert found[0][1] == b"hello"


def test_input_reads_lines_and_chunks():
    def application(environ, start_response):
        stream = environ["wsgi.input"]
        parts = [stream.readline(2), stream.readline(), *stream, stream.read(5)]
        start_response("200 OK", [])
        return [b"|".join(parts)]

    chunks = b"4\r\nab\nc\r\n6\r\nd\nefgh\r\n0\r\n\r\n"
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    for step in (1, 1000):
        _, found = serve(application, head + chunks, step=step)
        assert found[0][1] == b"ab|\n|cd\n|efgh|"
    _, found = serve(lambda e, s: (s("200 OK", []), e["wsgi.input"].readlines())[1], head + chunks)
    assert found[0][1] == b"ab\ncd\nefgh"


def test_unread_content_never_becomes_a_request():
    smuggled = b"GET /evil HTTP/1.1\r\nHost: a\r\n\r\n"
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(smuggled)
    _, found = serve(hello, head + smuggled + GET, ("POST", "GET"))
    assert len(found) == 2
    _wire, found = serve(
        hello,
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n" + bytes(2_000_000) + GET,
    )
    assert len(found) == 1


def test_continue_is_sent_when_the_application_reads():
    expecting = POST + b"Expect: 100-continue\r\n\r\n"
    environ, found = seen(expecting + b"hello", methods=("POST",), step=len(expecting))
    assert environ["body"] == b"hello"
    assert [head.status for head, _ in found] == [100, 200]
    _wire, found = serve(hello, expecting, ("POST",))
    assert [head.status for head, _ in found] == [200]


def test_head_has_no_content():
    _, found = serve(hello, GET.replace(b"GET", b"HEAD"), ("HEAD",))
    assert found[0][1] == b""


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_statuses_without_content(status):
    _, found = serve(lambda e, s: (s(status, []), [])[1], GET * 2, ("GET", "GET"))
    assert [str(head.status) for head, _ in found] == [status[:3]] * 2
    assert "Content-Length" not in found[0][0].headers


def test_empty_result_has_length_zero():
    _, found = serve(lambda e, s: (s("200 OK", []), [])[1], GET)
    assert found[0][0].headers["Content-Length"] == "0"


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        ("200 OK", [("X", "a\r\nY: b")]),
        ("200 O\r\nK", []),
        ("abc", []),
        ("200 OK", [("Connection", "close")]),
        ("200 OK", [("Transfer-Encoding", "chunked")]),
        ("200 OK", [("Content-Length", "x")]),
    ],
)
def test_htt_30_answers_that_break_the_framing_fail(status, headers, capsys):
    _, found = serve(lambda e, s: (s(status, headers), [b"x"])[1], GET + GET)
    assert [head.status for head, _ in found] == [500]
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    "application",
    [
        lambda e, s: 1 / 0,
        lambda e, s: [b"x"],
        lambda e, s: (s("200 OK", []), s("200 OK", []), [])[2],
    ],
)
def test_failing_applications_are_told_apart_from_the_peer(application, capsys):
    _, found = serve(application, GET)
    assert found[0][0].status == 500
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("length", "piece"), [("9", b"x"), ("1", b"xyz")])
def test_wrong_lengths_reset_the_connection(length, piece, capsys):
    wire = Wire(GET)
    services.wsgi(lambda e, s: (s("200 OK", [("Content-Length", length)]), [piece])[1]).handle(
        wire
    )
    assert len(wire.options) == 1
    capsys.readouterr()


def test_error_after_the_answer_began_resets_and_closes_the_result(capsys):
    closed = []

    class Result:
        def __iter__(self):
            yield b"a"
            raise KeyError("broken")

        def close(self):
            closed.append(True)

    wire = Wire(GET)
    services.wsgi(lambda e, s: (s("200 OK", []), Result())[1]).handle(wire)
    assert closed == [True]
    assert wire.options
    assert not wire.sent.endswith(b"0\r\n\r\n")
    assert "KeyError" in capsys.readouterr().err


def test_start_response_may_be_repeated_with_exc_info():
    def application(environ, start_response):
        start_response("200 OK", [])
        try:
            raise ValueError("late")
        except ValueError:
            start_response("503 Busy", [], sys.exc_info())
        return [b"busy"]

    _, found = serve(application, GET)
    assert found[0][0].status == 503


def test_start_response_with_exc_info_after_the_head_raises(capsys):
    def application(environ, start_response):
        start_response("200 OK", [])(b"x")
        try:
            raise ValueError("late")
        except ValueError:
            start_response("500 No", [], sys.exc_info())
        return []

    wire = Wire(GET)
    services.wsgi(application).handle(wire)
    assert "late" in capsys.readouterr().err
    assert wire.options


def test_malformed_requests_and_quiet_peers():
    _, found = serve(hello, b"\x00")
    assert found[0][0].status == 400
    _, found = serve(hello, b"GET / HTTP/1.1\r\n\r\n")
    assert found[0][0].status == 400
    assert serve(hello, b"")[0].sent == b""
    assert serve(hello, b"GET", then=TimeoutError("timed out"))[0].sent == b""
    _wire, found = serve(lambda e, s: [e["wsgi.input"].read()], POST + b"\r\nhel")
    assert found[0][0].status == 400


def test_os_errors_of_the_application_are_its_own(capsys):
    def application(environ, start_response):
        raise FileNotFoundError(2, "No such file or directory", "template.html")

    _, found = serve(application, GET)
    assert found[0][0].status == 500
    assert "template.html" in capsys.readouterr().err


def test_peer_that_goes_away_ends_the_task_without_a_word(capsys):
    closed = []

    class Result(list):
        def close(self):
            closed.append(True)

    wire = Wire(GET)

    def refuse(data):
        raise BrokenPipeError(32, "Broken pipe")

    wire.sendall = refuse
    services.wsgi(lambda e, s: (s("200 OK", []), Result([b"x"]))[1]).handle(wire)
    assert closed == [True]
    assert capsys.readouterr().err == ""


def test_requests_on_one_connection_are_limited():
    _, found = serve(hello, GET * 1005, ("GET",) * 1005)
    assert len(found) == 1000
    assert found[-1][0].headers["Connection"] == "close"
