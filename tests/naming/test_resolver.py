"""The face of the resolver: sharing, limits, what may be asked, how a driver may fail."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netstack.core.address import parse_address
from netstack.core.context import Context
from netstack.core.errors import LocalProtocolError, NetstackError, TimedOut
from netstack.naming.answer import Outcome
from netstack.naming.exchange import OpenStream, SendDatagram
from netstack.naming.resolver import Resolver
from netstack.wire.dns import Message, Rcode

SERVER = "192.0.2.53"


def serve(world, respond):
    world.scripted(
        SERVER, lambda query: respond(query, answer=[f"{query.question[0].name} 60 A 192.0.2.80"])
    )


def test_dns_16_hundred_equal_questions_are_one_query(world, respond):
    serve(world, respond)
    resolver = world.stub(SERVER)
    resolutions = [
        resolver.start("www.Example.test" if index % 2 else "WWW.example.test.", "A", 0.0)
        for index in range(100)
    ]
    assert len(set(map(id, resolutions))) == 1
    assert resolutions[0].waiters == 100
    world.drive(resolutions[0])
    assert len(world.log) == 1
    assert all(each.result().texts() == ["192.0.2.80"] for each in resolutions)
    assert world.context.counters["dns.coalesced"] == 99
    # Another type, and a later question, are resolutions of their own.
    assert resolver.start("www.example.test", "AAAA", 0.0) is not resolutions[0]
    assert resolver.start("www.example.test", "A", world.now) is not resolutions[0]


def test_unwanted_resolution_ends(world):
    resolver = world.stub(SERVER)
    resolution = resolver.start("a.test", "A", 0.0)
    assert resolver.start("a.test", "A", 0.0) is resolution
    resolver.release(resolution)
    assert not resolution.done
    resolver.release(resolution)
    assert resolution.done
    assert resolution.next_action(0.0) is None
    assert resolution.next_deadline() is None
    with pytest.raises(TimedOut, match="given up"):
        resolution.result()
    # Giving up is no failure of the servers: it is asked anew.
    assert not resolver.start("a.test", "A", 0.0).done


def test_action_of_a_party_that_left_is_handed_out_anew(world, respond):
    serve(world, respond)
    resolution = world.stub(SERVER).start("a.test", "A", 0.0)
    first = resolution.next_action(0.0)
    resolution.abandon(1.0)
    second = resolution.next_action(1.0)
    assert isinstance(second, SendDatagram)
    assert second.message[:2] != first.message[:2]
    assert second.timeout_at == resolution.next_deadline() == 3.0
    reply = respond(Message.parse(first.message), answer=["a.test. 60 A 192.0.2.66"])
    resolution.receive_datagram(parse_address(SERVER), 53, reply.build(), 1.1)
    assert not resolution.done


def test_what_came_after_the_end_is_ignored(world, respond):
    serve(world, respond)
    resolution = world.drive(world.stub(SERVER).start("a.test", "A", 0.0))
    resolution.receive_datagram(parse_address(SERVER), 53, b"x", 9.0)
    resolution.receive_stream(b"", 9.0)
    resolution.handle_failure("reset", 9.0)
    resolution.handle_timers(9.0)
    resolution.abandon(9.0)
    resolution.cancel()
    assert resolution.result().texts() == ["192.0.2.80"]


def test_outcome_and_response_are_shown(world, respond):
    serve(world, respond)
    resolver = world.stub(SERVER, hosts={"h.test": "192.0.2.1"})
    resolution = resolver.start("a.test", "A", 0.0)
    assert resolution.outcome is None
    assert resolution.response is None
    with pytest.raises(LocalProtocolError):
        resolution.result()
    world.drive(resolution)
    assert resolution.outcome is Outcome.ANSWER
    assert resolution.response.answer[0].ttl == 60
    assert resolver.start("h.test", "AAAA", 0.0).outcome is Outcome.NO_DATA
    world.scripted(SERVER, lambda query: respond(query, rcode=Rcode.NXDOMAIN))
    assert world.drive(resolver.start("b.test", "A", 0.0)).outcome is Outcome.NAME_ERROR
    world.scripted(SERVER, lambda query: respond(query, rcode=Rcode.SERVFAIL))
    assert world.drive(resolver.start("c.test", "A", 0.0)).outcome is Outcome.FAILURE


@pytest.mark.parametrize("name", ["", "..", "a..b", "192.0.2.1", "x" * 300, "a b", ".a"])
def test_dns_33_bad_names_never_reach_the_wire(world, name):
    with pytest.raises(ValueError, match=r"."):
        world.stub(SERVER).start(name, "A", 0.0)


@pytest.mark.parametrize("type", ["", "BOGUS", "AXFR", "IXFR", "OPT", "TSIG", "TYPE0", "TYPE250"])
def test_types_that_are_no_questions_are_refused(world, type):
    with pytest.raises(ValueError, match=r"."):
        world.stub(SERVER).start("a.test", type, 0.0)


def test_ids_come_from_the_stack_s_seed():
    def message(seed):
        resolver = Resolver(Context("client", seed=seed), [parse_address(SERVER)])
        return resolver.start("a.test", "A", 0.0).next_action(0.0).message

    assert message(1) == message(1)
    assert message(1) != message(2)


def test_time_never_goes_back(world):
    resolution = world.stub(SERVER).start("a.test", "A", 100.0)
    resolution.handle_timers(50.0)
    assert resolution.next_deadline() == 102.0


@settings(max_examples=100)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("datagram"), st.binary(max_size=60)),
            st.tuples(st.just("echo"), st.binary(max_size=60)),
            st.tuples(st.just("truncated"), st.just(b"")),
            st.tuples(st.just("stream"), st.binary(max_size=60)),
            st.tuples(st.just("fail"), st.just(b"")),
            st.tuples(st.just("time"), st.just(b"")),
        ),
        max_size=30,
    )
)
def test_random_input_ends_in_a_documented_error_or_goes_on(inputs):
    context = Context("client", seed=1)
    servers = [parse_address(SERVER), parse_address("192.0.2.54")]
    resolution = Resolver(context, servers).start("a.test", "A", 0.0)
    now = 0.0
    action = None
    for kind, data in inputs:
        action = resolution.next_action(now) or action
        if resolution.done:
            break
        if kind == "datagram":
            resolution.receive_datagram(action.server, 53, data, now)
        elif kind == "echo":
            query = action.message[2:] if isinstance(action, OpenStream) else action.message
            forged = query[:2] + b"\x80" + query[3:] + data
            resolution.receive_datagram(action.server, 53, forged, now)
        elif kind == "truncated" and isinstance(action, SendDatagram):
            query = Message.parse(action.message)
            reply = query._replace(response=True, truncated=True).build()
            resolution.receive_datagram(action.server, 53, reply, now)
        elif kind == "stream":
            resolution.receive_stream(data, now)
        elif kind == "fail":
            resolution.handle_failure("reset", now)
        elif kind == "time":
            now = resolution.next_deadline()
            resolution.handle_timers(now)
    while not resolution.done:
        now = resolution.next_deadline()
        resolution.handle_timers(now)
    assert now < 100.0
    with pytest.raises(NetstackError):
        resolution.result()
