"""Each user call in each state, alone and after another (RFC 9293 3.10.1-3.10.6; TCP-58)."""

import itertools

import pytest

from netstack.core.errors import LocalProtocolError, NetstackError

STATES = (
    "syn_sent", "syn_received", "established", "connected", "fin_wait_1", "fin_wait_2",
    "close_wait", "closing", "last_ack", "time_wait", "closed",
)  # fmt: skip
CALLS = ("send", "receive", "shutdown_write", "close", "abort")


def reach(peer, state):
    if state == "closed":
        peer.established()
        peer.inject("R", seq=1)
    else:
        getattr(peer, state)()
    peer.segments()
    return peer


def call(peer, name):
    """Make the call; return what it returned, or the error that it raised."""
    arguments = {"send": (b"data",), "receive": (100,)}.get(name, ())
    try:
        result = getattr(peer.connection, name)(*arguments, peer.now)
    except NetstackError as error:
        result = type(error).__name__
    peer.poll()
    return result


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize(("first", "second"), list(itertools.product(CALLS, CALLS)))
def test_tcp_58_any_two_calls_leave_no_zombie(make_peer, state, first, second):
    peer = reach(make_peer(r2_timeout=60.0, syn_timeout=60.0), state)
    call(peer, first)
    call(peer, second)
    call(peer, "close")
    peer.advance(400)
    peer.segments()
    assert peer.state == "CLOSED"
    assert not peer.stack.tcp.connections
    assert peer.stack.next_deadline() is None
    assert peer.counter("stack.internal_error") == 0


@pytest.mark.parametrize(
    ("state", "result", "sent"),
    [
        ("syn_sent", 4, []),
        ("syn_received", 4, []),
        ("established", 4, [("PA", b"data")]),
        ("close_wait", 4, [("PA", b"data")]),
        ("fin_wait_1", "LocalProtocolError", []),
        ("fin_wait_2", "LocalProtocolError", []),
        ("closing", "LocalProtocolError", []),
        ("last_ack", "LocalProtocolError", []),
        ("time_wait", "LocalProtocolError", []),
        ("closed", "Reset", []),
    ],
)
def test_send_in_each_state(peer, state, result, sent):
    reach(peer, state)
    assert call(peer, "send") == result
    assert [(seen.flags, seen.data) for seen in peer.segments()] == sent


@pytest.mark.parametrize(
    ("state", "result"),
    [
        ("syn_sent", None), ("syn_received", None), ("established", None), ("fin_wait_1", None),
        ("fin_wait_2", None), ("close_wait", b""), ("closing", b""), ("last_ack", b""),
        ("time_wait", b""), ("closed", "Reset"),
    ],
)  # fmt: skip
def test_receive_in_each_state(peer, state, result):
    reach(peer, state)
    assert call(peer, "receive") == result
    peer.expect_nothing()


@pytest.mark.parametrize(
    ("state", "after", "sent"),
    [
        ("syn_sent", "CLOSED", []),
        ("syn_received", "SYN_RECEIVED", []),
        ("established", "FIN_WAIT_1", ["FA"]),
        ("fin_wait_1", "FIN_WAIT_1", []),
        ("fin_wait_2", "FIN_WAIT_2", []),
        ("close_wait", "LAST_ACK", ["FA"]),
        ("closing", "CLOSING", []),
        ("last_ack", "LAST_ACK", []),
        ("time_wait", "TIME_WAIT", []),
        ("closed", "CLOSED", []),
    ],
)
@pytest.mark.parametrize("name", ["shutdown_write", "close"])
def test_close_and_shutdown_in_each_state(peer, name, state, after, sent):
    reach(peer, state)
    assert call(peer, name) is None
    assert peer.state == after
    assert [seen.flags for seen in peer.segments()] == sent
    call(peer, name)
    assert peer.state == after
    peer.expect_nothing()


@pytest.mark.parametrize("state", STATES)
def test_abort_in_each_state(peer, state):
    """RFC 9293 3.10.5: RST where the peer may believe in a connection."""
    reach(peer, state)
    call(peer, "abort")
    assert peer.state == "CLOSED"
    quiet = state in ("syn_sent", "time_wait", "closed")
    assert [set(seen.flags) for seen in peer.segments()] == ([] if quiet else [{"R", "A"}])
    peer.advance(100)
    peer.expect_nothing()


@pytest.mark.parametrize("state", STATES)
def test_options_can_be_set_in_each_state(peer, state):
    reach(peer, state)
    for name, value in {
        "nodelay": True, "keepalive": True, "keepalive_idle": 10.0, "keepalive_interval": 1.0,
        "keepalive_probes": 2, "send_buffer": 10, "receive_buffer": 10, "linger": 5.0,
        "user_timeout": 100.0, "ttl": 5, "traffic_class": 8,
    }.items():  # fmt: skip
        peer.connection.set_option(name, value)
        assert peer.connection.get_option(name) == value
    with pytest.raises(ValueError, match="no such option"):
        peer.connection.set_option("nonsense", 1)
    peer.poll()
    peer.advance(1_000)
    assert peer.state == "CLOSED"
    assert peer.stack.next_deadline() is None


def test_keepalive_set_before_the_handshake_counts_after_it(peer):
    peer.syn_sent()
    peer.connection.set_option("keepalive", True)
    peer.connection.set_option("keepalive_idle", 50.0)
    peer.inject("SA", seq=0, ack=1)
    peer.expect("A")
    peer.advance(51)
    peer.expect("A", seq=0)


KEEPALIVE = {"keepalive_idle": 50.0, "keepalive_interval": 7.0, "keepalive_probes": 2}


def test_keepalive_times_alone_switch_nothing_on(peer):
    peer.established()
    for name, value in KEEPALIVE.items():
        peer.connection.set_option(name, value)
        assert peer.connection.get_option("keepalive") is False
    assert peer.stack.next_deadline() is None
    peer.advance(10_000)
    peer.expect_nothing()


def test_keepalive_times_outlast_the_switch(peer):
    peer.established()
    for name, value in KEEPALIVE.items():
        peer.connection.set_option(name, value)
    for on in (True, False, True):
        peer.connection.set_option("keepalive", on)
        assert {name: peer.connection.get_option(name) for name in KEEPALIVE} == KEEPALIVE
    peer.advance(51)
    peer.expect("A", seq=0)
    peer.advance(14)
    assert peer.state == "CLOSED"


def test_data_queued_before_the_handshake_goes_with_it(peer):
    peer.syn_sent()
    assert peer.connection.send(b"first", peer.now) == 5
    peer.inject("SA", seq=0, ack=1)
    peer.expect("PA", seq=1, ack=1, data=b"first")


def test_close_with_queued_data_in_syn_received_sends_both_after_the_handshake(peer):
    peer.syn_received()
    peer.connection.send(b"bye", peer.now)
    peer.listener.on_gone(peer.connection)
    peer.connection.listener = None
    peer.connection.close(peer.now)
    peer.poll()
    peer.expect_nothing()
    peer.inject("A", seq=1, ack=1)
    assert peer.state == "FIN_WAIT_1"
    peer.expect("FPA", seq=1, data=b"bye")


def test_error_after_shutdown_does_not_break_the_half_closed(peer):
    peer.fin_wait_1()
    peer.inject_icmp(3, 3, peer.last_packet)
    assert peer.state == "FIN_WAIT_1"
    peer.inject("A", seq=1, ack=2)
    peer.inject("FPA", seq=1, ack=2, data=b"rest")
    assert peer.connection.receive(10, peer.now) == b"rest"
    assert peer.state == "TIME_WAIT"


def test_send_after_close_is_the_callers_fault(peer):
    peer.established()
    peer.connection.close(peer.now)
    with pytest.raises(LocalProtocolError):
        peer.connection.send(b"x", peer.now)
