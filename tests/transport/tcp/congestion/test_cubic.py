"""CUBIC against the closed form of RFC 9438, and HyStart++ (RFC 9406)."""

import pytest

from netstack.transport.tcp.congestion.cubic import BETA, C, Cubic
from netstack.transport.tcp.congestion.hystart import HyStart

MSS = 1000
RTT = 0.1


def drive(cubic, start, seconds):
    """Acknowledge a window each round trip; return the window at the end, in segments."""
    now = start
    while now < start + seconds:
        window = cubic.cwnd
        acked = 0
        while acked < window:
            cubic.on_ack(now, MSS, cubic.cwnd, RTT, RTT)
            acked += MSS
            now += RTT * MSS / window
    return cubic.cwnd / MSS


def after_loss(window):
    cubic = Cubic(MSS, 10)
    cubic.cwnd = window * MSS
    cubic.on_loss(0.0, window * MSS)
    return cubic


def test_loss_reduces_to_seven_tenths():
    cubic = after_loss(100)
    assert cubic.cwnd == cubic.ssthresh == BETA * 100 * MSS


@pytest.mark.parametrize("seconds", [1, 2, 4, 6])
def test_window_follows_the_cubic_curve(seconds):
    window = 1000
    k = (window * (1 - BETA) / C) ** (1 / 3)
    expected = C * (seconds + RTT - k) ** 3 + window
    assert drive(after_loss(window), 0.0, seconds) == pytest.approx(expected, rel=0.05)


def test_plateau_is_where_the_loss_was():
    cubic = after_loss(1000)
    k = (1000 * (1 - BETA) / C) ** (1 / 3)
    assert drive(cubic, 0.0, k) == pytest.approx(1000, rel=0.02)


def test_short_paths_grow_at_least_as_standard_tcp():
    cubic = after_loss(10)
    rounds = 200
    grown = drive(cubic, 0.0, rounds * RTT)
    assert grown >= 7 + 0.5 * rounds


def test_second_loss_below_the_maximum_converges_fast():
    cubic = after_loss(100)
    cubic.on_loss(1.0, cubic.cwnd)
    assert cubic._w_max == pytest.approx(70 * (1 + BETA) / 2)


def test_unused_window_does_not_grow():
    cubic = after_loss(100)
    before = cubic.cwnd
    for tick in range(1000):
        cubic.on_ack(tick * 0.1, MSS, 5 * MSS, RTT, RTT)
    assert cubic.cwnd == before


def test_undo_restores_both_windows():
    cubic = Cubic(MSS, 10)
    cubic.cwnd = 100 * MSS
    before = cubic.cwnd, cubic.ssthresh
    cubic.on_timeout(0.0, 100 * MSS, True)
    assert cubic.cwnd == MSS
    cubic.undo(*before)
    assert (cubic.cwnd, cubic.ssthresh) == before


def rounds_until_over(rtts):
    hystart = HyStart()
    for index, rtt in enumerate(rtts):
        for _ in range(10):
            if hystart.on_ack(MSS, 10 * MSS, rtt):
                return index
    return None


def test_slow_start_goes_on_while_the_round_trip_time_is_steady():
    assert rounds_until_over([RTT] * 50) is None


def test_slow_start_ends_some_rounds_after_the_round_trip_time_rose():
    over = rounds_until_over([RTT] * 5 + [RTT * 1.3] * 20)
    assert over is not None
    assert 9 <= over <= 14


def test_a_passing_rise_is_forgiven():
    assert rounds_until_over([RTT] * 5 + [RTT * 1.3] * 2 + [RTT] * 50) is None
