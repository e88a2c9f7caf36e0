"""The stub resolver against scripted recursive servers, in virtual time."""

from __future__ import annotations

import pytest

from netstack.core.address import parse_address
from netstack.core.errors import NameNotFound, NameServerError, TimedOut
from netstack.naming.exchange import OpenStream, SendDatagram
from netstack.naming.lookup import NoData, NoSuchName
from netstack.wire.dns import Message, Rcode, frame_message
from netstack.wire.dns_name import Name

SERVER, SECOND = "192.0.2.53", "192.0.2.54"
SOA = "example.test. 600 SOA ns.example.test. h.example.test. 1 2 3 4 120"


def simple(respond, address="192.0.2.80", ttl=60):
    return lambda query: respond(query, answer=[f"{query.question[0].name} {ttl} A {address}"])


def test_address_is_asked_for_once_and_then_remembered(world, respond):
    world.scripted(SERVER, simple(respond))
    resolver = world.stub(SERVER)
    answer = world.resolve(resolver, "www.example.test")
    assert answer.texts() == ["192.0.2.80"]
    assert (answer.ttl, answer.cached) == (60, False)
    assert world.now == pytest.approx(0.01)
    world.now = world.events.now = 30.01
    answer = world.resolve(resolver, "WWW.example.test.")
    assert (answer.ttl, answer.cached) == (30, True)
    world.now = world.events.now = 60.02
    world.resolve(resolver, "www.example.test")
    assert world.log == [(SERVER, "www.example.test.", "A", "udp")] * 2
    assert world.outcomes() == [(SERVER, "answer 192.0.2.80")] * 2
    assert world.lookups() == [
        ("www.example.test. A", False),
        ("WWW.example.test. A", True),
        ("www.example.test. A", False),
    ]


def test_query_asks_for_recursion_with_edns(world, respond):
    world.scripted(SERVER, simple(respond))
    world.resolve(world.stub(SERVER), "www.example.test")
    query = Message.parse(world.messages[0])
    assert query.recursion_desired
    assert not query.response
    assert query.edns.payload == 1232
    assert len(query.question) == 1


def test_lost_query_is_repeated_over_servers_in_rounds(world, respond):
    world.scripted(SECOND, simple(respond))
    world.lost = lambda number: number < 4
    answer = world.resolve(world.stub(SERVER, SECOND), "www.example.test")
    assert answer.texts() == ["192.0.2.80"]
    assert [entry[0] for entry in world.log] == [SERVER, SECOND, SERVER, SECOND]
    assert world.now == pytest.approx(6.01)
    assert world.outcomes()[:3] == [(SERVER, "timeout"), (SECOND, "timeout"), (SERVER, "timeout")]


def test_silent_servers_time_out_and_the_failure_is_remembered(world):
    resolver = world.stub(SERVER, SECOND)
    with pytest.raises(TimedOut, match=r"looking up www\.example\.test"):
        world.resolve(resolver, "www.example.test")
    assert len(world.log) == 6
    assert world.now == pytest.approx(12.0)
    with pytest.raises(NameServerError, match="failed 0 s ago"):
        world.resolve(resolver, "www.example.test")
    assert len(world.log) == 6


def test_dns_30_servfail_goes_to_the_next_server_and_a_storm_is_cut(world, respond):
    world.scripted(SERVER, lambda query: respond(query, rcode=Rcode.SERVFAIL))
    world.scripted(SECOND, lambda query: respond(query, rcode=Rcode.REFUSED))
    resolver = world.stub(SERVER, SECOND)
    for _ in range(50):
        with pytest.raises(NameServerError):
            world.resolve(resolver, "www.example.test")
    assert [entry[0] for entry in world.log] == [SERVER, SECOND]
    assert world.outcomes() == [(SERVER, "SERVFAIL"), (SECOND, "REFUSED")]
    world.now = world.events.now = world.now + 5.0
    world.scripted(SECOND, simple(respond))
    assert world.resolve(resolver, "www.example.test").texts() == ["192.0.2.80"]


def test_no_server_at_all_is_an_error(world):
    with pytest.raises(NameServerError, match="no name server is configured"):
        world.resolve(world.stub(), "www.example.test")


def test_missing_name_and_missing_type_differ(world, respond):
    world.scripted(
        SERVER,
        lambda query: respond(
            query,
            authority=[SOA],
            rcode=Rcode.NXDOMAIN if query.question[0].name.labels[0] == b"no" else 0,
        ),
    )
    resolver = world.stub(SERVER)
    with pytest.raises(NoSuchName, match=r"no\.example\.test: no such name"):
        world.resolve(resolver, "no.example.test")
    with pytest.raises(NoSuchName):
        world.resolve(resolver, "no.example.test", "TXT")
    with pytest.raises(NoData, match=r"www\.example\.test has no MX record"):
        world.resolve(resolver, "www.example.test", "MX")
    with pytest.raises(NoData):
        world.resolve(resolver, "www.example.test", "MX")
    assert len(world.log) == 2
    assert issubclass(NoData, NameNotFound)
    # RFC 2308 5: the SOA's minimum, 120 s, is less than its TTL.
    world.now = world.events.now = 121.0
    with pytest.raises(NoData):
        world.resolve(resolver, "www.example.test", "MX")
    assert len(world.log) == 3


def test_dns_30_negative_answers_without_fitting_soa_are_asked_again(world, respond):
    foreign = SOA.replace("example.test. 600", "other.test. 600")
    world.scripted(SERVER, lambda query: respond(query, authority=[foreign], rcode=Rcode.NXDOMAIN))
    resolver = world.stub(SERVER)
    for _ in range(2):
        with pytest.raises(NoSuchName):
            world.resolve(resolver, "no.example.test")
    assert len(world.log) == 2


def test_aliases_in_the_response_are_followed(world, respond):
    world.scripted(
        SERVER,
        lambda query: respond(
            query,
            answer=[
                "web.example.test. 30 A 192.0.2.80",
                "www.example.test. 60 CNAME Mid.example.test.",
                "mid.example.test. 50 CNAME web.example.test.",
                "evil.example.test. 50 A 192.0.2.66",
            ],
        ),
    )
    resolver = world.stub(SERVER)
    answer = world.resolve(resolver, "www.example.test")
    assert str(answer.canonical) == "web.example.test."
    assert [str(each.name) for each in answer.aliases] == [
        "www.example.test.",
        "mid.example.test.",
    ]
    assert answer.ttl == 30
    assert answer.addresses == [parse_address("192.0.2.80")]
    assert world.resolve(resolver, "www.example.test").cached
    # What was not asked for was not believed.
    world.scripted(SERVER, simple(respond, "192.0.2.1"))
    assert world.resolve(resolver, "evil.example.test").texts() == ["192.0.2.1"]


def test_alias_without_its_target_is_asked_on(world, respond):
    def script(query):
        if query.question[0].name == Name.from_text("www.example.test."):
            return respond(query, answer=["www.example.test. 60 CNAME web.other.test."])
        return respond(query, answer=["web.other.test. 60 A 192.0.2.9"])

    world.scripted(SERVER, script)
    assert world.resolve(world.stub(SERVER), "www.example.test").texts() == ["192.0.2.9"]
    assert [entry[1] for entry in world.log] == ["www.example.test.", "web.other.test."]


@pytest.mark.parametrize("kind", ["pair", "self", "long", "step"])
def test_dns_22_alias_loops_end(world, respond, kind):
    def script(query):
        name = query.question[0].name
        if kind == "pair":
            records = ["a.test. 60 CNAME b.test.", "b.test. 60 CNAME a.test."]
        elif kind == "self":
            records = ["a.test. 60 CNAME a.test."]
        elif kind == "long":
            records = ["a.test. 60 CNAME n0.test."] + [
                f"n{index}.test. 60 CNAME n{index + 1}.test." for index in range(999)
            ]
        else:
            records = [f"{name} 60 CNAME x{name}"]
        return respond(query, answer=records)

    world.scripted(SERVER, script)
    with pytest.raises(NameServerError):
        world.resolve(world.stub(SERVER), "a.test")
    assert len(world.log) <= 12
    assert world.now <= 0.2


def test_other_types_are_found(world, respond):
    data = {"TXT": '"hello"', "MX": "10 mail.test.", "NS": "ns.test.", "AAAA": "2001:db8::1"}
    for type, text in data.items():
        plain = text.strip('"')
        world.scripted(
            SERVER, lambda query, t=type, d=plain: respond(query, answer=[f"a.test. 60 {t} {d}"])
        )
        assert world.resolve(world.stub(SERVER), "a.test", type).texts() == [text]


def test_dns_34_any_and_unknown_types(world, respond):
    world.scripted(
        SERVER,
        lambda query: respond(
            query, answer=["a.test. 60 A 192.0.2.1", "a.test. 60 TYPE65300 \\# 2 0102"]
        ),
    )
    resolver = world.stub(SERVER)
    assert world.resolve(resolver, "a.test", "ANY").texts() == ["192.0.2.1", "\\# 2 0102"]
    assert world.resolve(resolver, "a.test", "TYPE65300").texts() == ["\\# 2 0102"]


def test_hosts_come_first(world):
    resolver = world.stub(SERVER, hosts={"web.test": "192.0.2.8"})
    answer = world.resolve(resolver, "web.test")
    assert answer.texts() == ["192.0.2.8"]
    with pytest.raises(NoData):
        world.resolve(resolver, "web.test", "AAAA")
    assert world.resolve(resolver, "8.2.0.192.in-addr.arpa", "PTR").texts() == ["web.test."]
    assert world.resolve(resolver, "localhost").texts() == ["127.0.0.1"]
    assert world.log == []


def test_server_that_does_not_recurse_is_passed_over(world, respond):
    world.scripted(
        SERVER,
        lambda query: respond(
            query, authority=["test. 60 NS ns.test."], recursion_available=False
        ),
    )
    world.scripted(SECOND, simple(respond))
    answer = world.resolve(world.stub(SERVER, SECOND), "a.test")
    assert answer.texts() == ["192.0.2.80"]


@pytest.mark.parametrize("rcode", [Rcode.FORMERR, Rcode.NOTIMP])
@pytest.mark.parametrize("bare", [False, True])
def test_server_without_edns_is_asked_again_without(world, respond, rcode, bare):
    def script(query):
        if query.edns is None:
            return simple(respond)(query)
        response = respond(query, rcode=rcode)._replace(edns=None)
        return response._replace(question=()) if bare and rcode == Rcode.FORMERR else response

    world.scripted(SERVER, script)
    assert world.resolve(world.stub(SERVER), "a.test").texts() == ["192.0.2.80"]
    assert [Message.parse(octets).edns is None for octets in world.messages] == [False, True]


# transports ------------------------------------------------------------------------------------


def truncating(respond, stream_reply):
    """Return a server: TC over UDP, and over TCP the pieces that ``stream_reply`` makes."""

    def answer(query, stream):
        message = Message.parse(query)
        if not stream:
            forged = respond(message, answer=["a.test. 9999 A 192.0.2.66"], truncated=True)
            return [forged.build()]
        return stream_reply(simple(respond)(message).build())

    return answer


@pytest.mark.parametrize("pieces", ["whole", "octets", "two replies"])
def test_dns_27_truncated_answer_is_asked_for_over_tcp(world, respond, pieces):
    def stream(octets):
        framed = frame_message(octets)
        if pieces == "whole":
            return [framed]
        if pieces == "octets":
            return [framed[index : index + 1] for index in range(len(framed))]
        return [framed + frame_message(octets.replace(b"\xc0\x00\x02\x50", b"\xc0\x00\x02\x42"))]

    world.servers[parse_address(SERVER)] = truncating(respond, stream)
    resolver = world.stub(SERVER)
    assert world.resolve(resolver, "a.test").texts() == ["192.0.2.80"]
    assert [entry[3] for entry in world.log] == ["udp", "tcp"]
    assert world.messages[0][:2] != world.messages[1][:2]
    # Nothing of the truncated answer was kept.
    assert world.resolve(resolver, "a.test").ttl == 60


@pytest.mark.parametrize(
    ("stream", "outcome"),
    [
        (lambda octets: [b"\0\0"], "a wrong answer over TCP"),
        (lambda octets: [frame_message(octets[:9])], "a wrong answer over TCP"),
        (lambda octets: [frame_message(octets)[:-1], b""], "the server closed the stream"),
        (lambda octets: [b""], "the server closed the stream"),
        (lambda octets: [b"\xff\xff" + octets], "timeout"),
        (lambda octets: [b"\xff\xff" + octets + bytes(65_535 - len(octets))], "a wrong answer"),
        (lambda octets: [], "timeout"),
    ],
)
def test_dns_27_broken_streams_end(world, respond, stream, outcome):
    world.servers[parse_address(SERVER)] = truncating(respond, stream)
    with pytest.raises((NameServerError, TimedOut)):
        world.resolve(world.stub(SERVER), "a.test")
    assert world.outcomes()[0][1].startswith(outcome)
    assert len(world.log) <= 6
    assert world.now < 20


def test_dns_28_truncated_over_tcp_too_is_an_error(world, respond):
    world.scripted(SERVER, lambda query: respond(query, truncated=True))
    with pytest.raises(NameServerError, match="truncated even over TCP"):
        world.resolve(world.stub(SERVER), "a.test")
    assert len(world.log) == 2


def test_tcp_from_the_start(world, respond):
    world.scripted(SERVER, simple(respond))
    assert world.resolve(world.stub(SERVER), "a.test", over_tcp=True).texts() == ["192.0.2.80"]
    assert [entry[3] for entry in world.log] == ["tcp"]


def test_dns_13_large_datagram_is_read_whole(world, respond):
    records = [f"a.test. 60 A 10.{i >> 8}.{i & 255}.1" for i in range(4_000)]
    world.scripted(SERVER, lambda query: respond(query, answer=records))
    resolver = world.stub(SERVER)
    assert len(world.messages) == 0
    answer = world.resolve(resolver, "a.test")
    assert len(answer.records) == 4_000
    assert resolver.cache.octets <= world.context.config.dns.cache_octets
    # The same cut short anywhere is no answer.
    octets = respond(Message.parse(world.messages[0]), answer=records).build()[:60_000]
    world.servers[parse_address(SERVER)] = lambda query, stream: [query[:2] + octets[2:]]
    with pytest.raises(TimedOut):
        world.resolve(world.stub(SERVER), "b.test")


def test_failed_endpoint_moves_on_at_once(world, respond):
    world.scripted(SECOND, simple(respond))
    resolution = world.stub(SERVER, SECOND).start("a.test", "A", 0.0)
    assert isinstance(resolution.next_action(0.0), SendDatagram)
    resolution.handle_failure("port unreachable", 0.1)
    world.now = 0.1
    assert world.drive(resolution).result().texts() == ["192.0.2.80"]
    assert world.now < 0.2
    assert world.outcomes()[0] == (SERVER, "port unreachable")


# forgery ---------------------------------------------------------------------------------------


def test_wrong_id_question_source_and_direction_are_ignored(world, respond):
    def answer(query, stream):
        message = Message.parse(query)
        good = simple(respond)(message)
        evil = respond(message, answer=["a.test. 60 A 192.0.2.66"])
        other = message.question[0]._replace(name=Name.from_text("b.test."))
        return [
            evil._replace(id=message.id ^ 1).build(),
            evil._replace(question=(other,)).build(),
            evil._replace(question=()).build(),
            evil._replace(question=(message.question[0]._replace(type=28),)).build(),
            evil._replace(question=(message.question[0]._replace(class_=3),)).build(),
            evil._replace(question=message.question * 2).build(),
            evil._replace(response=False).build(),
            evil._replace(opcode=4).build(),
            evil.build()[:-1],
            b"",
            (parse_address("203.0.113.1"), evil.build()),
            good.build(),
            evil.build(),
        ]

    world.servers[parse_address(SERVER)] = answer
    resolver = world.stub(SERVER)
    assert world.resolve(resolver, "a.test").texts() == ["192.0.2.80"]
    assert len(world.log) == 1
    counters = world.context.counters
    assert counters["dns.mismatched_response"] == 8
    assert counters["dns.malformed_response"] == 2
    assert counters["dns.wrong_server"] == 1


def test_dns_19_flood_of_guesses_is_never_believed_and_leads_to_tcp(world, respond):
    resolver = world.stub(SERVER)
    resolution = resolver.start("a.test", "A", 0.0)
    query = Message.parse(resolution.next_action(0.0).message)
    evil = respond(query, answer=["a.test. 60 A 192.0.2.66"])
    server, elsewhere = parse_address(SERVER), parse_address("203.0.113.1")
    octets = evil.build()
    for id in range(65_536):
        forged = id.to_bytes(2, "big") + octets[2:]
        resolution.receive_datagram(elsewhere, 53, forged, 0.0)
        resolution.receive_datagram(server, 5353, forged, 0.0)
    assert not resolution.done
    assert world.context.counters["dns.wrong_server"] == 2 * 65_536
    for id in range(65_536):
        if id != query.id:
            resolution.receive_datagram(server, 53, id.to_bytes(2, "big") + octets[2:], 0.0)
    assert not resolution.done
    assert world.context.counters["dns.mismatched_response"] == 16
    assert world.context.counters["dns.spoofing_suspected"] == 1
    # Now even the right id would not do: the query goes over TCP.
    resolution.receive_datagram(server, 53, octets, 0.0)
    assert not resolution.done
    action = resolution.next_action(0.0)
    assert isinstance(action, OpenStream)
    good = simple(respond)(Message.parse(action.message[2:]))
    resolution.receive_stream(frame_message(good.build()), 0.1)
    assert resolution.result().texts() == ["192.0.2.80"]


def test_dns_15_ids_are_random_and_each_attempt_has_its_own(world):
    resolver = world.stub(SERVER, SECOND)
    ids = []
    for index in range(300):
        resolution = resolver.start(f"h{index}.test", "A", world.now)
        action = resolution.next_action(world.now)
        ids.append(int.from_bytes(action.message[:2], "big"))
        assert resolution.next_action(world.now) is None
    assert len(set(ids)) > 290
    assert max(ids) > 60_000
    assert min(ids) < 5_000
    # A retry is a new action with a new id: the driver gives it a new port as well.
    resolution.handle_timers(resolution.next_deadline())
    again = resolution.next_action(world.now)
    assert int.from_bytes(again.message[:2], "big") != ids[-1]


def test_dns_18_letter_case_must_come_back(new_world, respond):
    world = new_world(mix_case=True)

    def script(query):
        lowered = query.question[0]._replace(name=Name(query.question[0].name.key))
        forged = respond(query, answer=["www.example.test. 60 A 192.0.2.66"])
        return [forged._replace(question=(lowered,)), simple(respond)(query)]

    world.scripted(SERVER, script)
    answer = world.resolve(world.stub(SERVER), "www.example.test")
    assert answer.texts() == ["192.0.2.80"]
    asked = Message.parse(world.messages[0]).question[0].name.labels
    assert asked != (b"www", b"example", b"test")
    assert world.context.counters["dns.mismatched_response"] == 1


def test_letter_case_of_the_answer_does_not_matter(world, respond):
    world.scripted(
        SERVER, lambda query: respond(query, answer=["WWW.Example.TEST. 60 A 192.0.2.1"])
    )
    assert world.resolve(world.stub(SERVER), "www.example.test").texts() == ["192.0.2.1"]


def test_other_class_is_no_answer(world, respond):
    def script(query):
        response = respond(query, answer=["a.test. 60 TXT x"])
        return response._replace(answer=(response.answer[0]._replace(class_=3),))

    world.scripted(SERVER, script)
    with pytest.raises(NoData):
        world.resolve(world.stub(SERVER), "a.test", "TXT")
