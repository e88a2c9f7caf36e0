"""Sending: windows, Nagle, silly windows, probes, acknowledgments."""

import itertools

import pytest

from netstack.core.errors import LocalProtocolError, TimedOut


def send(peer, data):
    taken = peer.connection.send(data, peer.now)
    peer.poll()
    return taken


def test_data_is_cut_at_the_peers_mss(peer):
    peer.established()
    send(peer, b"x" * 3_000)
    assert [len(seen.data) for seen in peer.segments()] == [1460, 1460, 80]


def test_push_is_set_on_the_last_segment_of_what_is_queued(peer):
    peer.established()
    send(peer, b"x" * 3_000)
    assert [("P" in seen.flags) for seen in peer.segments()] == [False, False, True]


def test_mss_counts_the_options_of_each_segment(make_peer):
    peer = make_peer(timestamps=True).established()
    send(peer, b"x" * 3_000)
    assert [len(seen.data) for seen in peer.segments()] == [1448, 1448, 104]


def test_no_mss_option_means_536(peer):
    peer.listen()
    peer.inject("S", seq=0, options=b"")
    peer.segments()
    peer.inject("A", seq=1, ack=1)
    peer.connection = peer.listener.accept()
    send(peer, b"x" * 600)
    assert [len(seen.data) for seen in peer.segments()] == [536, 64]


@pytest.mark.parametrize("mss", [0, 1, 8, 48])
def test_tiny_mss_counts_as_the_floor(peer, mss):
    peer.listen()
    peer.inject("S", seq=0, options=bytes((2, 4, 0, mss)))
    peer.segments()
    peer.inject("A", seq=1, ack=1)
    peer.connection = peer.listener.accept()
    send(peer, b"x" * 480)
    assert {len(seen.data) for seen in peer.segments()} == {48}


def test_nagle_holds_a_second_short_segment(peer):
    peer.established()
    send(peer, b"a")
    peer.expect("PA", data=b"a")
    send(peer, b"b")
    send(peer, b"c")
    peer.expect_nothing()
    peer.inject("A", seq=1, ack=2)
    peer.expect("PA", data=b"bc")


def test_nodelay_sends_at_once(peer):
    peer.established()
    peer.connection.set_option("nodelay", True)
    send(peer, b"a")
    send(peer, b"b")
    assert [seen.data for seen in peer.segments()] == [b"a", b"b"]


def test_nagle_lets_full_segments_go(peer):
    peer.established()
    send(peer, b"a")
    send(peer, b"x" * 1460)
    assert [len(seen.data) for seen in peer.segments()] == [1, 1460]


def test_sender_stays_within_the_window(peer):
    peer.established()
    peer.inject("A", seq=1, ack=1, window=2_000)
    send(peer, b"x" * 5_000)
    assert sum(len(seen.data) for seen in peer.segments()) <= 2_000


def test_sender_waits_rather_than_send_a_silly_segment(peer):
    peer.established()
    send(peer, b"x" * 1460)
    peer.inject("A", seq=1, ack=1461, window=10_000)
    peer.segments()
    send(peer, b"x" * 20_000)
    first = sum(len(seen.data) for seen in peer.segments())
    peer.inject("A", seq=1, ack=1461 + first, window=100)
    peer.expect_nothing()


def test_zero_window_is_probed_with_growing_intervals(peer):
    peer.established()
    peer.inject("A", seq=1, ack=1, window=0)
    send(peer, b"x" * 100)
    peer.expect_nothing()
    times = []
    for _ in range(4_000):
        peer.advance(0.01)
        for seen in peer.segments():
            assert len(seen.data) == 1
            times.append(peer.now)
            peer.inject("A", seq=1, ack=1, window=0)
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert len(times) >= 4
    assert all(later >= 1.5 * earlier for earlier, later in itertools.pairwise(gaps))
    peer.inject("A", seq=1, ack=1, window=5_000)
    assert b"".join(seen.data for seen in peer.segments()) == b"x" * 100


def test_zero_window_answered_for_days_keeps_the_connection(peer):
    peer.established()
    peer.inject("A", seq=1, ack=1, window=0)
    send(peer, b"x" * 100)
    for _ in range(2_000):
        peer.advance(60)
        if peer.segments():
            peer.inject("A", seq=1, ack=1, window=0)
    assert peer.state == "ESTABLISHED"


def test_probe_octet_that_was_taken_is_not_sent_again(peer):
    peer.established()
    peer.inject("A", seq=1, ack=1, window=0)
    send(peer, b"abcdef")
    peer.advance(3)
    assert {seen.data for seen in peer.segments()} == {b"a"}
    peer.inject("A", seq=1, ack=2, window=5_000)
    peer.expect("PA", seq=2, data=b"bcdef")


def test_shrunk_window_is_survived(peer):
    peer.established()
    send(peer, b"x" * 8_000)
    peer.segments()
    peer.inject("A", seq=1, ack=1, window=1_000)
    send(peer, b"y" * 8_000)
    peer.advance(5)
    assert peer.segments()  # what is in flight is repeated
    acknowledged, end = 8_001, 16_001
    while acknowledged < end:
        peer.inject("A", seq=1, ack=acknowledged, window=60_000)
        new = [seen for seen in peer.segments() if seen.data]
        assert new
        acknowledged = new[-1].seq + len(new[-1].data)


def test_receive_window_closes_and_reopens_by_half_the_buffer(make_peer):
    peer = make_peer(receive_buffer=10_000).established()
    for index in range(5):
        peer.inject("PA", seq=1 + index * 2_000, ack=1, data=b"x" * 2_000)
    peer.advance(1)
    assert peer.segments()[-1].window == 0
    peer.connection.receive(100, peer.now)
    peer.poll()
    peer.expect_nothing()  # 100 octets are not worth telling (RFC 9293 3.8.6.2.2)
    peer.connection.receive(9_000, peer.now)
    peer.poll()
    assert peer.expect("A").window == 9_100


def test_right_edge_of_the_window_never_moves_left(make_peer):
    peer = make_peer(receive_buffer=1_000_000).listen()
    peer.inject("S", seq=0, options=bytes((2, 4, 5, 180, 1, 3, 3, 7)))
    peer.expect("SA")
    peer.inject("A", seq=1, ack=1)
    peer.connection = peer.listener.accept()
    peer.scale = peer.connection.receiver.shift
    assert peer.scale
    seq, edge = 1, 0
    for length in (1, 7, 100, 1461, 3, 9_999, 1, 17):
        peer.inject("PA", seq=seq, ack=1, data=b"x" * length)
        seq += length
        peer.advance(0.1)
        for seen in peer.segments():
            assert seen.ack + seen.window >= edge
            edge = seen.ack + seen.window


def test_every_second_full_segment_is_acknowledged_at_once(peer):
    peer.established()
    peer.inject("A", seq=1, ack=1, data=b"x" * 1460)
    peer.segments()
    peer.inject("A", seq=1461, ack=1, data=b"x" * 1460)
    peer.inject("A", seq=2921, ack=1, data=b"x" * 1460)
    assert len(peer.segments()) >= 1


def test_data_carries_the_acknowledgment(peer):
    peer.established()
    peer.inject("PA", seq=1, ack=1, data=b"ping")
    send(peer, b"pong")
    peer.expect("PA", ack=5, data=b"pong")
    peer.advance(1)
    # The answer was lost on the way; what is repeated is data, not a second bare ACK.
    assert all(seen.data for seen in peer.segments())


def test_send_after_shutdown_is_refused(peer):
    peer.established()
    peer.connection.shutdown_write(peer.now)
    with pytest.raises(LocalProtocolError):
        peer.connection.send(b"x", peer.now)


def test_fin_follows_the_data(peer):
    peer.established()
    peer.connection.send(b"bye", peer.now)
    peer.connection.shutdown_write(peer.now)
    peer.poll()
    peer.expect("FPA", data=b"bye")


def test_send_takes_no_more_than_the_buffer(make_peer):
    peer = make_peer(send_buffer=4_000).established()
    assert peer.connection.send(b"x" * 10_000, peer.now) == 4_000
    assert peer.connection.send(b"x", peer.now) == 0
    assert not peer.connection.writable
    peer.poll()
    peer.segments()
    peer.events()
    peer.inject("A", seq=1, ack=3_001)
    assert peer.events() == ["Writable"]


def test_user_is_woken_when_a_third_of_the_buffer_is_free(make_peer):
    peer = make_peer(send_buffer=12_000).established()
    assert peer.connection.send(b"x" * 12_001, peer.now) == 12_000
    peer.poll()
    peer.segments()
    peer.events()
    peer.inject("A", seq=1, ack=3_001)
    assert peer.events() == []
    assert not peer.connection.writable
    peer.inject("A", seq=1, ack=4_001)
    assert peer.events() == ["Writable"]
    assert peer.connection.writable


# -- retransmission ------------------------------------------------------------------------------


def test_timeout_repeats_one_segment_and_backs_off(peer):
    peer.established()
    send(peer, b"x" * 4_000)
    peer.segments()
    times, sizes = [], []
    while len(times) < 5:
        peer.advance(0.005)
        for seen in peer.segments()[:1]:  # what a smaller segment leaves of the window may follow
            assert seen.seq == 1
            sizes.append(len(seen.data))
            times.append(peer.now)
    assert sizes == [1460, 1460, 1024, 512, 512]  # perhaps a black hole: see pmtud
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert all(1.8 < later / earlier < 2.2 for earlier, later in itertools.pairwise(gaps))


def test_three_duplicate_acks_repeat_the_first_segment(make_peer):
    peer = make_peer(congestion="newreno").established()
    send(peer, b"x" * 14_600)
    peer.segments()
    for _ in range(3):
        peer.inject("A", seq=1, ack=1)
    assert any(seen.seq == 1 for seen in peer.segments())
    cwnd = peer.connection.sender.congestion.cwnd
    assert cwnd == 14_600 // 2


def test_duplicate_acks_that_open_the_window_a_little_still_count(peer):
    peer.established()
    send(peer, b"x" * 14_600)
    peer.segments()
    window = 60_000
    for _ in range(4):
        window += 1_000
        peer.inject("A", seq=1, ack=1, window=window)
    assert any(seen.seq == 1 for seen in peer.segments())


def test_partial_ack_repeats_the_next_hole(peer):
    peer.established()
    send(peer, b"x" * 14_600)
    peer.segments()
    for _ in range(3):
        peer.inject("A", seq=1, ack=1)
    peer.segments()
    peer.inject("A", seq=1, ack=1 + 2 * 1460)
    assert any(seen.seq == 1 + 2 * 1460 for seen in peer.segments())


def test_ack_division_grows_the_window_by_octets(peer):
    peer.established()
    send(peer, b"x" * 14_600)
    peer.segments()
    before = peer.connection.sender.congestion.cwnd
    for octet in range(1, 1461, 10):
        peer.inject("A", seq=1, ack=1 + octet)
    assert peer.connection.sender.congestion.cwnd - before <= 1460


def test_unanswered_data_ends_in_a_timeout(make_peer):
    peer = make_peer(r2_timeout=100.0).established()
    send(peer, b"x")
    peer.advance(400)
    assert peer.state == "CLOSED"
    with pytest.raises(TimedOut):
        peer.connection.receive(1, peer.now)
    assert not peer.stack.tcp.connections


def test_idle_time_does_not_count_towards_giving_up(make_peer):
    peer = make_peer(r2_timeout=100.0).established()
    peer.advance(10_000)
    send(peer, b"x")
    peer.advance(50)
    assert peer.state == "ESTABLISHED"
    assert len(peer.segments()) > 3


def test_unanswered_syn_ends_after_three_minutes(peer):
    peer.syn_sent()
    peer.advance(179)
    assert peer.state == "SYN_SENT"
    peer.advance(120)
    assert peer.state == "CLOSED"


def test_lost_syn_raises_the_first_timeout_to_three_seconds(peer):
    peer.syn_sent()
    peer.advance(1.5)
    peer.expect("S", seq=0)
    peer.inject("SA", seq=0, ack=1)
    assert peer.connection.sender.rtt.rto == 3.0


def test_user_timeout_ends_earlier(peer):
    peer.established()
    peer.connection.set_option("user_timeout", 5.0)
    send(peer, b"x")
    peer.advance(15)
    assert peer.state == "CLOSED"


# -- keep-alive ----------------------------------------------------------------------------------


def test_keepalive_is_off_by_default(peer):
    peer.established()
    peer.advance(100_000)
    peer.expect_nothing()


def test_keepalive_probes_carry_no_data_and_answers_keep_the_connection(peer):
    peer.established()
    peer.connection.set_option("keepalive", True)
    peer.connection.set_option("keepalive_idle", 60.0)
    for _ in range(3):
        peer.advance(61)
        peer.expect("A", seq=0, data=b"")
        peer.inject("A", seq=1, ack=1)
    assert peer.state == "ESTABLISHED"


def test_unanswered_keepalive_probes_end_the_connection(peer):
    peer.established()
    peer.connection.set_option("keepalive", True)
    peer.connection.set_option("keepalive_idle", 60.0)
    peer.connection.set_option("keepalive_interval", 10.0)
    peer.connection.set_option("keepalive_probes", 3)
    peer.advance(61)
    assert len(peer.segments()) == 1
    peer.advance(10)
    assert peer.state == "ESTABLISHED"  # one unanswered probe is no proof (MUST-29)
    peer.advance(30)
    assert peer.state == "CLOSED"
