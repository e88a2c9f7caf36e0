"""The numbers of ``ss -ti``, and changing the congestion control of a connection."""

import pytest

from netstack.cli.table import connection_table
from netstack.transport.tcp.congestion import ALGORITHMS
from netstack.transport.tcp.delivery_rate import DeliveryRate
from netstack.wire.tcp import build_sack, build_syn_options


def sender_with_sack(make_peer, segments=10, **options):
    peer = make_peer(**options).listen()
    peer.inject("S", seq=0, options=build_syn_options(1460, None, None, sack=True))
    peer.segments()
    peer.inject("A", seq=1, ack=1)
    peer.connection = peer.listener.accept()
    peer.advance(0.1)
    peer.connection.send(b"x" * 1460 * segments, peer.now)
    peer.poll()
    peer.segments()
    return peer


def sack(peer, ack, left, right):
    """Acknowledge ``ack`` and, selectively, the octets ``left .. right``."""
    block = build_sack([(peer.iss + left, peer.iss + right)])
    peer.inject("A", seq=1, ack=ack, options=block)


@pytest.mark.parametrize("supers", [True, False])
def test_counts_are_of_wire_segments_with_and_without_super_segments(make_peer, supers):
    peer = sender_with_sack(make_peer, super_segments=supers)
    info = peer.connection.info()
    assert (info.unacked, info.sacked, info.lost, info.phase) == (10, 0, 0, "OPEN")
    peer.advance(0.001)
    sack(peer, 1461, 1461 + 1460, 1461 + 1460 * 5)
    info = peer.connection.info()
    assert info.unacked == 9
    assert info.sacked == 4
    assert info.phase == "RECOVERY"
    assert info.retransmitted == info.retransmitting == 1
    assert info.retransmitted_octets == 1460
    assert info.sent == 14_600
    assert info.acknowledged == 1460


def test_reordering_is_how_many_segments_one_was_overtaken_by(make_peer):
    peer = sender_with_sack(make_peer, super_segments=False)
    assert peer.connection.info().reordering == 3
    peer.advance(0.005)
    sack(peer, 1, 1 + 1460 * 4, 1 + 1460 * 5)
    sack(peer, 1461, 1461 + 1460 * 3, 1461 + 1460 * 4)
    info = peer.connection.info()
    assert info.reordering_seen
    assert info.reordering == 5


def test_times_and_timer_are_told(make_peer):
    peer = sender_with_sack(make_peer, segments=1)
    peer.advance(0.1)
    peer.inject("A", seq=1, ack=1461)
    info = peer.connection.info()
    assert info.srtt > 0.01
    assert info.rttvar > 0
    assert info.min_rtt > 0
    assert info.backoff == 0
    peer.connection.send(b"x", peer.now)
    peer.advance(1.5)
    info = peer.connection.info()
    assert info.backoff == info.unanswered > 0
    assert info.phase == "LOSS"


def test_every_state_can_be_described_and_shown(make_peer):
    for state in (
        "syn_sent", "syn_received", "established", "fin_wait_1", "fin_wait_2", "close_wait",
        "closing", "last_ack", "time_wait",
    ):  # fmt: skip
        peer = getattr(make_peer(), state)()
        heading, line, details = connection_table(peer.stack.connections())
        assert heading.startswith("State")
        assert line.split()[-1] == "10.0.0.2:40000"
        # What is in TIME-WAIT has no congestion control any more.
        assert details.split()[0] == ("rto:0" if state == "time_wait" else "cubic")
        peer.connection.abort(peer.now)
        assert peer.connection.info().state == "CLOSED"


def test_rate_is_octets_over_time_in_flight():
    rate = DeliveryRate(1.0, 0)
    rate.sample(1.5, 50_000, 0.1, limited=False)
    assert rate.octets_per_second == 100_000
    assert rate.due == 1.6
    rate.restart(100.0, 50_000, 0.1)  # idle until now
    rate.sample(100.1, 51_000, 0.1, limited=True)
    assert rate.octets_per_second == 100_000  # less, but only for want of data
    rate.sample(100.2, 56_000, 0.1, limited=False)
    assert rate.octets_per_second == pytest.approx(50_000)


# ---- congestion control ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALGORITHMS)
def test_congestion_control_can_be_changed_and_keeps_the_windows(make_peer, name):
    peer = sender_with_sack(make_peer)
    peer.advance(0.005)
    sack(peer, 1461, 1461 + 1460, 1461 + 1460 * 5)  # recovery is under way
    sender = peer.connection.sender
    cwnd, ssthresh = sender.congestion.cwnd, sender.congestion.ssthresh
    peer.connection.set_option("congestion", name)
    assert peer.connection.get_option("congestion") == name
    assert (sender.congestion.cwnd, sender.congestion.ssthresh) == (cwnd, ssthresh)
    peer.segments()
    peer.inject("A", seq=1, ack=1 + 1460 * 10)
    assert sender.congestion.cwnd == ssthresh  # the recovery ended in the new one's window
    assert peer.connection.info().congestion == name


def test_unknown_congestion_control_is_a_value_error(peer):
    peer.established()
    with pytest.raises(ValueError, match="no congestion control 'vegas'"):
        peer.connection.set_option("congestion", "vegas")
    assert peer.connection.get_option("congestion") == "cubic"


def test_congestion_control_chosen_before_a_lost_syn_is_kept(peer):
    peer.syn_sent()
    peer.connection.set_option("congestion", "newreno")
    peer.advance(1.5)
    peer.segments()
    peer.inject("SA", seq=0, ack=1)
    assert peer.connection.get_option("congestion") == "newreno"


def test_host_wide_default_is_a_setting(make_peer):
    peer = make_peer(congestion="newreno").established()
    assert peer.connection.info().congestion == "newreno"
