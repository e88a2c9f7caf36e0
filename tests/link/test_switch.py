"""The learning switch between simulated cables."""

from __future__ import annotations

from collections import deque

import pytest

from netstack.core.context import Context
from netstack.core.rng import Rng
from netstack.core.timers import EventHeap
from netstack.device.base import Capabilities, Checksum, Device, Frame, as_frame
from netstack.device.cable import Cable
from netstack.link.switch import (
    AGEING_TIME_S,
    MAX_ADDRESSES,
    MAX_FLOODS,
    MAX_WAITING_FRAMES,
    Switch,
)
from netstack.wire.ethernet import EthernetHeader

BROADCAST = b"\xff" * 6


class Wire(Device):
    """One end of a pair; what is transmitted arrives at the other end after ``delay``."""

    def __init__(self, events, delay=50e-6) -> None:
        super().__init__("wire", Capabilities())
        self.events, self.delay = events, delay
        self.other = self
        self.inbox = deque()
        self.busy = False

    def transmit(self, frame):
        if self.busy:
            return False
        self.events.schedule(self.events.now + self.delay, self.other.arrive, frame)
        return True

    def arrive(self, frame):
        self.inbox.append(frame)
        if self.on_pending is not None:
            self.on_pending()

    def receive_burst(self, limit=64):
        return [self.inbox.popleft() for _ in range(min(limit, len(self.inbox)))]

    def pending(self):
        return bool(self.inbox)


class Room:
    """Hosts (bare wire ends) around switches."""

    def __init__(self) -> None:
        self.events = EventHeap()
        self.switches = []

    def switch(self):
        switch = Switch(self.events, Context(f"s{len(self.switches)}", seed=1))
        self.switches.append(switch)
        return switch

    def wires(self, delay=50e-6):
        a, b = Wire(self.events, delay), Wire(self.events, delay)
        a.other, b.other = b, a
        return a, b

    def host(self, switch):
        host, port = self.wires()
        switch.attach(port)
        return host

    def trunk(self, a, b, delay=50e-6):
        end, other = self.wires(delay)
        a.attach(end)
        b.attach(other)

    def run(self, until=None, limit=1_000_000):
        """Run what is planned; return how many events that took."""
        for count in range(limit):
            when = self.events.next_time()
            if when is None or (until is not None and when > until):
                if until is not None:
                    self.events.now = until
                return count
            self.events.run_next()
        raise AssertionError("the storm never ends")


@pytest.fixture
def room():
    return Room()


def mac(number):
    return b"\x02\0" + number.to_bytes(4)


def send(host, destination, source, payload=b"payload"):
    host.transmit(Frame(EthernetHeader(destination, source, 0x0800).build() + payload))


def test_unknown_address_floods_and_the_answer_goes_to_one_port(room):
    switch = room.switch()
    a, b, c = (room.host(switch) for _ in range(3))
    send(a, mac(2), mac(1))
    room.run()
    assert [len(host.receive_burst()) for host in (a, b, c)] == [0, 1, 1]
    send(b, mac(1), mac(2))
    room.run()
    send(a, mac(2), mac(1))
    room.run()
    assert [len(host.receive_burst()) for host in (a, b, c)] == [1, 1, 0]
    assert switch.addresses() == {mac(1): 0, mac(2): 1}


def test_broadcast_reaches_all_but_its_sender(room):
    switch = room.switch()
    hosts = [room.host(switch) for _ in range(4)]
    send(hosts[0], BROADCAST, mac(1))
    room.run()
    assert [len(host.receive_burst()) for host in hosts] == [0, 1, 1, 1]


def test_station_that_moved_is_found_at_its_new_port(room):
    switch = room.switch()
    a, b, c = (room.host(switch) for _ in range(3))
    send(a, BROADCAST, mac(1))
    room.run()
    send(b, BROADCAST, mac(1))
    room.run()
    for host in (a, b, c):
        host.receive_burst()
    send(c, mac(1), mac(3))
    room.run()
    assert [len(host.receive_burst()) for host in (a, b, c)] == [0, 1, 0]
    assert switch.context.counters["switch.moved"] == 1


def test_frame_for_a_station_at_the_same_port_is_not_sent_back(room):
    switch = room.switch()
    a, b = room.host(switch), room.host(switch)
    send(a, BROADCAST, mac(1))
    send(a, mac(1), mac(2))
    room.run()
    assert len(b.receive_burst()) == 1
    assert switch.context.counters["switch.same_port"] == 1


@pytest.mark.parametrize("source", [bytes(6), b"\x01\0\0\0\0\x01", BROADCAST])
def test_impossible_source_is_not_learned_and_its_frame_dropped(room, source):
    switch = room.switch()
    a, b = room.host(switch), room.host(switch)
    send(a, mac(2), source)
    room.run()
    assert switch.addresses() == {}
    assert b.receive_burst() == []
    assert switch.context.counters["switch.bad_source"] == 1


@pytest.mark.parametrize("length", range(14))
def test_arp_01_short_frame_is_dropped_and_the_next_one_forwarded(room, length):
    switch = room.switch()
    a, b = room.host(switch), room.host(switch)
    a.transmit(Frame((mac(2) + mac(1) + b"\x08\0")[:length]))
    send(a, mac(2), mac(1))
    room.run()
    assert len(b.receive_burst()) == 1
    assert switch.context.counters["switch.malformed"] == 1


def test_reserved_group_is_never_forwarded(room):
    switch = room.switch()
    a, b = room.host(switch), room.host(switch)
    send(a, b"\x01\x80\xc2\0\0\x0f", mac(1))
    send(a, b"\x01\x80\xc2\0\0\x10", mac(1))
    room.run()
    assert len(b.receive_burst()) == 1
    assert switch.context.counters["switch.reserved"] == 1


def test_arp_15_address_flood_is_bounded_floods_on_and_ages(room):
    switch = room.switch()
    a, b, c = (room.host(switch) for _ in range(3))
    send(b, BROADCAST, mac(1))
    for number in range(100_000):
        send(a, mac(1), mac(0x10000 + number))
        if number % 50 == 0:
            room.run()
            b.receive_burst(1000)
    room.run()
    assert len(switch.addresses()) == MAX_ADDRESSES
    assert switch.context.counters["switch.table_full"] == 100_001 - MAX_ADDRESSES
    b.receive_burst(1000)
    c.receive_burst(1000)
    room.run(room.events.now + 2)
    send(a, mac(0x10000 + 99_999), mac(0x10000))  # was not learned: floods
    send(c, mac(1), mac(0x10001))  # was learned before the flood, and kept
    room.run()
    assert len(b.receive_burst()) == 2
    assert len(c.receive_burst()) == 1
    room.run(room.events.now + AGEING_TIME_S)
    assert switch.addresses() == {}
    send(b, BROADCAST, mac(7))
    room.run()
    assert switch.addresses() == {mac(7): 1}


def test_aged_address_floods_again(room):
    switch = room.switch()
    a, b, c = (room.host(switch) for _ in range(3))
    send(b, BROADCAST, mac(2))
    room.run(AGEING_TIME_S + 1)
    c.receive_burst()
    send(a, mac(2), mac(1))
    room.run()
    assert len(c.receive_burst()) == 1


@pytest.mark.parametrize("delay", [0.0, 50e-6])
@pytest.mark.parametrize("trunks", [2, 3])
def test_arp_16_loop_of_two_switches_ends_and_is_reported(room, trunks, delay):
    left, right = room.switch(), room.switch()
    for _ in range(trunks):
        room.trunk(left, right, delay)
    a, b = room.host(left), room.host(right)
    for number in range(3):
        send(a, BROADCAST, mac(1), b"storm %d" % number)
    events = room.run(limit=100_000)
    assert room.events.now < 1.0
    assert events < 100_000
    counters = [switch.context.counters for switch in room.switches]
    assert any(counter.get("switch.storm", 0) for counter in counters)
    assert all(counter["switch.flooded"] <= MAX_FLOODS * (trunks + 1) for counter in counters)
    b.receive_burst(10**6)
    room.run(room.events.now + 2)
    send(b, mac(9), mac(2))
    room.run(limit=100_000)
    assert len(a.receive_burst(10**6)) > 0  # the network lives


def test_arp_16_triangle_that_multiplies_frames_ends_too(room):
    switches = [room.switch() for _ in range(4)]
    for index, switch in enumerate(switches):
        for other in switches[index + 1 :]:
            room.trunk(switch, other)
    send(room.host(switches[0]), BROADCAST, mac(1))
    room.run(limit=400_000)
    assert room.events.now < 1.0


def test_busy_port_keeps_a_bounded_queue_and_sends_it_later(room):
    switch = room.switch()
    a, b = room.host(switch), room.host(switch)
    port = switch.ports[1]
    port.device.busy = True
    for number in range(MAX_WAITING_FRAMES + 10):
        send(a, mac(2), mac(1), b"%d" % number)
    room.run()
    assert len(port.waiting) == MAX_WAITING_FRAMES
    assert switch.context.counters["switch.queue_full"] == 10
    port.device.busy = False
    send(a, mac(2), mac(1))
    room.run()
    assert len(b.receive_burst(1000)) == MAX_WAITING_FRAMES + 1


def test_flooded_copies_are_independent(room):
    switch = room.switch()
    a, b, c = (room.host(switch) for _ in range(3))
    frame = Frame(bytearray(EthernetHeader(BROADCAST, mac(1), 0x0800).build() + bytes(40)))
    frame.checksum = Checksum.PARTIAL
    frame.group = True
    a.transmit(frame)
    room.run()
    [first], [second] = b.receive_burst(), c.receive_burst()
    first.header[20] = 0xFF  # as completing a checksum in place does
    assert second.header[20] == 0
    assert not first.group


def test_switch_reads_what_waited_before_it_was_attached(room):
    switch = room.switch()
    host, port = room.wires()
    other = room.host(switch)
    send(host, BROADCAST, mac(1))
    room.run()
    switch.attach(port)
    room.run()
    assert len(other.receive_burst()) == 1
    assert switch.name == "s0"


def test_cables_join_switches_and_hosts(room):
    def cable(name, **settings):
        return Cable(room.events, Rng(1), name, **settings)

    left, right = room.switch(), room.switch()
    first, second, trunk = cable("first"), cable("second", rate=1e9), cable("trunk", delay=1e-3)
    left.attach(first.b)
    left.attach(trunk.a)
    right.attach(trunk.b)
    right.attach(second.b)
    send(first.a, mac(2), mac(1), b"there")
    room.run()
    send(second.a, mac(1), mac(2), b"back")
    room.run()
    [there], [back] = second.a.receive_burst(), first.a.receive_burst()
    assert as_frame(there).octets()[14:] == b"there"
    assert as_frame(back).octets()[14:] == b"back"
    assert room.events.now > 2e-3
