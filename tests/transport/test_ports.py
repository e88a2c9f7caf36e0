"""Local ports: unpredictable, free, and never a listener's (RFC 6056)."""

import itertools

import pytest

from netstack.core.config import Config, TcpConfig
from netstack.core.errors import Unreachable
from netstack.core.rng import Rng
from netstack.device.queue import QueueDevice
from netstack.stack import Stack
from netstack.transport.ports import EADDRINUSE, EADDRNOTAVAIL, choose_port


def make_stack(low=50_000, high=50_009):
    stack = Stack(seed=1, config=Config(tcp=TcpConfig(ephemeral_ports=(low, high))))
    stack.attach(QueueDevice(), "10.0.0.1/24", "10.0.0.3/24")
    return stack


def test_every_free_port_is_found_then_none():
    taken = set()
    for _ in range(50):
        taken.add(choose_port(Rng(1, "ports"), (100, 149), taken.__contains__))
    assert taken == set(range(100, 150))
    with pytest.raises(Unreachable) as caught:
        choose_port(Rng(1, "ports"), (100, 149), taken.__contains__)
    assert caught.value.errno == EADDRNOTAVAIL


def test_draws_are_spread_over_the_range():
    rng = Rng(1, "ports")
    draws = [choose_port(rng, (32_768, 60_999), lambda port: False) for _ in range(2_000)]
    assert len(set(draws)) > 1_900
    assert min(draws) < 33_500
    assert max(draws) > 60_300
    steps = [b - a for a, b in itertools.pairwise(draws)]
    assert sum(abs(step) < 100 for step in steps) < 50


def test_one_remote_end_uses_up_the_range_another_may_share_it():
    stack = make_stack()
    ports = {stack.connect(("10.0.0.2", 80), 0.0).local[1] for _ in range(10)}
    assert ports == set(range(50_000, 50_010))
    with pytest.raises(Unreachable) as caught:
        stack.connect(("10.0.0.2", 80), 0.0)
    assert caught.value.errno == EADDRNOTAVAIL
    assert stack.connect(("10.0.0.2", 81), 0.0).local[1] in ports


@pytest.mark.parametrize("address", ["", "10.0.0.1"])
def test_no_connection_takes_a_listeners_port(address):
    stack = make_stack(50_000, 50_001)
    stack.listen((address, 50_000))
    stack.connect(("10.0.0.2", 80), 0.0, local=("10.0.0.1", 50_000))  # asked for by number
    for port in range(100, 130):
        connection = stack.connect(("10.0.0.2", port), 0.0, local=("10.0.0.1", 0))
        assert connection.local[1] == 50_001


def test_listener_on_another_address_is_in_nobodys_way():
    stack = make_stack(50_000, 50_000)
    stack.listen(("10.0.0.3", 50_000))
    connection = stack.connect(("10.0.0.2", 80), 0.0, local=("10.0.0.1", 0))
    assert connection.local == ("10.0.0.1", 50_000)


def test_listener_on_port_0_gets_one_that_nobody_uses():
    stack = make_stack()
    used = {stack.connect(("10.0.0.2", 80), 0.0).local[1] for _ in range(5)}
    chosen = {stack.listen(("", 0)).local[1] for _ in range(5)}
    assert not used & chosen
    with pytest.raises(Unreachable):
        stack.listen(("", 0))


def test_port_is_free_again_after_the_connection():
    stack = make_stack(50_000, 50_000)
    for _ in range(5):
        connection = stack.connect(("10.0.0.2", 80), 0.0)
        with pytest.raises(Unreachable):
            stack.connect(("10.0.0.2", 80), 0.0)
        connection.abort(0.0)
    assert stack.listen(("", 0)).local[1] == 50_000


def test_same_four_tuple_twice_is_refused():
    stack = make_stack()
    stack.connect(("10.0.0.2", 80), 0.0, local=("", 1234))
    with pytest.raises(Unreachable) as caught:
        stack.connect(("10.0.0.2", 80), 0.0, local=("", 1234))
    assert caught.value.errno == EADDRINUSE


def test_tcp_37_connection_to_itself_is_a_simultaneous_open():
    stack = Stack(seed=1)
    connection = stack.connect(("127.0.0.1", 4_000), 0.0, local=("127.0.0.1", 4_000))
    for _ in range(20):
        stack.poll(0.0)
    assert connection.state.name == "ESTABLISHED"
    connection.send(b"echo", 0.0)
    for _ in range(20):
        stack.poll(0.0)
    assert connection.receive(10, 0.0) == b"echo"
    connection.close(0.0)
    now = 0.0
    for _ in range(200):
        stack.poll(now)
        now = max(now, stack.next_deadline() or now)
    assert not stack.connections()
