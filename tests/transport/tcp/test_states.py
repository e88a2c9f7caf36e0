"""The connection's life along figure 5 of RFC 9293."""

import gc
import weakref

import pytest

from netstack.core.errors import Refused, Reset
from netstack.transport.tcp.state import TRANSITIONS, State

REACHED = (
    "syn_sent",
    "syn_received",
    "established",
    "fin_wait_1",
    "fin_wait_2",
    "close_wait",
    "closing",
    "last_ack",
    "time_wait",
)


@pytest.mark.parametrize("state", REACHED)
def test_each_state_is_reached_by_exchanging_segments(peer, state):
    getattr(peer, state)()
    assert peer.state == state.upper()


def test_passive_open_posts_accepted_and_hands_out_the_connection(peer):
    peer.listen()
    peer.inject("S", seq=0)
    peer.expect("SA", seq=0, ack=1)
    assert peer.listener.accept() is None
    peer.inject("A", seq=1, ack=1)
    assert peer.events() == ["Accepted"]
    assert peer.listener.accept().remote == ("10.0.0.2", 40_000)


def test_active_open_posts_connected(peer):
    peer.syn_sent()
    peer.inject("SA", seq=0, ack=1)
    peer.expect("A", seq=1, ack=1)
    assert peer.events() == ["Connected", "Writable"]


def test_simultaneous_open_ends_established(peer):
    peer.syn_sent()
    peer.inject("S", seq=0)
    peer.expect("SA", seq=0, ack=1)
    assert peer.state == "SYN_RECEIVED"
    peer.inject("SA", seq=0, ack=1)
    assert peer.state == "ESTABLISHED"


def test_simultaneous_close_goes_through_closing_to_time_wait(peer):
    peer.closing()
    peer.inject("A", seq=2, ack=2)
    assert peer.state == "TIME_WAIT"


def test_fin_and_ack_of_fin_together_lead_to_time_wait(peer):
    peer.fin_wait_1()
    peer.inject("FA", seq=1, ack=2)
    peer.expect("A", seq=2, ack=2)
    assert peer.state == "TIME_WAIT"


def test_half_close_still_receives(peer):
    peer.fin_wait_2()
    peer.inject("PA", seq=1, ack=2, data=b"late")
    assert peer.connection.receive(100, peer.now) == b"late"


def test_time_wait_ends_after_two_msl(peer):
    peer.time_wait()
    peer.advance(2 * peer.config.msl - 1)
    assert peer.state == "TIME_WAIT"
    peer.advance(2)
    assert peer.state == "CLOSED"
    assert not peer.stack.tcp.connections


def test_connection_whose_time_wait_is_over_is_kept_by_nobody(peer):
    peer.time_wait()
    alive = weakref.ref(peer.connection)
    peer.connection = None
    peer.events()
    peer.advance(2 * peer.config.msl + 1)
    peer.events()
    gc.collect()
    assert alive() is None


def test_repeated_fin_in_time_wait_is_acknowledged_and_restarts_the_wait(peer):
    peer.time_wait()
    peer.advance(2 * peer.config.msl - 1)
    peer.inject("FA", seq=1, ack=2)
    peer.expect("A", seq=2, ack=2)
    peer.advance(2)
    assert peer.state == "TIME_WAIT"


def test_reset_in_time_wait_is_ignored(peer):
    peer.time_wait()
    peer.inject("R", seq=2)
    peer.expect_nothing()
    assert peer.state == "TIME_WAIT"


def test_new_syn_with_higher_sequence_number_reopens_from_time_wait(peer):
    peer.time_wait()
    peer.inject("S", seq=1_000)
    seen = peer.expect("SA")
    assert seen.ack == 1_001


def test_last_ack_closes_on_acknowledgment(peer):
    peer.last_ack()
    peer.inject("A", seq=2, ack=2)
    assert peer.state == "CLOSED"
    peer.expect_nothing()


def test_close_in_syn_sent_sends_nothing(peer):
    peer.syn_sent()
    peer.connection.close(peer.now)
    peer.poll()
    peer.expect_nothing()
    assert peer.state == "CLOSED"


def test_close_in_syn_received_sends_fin_after_the_handshake(peer):
    peer.syn_received()
    connection = peer.connection
    connection.shutdown_write(peer.now)
    peer.inject("A", seq=1, ack=1)
    peer.expect("FA", seq=1, ack=1)
    assert peer.state == "FIN_WAIT_1"


def test_close_with_unread_data_resets(peer):
    peer.established()
    peer.inject("PA", seq=1, ack=1, data=b"unread")
    peer.segments()
    peer.connection.close(peer.now)
    peer.poll()
    peer.expect("RA", seq=1, ack=7)
    assert peer.state == "CLOSED"


def test_data_after_close_resets(peer):
    peer.established()
    peer.connection.close(peer.now)
    peer.poll()
    peer.expect("FA", seq=1)
    peer.inject("PA", seq=1, ack=2, data=b"too late")
    assert "R" in peer.expect("RA").flags
    assert peer.state == "CLOSED"


def test_abort_sends_reset(peer):
    peer.established()
    peer.connection.abort(peer.now)
    peer.poll()
    peer.expect("RA", seq=1, ack=1)
    assert peer.state == "CLOSED"


def test_refused_open_tells_the_user_once(peer):
    peer.syn_sent()
    peer.inject("RA", seq=0, ack=1)
    assert peer.events() == ["Readable", "Writable", "Closed"]
    with pytest.raises(ConnectionRefusedError) as caught:
        peer.connection.receive(1, peer.now)
    assert isinstance(caught.value, Refused)
    assert peer.connection.receive(1, peer.now) == b""


def test_reset_of_an_established_connection_tells_the_user_after_the_data(peer):
    peer.established()
    peer.inject("PA", seq=1, ack=1, data=b"last words")
    peer.inject("R", seq=11)
    assert peer.connection.receive(100, peer.now) == b"last words"
    with pytest.raises(Reset):
        peer.connection.receive(100, peer.now)


def test_orphan_in_fin_wait_2_is_forgotten_after_its_timeout(peer):
    peer.established()
    peer.connection.close(peer.now)
    peer.poll()
    peer.inject("A", seq=1, ack=2)
    peer.advance(peer.config.fin_wait_2_timeout + 1)
    assert peer.state == "CLOSED"
    assert not peer.stack.tcp.connections


def test_half_closed_fin_wait_2_of_a_reader_stays(peer):
    peer.fin_wait_2()
    peer.advance(600)
    assert peer.state == "FIN_WAIT_2"


def test_table_has_every_arrow_of_figure_5():
    figure_5 = {
        ("CLOSED", "LISTEN"), ("CLOSED", "SYN_SENT"), ("LISTEN", "CLOSED"),
        ("SYN_SENT", "CLOSED"), ("SYN_SENT", "SYN_RECEIVED"), ("SYN_SENT", "ESTABLISHED"),
        ("SYN_RECEIVED", "ESTABLISHED"), ("SYN_RECEIVED", "FIN_WAIT_1"),
        ("ESTABLISHED", "FIN_WAIT_1"), ("ESTABLISHED", "CLOSE_WAIT"),
        ("FIN_WAIT_1", "FIN_WAIT_2"), ("FIN_WAIT_1", "CLOSING"), ("FIN_WAIT_1", "TIME_WAIT"),
        ("FIN_WAIT_2", "TIME_WAIT"), ("CLOSING", "TIME_WAIT"), ("CLOSE_WAIT", "LAST_ACK"),
        ("LAST_ACK", "CLOSED"), ("TIME_WAIT", "CLOSED"),
    }  # fmt: skip
    table = {(old.name, new.name) for old, row in TRANSITIONS.items() for new in row}
    assert figure_5 <= table
    # What the figure leaves out: a listener's child starts in SYN-RECEIVED; aborts and resets.
    extra = table - figure_5
    assert {new for _, new in extra} <= {"CLOSED", "SYN_RECEIVED", "CLOSE_WAIT"}
    assert set(TRANSITIONS) == set(State)
