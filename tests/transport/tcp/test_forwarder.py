"""Opens to addresses that are not ours, offered to a handler."""

import pytest

from netstack.device.queue import QueueDevice
from netstack.stack import Stack


class World:
    """A client whose gateway answers for the whole internet."""

    def __init__(self):
        self.now = 0.0
        self.client, self.gateway = Stack("client", seed=1), Stack("gateway", seed=2)
        self.near, self.far = QueueDevice(), QueueDevice()
        self.client.attach(self.near, "10.0.0.2/24", gateway="10.0.0.1")
        self.gateway.attach(self.far, "10.0.0.1/24")
        self.incoming = []
        self.gateway.forward_tcp(self.incoming.append)

    def run(self, seconds=0.05):
        end = self.now + seconds
        while self.now <= end:
            moved = True
            while moved:
                self.client.poll(self.now)
                self.gateway.poll(self.now)
                out, back = self.near.transmitted(), self.far.transmitted()
                for packet in out:
                    self.far.receive(packet)
                for packet in back:
                    self.near.receive(packet)
                moved = bool(out or back)
            self.now += 0.01

    def open(self, address="203.0.113.9", port=443):
        connection = self.client.connect((address, port), self.now)
        self.run()
        return connection


@pytest.fixture
def world():
    return World()


def test_any_address_is_offered_and_answered_only_after_accept(world):
    client = world.open()
    (incoming,) = world.incoming
    assert incoming.local == ("203.0.113.9", 443)
    assert incoming.remote == client.local
    assert client.state.name == "SYN_SENT"
    server = incoming.accept(world.now)
    world.run()
    assert client.state.name == server.state.name == "ESTABLISHED"
    assert server.local == ("203.0.113.9", 443)
    client.send(b"question", world.now)
    world.run()
    assert server.receive(100, world.now) == b"question"
    server.send(b"answer", world.now)
    world.run()
    assert client.receive(100, world.now) == b"answer"
    server.close(world.now)
    client.close(world.now)
    world.run(1)
    assert client.closed
    assert server.closed


def test_reject_refuses(world):
    client = world.open()
    world.incoming[0].reject(world.now)
    world.run()
    with pytest.raises(ConnectionRefusedError):
        client.receive(1, world.now)


def test_decision_is_made_once(world):
    world.open()
    (incoming,) = world.incoming
    assert incoming.accept(world.now) is not None
    assert incoming.accept(world.now) is None
    incoming.reject(world.now)
    world.run()
    assert len(world.gateway.connections()) == 1


def test_repeated_syn_is_offered_again_and_the_first_decision_wins(world):
    client = world.open()
    world.run(1.5)
    first, second = world.incoming
    assert first.accept(world.now) is not None
    assert second.accept(world.now) is None
    world.run()
    assert client.state.name == "ESTABLISHED"
    assert len(world.gateway.connections()) == 1


def test_listener_comes_before_the_forwarder(world):
    listener = world.gateway.listen(("", 443))
    world.open("10.0.0.1")
    assert listener.accept() is not None
    world.open("10.0.0.1", 444)
    assert [incoming.local for incoming in world.incoming] == [("10.0.0.1", 444)]


def test_reject_after_the_way_back_is_gone_is_counted(world):
    world.open()
    world.gateway.detach(world.far)
    world.incoming[0].reject(world.now)
    assert world.gateway.counters()["tcp.no_route_back"] == 1
    assert world.incoming[0].accept(world.now) is None


def test_accept_after_the_way_back_is_gone_is_none(world):
    world.open()
    world.gateway.detach(world.far)
    assert world.incoming[0].accept(world.now) is None


def test_segment_of_no_connection_to_a_foreign_address_is_reset(world):
    client = world.open()
    server = world.incoming[0].accept(world.now)
    world.run()
    world.gateway.tcp.forget(server)  # as after a restart
    client.send(b"x", world.now)
    world.run()
    with pytest.raises(ConnectionResetError):
        client.receive(1, world.now)
