"""The small services, and DNS over a stream."""

from __future__ import annotations

import pytest

from netstack.app import services
from netstack.socket.service import Service
from netstack.wire.dns import Message, Question

PEER, LOCAL = ("192.0.2.1", 40_000), ("192.0.2.2", 7)
ZONE = """\
$ORIGIN a.test.
$TTL 60
@ IN SOA ns hostmaster 1 60 60 60 60
@ IN NS ns
ns IN A 192.0.2.53
"""


def session_of(service, now=0.0):
    return service.open(PEER, LOCAL, now)


def read_all(session, limit=1000):
    data = b""
    while piece := bytes(session.outgoing(limit)):
        data += piece
    return data


@pytest.mark.parametrize(
    "make",
    [
        services.echo,
        services.discard,
        services.chargen,
        services.daytime,
        lambda: services.dns(ZONE),
        lambda: services.http({}),
    ],
)
def test_each_service_keeps_to_the_protocol(make):
    service = make()
    assert isinstance(service, Service)
    session = session_of(service)
    for name in ("finished", "abort", "paused"):
        assert getattr(session, name) in (False, True)
    session.receive(b"", 1.0)
    session.outgoing(100)
    assert session.finished
    session.handle_timers(1.0)
    session.next_deadline()
    session.close()


def test_echo_returns_what_came_and_finishes_with_the_peer():
    session = session_of(services.echo())
    session.receive(b"hello", 0.0)
    assert session.outgoing(2) == b"he"
    session.receive(b"", 0.0)
    assert session.finished
    assert read_all(session) == b"llo"


def test_echo_pauses_while_the_peer_does_not_read():
    session = session_of(services.echo())
    session.receive(bytes(70_000), 0.0)
    assert session.paused
    assert not session.abort
    session.receive(b"x", 0.0)
    assert session.abort


def test_discard_says_nothing():
    session = session_of(services.discard())
    session.receive(b"hello", 0.0)
    assert session.outgoing(100) == b""
    assert services.discard().receive_datagram(b"x", PEER, 0.0) is None


def test_chargen_goes_on_where_it_stopped():
    session = session_of(services.chargen())
    text = b"".join(session.outgoing(n) for n in (1, 7000, 100, 7030, 65_536))
    lines = text.split(b"\r\n")
    assert {len(line) for line in lines[:-1]} == {72}
    assert lines[0].startswith(b' !"#')
    assert lines[1] == lines[0][1:] + b"h"
    assert lines[95] == lines[0]


def test_datagrams_never_amplify_and_never_loop():
    chargen = services.chargen()
    assert chargen.receive_datagram(b"12", PEER, 0.0) == b" !"
    assert services.echo().receive_datagram(b"12", PEER, 0.0) == b"12"
    for service in (chargen, services.echo(), services.daytime()):
        assert service.receive_datagram(b"x", ("192.0.2.1", 19), 0.0) is None


def test_daytime_tells_the_time_of_the_simulation():
    service = services.daytime(epoch=784_111_770.0)
    session = session_of(service, 7.0)
    assert read_all(session) == b"Sun, 06 Nov 1994 08:49:37 GMT\r\n"
    assert session.finished
    assert service.receive_datagram(b"", PEER, 7.0) == b"Sun, 06 Nov 1994 08:49:37 GMT\r\n"


# -- DNS -----------------------------------------------------------------------------------------


def query(id_=1, name="ns.a.test."):
    from netstack.wire.dns_name import Name

    return Message(id_, question=(Question(Name.from_text(name), 1, 1),)).build()


def framed(message):
    return len(message).to_bytes(2, "big") + message


def test_dns_datagram_is_answered():
    answer = services.dns(ZONE).receive_datagram(query(7), PEER, 0.0)
    assert Message.parse(answer).id == 7
    assert services.dns(ZONE).receive_datagram(b"", PEER, 0.0) is None


@pytest.mark.parametrize("step", [1, 1000])
def test_dns_27_queries_of_a_stream_are_answered_however_cut(step):
    session = session_of(services.dns(ZONE))
    data = framed(query(1)) + framed(query(2))
    for start in range(0, len(data), step):
        session.receive(data[start : start + step], 0.0)
    answers = read_all(session, 7)
    length = int.from_bytes(answers[:2], "big")
    assert Message.parse(answers[2 : 2 + length]).id == 1
    assert Message.parse(answers[4 + length :]).id == 2
    assert not session.finished
    session.receive(b"", 0.0)
    assert session.finished


def test_dns_27_empty_message_is_reset_and_dribble_times_out():
    session = session_of(services.dns(ZONE))
    session.receive(b"\0\0", 0.0)
    assert session.abort
    session = session_of(services.dns(ZONE))
    for now in range(10):
        session.receive(b"\1", float(now))
        session.handle_timers(float(now))
        assert not session.finished
    session.handle_timers(session.next_deadline())
    assert session.finished


def test_dns_27_active_peer_stays_and_one_that_does_not_read_is_reset():
    session = session_of(services.dns(ZONE))
    for now in (5.0, 15.0, 25.0):
        session.receive(framed(query()), now)
        assert read_all(session)
        session.handle_timers(now + 5)
        assert not session.finished
    session.receive(framed(query()), 31.0)
    session.handle_timers(40.0)
    session.handle_timers(50.0)
    assert session.abort


def test_dns_answers_wait_for_the_reader():
    session = session_of(services.dns(ZONE))
    session.receive(framed(query()) * 3000, 0.0)
    assert session.paused
    assert len(session._waiting) < 70_000
    assert len(read_all(session)) > 3000 * 20
    session.receive(bytes(300_000), 0.0)
    assert session.abort


def test_http_takes_a_folder_pages_or_a_handler(tmp_path):
    (tmp_path / "a.txt").write_text("file")

    def status_of(service):
        session = session_of(service)
        session.receive(b"GET /a.txt HTTP/1.1\r\nHost: a\r\n\r\n", 0.0)
        return read_all(session)

    assert b"file" in status_of(services.http(tmp_path))
    assert b"file" in status_of(services.http(str(tmp_path)))
    assert b"page" in status_of(services.http({"/a.txt": b"page"}))
    handler = services.http({"/a.txt": b"own"})._handler
    assert b"own" in status_of(services.http(handler, epoch=0.0))
    assert services.http({}).receive_datagram(b"", PEER, 0.0) is None
    zone = tmp_path / "zone"
    zone.write_text(ZONE)
    assert services.dns(zone).receive_datagram(query(), PEER, 0.0)
