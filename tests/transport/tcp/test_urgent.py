"""Urgent data (RFC 9293 3.8.5, RFC 6093): the pointer sent, the mark received."""

import pytest

from netstack.wire.tcp import TcpFlag, TcpHeader


def urge(peer, pointer, *, seq, ack=1, data=b"", flags=TcpFlag.ACK):
    """Send a segment with URG."""
    header = TcpHeader(
        peer.port, peer.stack_port, peer.irs + seq, peer.iss + ack, flags | TcpFlag.URG, 65_535,
        urgent_pointer=pointer,
    )  # fmt: skip
    peer.inject_segment(header, data)
    peer.poll()


# ---- sending ------------------------------------------------------------------------------------


def test_pointer_names_the_octet_after_the_urgent_data(peer):
    peer.established()
    peer.connection.send(b"usual", peer.now)
    assert peer.connection.send_urgent(b"now!", peer.now) == 4
    peer.connection.send(b" and later", peer.now)
    peer.poll()
    seen = peer.expect("PAU", data=b"usualnow! and later")
    assert seen.header.urgent_pointer == 9


def test_urg_ends_when_all_of_it_is_acknowledged(peer):
    peer.established()
    peer.connection.send_urgent(b"!", peer.now)
    peer.poll()
    peer.expect("PAU", data=b"!")
    peer.inject("A", seq=1, ack=2)
    peer.connection.send(b"x", peer.now)
    peer.poll()
    peer.expect("PA", data=b"x")


@pytest.mark.parametrize("gso_max_size", [0, 65_536])
def test_each_wire_segment_before_the_mark_has_its_own_pointer(make_peer, gso_max_size):
    peer = make_peer(gso_max_size=gso_max_size).established()
    peer.connection.send_urgent(b"x" * 7_300, peer.now)
    peer.poll()
    seen = peer.segments()
    assert [len(each.data) for each in seen] == [1460] * 5
    assert [each.header.urgent_pointer for each in seen] == [7300 - 1460 * n for n in range(5)]


def test_a_mark_beyond_the_field_is_told_as_far_as_it_reaches(peer):
    peer.established()
    peer.connection.send_urgent(b"x" * 100_000, peer.now)
    peer.poll()
    assert {each.header.urgent_pointer for each in peer.segments()} == {65_535}


def test_probe_of_a_closed_window_tells_of_urgent_data(peer):
    peer.established()
    peer.inject("A", seq=1, ack=1, window=0)
    peer.connection.send_urgent(b"let me in", peer.now)
    peer.poll()
    peer.advance(1.5)
    assert peer.segments()[0].header.urgent_pointer == 9


# ---- receiving ----------------------------------------------------------------------------------


def test_user_is_told_and_reads_stop_at_the_mark(peer):
    peer.established()
    urge(peer, 5, seq=1, data=b"abcd!rest")
    assert "UrgentData" in peer.events()
    connection = peer.connection
    assert connection.urgent_ahead == 5
    assert connection.receive(3, peer.now) == b"abc"
    assert connection.urgent_ahead == 2
    assert connection.receive(100, peer.now) == b"d!"
    assert connection.urgent_ahead == 0
    assert connection.receive(100, peer.now) == b"rest"
    assert connection.urgent_ahead is None


def test_mark_is_announced_before_its_data(peer):
    peer.established()
    urge(peer, 5_000, seq=1)
    assert peer.events() == ["UrgentData"]
    assert peer.connection.urgent_ahead == 5_000
    urge(peer, 4_990, seq=1)  # never moves back
    assert peer.events() == []
    assert peer.connection.urgent_ahead == 5_000
    urge(peer, 5_000, seq=2)
    assert peer.events() == ["UrgentData"]
    assert peer.connection.urgent_ahead == 5_001


def test_tcp_27_urg_counts_while_the_window_is_closed(make_peer):
    peer = make_peer(receive_buffer=2_000, window_scaling=False).established()
    peer.inject("PA", seq=1, ack=1, data=b"x" * 2_000)
    peer.segments()
    peer.events()
    urge(peer, 1, seq=2_001, data=b"!")
    assert "UrgentData" in peer.events()
    assert peer.connection.urgent_ahead == 2_001


@pytest.mark.parametrize("pointer", [0, 65_535])
def test_tcp_07_strange_pointers_change_no_octet(peer, pointer):
    peer.established()
    urge(peer, pointer, seq=1, data=b"data", flags=TcpFlag.ACK | TcpFlag.PSH)
    urge(peer, pointer, seq=5, flags=TcpFlag.ACK | TcpFlag.FIN)
    assert peer.connection.receive(100, peer.now) == b"data"
    assert peer.connection.receive(100, peer.now) == b""


def test_urg_outside_the_window_is_not_believed(peer):
    peer.established()
    urge(peer, 5, seq=9_000_000, data=b"x")
    assert peer.connection.urgent is None


def test_urg_after_the_peers_fin_is_ignored(peer):
    peer.close_wait()
    urge(peer, 5, seq=2)
    assert peer.connection.urgent_ahead is None
    assert peer.counter("tcp.urgent_ignored") == 1
