"""Building worlds: which address goes to which link, and who reaches whom."""

import threading

import pytest

from netstack.api import Network
from netstack.core.errors import Deadlock, TimedOut, Unreachable
from netstack.link.switch import Switch


def test_ping_between_two_hosts_takes_the_links_delay(network):
    a, b = network.host("a", "10.0.0.1/24"), network.host("b", "10.0.0.2/24")
    network.link(a, b, delay=0.010)
    a.ping("10.0.0.2")
    reply = a.ping("10.0.0.2", size=100)
    assert reply.rtt == pytest.approx(0.020)
    assert (reply.address, reply.ttl, reply.size) == ("10.0.0.2", 64, 100)


def test_default_delay_is_50_microseconds(pair):
    pair.a.ping("10.0.0.2")
    assert pair.a.ping("10.0.0.2").rtt == pytest.approx(100e-6)


def test_ping_over_a_switch(network):
    hosts = [network.host(f"h{n}", f"10.0.0.{n}/24") for n in (1, 2, 3)]
    switch = network.switch("switch")
    for host in hosts:
        network.link(host, switch)
    assert isinstance(switch, Switch)
    for host in hosts[1:]:
        assert hosts[0].ping(f"10.0.0.{host.name[1]}").ttl == 64


def test_ping_over_two_routers_loses_two_hops(network):
    a = network.host("a", "10.0.1.2/24", gateway="10.0.1.1")
    first = network.router("first", "10.0.1.1/24", "10.0.2.1/24")
    second = network.router("second", "10.0.2.2/24", "10.0.3.1/24")
    b = network.host("b", "10.0.3.2/24", gateway="10.0.3.1")
    network.link(a, first)
    network.link(first, second)
    network.link(second, b)
    first.stack.add_route("10.0.3.0/24", "10.0.2.2")
    second.stack.add_route("10.0.1.0/24", "10.0.2.1")
    assert a.ping("10.0.3.2").ttl == 62
    assert b.ping("10.0.1.2").ttl == 62


def test_host_does_not_forward(network):
    a = network.host("a", "10.0.1.2/24", gateway="10.0.1.1")
    middle = network.host("middle", "10.0.1.1/24", "10.0.2.1/24")
    b = network.host("b", "10.0.2.2/24", gateway="10.0.2.1")
    network.link(a, middle)
    network.link(middle, b)
    with pytest.raises(TimedOut):
        a.ping("10.0.2.2")


def test_ping_to_oneself_needs_no_link(network):
    a = network.host("a")
    assert a.ping("127.0.0.1").address == "127.0.0.1"
    assert a.ping("localhost").address == "127.0.0.1"


def test_ping_of_nobody_times_out_or_is_unreachable(pair):
    with pytest.raises(TimedOut, match=r"10\.0\.0\.99"):
        pair.a.ping("10.0.0.99", timeout=0.5)
    with pytest.raises(Unreachable):
        pair.a.ping("10.0.0.99", timeout=10.0)
    with pytest.raises(Unreachable):
        pair.a.ping("192.0.2.1")


def test_link_beyond_a_hosts_addresses_is_refused(network):
    a, b = network.host("a", "10.0.0.1/24"), network.host("b", "10.0.0.2/24", "10.0.1.2/24")
    network.link(a, b)
    with pytest.raises(ValueError, match="a has no address for its link number 2"):
        network.link(b, a)
    assert len(b.stack.devices) == 2  # loopback and the first link


def test_names_are_taken_once(network):
    network.host("x")
    network.switch("y")
    for name in "xy":
        with pytest.raises(ValueError, match="already"):
            network.host(name)
        with pytest.raises(ValueError, match="already"):
            network.switch(name)
    assert list(network.hosts) == ["x"]


def test_parallel_links_have_names_of_their_own(network):
    a = network.host("a", "10.0.0.1/24", "10.0.1.1/24")
    b = network.host("b", "10.0.0.2/24", "10.0.1.2/24")
    assert [network.link(a, b).name for _ in range(2)] == ["a-b", "a-b#2"]
    assert b.ping("10.0.1.1").address == "10.0.1.1"


def test_mac_addresses_are_given_in_order(pair):
    macs = [host.stack.interfaces[1].mac.hex(":") for host in (pair.a, pair.b)]
    assert macs == ["02:00:00:00:00:01", "02:00:00:00:00:02"]


def test_run_until_lets_time_pass(network):
    network.run(until=2.5)
    assert network.now == 2.5


def test_leaving_the_context_cancels_what_still_runs():
    threads = threading.active_count()
    with Network() as network:
        a, b = network.host("a", "10.0.0.1/24"), network.host("b", "10.0.0.2/24")
        network.link(a, b)
        listener = b.create_server(("", 80))
        b.spawn(listener.accept)
        a.spawn(a.sleep, 100.0)
        network.run(until=1.0)
    assert threading.active_count() == threads


def test_exception_of_the_block_is_not_hidden_by_a_tasks():
    def bad():
        raise LookupError("the task's")

    def block():
        with Network() as network:
            host = network.host("a")
            host.spawn(bad)
            host.spawn(host.sleep, 1.0)
            try:
                network.run()
            finally:
                raise KeyError("the block's")

    with pytest.raises(KeyError, match="the block's"):
        block()


def test_deadlock_shows_who_waits_for_what(connected):
    connected.client.sendall(b"x" * 1000)
    connected.network.run(until=5.0)

    def reader(sock):
        sock.recv(2000)
        sock.recv(2000)

    connected.b.spawn(reader, connected.server)
    connected.a.spawn(reader, connected.client)
    with pytest.raises(Deadlock) as caught:
        connected.network.run()
    lines = [line.split("  ") for line in str(caught.value).splitlines()]
    rows = [[cell.strip() for cell in line if cell.strip()] for line in lines[1:]]
    assert rows[0] == ["task", "host", "call", "TCP state", "octets queued", "since"]
    assert rows[1][:3] == ["main", "-", "run"]
    assert rows[2][0].startswith("reader")
    assert rows[2][1] == "b"
    assert rows[2][2].startswith("recv (10.0.0.2:80 > 10.0.0.1:")
    assert rows[2][3:5] == ["ESTABLISHED", "0 out, 0 in"]
    assert rows[3][1] == "a"


def test_simulation_of_a_day_takes_no_day(pair):
    pair.network.run(until=86_000.0)
    assert pair.a.ping("10.0.0.2").address == "10.0.0.2"
    with pytest.raises(Deadlock, match="max_time"):
        pair.a.sleep(1000.0)


def test_trace_tells_what_happens(pair):
    events = []
    with pair.a.trace(events.append):
        pair.a.ping("10.0.0.2")
    count = len(events)
    pair.a.ping("10.0.0.2")
    assert len(events) == count
    names = {type(event).__name__ for event in events}
    assert {"FrameSent", "FrameReceived", "PacketSent"} <= names
    assert {event.host for event in events} == {"a"}
