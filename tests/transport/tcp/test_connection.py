"""One connection over its life: timers, give-up rules, memory, numbers near the wrap."""

import gc
import tracemalloc
import weakref
from types import SimpleNamespace

import pytest

from netstack.core.errors import TimedOut, Unreachable
from netstack.core.seqnum import MASK
from netstack.core.timers import NEVER


def send(peer, data):
    taken = peer.connection.send(data, peer.now)
    peer.poll()
    return taken


# ---- retransmission and persist timer ---------------------------------------------------------


def test_zero_window_after_long_idleness_is_probed_not_given_up(peer):
    peer.established()
    peer.inject("A", seq=1, ack=1, window=0)
    peer.advance(2_000)  # longer than R2, and nothing was owed
    send(peer, b"late")
    peer.advance(5)
    assert peer.state == "ESTABLISHED"
    assert peer.segments()


def test_data_without_route_ends_in_an_error_after_r2(make_peer):
    peer = make_peer(r2_timeout=60.0).established()
    peer.advance(1_000)
    peer.stack.detach(peer.device)
    send(peer, b"x")
    peer.advance(59)
    assert peer.state == "ESTABLISHED"
    peer.advance(120)
    assert peer.state == "CLOSED"
    with pytest.raises(Unreachable):
        peer.connection.receive(1, peer.now)


def test_route_lost_with_data_in_flight_ends_in_an_error_after_r2(make_peer):
    peer = make_peer(r2_timeout=60.0).established()
    send(peer, b"x")
    peer.segments()
    peer.stack.detach(peer.device)
    peer.advance(200)
    assert peer.state == "CLOSED"
    with pytest.raises(Unreachable):
        peer.connection.receive(1, peer.now)


def test_route_lost_and_found_again_goes_on(peer):
    peer.established()
    send(peer, b"x")
    peer.segments()
    peer.stack.detach(peer.device)
    send(peer, b"y")
    peer.advance(5)
    peer.expect_nothing()
    peer.stack.attach(peer.device, "10.0.0.1/24")
    peer.advance(20)
    assert {seen.data for seen in peer.segments()} == {b"x"}
    peer.inject("A", seq=1, ack=2)
    peer.expect("PA", seq=2, data=b"y")
    peer.inject("A", seq=1, ack=3)
    peer.advance(20)
    peer.expect_nothing()


def test_zero_window_probe_without_route_is_tried_again(make_peer):
    peer = make_peer(r2_timeout=60.0).established()
    peer.inject("A", seq=1, ack=1, window=0)
    send(peer, b"x")
    peer.stack.detach(peer.device)
    peer.advance(300)
    assert peer.state == "CLOSED"


def test_nothing_in_flight_leaves_no_timer(peer):
    peer.established()
    send(peer, b"x" * 5_000)
    peer.segments()
    peer.inject("A", seq=1, ack=5_001)
    assert peer.connection.timer.deadline == NEVER


def test_fin_is_repeated_until_acknowledged(peer):
    peer.fin_wait_1()
    peer.advance(10)
    repeated = peer.segments()
    assert len(repeated) >= 3
    assert {(seen.flags, seen.seq) for seen in repeated} == {("FA", 1)}
    peer.inject("A", seq=1, ack=2)
    assert peer.state == "FIN_WAIT_2"
    peer.advance(100)
    peer.expect_nothing()


def test_fin_after_data_in_a_closed_window_goes_when_it_opens(peer):
    peer.established()
    peer.inject("A", seq=1, ack=1, window=0)
    peer.connection.send(b"bye", peer.now)
    peer.connection.shutdown_write(peer.now)
    peer.poll()
    peer.expect_nothing()
    peer.advance(3)
    assert {seen.data for seen in peer.segments()} == {b"b"}
    peer.inject("A", seq=1, ack=1, window=1_000)
    peer.expect("FPA", seq=1, data=b"bye")


def test_fin_alone_goes_into_a_closed_window_and_is_repeated(peer):
    peer.established()
    peer.inject("A", seq=1, ack=1, window=0)
    peer.connection.shutdown_write(peer.now)
    peer.poll()
    peer.expect("FA", seq=1)
    peer.advance(5)
    assert len(peer.segments()) >= 2


def test_window_that_opens_after_a_timeout_lets_the_data_go_at_once(peer):
    peer.established()
    send(peer, b"x" * 1_000)
    peer.expect("PA")
    peer.inject("A", seq=1, ack=1, window=0)
    peer.advance(100)
    peer.segments()
    peer.inject("A", seq=1, ack=1, window=10_000)
    peer.expect("PA", seq=1, length=1_000)


def test_orphan_whose_peer_keeps_the_window_closed_is_given_up(make_peer):
    """Sockstress: RFC 6429 lets the system end what nobody owns any more."""
    peer = make_peer(r2_timeout=60.0).established()
    peer.inject("A", seq=1, ack=1, window=0)
    send(peer, b"x" * 100)
    peer.connection.close(peer.now)
    for _ in range(200):
        peer.advance(1)
        if peer.segments() and peer.state != "CLOSED":
            peer.inject("A", seq=1, ack=1, window=0)
    assert peer.state == "CLOSED"
    assert not peer.stack.tcp.connections


def test_acknowledgment_that_covers_a_repeated_segment_gives_no_sample(peer):
    """Karn: what came behind the hole waited for it, so its time is no round trip."""
    peer.established()
    send(peer, b"x" * 1_460 * 4)
    peer.advance(0.010)
    for _ in range(3):
        peer.inject("A", seq=1, ack=1)
    peer.segments()
    before = peer.connection.sender.rtt.srtt
    peer.advance(0.150)
    peer.inject("A", seq=1, ack=1 + 1_460 * 4)
    assert peer.connection.sender.rtt.srtt == before


def test_long_repeated_data_ends_the_back_off_once_acknowledged(peer):
    """An acknowledgment cannot be of a copy that has left the network long ago."""
    peer.established()
    peer.inject("A", seq=1, ack=1, window=1_460)
    send(peer, b"x" * 1_460)
    peer.advance(300)
    assert peer.connection.sender.rtt.backoff > 5
    peer.segments()
    while not peer.device.sent:
        peer.advance(0.5)
    repeated = peer.expect("A", seq=1)
    peer.inject("A", seq=1, ack=1 + len(repeated.data), window=1_460)
    assert peer.connection.sender.rtt.backoff == 0


# ---- handshake --------------------------------------------------------------------------------


def test_lost_syn_does_not_end_slow_start_before_it_began(peer):
    peer.syn_sent()
    peer.advance(1.5)
    peer.segments()
    peer.inject("SA", seq=0, ack=1)
    congestion = peer.connection.sender.congestion
    assert congestion.ssthresh > 1_000_000
    assert congestion.cwnd == 10 * 1460  # RFC 6928 2: one lost SYN proves nothing


def test_syn_lost_twice_starts_with_one_segment(peer):
    peer.syn_sent()
    peer.advance(4)
    assert len(peer.segments()) == 2
    peer.inject("SA", seq=0, ack=1)
    assert peer.connection.sender.congestion.cwnd == 1460


def test_lost_syn_ack_does_not_end_slow_start_before_it_began(peer):
    peer.syn_received()
    peer.advance(1.5)
    peer.segments()
    peer.inject("A", seq=1, ack=1)
    assert peer.connection.sender.congestion.ssthresh > 1_000_000


def test_window_scale_is_never_above_14(make_peer):
    peer = make_peer(receive_buffer=1 << 31).syn_sent()
    assert peer.connection.receiver.shift == 14  # RFC 7323 2.3


@pytest.mark.parametrize("mtu", [68, 100, 576])
def test_segments_fit_a_small_mtu(make_peer, mtu):
    peer = make_peer(mtu=mtu, timestamps=True).established()
    send(peer, b"x" * 500)
    sizes = {len(seen.data) for seen in peer.segments()}
    assert sizes
    assert max(sizes) == min(mtu - 52, 500)


# ---- reading, writing, acknowledging -----------------------------------------------------------


def test_reading_with_an_unscaled_window_sends_no_idle_updates(make_peer):
    """A buffer above 65,535 octets that no scale can tell the peer about is no news."""
    peer = make_peer(receive_buffer=1_000_000).established()
    peer.inject("PA", seq=1, ack=1, data=b"x" * 100)
    assert peer.connection.receive(100, peer.now) == b"x" * 100
    peer.poll()
    peer.expect_nothing()
    peer.advance(1)
    peer.expect("A", ack=101)


def test_writable_means_that_send_takes_something(make_peer):
    peer = make_peer(send_buffer=1).established()
    assert peer.connection.writable
    assert send(peer, b"xy") == 1
    assert not peer.connection.writable
    assert send(peer, b"y") == 0


def test_sent_still_counts_after_the_end(peer):
    peer.established()
    send(peer, b"x" * 100)
    peer.inject("A", seq=1, ack=101)
    peer.inject("RA", seq=1, ack=101)
    assert peer.state == "CLOSED"
    assert peer.connection.sent == 100


def test_buffer_of_one_octet_opens_the_window_again(make_peer):
    peer = make_peer(receive_buffer=1).established()
    peer.inject("PA", seq=1, ack=1, data=b"x")
    peer.advance(1)
    assert peer.segments()[-1].window == 0
    assert peer.connection.receive(10, peer.now) == b"x"
    peer.poll()
    assert peer.expect("A").window == 1


def test_window_of_one_octet_is_used_without_waiting_for_a_probe(peer):
    peer.listen()
    peer.inject("S", seq=0, window=1)
    peer.expect("SA")
    peer.inject("A", seq=1, ack=1, window=1)
    peer.connection = peer.listener.accept()
    send(peer, b"ab")
    peer.expect("A", data=b"a")


# ---- closing -----------------------------------------------------------------------------------


def test_close_with_unread_data_in_time_wait_keeps_the_wait(peer):
    peer.fin_wait_2()
    peer.inject("FPA", seq=1, ack=2, data=b"unread")
    peer.expect("A")
    assert peer.state == "TIME_WAIT"
    peer.connection.close(peer.now)
    peer.poll()
    assert peer.state == "TIME_WAIT"
    peer.inject("FPA", seq=1, ack=2, data=b"unread")
    peer.expect("A", ack=8)


def test_linger_zero_in_time_wait_keeps_the_wait(peer):
    peer.time_wait()
    peer.connection.set_option("linger", 0)
    peer.connection.close(peer.now)
    assert peer.state == "TIME_WAIT"


# ---- keepalive ---------------------------------------------------------------------------------


def test_keepalive_goes_on_in_fin_wait_2_of_a_reader(make_peer):
    peer = make_peer(keepalive=True, keepalive_idle=100.0, keepalive_interval=10.0)
    peer.fin_wait_2()
    peer.advance(101)
    assert peer.expect("A", seq=1).data == b""
    peer.advance(200)
    assert peer.state == "CLOSED"
    with pytest.raises(TimedOut):
        peer.connection.receive(1, peer.now)


def test_keepalive_does_not_shorten_the_patience_with_data_in_flight(make_peer):
    peer = make_peer(
        keepalive=True, keepalive_idle=10.0, keepalive_interval=1.0, keepalive_probes=2
    ).established()
    send(peer, b"x")
    peer.advance(100)
    assert peer.state == "ESTABLISHED"
    assert all(seen.data == b"x" for seen in peer.segments())


@pytest.mark.parametrize(
    "state", ["established", "fin_wait_1", "fin_wait_2", "close_wait", "last_ack", "closing"]
)
def test_every_synchronized_state_ends_when_the_peer_is_gone(make_peer, state):
    peer = make_peer(keepalive=True, keepalive_idle=100.0, keepalive_interval=10.0)
    getattr(peer, state)()
    peer.advance(2_000)
    assert peer.state == "CLOSED"
    assert not peer.stack.tcp.connections
    assert peer.stack.next_deadline() is None


# ---- memory ------------------------------------------------------------------------------------


def end(peer, how):
    if how == "reset":
        peer.inject("R", seq=1)
    elif how == "abort":
        peer.connection.abort(peer.now)
    elif how == "time_wait":
        peer.connection.close(peer.now)
        peer.poll()
        peer.inject("FA", seq=1, ack=2)
        peer.advance(61)
    else:
        peer.inject("FA", seq=1, ack=1)
        peer.connection.close(peer.now)
        peer.poll()
        peer.inject("A", seq=2, ack=2)
    peer.poll()
    peer.segments()
    peer.events()
    assert peer.state == "CLOSED"


@pytest.mark.parametrize("how", ["reset", "abort", "time_wait", "last_ack"])
def test_nothing_keeps_a_closed_connection_in_memory(make_peer, how):
    peer = make_peer(keepalive=True).established()
    end(peer, how)
    reference = weakref.ref(peer.connection)
    peer.connection = None
    gc.disable()
    try:
        assert reference() is None  # by reference counts alone: no cycle
    finally:
        gc.enable()


def test_connections_that_left_time_wait_are_forgotten(make_peer):
    peer = make_peer().listen()
    references = []
    for port in range(1000, 1020):
        peer.port = port
        peer.inject("S", seq=0)
        peer.expect("SA")
        peer.inject("A", seq=1, ack=1)
        connection = peer.listener.accept()
        connection.close(peer.now)
        peer.poll()
        peer.expect("FA")
        peer.inject("FA", seq=1, ack=2)
        peer.expect("A")
        references.append(weakref.ref(connection))
        del connection
    peer.events()
    peer.advance(61)
    assert [reference() for reference in references] == [None] * 20


def test_idle_connection_is_small(make_peer):
    peer = make_peer().listen(backlog=200)
    accepted = []
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for port in range(1000, 1100):
            peer.port = port
            peer.inject("S", seq=0)
            peer.segments()
            peer.inject("A", seq=1, ack=1)
            accepted.append(peer.listener.accept())
        peer.events()
        peer.script.clear()
        each = (tracemalloc.get_traced_memory()[0] - before) / 100
    finally:
        tracemalloc.stop()
    assert each < 4_096


# ---- numbers near the wrap -------------------------------------------------------------------


@pytest.mark.parametrize("irs", [0, 1, 2**31 - 2_000, 2**31, 2**32 - 2_000, 2**32 - 1])
@pytest.mark.parametrize("iss", [0, 1, 2**31 - 2_000, 2**31, 2**32 - 2_000, 2**32 - 1])
def test_streams_cross_the_wrap_both_ways(make_peer, iss, irs):
    peer = make_peer(irs=irs)
    peer.stack.tcp.isn = SimpleNamespace(
        isn=lambda four_tuple, now: iss, timestamp_offset=lambda local, remote: 0
    )
    peer.established()
    assert peer.iss == iss & MASK
    got, sent = b"", b""
    data = bytes(range(256)) * 20
    send(peer, data)
    for step in range(0, 4_000, 1_000):
        peer.inject("A", seq=1 + step, ack=1, data=data[step : step + 1_000])
        got += peer.connection.receive(10_000, peer.now) or b""
    for seen in peer.segments():
        if seen.data:
            assert seen.seq == 1 + len(sent)
            sent += seen.data
    assert sent == data
    assert got == data[:4_000]
    assert peer.connection.received == 4_000
    peer.inject("FA", seq=4_001, ack=1 + len(data))
    assert peer.connection.peer_closed
    assert peer.connection.queued == 0
    peer.connection.close(peer.now)
    peer.poll()
    assert peer.segments()[-1].seq == 1 + len(data)
    peer.inject("A", seq=4_002, ack=2 + len(data))
    assert peer.state == "CLOSED"


def test_repair_counts_ports_and_memory_anew(peer):
    """A step may be cut between any two lines: indexes follow from the connections again."""
    peer.established()
    peer.connection.send(b"x" * 5_000, peer.now)
    tcp = peer.stack.tcp
    used = tcp.memory.used
    tcp._local_ports.clear()
    tcp.memory.used = 123_456
    peer.stack.rebuild_timers()
    assert tcp._local_ports == {80: 1}
    assert tcp.memory.used == used
    tcp._local_ports.clear()
    peer.connection.abort(peer.now)
    assert not tcp._local_ports
