"""ICMP errors about TCP segments: RFC 5927, RFC 1191, RFC 9293 3.9.2.2."""

import pytest

from netstack.core.errors import Refused, TimedOut, Unreachable

UNREACHABLE = 3
QUENCH = 4
TIME_EXCEEDED = 11


def shifted(packet: bytes, octets: int) -> bytes:
    """Return ``packet`` with its TCP sequence number moved."""
    seq = (int.from_bytes(packet[24:28], "big") + octets) & 0xFFFFFFFF
    return packet[:24] + seq.to_bytes(4, "big") + packet[28:]


@pytest.mark.parametrize(("code", "error"), [(3, Refused), (2, Refused)])
def test_icm_06_hard_error_about_our_syn_ends_the_open(peer, code, error):
    peer.syn_sent()
    peer.inject_icmp(UNREACHABLE, code, peer.last_packet)
    assert peer.state == "CLOSED"
    with pytest.raises(error):
        peer.connection.receive(1, peer.now)


@pytest.mark.parametrize("distance", [-1, 1, 1000, 0x80000000])
def test_icm_06_hard_error_with_a_wrong_sequence_number_is_ignored(peer, distance):
    peer.syn_sent()
    peer.inject_icmp(UNREACHABLE, 3, shifted(peer.last_packet, distance))
    assert peer.state == "SYN_SENT"
    assert peer.counter("tcp.error_not_in_flight") == 1


def test_icm_06_hard_error_about_another_connection_is_ignored(peer):
    peer.syn_sent()
    quote = bytearray(peer.last_packet)
    quote[20:22] = b"\x12\x34"
    peer.inject_icmp(UNREACHABLE, 3, bytes(quote))
    assert peer.state == "SYN_SENT"
    assert peer.counter("tcp.error_for_nobody") == 1


@pytest.mark.parametrize("code", [0, 1, 5])
def test_soft_errors_do_not_end_an_open(peer, code):
    peer.syn_sent()
    peer.inject_icmp(UNREACHABLE, code, peer.last_packet)
    assert peer.state == "SYN_SENT"


def test_soft_error_is_told_when_the_open_times_out(peer):
    peer.syn_sent()
    peer.inject_icmp(UNREACHABLE, 1, peer.last_packet)
    peer.advance(400)
    with pytest.raises(Unreachable):
        peer.connection.receive(1, peer.now)


@pytest.mark.parametrize(("type", "code"), [(3, 2), (3, 3), (3, 1), (11, 0), (12, 0)])
def test_no_error_ends_an_established_connection(peer, type, code):
    peer.established()
    peer.connection.send(b"x" * 100, peer.now)
    peer.poll()
    peer.segments()
    peer.inject_icmp(type, code, peer.last_packet)
    assert peer.state == "ESTABLISHED"


def test_icm_07_source_quench_is_ignored(peer):
    peer.established()
    peer.connection.send(b"x" * 30_000, peer.now)
    peer.poll()
    peer.segments()
    before = peer.connection.sender.congestion.cwnd
    peer.inject_icmp(QUENCH, 0, peer.last_packet)
    assert peer.connection.sender.congestion.cwnd == before


def test_smaller_path_mtu_repeats_in_smaller_segments_without_a_congestion_response(peer):
    peer.established()
    peer.connection.send(b"x" * 10_000, peer.now)
    peer.poll()
    assert {len(seen.data) for seen in peer.segments()} == {1460, 10_000 % 1460}
    before = peer.connection.sender.congestion.cwnd
    peer.inject_icmp(UNREACHABLE, 4, peer.last_packet, mtu=1000)
    seen = peer.segments()
    assert seen[0].seq == 1
    assert max(len(each.data) for each in seen) == 960
    assert peer.connection.sender.congestion.cwnd == before


def test_forged_path_mtu_outside_what_is_in_flight_is_ignored(peer):
    peer.established()
    peer.connection.send(b"x" * 3_000, peer.now)
    peer.poll()
    peer.segments()
    peer.inject_icmp(UNREACHABLE, 4, shifted(peer.last_packet, 100_000), mtu=600)
    peer.expect_nothing()


def test_icm_10_black_hole_without_icmp_ends_in_a_timeout(make_peer):
    """Large segments vanish, no error comes back: the user is told, nothing hangs."""
    peer = make_peer(r2_timeout=120.0).established()
    peer.connection.send(b"x" * 50_000, peer.now)
    peer.poll()
    peer.advance(400)
    assert peer.state == "CLOSED"
    with pytest.raises(TimedOut):
        peer.connection.receive(1, peer.now)
