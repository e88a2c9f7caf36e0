"""TIME-WAIT: what it answers, when it makes way, what it costs."""

import gc
import tracemalloc
import weakref

import pytest

from netstack.core.config import Config, TcpConfig
from netstack.core.errors import Unreachable
from netstack.core.seqnum import diff
from netstack.device.base import Capabilities, Device, Medium
from netstack.stack import Stack


def only(peer):
    (record,) = peer.stack.tcp.time_wait
    return record


# ---- what it answers ---------------------------------------------------------------------------


def test_connection_itself_is_given_up(peer):
    peer.time_wait()
    assert not peer.stack.tcp.connections
    alive = weakref.ref(peer.connection)
    peer.connection = None
    peer.events()
    gc.disable()
    try:
        assert alive() is None  # by reference counts alone, long before 2 MSL have passed
    finally:
        gc.enable()
    peer.inject("FA", seq=1, ack=2)
    peer.expect("A", seq=2, ack=2)
    assert [info.state for info in peer.stack.connections()] == ["TIME-WAIT"]
    peer.advance(61)
    assert not peer.stack.connections()
    assert peer.stack.next_deadline() is None


@pytest.mark.parametrize(
    ("flags", "seq", "ack", "data", "answer"),
    [
        ("A", 2, 2, b"", None),
        ("A", 1, 2, b"", "A"),  # below the window: a keep-alive, or a lost ACK's repetition
        ("PA", 1, 2, b"x", "A"),
        ("PA", 2, 2, b"late", None),  # no text after FIN
        ("FA", 1, 2, b"", "A"),
        ("A", 2_000_000, 2, b"", "A"),
        ("A", 2, 3, b"", "A"),  # of what was never sent
        ("", 2, None, b"", None),
        ("S", -1_000, None, b"", "A"),  # an old SYN
        ("SA", 0, 1, b"", "A"),
        ("R", 2, None, b"", None),  # RFC 1337
        ("R", 1, None, b"", None),
        ("R", 100, None, b"", "A"),  # RFC 5961
        ("RA", 2_000_000, 2, b"", None),
    ],
)
def test_answer_to_each_segment(peer, flags, seq, ack, data, answer):
    peer.time_wait()
    peer.inject(flags, seq=seq, ack=ack, data=data)
    if answer:
        peer.expect(answer, seq=2, ack=2)
    peer.expect_nothing()
    assert peer.state == "TIME_WAIT"


def test_timestamps_are_checked_and_sent(make_peer):
    peer = make_peer(timestamps=True).time_wait()
    record = only(peer)
    before = peer.ts_ecr
    peer.advance(2)
    peer.inject("FA", seq=1, ack=2)
    peer.expect("A", seq=2, ack=2)
    assert diff(peer.ts_ecr, before) == 2_000
    peer.ts_val -= 1
    peer.inject("FA", seq=1, ack=2)
    peer.expect("A")
    assert peer.counter("tcp.paws") == 1
    peer.inject("FA", seq=1, ack=2, options=b"")
    peer.expect_nothing()
    assert record.deadline == pytest.approx(2 + 60)


def test_empty_segments_are_not_answered_too_often(peer):
    peer.time_wait()
    for _ in range(100):
        peer.inject("A", seq=1, ack=2)
        peer.advance(0.01)
    assert len(peer.segments()) <= 3


def test_abort_of_the_stack_ends_it(peer):
    peer.time_wait()
    peer.stack.abort(peer.now)
    assert peer.state == "CLOSED"
    assert not peer.stack.connections()
    assert peer.stack.next_deadline() is None


def test_abort_of_the_connection_ends_its_own_only(peer):
    peer.time_wait()
    old = peer.connection
    peer.inject("S", seq=1_000)
    peer.expect("SA")
    assert old.state.name == "CLOSED"
    old.abort(peer.now)
    assert len(peer.stack.tcp.connections) == 1


def test_oldest_goes_when_there_are_too_many(make_peer):
    peer = make_peer(max_time_wait=2).listen()
    connections = []
    for port in (1001, 1002, 1003):
        peer.port = port
        peer.inject("S", seq=0)
        peer.expect("SA")
        peer.inject("A", seq=1, ack=1)
        connections.append(peer.listener.accept())
        connections[-1].close(peer.now)
        peer.poll()
        peer.expect("FA")
        peer.inject("FA", seq=1, ack=2)
        peer.expect("A")
        peer.advance(1)
    assert [each.state.name for each in connections] == ["CLOSED", "TIME_WAIT", "TIME_WAIT"]
    assert peer.counter("tcp.time_wait_overflow") == 1
    peer.advance(58.5)
    assert [each.state.name for each in connections] == ["CLOSED", "CLOSED", "TIME_WAIT"]
    peer.advance(1)
    assert not peer.stack.connections()


# ---- reuse (RFC 6191) --------------------------------------------------------------------------


def test_newer_timestamp_reopens_even_below_the_old_numbers(make_peer):
    peer = make_peer(timestamps=True).time_wait()
    old = peer.iss
    peer.ts_val += 1
    peer.inject("S", seq=-10_000)
    seen = peer.expect("SA")
    assert diff(seen.header.seq, old + 2) > 0
    assert len(peer.stack.tcp.connections) == 1
    assert not len(peer.stack.tcp.time_wait)


def test_older_timestamp_does_not_reopen_even_above_the_old_numbers(make_peer):
    peer = make_peer(timestamps=True).time_wait()
    peer.ts_val -= 1
    peer.inject("S", seq=100_000)
    peer.expect("A", ack=2)
    assert len(peer.stack.tcp.time_wait) == 1


@pytest.mark.parametrize(("seq", "answer"), [(100_000, "SA"), (-100_000, "A")])
def test_same_timestamp_leaves_it_to_the_numbers(make_peer, seq, answer):
    peer = make_peer(timestamps=True).time_wait()
    peer.inject("S", seq=seq)
    peer.expect(answer)


def test_syn_that_nobody_wants_does_not_end_it(peer):
    """We connected, so that nobody listens there: a stranger's SYN is no way to end it."""
    peer.connected()
    peer.connection.shutdown_write(peer.now)
    peer.poll()
    peer.inject("FA", seq=1, ack=2)
    peer.segments()
    assert peer.state == "TIME_WAIT"
    peer.inject("S", seq=1_000_000)
    peer.expect("A", seq=2, ack=2)
    assert peer.state == "TIME_WAIT"


def test_syn_at_a_full_queue_is_not_answered_with_a_cookie(make_peer):
    peer = make_peer(max_syn_received=1).time_wait()
    port, peer.port = peer.port, 50_000
    peer.inject("S", seq=0)
    peer.expect("SA")
    peer.port = port
    peer.inject("S", seq=100_000)
    peer.expect_nothing()
    assert len(peer.stack.tcp.time_wait) == 1


def active(peer):
    """Bring an active open to TIME-WAIT; return its local address."""
    peer.connected()
    peer.connection.close(peer.now)
    peer.poll()
    peer.expect("FA")
    peer.inject("FA", seq=1, ack=2)
    peer.expect("A")
    assert peer.state == "TIME_WAIT"
    return peer.connection.local


def test_active_open_takes_the_place_with_timestamps_after_a_second(make_peer):
    peer = make_peer(timestamps=True)
    local = active(peer)
    old, stamp = peer.iss, peer.ts_ecr
    with pytest.raises(Unreachable):
        peer.stack.connect(("10.0.0.2", peer.port), peer.now, local=local)
    peer.advance(1)
    peer.stack.connect(("10.0.0.2", peer.port), peer.now, local=local)
    peer.poll()
    seen = peer.expect("S")
    assert diff(seen.header.seq, old + 2) > 0
    assert diff(peer.ts_ecr, stamp) > 0
    assert not len(peer.stack.tcp.time_wait)
    assert peer.counter("tcp.time_wait_reused") == 1


def test_active_open_without_timestamps_waits_for_two_msl(peer):
    local = active(peer)
    peer.advance(59)
    with pytest.raises(Unreachable):
        peer.stack.connect(("10.0.0.2", peer.port), peer.now, local=local)
    peer.advance(1.1)
    peer.stack.connect(("10.0.0.2", peer.port), peer.now, local=local)


def test_chosen_port_is_none_of_those_that_must_wait(make_peer):
    peer = make_peer(ephemeral_ports=(40_000, 40_000))
    active(peer)
    with pytest.raises(Unreachable):
        peer.stack.connect(("10.0.0.2", peer.port), peer.now)
    peer.stack.connect(("10.0.0.2", peer.port + 1), peer.now)


# ---- what it costs -----------------------------------------------------------------------------


class Pipe(Device):
    """Hands what one stack transmits to the other's next burst."""

    def __init__(self):
        super().__init__("pipe", Capabilities(Medium.IP, 1500))
        self.inbox = []
        self.other = None

    def transmit(self, frame):
        self.other.inbox.append(frame.octets())
        return True

    def receive_burst(self, limit=64):
        taken, self.inbox = self.inbox, []
        return taken

    def pending(self):
        return bool(self.inbox)


class Two:
    """Two stacks on one link."""

    def __init__(self, **settings):
        config = Config(tcp=TcpConfig(**settings))
        self.stacks = []
        pipes = Pipe(), Pipe()
        pipes[0].other, pipes[1].other = pipes[1], pipes[0]
        for number, pipe in enumerate(pipes):
            stack = Stack(f"host{number}", seed=number + 1, config=config)
            stack.contain_errors = False
            stack.attach(pipe, f"10.0.0.{number + 1}/24")
            self.stacks.append(stack)

    def settle(self, now):
        deadlines = [now]
        while any(when is not None and when <= now for when in deadlines):
            for stack in self.stacks:
                stack.poll(now)
                while stack.next_event() is not None:
                    pass
            deadlines = [stack.next_deadline() for stack in self.stacks]


def churn(two, count, seconds, *, server_closes, start=0.0):
    """Open and close ``count`` connections one after the other within ``seconds``."""
    client, server = two.stacks
    listener = server.listen(("", 80))
    for number in range(count):
        now = start + number * seconds / count
        connection = client.connect(("10.0.0.2", 80), now)
        two.settle(now)
        accepted = listener.accept()
        assert accepted is not None, (number, connection.state)
        first, last = (accepted, connection) if server_closes else (connection, accepted)
        first.close(now)
        two.settle(now)
        last.close(now)
        two.settle(now)
        assert last.state.name == "CLOSED"


@pytest.mark.parametrize("server_closes", [False, True])
def test_tcp_39_ports_do_not_run_out(server_closes):
    """Twice as many connections as there are ports, within one TIME-WAIT."""
    two = Two(ephemeral_ports=(40_000, 40_199))
    churn(two, 400, 30.0, server_closes=server_closes)
    waiting = two.stacks[server_closes].tcp.time_wait
    assert 0 < len(waiting) <= 200


@pytest.mark.soak
@pytest.mark.parametrize("server_closes", [False, True])
def test_tcp_39_sixty_thousand_connections_in_sixty_seconds(server_closes):
    two = Two()
    churn(two, 100, 1.0, server_closes=server_closes)
    for stack in two.stacks:
        stack.tcp.time_wait.clear()
        stack.tcp.listeners.clear()
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        churn(two, 60_000, 60.0, server_closes=server_closes, start=10.0)
        waiting = two.stacks[server_closes].tcp.time_wait
        grown = tracemalloc.get_traced_memory()[0] - before
        assert grown <= 1024 * len(waiting)
        for stack in two.stacks:
            stack.poll(200.0)
        assert not len(waiting)
        assert tracemalloc.get_traced_memory()[0] - before < 4_000_000  # tables keep their size
    finally:
        tracemalloc.stop()


def test_tcp_39_record_takes_less_than_a_kibibyte_and_all_of_it_comes_back():
    two = Two()
    churn(two, 50, 0.0, server_closes=False)
    two.stacks[0].tcp.time_wait.clear()
    two.stacks[1].tcp.listeners.clear()
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        churn(two, 500, 5.0, server_closes=False)
        gc.collect()
        waiting = two.stacks[0].tcp.time_wait
        assert 490 <= len(waiting) <= 500  # a port may have been taken again
        assert tracemalloc.get_traced_memory()[0] - before < 500 * 1024
        for stack in two.stacks:
            stack.poll(100.0)
        two.settle(100.0)
        assert not len(waiting)
        assert tracemalloc.get_traced_memory()[0] - before < 500 * 200  # tables keep their size
    finally:
        tracemalloc.stop()
