"""A world of name servers in memory, and a driver of resolutions in virtual time."""

from __future__ import annotations

import pytest

from netstack.app.dns.server import AuthoritativeServer
from netstack.app.dns.zone import parse_zone
from netstack.core.address import parse_address
from netstack.core.config import Config, DnsConfig
from netstack.core.context import Context
from netstack.core.timers import EventHeap
from netstack.core.trace import CacheLookup, NameStep
from netstack.naming.exchange import SendDatagram
from netstack.naming.hosts import HostsTable
from netstack.naming.resolver import Resolver
from netstack.wire.dns import Edns, Message, Rcode, Record, frame_message
from netstack.wire.dns_name import Name
from netstack.wire.dns_rdata import rdata_from_text, type_number, type_text


class World:
    """Servers by address: each a function (query octets, stream?) -> replies in order.

    A reply is the octets of a datagram or, for a stream, any piece of it; ``(source, octets)``
    comes from elsewhere. Whatever is sent stands in ``log`` as (server, name, type, transport).
    """

    def __init__(self, **config):
        self.events = EventHeap()
        self.now = 0.0
        self._generation = 0
        self.delay = 0.01
        self.servers = {}
        self.lost = lambda number: False
        self.log = []
        self.messages = []
        self.context = Context("client", seed=1, config=Config(dns=DnsConfig(**config)))
        self.steps = []
        self.context.listen(self.steps.append)

    def authority(self, address, *zones):
        """Run an authoritative server."""
        server = AuthoritativeServer([parse_zone(text) for text in zones])

        def answer(query, stream):
            reply = server.answer(query, 65_535 if stream else 1232)
            return [frame_message(reply) if stream else reply]

        self.servers[parse_address(address)] = answer
        return answer

    def scripted(self, address, script):
        """Run ``script(Message) -> Message | bytes | list``; TCP frames are made here."""

        def answer(query, stream):
            made = script(Message.parse(query))
            replies = made if isinstance(made, list) else [made]
            octets = [each.build() if isinstance(each, Message) else each for each in replies]
            return [frame_message(each) if stream else each for each in octets]

        self.servers[parse_address(address)] = answer

    def stub(self, *servers, hosts=None):
        return Resolver(
            self.context,
            [parse_address(server) for server in servers],
            hosts=None if hosts is None else HostsTable.of(hosts),
        )

    def iterative(self, **hints):
        """Return a resolver with root hints, by default a.root.test at 10.0.0.1."""
        pairs = hints or {"a.root.test": "10.0.0.1"}
        return Resolver(
            self.context,
            root_hints=[(name, parse_address(address)) for name, address in pairs.items()],
        )

    def resolve(self, resolver, name, type="A", **options):
        """Return the answer, or raise what the resolution ended with."""
        return self.drive(resolver.start(name, type, self.now, **options)).result()

    def drive(self, resolution):
        """Perform a resolution's actions until it is done."""
        for _ in range(10_000):
            if resolution.done:
                self.context.deliver_trace()
                return resolution
            action = resolution.next_action(self.now)
            if action is not None:
                self._generation += 1
                self._perform(resolution, action, self._generation)
                continue
            event, deadline = self.events.next_time(), resolution.next_deadline()
            if event is not None and event <= deadline:
                self.events.run_next()
                self.now = self.events.now
                continue
            self.now = self.events.now = deadline
            resolution.handle_timers(self.now)
        raise AssertionError("the resolution does not end")

    def _perform(self, resolution, action, generation):
        stream = not isinstance(action, SendDatagram)
        octets = action.message
        if stream:
            assert int.from_bytes(octets[:2], "big") == len(octets) - 2
            octets = octets[2:]
        question = Message.parse(octets).question[0]
        transport = "tcp" if stream else "udp"
        self.log.append(
            (str(action.server), str(question.name), type_text(question.type), transport)
        )
        self.messages.append(octets)
        assert action.port == 53
        assert action.timeout_at > self.now
        server = self.servers.get(action.server)
        if server is None or (not stream and self.lost(len(self.log))):
            return

        def deliver(source, piece):
            self.now = self.events.now
            # The driver closes the endpoint of an action that was superseded.
            if generation != self._generation:
                return
            if stream:
                resolution.receive_stream(piece, self.now)
            else:
                resolution.receive_datagram(source, 53, piece, self.now)

        for count, reply in enumerate(server(octets, stream)):
            source, piece = reply if isinstance(reply, tuple) else (action.server, reply)
            self.events.schedule(self.now + self.delay + count * 1e-6, deliver, source, piece)

    def outcomes(self):
        """Return what the narrative says: (server, outcome) of each step."""
        return [(step.server, step.outcome) for step in self.steps if isinstance(step, NameStep)]

    def lookups(self):
        return [(step.key, step.hit) for step in self.steps if isinstance(step, CacheLookup)]


def make_record(text):
    """Return the record of ``name ttl type data``."""
    name, ttl, type, *fields = text.split()
    number = type_number(type)
    return Record(Name.from_text(name), number, int(ttl), rdata_from_text(number, fields))


def make_response(query, *, answer=(), authority=(), additional=(), rcode=Rcode.NOERROR, **flags):
    """Return the response of a recursive server, records given as text."""
    flags = {"recursion_available": True, **flags}
    return Message(
        query.id,
        response=True,
        recursion_desired=query.recursion_desired,
        rcode=rcode,
        question=query.question,
        answer=tuple([make_record(text) for text in answer]),
        authority=tuple([make_record(text) for text in authority]),
        additional=tuple([make_record(text) for text in additional]),
        edns=None if query.edns is None else Edns(),
        **flags,
    )


@pytest.fixture
def new_world():
    """Make a world; keyword arguments are those of DnsConfig."""
    return World


@pytest.fixture
def world():
    return World()


@pytest.fixture
def record():
    return make_record


@pytest.fixture
def respond():
    return make_response
