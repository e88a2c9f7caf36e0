"""Names resolved over the host's own stack."""

import pytest

from netstack.core.address import parse_address
from netstack.core.errors import NameNotFound, NameServerError, TimedOut
from netstack.naming.hosts import HostsTable
from netstack.naming.resolver import Resolver
from netstack.wire.dns import Message, MessageReader, Rcode, Record, frame_message
from netstack.wire.dns_rdata import RecordType

ANSWERS = {
    ("web.example", RecordType.A): ["192.0.2.2", "192.0.2.3"],
    ("big.example", RecordType.A): ["192.0.2.4"],
}


def answer(data, *, stream=False):
    query = Message.parse(data)
    question = query.question[0]
    name = str(question.name).rstrip(".").lower()
    found = ANSWERS.get((name, question.type), ())
    records = tuple(Record(question.name, question.type, 60, parse_address(a)) for a in found)
    truncated = name == "big.example" and not stream
    return Message(
        query.id, response=True, question=query.question, truncated=truncated,
        rcode=Rcode.NOERROR if found else Rcode.NXDOMAIN,
        answer=() if truncated else records,
    ).build()  # fmt: skip


class Session:
    finished = abort = paused = False

    def __init__(self):
        self.reader = MessageReader()
        self.output = b""

    def receive(self, data, now):
        if not data:
            self.finished = True
        for message in self.reader.receive(data):
            self.output += frame_message(answer(message, stream=True))

    def outgoing(self, limit):
        data, self.output = self.output[:limit], self.output[limit:]
        return data

    def next_deadline(self):
        return None

    def close(self):
        pass


class NameServer:
    stream = datagram = True

    def __init__(self):
        self.asked = 0

    def open(self, peer, local, now):
        return Session()

    def receive_datagram(self, data, peer, now):
        self.asked += 1
        return answer(data)


@pytest.fixture
def service():
    return NameServer()


@pytest.fixture
def host(network, service):
    host = network.host("client", "192.0.2.1/24", dns="192.0.2.2")
    server = network.host("server", "192.0.2.2/24")
    network.link(host, server)
    server.serve(service, 53)
    return host


def test_resolve_asks_the_name_server_and_then_the_cache(host, service):
    assert host.resolve("web.example") == ["192.0.2.2", "192.0.2.3"]
    assert host.resolve("WEB.example.") == ["192.0.2.2", "192.0.2.3"]
    assert service.asked == 1


def test_truncated_answer_is_asked_for_over_tcp(host):
    assert host.resolve("big.example") == ["192.0.2.4"]
    assert host.counters()["tcp.active_opens"] == 1


def test_look_up_over_tcp_from_the_start(host, service):
    resolution = host.look_up(host.resolver, "web.example", "A", over_tcp=True)
    assert resolution.result().texts() == ["192.0.2.2", "192.0.2.3"]
    assert service.asked == 0


def test_name_that_does_not_exist(host):
    with pytest.raises(NameNotFound, match=r"no\.example"):
        host.resolve("no.example")
    with pytest.raises(NameNotFound):
        host.create_connection(("no.example", 80))


def test_two_tasks_share_one_question(network, host, service):
    tasks = [host.spawn(host.resolve, "web.example") for _ in range(3)]
    assert [task.join() for task in tasks] == [["192.0.2.2", "192.0.2.3"]] * 3
    assert service.asked == 1


def test_other_waiter_goes_on_when_the_first_gives_up(network, host, service):
    network.links[0].cable.set(up=False)
    first = host.spawn(host.resolve, "web.example", timeout=1.0)
    second = host.spawn(host.resolve, "web.example", timeout=None)
    with pytest.raises(TimedOut, match=r"web\.example"):
        first.join()
    assert network.now == 1.0
    network.links[0].cable.set(up=True)
    assert second.join() == ["192.0.2.2", "192.0.2.3"]


def test_dead_server_ends_in_an_error(network, host):
    network.links[0].cable.set(up=False)
    with pytest.raises((TimedOut, NameServerError)):
        host.resolve("web.example", timeout=None)
    assert network.now > 1.0
    assert host.stack.connections() == []


def test_without_name_servers(network):
    with pytest.raises(NameServerError):
        network.host("alone").resolve("web.example")


def test_connections_to_names(network, host):
    host.resolver = Resolver(
        host.stack.context, hosts=HostsTable.of({"first": "192.0.2.99", "server": "192.0.2.2"})
    )
    with network.hosts["server"].create_server(("", 80)):
        for name in ("server", "192.0.2.2"):
            with host.create_connection((name, 80), timeout=5.0) as sock:
                assert sock.gettimeout() == 5.0
        with host.socket() as sock:
            sock.connect(("server", 80))
            assert sock.getpeername() == ("192.0.2.2", 80)
    assert host.ping("server").address == "192.0.2.2"


def test_next_address_is_tried_when_one_fails(network, service):
    host = network.host("client", "192.0.2.1/24", dns="192.0.2.2")
    switch = network.switch("switch")
    server, third = (network.host(f"h{n}", f"192.0.2.{n}/24") for n in (2, 3))
    for end in (host, server, third):
        network.link(end, switch)
    server.serve(service, 53)
    with pytest.raises(ConnectionRefusedError):
        host.create_connection(("web.example", 80))
    with third.create_server(("", 80)), host.create_connection(("web.example", 80)) as sock:
        assert sock.getpeername() == ("192.0.2.3", 80)
