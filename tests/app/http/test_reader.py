"""RFC 9112 framing, and the rows of attacks.csv that concern it."""

from __future__ import annotations

import tracemalloc

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.app.http.headers import Headers
from netstack.app.http.messages import (
    Data,
    EndOfMessage,
    IncompleteMessage,
    Limits,
    MessageError,
    Request,
    ResponseHead,
)
from netstack.app.http.reader import RequestReader, ResponseReader

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def refused(read, data, status=400, **kwargs):
    with pytest.raises(MessageError) as caught:
        read(data, **kwargs)
    assert caught.value.status == status
    return caught.value


# -- requests ------------------------------------------------------------------------------------


def test_request_without_content(read_requests):
    events = read_requests(b"GET /a?b HTTP/1.1\r\nHost:  x \r\nAccept: \xe9\r\n\r\n")
    headers = Headers([("Host", "x"), ("Accept", "\xe9")])
    assert events == [Request("GET", "/a?b", "HTTP/1.1", headers), EndOfMessage()]


def test_content_length_delimits_and_pipelined_requests_follow_in_order(read_requests, body_of):
    events = read_requests(HEAD + b"Content-Length: 3\r\n\r\nabcGET /2 HTTP/1.1\r\n\r\n")
    assert body_of(events[:3]) == b"abc"
    assert [event.target for event in events if isinstance(event, Request)] == ["/", "/2"]


def test_chunked_content_with_extensions_and_trailers(read_requests, body_of):
    events = read_requests(
        CHUNKED + b'5;a="q\\"";b\r\nhello\r\nA\r\n0123456789\r\n000\r\nX-Sum: 1\r\n\r\n'
    )
    assert body_of(events) == b"hello0123456789"
    assert events[-1].trailers == Headers({"X-Sum": "1"})


def test_htt_01_length_beside_transfer_encoding_is_refused(read_requests):
    for fields in (
        b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
    ):
        refused(read_requests, HEAD + fields + b"\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (b"chunked, chunked", 400),
        (b"chunked, identity", 400),
        (b"xchunked", 400),
        (b"", 400),
        (b"\x0bchunked", 400),
        (b"gzip", 501),
        (b"identity", 501),
    ],
)
def test_any_other_transfer_coding_is_refused(read_requests, value, status):
    refused(read_requests, HEAD + b"Transfer-Encoding: " + value + b"\r\n\r\n", status)


def test_two_transfer_encoding_lines_are_refused(read_requests):
    refused(read_requests, HEAD + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n")


def test_htt_03_transfer_encoding_in_http_1_0_is_refused(read_requests, read_responses):
    refused(read_requests, CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0"))
    refused(read_responses, b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")


def test_htt_04_equal_lengths_are_one_and_different_ones_refused(read_requests, body_of):
    for fields in (b"Content-Length: 5, 5\r\n", b"Content-Length: 5\r\ncontent-length: 5\r\n"):
        assert body_of(read_requests(HEAD + fields + b"\r\nhello")) == b"hello"
    for fields in (b"Content-Length: 5,6\r\n", b"Content-Length: 5\r\nContent-Length: 05\r\n"):
        refused(read_requests, HEAD + fields + b"\r\nhello")


@pytest.mark.parametrize("value", ["2" * 20, str(2**63), str(2**64 + 5), "9" * 4301, "1" * 60000])
def test_htt_06_huge_lengths_are_refused(read_requests, value):
    refused(read_requests, HEAD + f"Content-Length: {value}\r\n\r\n".encode())


@pytest.mark.parametrize("value", ["-1", "+1", "1 1", "0x1", "1_0", "", "1.0", "\xb2"])
def test_malformed_lengths_are_refused(read_requests, value):
    refused(read_requests, HEAD + f"Content-Length: {value}\r\n\r\n".encode("latin-1"))


def test_htt_06_a_large_length_reserves_nothing():
    tracemalloc.start()
    reader = RequestReader()
    reader.receive(HEAD + b"Content-Length: 9223372036854775807\r\n\r\n")
    assert isinstance(reader.next_event(), Request)
    assert reader.next_event() is None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


@pytest.mark.parametrize(
    "size",
    [
        "0x5",
        "5_0",
        "+5",
        "-1",
        " 5",
        "5 ",
        "5\t",
        "",
        "g",
        "\u0665",
        "0" * 17,
        "f" * 16,
        ";a",
        "5 ;a",
    ],
)
def test_htt_07_malformed_chunk_sizes_are_refused(read_requests, size):
    refused(read_requests, CHUNKED + size.encode() + b"\r\nhello\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    "tail",
    [
        b"5\nhello\r\n",
        b"5\r\nhello\n",
        b"5\r\nhelloXX",
        b"5\r\nhello\r\r",
        b"5;\x00\r\n",
        b"5\r\r\n",
    ],
)
def test_htt_09_wrong_chunk_ends_are_refused(read_requests, tail):
    refused(read_requests, CHUNKED + tail + b"0\r\n\r\n")


def test_htt_09_missing_last_chunk_is_incomplete(read_responses, body_of):
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    for tail in (b"5\r\nhel", b"5\r\nhello", b"5\r\nhello\r\n", b"0\r\n", b"0\r\nA: b\r\n", b""):
        with pytest.raises(IncompleteMessage):
            read_responses(head + tail, eof=True)
    assert body_of(read_responses(head + b"5\r\nhello\r\n000\r\n\r\n")) == b"hello"


def test_htt_10_forbidden_trailers_are_dropped(read_requests):
    fields = b"Content-Length: 5\r\nTransfer-Encoding: x\r\nHost: evil\r\nX: y\r\n"
    events = read_requests(CHUNKED + b"0\r\n" + fields + b"\r\n")
    assert events[0].headers == Headers({"Host": "a", "Transfer-Encoding": "chunked"})
    assert events[-1].trailers == Headers({"X": "y"})


@pytest.mark.parametrize(
    ("trailer", "status"),
    [
        (b"A: b\r\n" * 10_000, 431),
        (b"A: " + b"b" * 20_000 + b"\r\n", 431),
        (b"A: b\r\n c\r\n", 400),
        (b"A: b\n", 400),
        (b"A : b\r\n", 400),
    ],
)
def test_htt_10_bad_trailers_are_refused(read_requests, trailer, status):
    refused(read_requests, CHUNKED + b"0\r\n" + trailer + b"\r\n", status)


@pytest.mark.parametrize(
    "data",
    [
        b"GET /\rHTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nA\rB: c\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\rc: d\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\r\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\n\n",
    ],
)
def test_htt_12_bare_cr_and_bare_lf_in_requests_are_refused(read_requests, data):
    refused(read_requests, data)


def test_lone_lf_ends_lines_of_a_response_head(read_responses, body_of):
    assert body_of(read_responses(b"HTTP/1.1 200 OK\nContent-Length: 1\n\nx")) == b"x"


def test_htt_13_folded_lines_are_refused_in_requests(read_requests):
    refused(read_requests, b"GET / HTTP/1.1\r\n Host: a\r\n\r\n")
    refused(read_requests, b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n")
    refused(read_requests, HEAD + b"Content-Length:\r\n 5\r\n\r\n")
    refused(read_requests, HEAD + b"Transfer-Encoding:\r\n\tchunked\r\n\r\n")


def test_htt_13_folded_lines_are_unfolded_in_responses(read_responses):
    start = b"HTTP/1.1 204 No\r\n"
    events = read_responses(start + b"A: b\r\n  c\r\n\td \r\nE:\r\n f\r\n\r\n")
    assert events[0].headers == Headers({"A": "b c d", "E": "f"})
    refused(read_responses, start + b" A: b\r\n\r\n")


@pytest.mark.parametrize(
    "line",
    [
        b": v",
        b"a\x00: v",
        b"\xc3\xa9: v",
        b"a(: v",
        b"a,b: v",
        b"a : v",
        b"a",
        b"a\x7f:",
        b"a\tb: c",
    ],
)
def test_htt_15_field_names_are_tokens(read_requests, line):
    refused(read_requests, b"GET / HTTP/1.1\r\n" + line + b"\r\n\r\n")


def test_htt_15_endless_field_names_are_too_large(read_requests):
    refused(read_requests, b"GET / HTTP/1.1\r\n" + b"a" * 70_000, 431)


@pytest.mark.parametrize("octet", [0, 1, 8, 11, 12, 13, 27, 31, 127])
def test_htt_16_control_characters_in_values_are_refused(read_requests, octet):
    refused(read_requests, b"GET / HTTP/1.1\r\nA: b%cc\r\n\r\n" % octet)


def test_htt_16_obs_text_passes_as_opaque_octets(read_requests):
    value = bytes(range(128, 256)).removeprefix(b"")
    events = read_requests(b"GET / HTTP/1.1\r\nA: x" + value + b"\tx\r\n\r\n")
    assert events[0].headers["a"].encode("latin-1") == b"x" + value + b"\tx"


def test_htt_18_long_targets_work_up_to_the_limit(read_requests):
    for length in (8000, 16_000):
        assert len(read_requests(b"GET /" + b"a" * length + b" HTTP/1.1\r\n\r\n")) == 2
    refused(read_requests, b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n", 414)
    refused(read_requests, b"GET /" + b"a" * 17_000 + b" HTTP/1.1\r\n\r\n", 414)


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET\t/ HTTP/1.1", 400),
        (b"GET  / HTTP/1.1", 400),
        (b"GET /  HTTP/1.1", 400),
        (b"GET /", 400),
        (b"GET", 400),
        (b"GET / HTTP/1.10", 400),
        (b"GET / HTTP/1.", 400),
        (b"GET / http/1.1", 400),
        (b"GET / HTTP/1.1 ", 400),
        (b"GET / FTP/1.1", 400),
        (b"G(T / HTTP/1.1", 400),
        (b"GET /\xff HTTP/1.1", 400),
        (b" GET / HTTP/1.1", 400),
        (b"GET / HTTP/2.0", 505),
        (b"GET / HTTP/2", 505),
        (b"GET / HTTP/3.0", 505),
        (b"GET / HTTP/0.9", 505),
        (b"PRI * HTTP/2.0", 505),  # HTT-24, the HTTP/2 preface
    ],
)
def test_htt_19_malformed_request_lines_are_refused(read_requests, line, status):
    refused(read_requests, line + b"\r\n\r\n", status)


def test_htt_19_leading_empty_lines_are_bounded(read_requests):
    assert len(read_requests(b"\r\n\r\nGET / HTTP/1.1\r\n\r\n")) == 2
    refused(read_requests, b"\r\n" * 1000 + b"GET / HTTP/1.1\r\n\r\n")


def test_higher_minor_version_reads_as_1_1(read_requests):
    assert read_requests(b"GET / HTTP/1.7\r\n\r\n")[0].version == "HTTP/1.1"


@pytest.mark.parametrize(
    "data",
    [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x00" * 10, b"\xff\xfe", b"\rG", b"\x80"],
)
def test_htt_25_other_protocols_are_refused_at_once(read_requests, data):
    refused(read_requests, data)


def test_htt_25_ssh_banner_is_refused(read_requests):
    refused(read_requests, b"SSH-2.0-OpenSSH_9.2\r\n\r\n")


def test_htt_28_content_of_a_get_is_content(read_requests, body_of):
    smuggled = b"GET /evil HTTP/1.1\r\n\r\n"
    events = read_requests(
        b"GET / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(smuggled) + smuggled
    )
    assert body_of(events) == smuggled
    assert sum(isinstance(event, Request) for event in events) == 1


def test_too_many_fields_are_refused(read_requests):
    refused(read_requests, b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 300 + b"\r\n", 431)


def test_chunk_extensions_must_not_outweigh_the_content(read_requests):
    refused(read_requests, CHUNKED + (b"1;" + b"x" * 1000 + b"\r\na\r\n") * 100)
    refused(read_requests, CHUNKED + b"1;" + b"x" * 10_000)


def test_first_error_is_final():
    reader = RequestReader()
    reader.receive(b"\x00")
    for _ in range(2):
        with pytest.raises(MessageError):
            reader.next_event()
    reader.receive(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(MessageError):
        reader.next_event()


def test_end_between_messages_is_no_error_and_within_one_is():
    reader = RequestReader()
    reader.receive_eof()
    assert reader.next_event() is None
    reader = RequestReader()
    reader.receive(b"GET")
    reader.receive_eof()
    with pytest.raises(IncompleteMessage):
        reader.next_event()


# -- responses -----------------------------------------------------------------------------------


def test_response_until_close(read_responses, body_of):
    events = read_responses(b"HTTP/1.1 200 OK\r\n\r\nall of it", eof=True)
    assert events[0] == ResponseHead(200, "OK", "HTTP/1.1", Headers())
    assert body_of(events) == b"all of it"


def test_response_until_close_that_was_cut_is_incomplete(read_responses):
    with pytest.raises(IncompleteMessage):
        read_responses(b"HTTP/1.1 200 OK\r\n\r\nall of", eof=True, clean=False)


def test_cut_short_content_is_incomplete(read_responses):
    with pytest.raises(IncompleteMessage):
        read_responses(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfour", eof=True)


@pytest.mark.parametrize(
    ("status", "method"), [(204, "GET"), (304, "GET"), (200, "HEAD"), (404, "HEAD")]
)
def test_responses_without_content_whatever_their_length_says(read_responses, status, method):
    data = b"HTTP/1.1 %d X\r\nContent-Length: 10\r\n\r\n" % status
    events = read_responses(
        data + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", (method, "GET")
    )
    heads = [event.status for event in events if isinstance(event, ResponseHead)]
    assert heads == [status, 200]


def test_interim_responses_come_before_the_final_one(read_responses, body_of):
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    events = read_responses(early + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
    assert [event.status for event in events[:3]] == [100, 103, 200]
    assert body_of(events) == b"hi"


def test_protocol_change_nobody_asked_for_is_refused(read_responses):
    refused(read_responses, b"HTTP/1.1 101 Switching Protocols\r\n\r\n")


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: 3\r\nContent-Length: 4\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
    ],
)
def test_htt_31_ambiguous_responses_are_refused(read_responses, fields):
    with pytest.raises(MessageError):
        read_responses(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\nxyz\r\n0\r\n\r\n")


def test_htt_31_unsolicited_response_is_refused(read_responses):
    one = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    refused(read_responses, one + one)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 20_000,
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * 100_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 100_000,
        b"HTTP/1.1 200 " + b"x" * 1_000_000,
        b"HTTP/1.1 200 " + b"x" * 20_000 + b"\r\n\r\n",
    ],
    ids=["fields", "value", "interim", "line", "long-line"],
)
def test_htt_33_endless_heads_are_refused(data):
    reader = ResponseReader()
    reader.expect("GET")

    def feed():
        for start in range(0, len(data), 1000):
            reader.receive(data[start : start + 1000])
            while reader.next_event() is not None:
                assert reader.unread <= 65_536 + 1000

    with pytest.raises(MessageError):
        feed()


@pytest.mark.parametrize(
    "line",
    [
        b"HTTP/1.1 99 X",
        b"HTTP/1.1 099 X",
        b"HTTP/1.1 1000 X",
        b"HTTP/1.1 abc X",
        b"HTTP/1.1 -20 X",
        b"HTTP/1.1  200 OK",
        b"HTTP/3.0 200 OK",
        b"HTTP/1.10 200 OK",
        b"HTTP/1.1 200OK",
        b"HTTP/1.1 200 O\x00K",
        b"ICY 200 OK",
        b"",
    ],
)
def test_htt_34_malformed_status_lines_are_refused(read_responses, line):
    refused(read_responses, line + b"\r\n\r\n")


@pytest.mark.parametrize("line", [b"HTTP/1.1 200", b"HTTP/1.1 200 ", b"HTTP/1.0 200 Fine \xe9"])
def test_htt_34_reason_may_be_missing(read_responses, line):
    head = read_responses(line + b"\r\nContent-Length: 0\r\n\r\n")[0]
    assert head.status == 200
    assert head.version == line[:8].decode()


# -- properties ----------------------------------------------------------------------------------


def _drain(reader, pieces):
    events = []
    for piece in pieces:
        reader.receive(piece)
        while (event := reader.next_event()) is not None:
            events.append(event)
    reader.receive_eof()
    while (event := reader.next_event()) is not None:
        events.append(event)
    return events


FRAGMENTS = st.sampled_from(
    [
        b"GET / HTTP/1.1\r\n",
        b"POST /x HTTP/1.0\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"Host: a\r\n",
        b"Content-Length: 4\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"\r\n",
        b"\n",
        b"4\r\nabcd\r\n",
        b"0\r\n\r\n",
        b" folded\r\n",
    ]
)


@given(st.lists(st.one_of(FRAGMENTS, st.binary(max_size=20)), max_size=12), st.integers(1, 40))
def test_readers_raise_nothing_but_message_errors_however_cut(parts, cut):
    data = b"".join(parts)
    for make in (RequestReader, ResponseReader):
        outcomes = []
        for size in (cut, max(len(data), 1)):
            reader = make()
            if make is ResponseReader:
                reader.expect("GET")
            pieces = [data[i : i + size] for i in range(0, len(data), size)]
            try:
                events = _drain(reader, pieces)
            except MessageError:
                outcomes.append(None)
            else:
                content = b"".join(e.data for e in events if isinstance(e, Data))
                outcomes.append((content, [e for e in events if not isinstance(e, Data)]))
        assert outcomes[0] == outcomes[1]


def _h11_requests(data):
    """Return (method, target, body) of the requests h11 sees; None if it refuses."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=65_536)
    connection.receive_data(data)
    seen = []
    try:
        while True:
            event = connection.next_event()
            if event in (h11.NEED_DATA, h11.PAUSED):
                if connection.our_state is h11.SEND_RESPONSE and event is h11.PAUSED:
                    connection.send(
                        h11.Response(status_code=200, headers=[("Content-Length", "0")])
                    )
                    connection.send(h11.EndOfMessage())
                    if connection.our_state is not h11.DONE:
                        return seen
                    connection.start_next_cycle()
                    continue
                return seen
            if isinstance(event, h11.Request):
                seen.append([event.method, event.target, b""])
            elif isinstance(event, h11.Data):
                seen[-1][2] += bytes(event.data)
            if connection.their_state is h11.MUST_CLOSE:
                return seen  # what follows on a connection to be closed is not read
    except h11.RemoteProtocolError:
        return None


METHODS = st.sampled_from([b"GET", b"POST", b"g", b"P UT"])
LINES = st.lists(
    st.sampled_from(
        [
            b"Host: a",
            b"Content-Length: 4",
            b"Content-Length: 4, 4",
            b"Content-Length:4",
            b"Content-Length : 4",
            b"Content-Length: +4",
            b"Transfer-Encoding: chunked",
            b"Transfer-Encoding: Chunked",
            b"Transfer-Encoding: gzip, chunked",
            b"X: y\rz",
            b" folded",
            b"X:",
        ]
    ),
    max_size=3,
)
BODIES = st.sampled_from(
    [
        b"",
        b"abcd",
        b"4\r\nabcd\r\n0\r\n\r\n",
        b"4 \r\nabcd\r\n0\r\n\r\n",
        b"04;a=b\r\nabcd\r\n0\r\n\r\n",
        b"4\nabcd\n0\n\n",
    ]
)


@given(METHODS, LINES, BODIES, st.sampled_from([b"1.1", b"1.0", b"2.0", b"1.2"]))
def test_htt_42_what_h11_refuses_is_never_accepted(method, lines, body, version):
    head = method + b" /x HTTP/" + version + b"\r\n" + b"".join(line + b"\r\n" for line in lines)
    data = head + b"\r\n" + body
    reader = RequestReader()
    reader.receive(data)
    ours = []
    try:
        while (event := reader.next_event()) is not None:
            if isinstance(event, Request):
                ours.append([event.method.encode(), event.target.encode(), b""])
            elif isinstance(event, Data):
                ours[-1][2] += event.data
    except MessageError:
        return
    # The Host rules are the server's, not the reader's: give h11 what it asks for.
    if not any(line.startswith(b"Host") for line in lines):
        data = data.replace(b"\r\n", b"\r\nHost: a\r\n", 1)
    elif sum(line.startswith(b"Host") for line in lines) > 1:
        return
    theirs = _h11_requests(data)
    assert theirs is not None
    assert theirs[: len(ours)] == ours[: len(theirs)]


RESPONSE_LINES = st.lists(
    st.sampled_from(
        [
            b"Content-Length: 4",
            b"Content-Length: 4, 4",
            b"Content-Length: 5",
            b"Content-Length: -4",
            b"Transfer-Encoding: chunked",
            b"Transfer-Encoding: gzip",
            b"Connection: close",
            b"X : y",
            b"X: y\x00",
        ]
    ),
    max_size=3,
)
STATUS_LINES = st.sampled_from(
    [b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK", b"HTTP/1.1 204", b"HTTP/1.1 304 ", b"HTTP/1.1 20 X"]
)


@given(STATUS_LINES, RESPONSE_LINES, BODIES, st.sampled_from(["GET", "HEAD"]))
def test_htt_42_bodies_of_responses_end_where_h11_says(line, lines, body, method):
    data = line + b"\r\n" + b"".join(field + b"\r\n" for field in lines) + b"\r\n" + body
    reader = ResponseReader()
    reader.expect(method)
    reader.receive(data)
    reader.receive_eof()
    ours = b""
    try:
        while not isinstance(event := reader.next_event(), EndOfMessage):
            ours += event.data if isinstance(event, Data) else b""
    except MessageError:
        return
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    connection.receive_data(b"")
    theirs = b""
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        theirs += bytes(event.data) if isinstance(event, h11.Data) else b""
    assert ours == theirs


def test_htt_43_work_is_linear_in_the_input():
    """Count the octets that are searched or moved, instead of seconds."""

    class Counting(bytearray):
        work = 0

        def find(self, what, start=0, end=None):
            found = super().find(what, start, len(self) if end is None else end)
            Counting.work += (found if found >= 0 else len(self)) - start + 1
            return found

    def work(size):
        Counting.work = 0
        reader = RequestReader(Limits(head=1 << 20, start_line=1 << 20))
        reader._buffer = Counting()
        for octet in b"GET /" + b"a" * size:
            reader.receive(bytes((octet,)))
            assert reader.next_event() is None
        return Counting.work

    assert work(20_000) <= 2.5 * work(10_000)


def test_content_passes_without_being_kept():
    reader = RequestReader()
    reader.receive(HEAD + b"Content-Length: 1000000\r\n\r\n")
    assert isinstance(reader.next_event(), Request)
    piece = bytes(1000)
    for _ in range(1000):
        reader.receive(piece)
        assert reader.next_event().data is piece
        assert reader.unread == 0
    assert isinstance(reader.next_event(), EndOfMessage)
    assert not reader.in_message


def test_content_and_the_next_head_may_share_a_piece():
    reader = RequestReader()
    reader.receive(HEAD + b"Content-Length: 4\r\n\r\n")
    reader.next_event()
    reader.receive(b"ab")
    reader.receive(b"cdGET / HT")
    reader.receive(b"TP/1.1\r\n\r\n")
    assert [reader.next_event() for _ in range(2)] == [Data(b"abcd"), EndOfMessage()]
    assert reader.next_event().method == "GET"
