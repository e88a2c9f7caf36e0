"""Segment arrival in synchronized states: RFC 9293 3.10.7.4, RFC 5961, RFC 7323."""

import pytest

SYNCHRONIZED = (
    "established", "fin_wait_1", "fin_wait_2", "close_wait", "closing", "last_ack", "time_wait",
)  # fmt: skip


def rcv_nxt(peer):
    receiver = peer.connection.receiver
    return receiver.rcv_nxt - receiver.irs


def snd_nxt(peer):
    sender = peer.connection.sender
    return sender.snd_nxt - sender.iss


# -- acceptability -------------------------------------------------------------------------------


def test_data_is_taken_and_acknowledged_after_the_delay(peer):
    peer.established()
    peer.inject("PA", seq=1, ack=1, data=b"hello")
    peer.expect_nothing()
    assert peer.events() == ["Readable"]
    peer.advance(peer.config.delayed_ack)
    peer.expect("A", seq=1, ack=6)
    assert peer.connection.receive(100, peer.now) == b"hello"


def test_old_data_is_answered_with_an_ack_and_not_delivered_twice(peer):
    peer.established()
    peer.inject("PA", seq=1, ack=1, data=b"hello")
    peer.advance(1)
    peer.segments()
    peer.inject("PA", seq=1, ack=1, data=b"HELLO")
    peer.expect("A", seq=1, ack=6)
    assert peer.connection.receive(100, peer.now) == b"hello"


def test_overlap_takes_only_what_is_new(peer):
    peer.established()
    peer.inject("PA", seq=1, ack=1, data=b"hello")
    peer.inject("PA", seq=3, ack=1, data=b"LLO world")
    assert peer.connection.receive(100, peer.now) == b"hello world"


def test_gap_is_answered_at_once_and_filled_later(peer):
    peer.established()
    peer.inject("PA", seq=4, ack=1, data=b"def")
    peer.expect("A", ack=1)
    assert peer.connection.receive(100, peer.now) is None
    peer.inject("PA", seq=1, ack=1, data=b"abc")
    peer.expect("A", ack=7)
    assert peer.connection.receive(100, peer.now) == b"abcdef"


def test_first_copy_of_an_octet_wins(peer):
    peer.established()
    peer.inject("PA", seq=4, ack=1, data=b"def")
    peer.inject("PA", seq=1, ack=1, data=b"abcXYZ")
    assert peer.connection.receive(100, peer.now) == b"abcdef"


@pytest.mark.parametrize(
    ("offset", "length", "taken"),
    [(0, 10, 10), (-5, 10, 5), (-10, 10, 0), (995, 10, 0), (1000, 1, 0), (2000, 10, 0)],
)
def test_window_edges(make_peer, offset, length, taken):
    peer = make_peer(receive_buffer=1000).established()
    peer.inject("PA", seq=1 + 20, ack=1, data=b"")  # nothing yet: keeps the window as it is
    peer.segments()
    start = 1 + offset
    if offset < 0:
        peer.inject("PA", seq=1, ack=1, data=b"x" * 10)
        start += 10
    peer.segments()
    before = peer.connection.received
    peer.inject("PA", seq=start, ack=1, data=b"y" * length)
    assert peer.connection.received - before == taken


def test_segment_beyond_the_window_is_answered_with_the_expected_number(make_peer):
    peer = make_peer(receive_buffer=1000).established()
    peer.inject("PA", seq=1 + 1000, ack=1, data=b"z")
    peer.expect("A", seq=1, ack=1)
    assert peer.counter("tcp.out_of_window") == 1


def test_zero_window_takes_acks_and_resets_but_no_text(make_peer):
    peer = make_peer(receive_buffer=100).established()
    peer.inject("PA", seq=1, ack=1, data=b"x" * 100)
    peer.advance(1)
    assert peer.segments()[-1].window == 0
    peer.connection.send(b"answer", peer.now)
    peer.poll()
    peer.expect("PA", length=6)
    peer.inject("PA", seq=101, ack=7, data=b"y")
    assert peer.connection.sender.snd_una - peer.connection.sender.iss == 7
    peer.expect("A", ack=101)
    peer.inject("R", seq=101)
    assert peer.state == "CLOSED"


# -- RST -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [s for s in SYNCHRONIZED if s != "time_wait"])
def test_exact_reset_ends_the_connection(peer, state):
    getattr(peer, state)()
    peer.inject("R", seq=rcv_nxt(peer))
    assert peer.state == "CLOSED"
    peer.expect_nothing()


@pytest.mark.parametrize("state", SYNCHRONIZED)
def test_reset_in_the_window_but_not_exact_is_challenged(peer, state):
    getattr(peer, state)()
    peer.advance(1)
    peer.segments()
    before = peer.state
    peer.inject("R", seq=rcv_nxt(peer) + 1)
    peer.expect("A", seq=snd_nxt(peer), ack=rcv_nxt(peer))
    assert peer.state == before


@pytest.mark.parametrize("state", SYNCHRONIZED)
def test_reset_outside_the_window_is_silently_dropped(peer, state):
    getattr(peer, state)()
    before = peer.state
    peer.inject("R", seq=rcv_nxt(peer) - 1)
    peer.expect_nothing()
    assert peer.state == before
    assert peer.counter("tcp.rst_out_of_window") == 1


def test_reset_in_syn_received_goes_back_to_listening(peer):
    peer.syn_received()
    peer.inject("R", seq=1)
    assert not peer.stack.tcp.connections
    peer.inject("S", seq=100)
    peer.expect("SA", ack=101)


def test_reset_without_ack_in_syn_sent_is_ignored(peer):
    peer.syn_sent()
    peer.inject("R", seq=0)
    assert peer.state == "SYN_SENT"


# -- SYN -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [s for s in SYNCHRONIZED if s != "time_wait"])
def test_syn_in_a_synchronized_state_is_challenged(peer, state):
    getattr(peer, state)()
    peer.advance(1)
    peer.segments()
    before = peer.state
    peer.inject("S", seq=rcv_nxt(peer) + 10)
    peer.expect("A", seq=snd_nxt(peer), ack=rcv_nxt(peer))
    assert peer.state == before


def test_repeated_syn_gets_the_syn_ack_again(peer):
    peer.syn_received()
    peer.inject("S", seq=0)
    peer.expect("SA", seq=0, ack=1)


def test_challenge_acks_are_limited_per_connection(peer):
    peer.established()
    peer.advance(1)
    for _ in range(50):
        peer.inject("R", seq=rcv_nxt(peer) + 1)
    assert len(peer.segments()) == 1
    peer.advance(1)
    peer.inject("R", seq=rcv_nxt(peer) + 1)
    assert len(peer.segments()) == 1


# -- ACK -----------------------------------------------------------------------------------------


def test_ack_of_unsent_data_is_answered_and_dropped(peer):
    peer.established()
    peer.inject("PA", seq=1, ack=1000, data=b"evil")
    peer.expect("A", seq=1, ack=1)
    assert peer.connection.receive(10, peer.now) is None


def test_ack_older_than_the_largest_window_is_challenged_and_its_data_dropped(peer):
    peer.established()
    peer.inject("PA", seq=1, ack=(1 - 70_000) & 0xFFFFFFFF, data=b"evil")
    peer.expect("A", seq=1, ack=1)
    assert peer.connection.receive(10, peer.now) is None


def test_segment_without_ack_is_dropped(peer):
    peer.established()
    peer.inject("P", seq=1, data=b"no ack")
    peer.expect_nothing()
    assert peer.counter("tcp.no_ack") == 1


def test_bad_ack_in_syn_received_is_reset(peer):
    peer.syn_received()
    peer.inject("A", seq=1, ack=500)
    seen = peer.expect("R")
    assert seen.seq == 500
    assert peer.state == "SYN_RECEIVED"


def test_bad_ack_in_syn_sent_is_reset(peer):
    peer.syn_sent()
    peer.inject("A", seq=0, ack=500)
    assert peer.expect("R").seq == 500
    assert peer.state == "SYN_SENT"


def test_bad_checksum_is_dropped(peer):
    peer.established()
    peer.inject("PA", seq=1, ack=1, data=b"broken", corrupt=True)
    peer.expect_nothing()
    assert peer.counter("tcp.bad_checksum") == 1


# -- nobody there --------------------------------------------------------------------------------


def test_syn_to_a_closed_port_is_reset(peer):
    peer.inject("S", seq=0, data=b"xy")
    seen = peer.expect("RA")
    assert (seen.header.seq, seen.ack) == (0, 3)


def test_ack_to_a_closed_port_is_reset_with_its_number(peer):
    peer.inject("A", seq=0, ack=77)
    assert peer.expect("R").header.seq == 77


def test_reset_is_never_answered(peer):
    peer.inject("R", seq=0)
    peer.inject("RA", seq=0, ack=5)
    peer.listen()
    peer.inject("R", seq=0)
    peer.expect_nothing()


def test_ack_to_a_listener_is_reset(peer):
    peer.listen()
    peer.inject("A", seq=5, ack=99)
    assert peer.expect("R").header.seq == 99


# -- FIN -----------------------------------------------------------------------------------------


def test_fin_before_its_data_waits_for_the_gap(peer):
    peer.established()
    peer.inject("FA", seq=4, ack=1)
    peer.expect("A", ack=1)
    assert peer.state == "ESTABLISHED"
    peer.inject("PA", seq=1, ack=1, data=b"abc")
    peer.expect("A", ack=5)
    assert peer.state == "CLOSE_WAIT"
    assert peer.connection.receive(10, peer.now) == b"abc"
    assert peer.connection.receive(10, peer.now) == b""


def test_data_after_fin_is_ignored(peer):
    peer.close_wait()
    peer.inject("PA", seq=2, ack=1, data=b"more")
    assert peer.connection.receive(10, peer.now) == b""
    assert peer.counter("tcp.text_after_fin") == 1


def test_second_fin_elsewhere_is_ignored(peer):
    peer.established()
    peer.inject("FA", seq=4, ack=1)
    peer.inject("FA", seq=2, ack=1)
    peer.inject("PA", seq=1, ack=1, data=b"abc")
    assert peer.connection.receive(10, peer.now) == b"abc"
    assert peer.state == "CLOSE_WAIT"


# -- timestamps ----------------------------------------------------------------------------------


def test_paws_drops_old_timestamps_and_answers(make_peer):
    peer = make_peer(timestamps=True).established()
    peer.ts_val = 2_000
    peer.inject("PA", seq=1, ack=1, data=b"new")
    peer.advance(1)
    peer.segments()
    peer.ts_val = 1_500
    peer.inject("PA", seq=4, ack=1, data=b"old")
    peer.expect("A", ack=4)
    assert peer.counter("tcp.paws") == 1
    assert peer.connection.receive(10, peer.now) == b"new"


def test_segment_without_timestamp_is_dropped_once_negotiated(make_peer):
    peer = make_peer(timestamps=True).established()
    peer.inject("PA", seq=1, ack=1, data=b"bare", options=b"")
    peer.expect_nothing()
    assert peer.counter("tcp.missing_timestamp") == 1


def test_future_timestamp_out_of_order_does_not_poison_paws(make_peer):
    peer = make_peer(timestamps=True).established()
    peer.ts_val = 1_000_000_000
    peer.inject("PA", seq=500, ack=1, data=b"future")
    peer.ts_val = 1_001
    peer.inject("PA", seq=1, ack=1, data=b"normal")
    assert peer.connection.receive(10, peer.now) == b"normal"
