"""Backlog, accept queue, half-open connections, closing a listener."""

import pytest

from netstack.core.errors import Unreachable


def syn(peer, port):
    peer.port = port
    peer.inject("S", seq=0)


def handshake(peer, port):
    """Open from ``port``; return whether the last ACK was answered with nothing."""
    syn(peer, port)
    peer.expect("SA", seq=0, ack=1)
    peer.inject("A", seq=1, ack=1)


def test_connections_are_handed_out_in_order(peer):
    peer.listen()
    for port in (1001, 1002, 1003):
        handshake(peer, port)
    assert [peer.listener.accept().remote[1] for _ in range(3)] == [1001, 1002, 1003]
    assert peer.listener.accept() is None
    assert not peer.listener.readable


def test_syn_to_a_full_accept_queue_is_dropped_and_taken_later(peer):
    peer.listen(backlog=2)
    handshake(peer, 1001)
    handshake(peer, 1002)
    syn(peer, 1003)
    peer.expect_nothing()
    assert peer.counter("tcp.listen_overflow") == 1
    assert peer.listener.accept() is not None
    syn(peer, 1003)  # the peer tries again
    peer.expect("SA")


def test_tcp_52_handshake_that_ends_while_the_queue_is_full_is_finished_later(peer):
    """The last ACK is forgotten and with it its data; SYN,ACK and data go again."""
    peer.listen(backlog=1)
    syn(peer, 1001)
    syn(peer, 1002)
    first, second = peer.segments()
    peer.port, peer.iss = 1001, first.header.seq
    peer.inject("A", seq=1, ack=1)
    peer.port, peer.iss = 1002, second.header.seq
    peer.inject("PA", seq=1, ack=1, data=b"early")
    peer.expect_nothing()
    assert peer.counter("tcp.accept_queue_full") == 1
    assert peer.listener.accept().remote[1] == 1001
    assert peer.listener.accept() is None
    peer.advance(1.5)
    peer.expect("SA", seq=0, ack=1)
    peer.inject("PA", seq=1, ack=1, data=b"early")
    accepted = peer.listener.accept()
    assert accepted.receive(10, peer.now) == b"early"


def test_half_open_connections_are_bounded(make_peer):
    peer = make_peer(max_syn_received=5, syn_cookies=False).listen()
    for port in range(1001, 1021):
        syn(peer, port)
    assert len(peer.segments()) == 5
    assert peer.counter("tcp.listen_overflow") == 15
    assert len(peer.stack.tcp.connections) == 5


def test_half_open_connections_are_given_up(peer):
    peer.listen()
    for port in range(1001, 1006):
        syn(peer, port)
    peer.advance(peer.config.syn_ack_timeout + 70)
    assert not peer.stack.tcp.connections
    assert peer.stack.next_deadline() is None
    syn(peer, 1001)
    assert peer.segments()[-1].flags == "SA"


def test_close_resets_the_unaccepted_and_leaves_the_accepted(peer):
    peer.listen()
    handshake(peer, 1001)
    handshake(peer, 1002)
    syn(peer, 1003)
    peer.expect("SA")
    accepted = peer.listener.accept()
    peer.listener.close(peer.now)
    peer.poll()
    resets = peer.segments()
    assert {seen.header.destination_port for seen in resets} == {1002, 1003}
    assert all("R" in seen.flags for seen in resets)
    assert accepted.state.name == "ESTABLISHED"
    assert len(peer.stack.tcp.connections) == 1
    syn(peer, 1004)
    peer.expect("RA", ack=1)


def test_close_twice_and_listening_again_on_the_port(peer):
    peer.listen()
    with pytest.raises(Unreachable):
        peer.stack.listen(("", 80))
    peer.listener.close(peer.now)
    again = peer.stack.listen(("", 80))
    peer.listener.close(peer.now)
    handshake(peer, 1001)
    assert again.accept() is not None


def test_listener_on_the_address_comes_before_the_one_on_any(peer):
    peer.listen()
    own = peer.stack.listen(("10.0.0.1", 80))
    handshake(peer, 1001)
    assert peer.listener.accept() is None
    assert own.accept() is not None


def test_connection_reset_before_it_was_accepted_is_not_handed_out(peer):
    peer.listen()
    handshake(peer, 1001)
    peer.inject("R", seq=1)
    assert peer.listener.accept() is None
    assert not peer.stack.tcp.connections


def test_data_and_fin_before_accept_are_there_afterwards(peer):
    peer.listen()
    handshake(peer, 1001)
    peer.inject("FPA", seq=1, ack=1, data=b"all of it")
    accepted = peer.listener.accept()
    assert accepted.receive(100, peer.now) == b"all of it"
    assert accepted.receive(100, peer.now) == b""


def test_tcp_34_syn_with_data_leaves_the_data_to_be_sent_again(peer):
    peer.listen()
    peer.inject("S", seq=0, data=b"early")
    peer.expect("SA", ack=1)
    peer.inject("PA", seq=1, ack=1, data=b"early")
    assert peer.listener.accept().receive(10, peer.now) == b"early"


def test_tcp_34_syn_with_data_to_a_closed_port_is_reset_with_its_length(peer):
    peer.inject("SF", seq=0, data=b"early")
    peer.expect("RA", seq=0, ack=7)
