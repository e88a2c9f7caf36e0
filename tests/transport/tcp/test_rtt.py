"""The retransmission timeout (RFC 6298)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.core.config import TcpConfig
from netstack.transport.tcp.rtt import MIN_RTT, RttEstimator


@pytest.fixture
def rtt():
    return RttEstimator(TcpConfig())


def test_first_timeout_is_a_second(rtt):
    assert rtt.timeout() == 1.0


def test_first_sample_gives_three_times_itself(rtt):
    rtt.on_sample(0.5)
    assert (rtt.srtt, rtt.rttvar, rtt.rto) == (0.5, 0.25, 1.5)


def test_later_samples_move_it_by_the_formulas(rtt):
    rtt.on_sample(0.5)
    rtt.on_sample(0.9)
    assert rtt.rttvar == pytest.approx(0.75 * 0.25 + 0.25 * 0.4)
    assert rtt.srtt == pytest.approx(0.875 * 0.5 + 0.125 * 0.9)
    assert rtt.rto == pytest.approx(rtt.srtt + 4 * rtt.rttvar)
    assert rtt.min_rtt == 0.5


@given(st.lists(st.floats(-1, 1e6), min_size=1))
def test_tcp_49_timeout_stays_within_its_bounds(samples):
    rtt = RttEstimator(TcpConfig())
    for sample in samples:
        rtt.on_sample(sample)
        assert 0.2 <= rtt.timeout() <= 60.0
        assert rtt.srtt >= MIN_RTT


@given(st.integers(0, 10_000))
def test_back_off_doubles_up_to_the_limit(times):
    rtt = RttEstimator(TcpConfig())
    for _ in range(min(times, 100)):
        before = rtt.timeout()
        rtt.back_off()
        assert rtt.timeout() == min(2 * before, 60.0)


def test_sample_ends_the_back_off(rtt):
    rtt.back_off()
    rtt.back_off()
    rtt.on_sample(0.1)
    assert rtt.backoff == 0
    assert rtt.timeout() == pytest.approx(0.3)


def test_lost_syn_leaves_three_seconds_unless_something_was_measured(rtt):
    rtt.back_off()
    rtt.after_lost_syn()
    assert rtt.timeout() == 3.0
    rtt.on_sample(0.1)
    rtt.after_lost_syn()
    assert rtt.timeout() == pytest.approx(0.3)


@pytest.mark.parametrize("echo", [0, 10_000, 1 << 31, -200_000])
def test_tcp_43_implausible_echo_gives_no_sample(make_peer, echo):
    peer = make_peer(timestamps=True).established()
    peer.connection.send(b"x", peer.now)
    peer.poll()
    peer.segments()
    for _ in range(2):
        peer.advance(1)
    before = peer.connection.sender.rtt.srtt
    peer.segments()
    peer.ts_ecr = (peer.ts_ecr + echo) & 0xFFFFFFFF if echo else 0
    peer.inject("A", seq=1, ack=2)
    assert peer.connection.sender.rtt.srtt == before or echo == 0
    assert 0.2 <= peer.connection.sender.rtt.timeout() <= 60
