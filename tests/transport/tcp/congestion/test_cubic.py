"""CUBIC against the closed form of RFC 9438, and HyStart++ (RFC 9406)."""

import pytest

from netstack.transport.tcp.congestion import make
from netstack.transport.tcp.congestion.cubic import ALPHA, BETA, C, Cubic
from netstack.transport.tcp.congestion.hystart import HyStart

MSS = 1000
RTT = 0.1


def drive(cubic, start, seconds, rtt=RTT):
    """Acknowledge a window each round trip; return the window at the end, in segments."""
    now = start
    while now < start + seconds:
        window = cubic.cwnd
        acked = 0
        while acked < window:
            cubic.on_ack(now, MSS, cubic.cwnd, rtt, rtt)
            acked += MSS
            now += rtt * MSS / window
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


def test_estimate_grows_slowly_up_to_the_window_before_the_loss():
    """RFC 9438 4.3: alpha counts until cwnd_prior, which fast convergence does not lower."""
    cubic = after_loss(10)
    cubic.cwnd = 9 * MSS
    cubic.on_loss(1.0, cubic.cwnd)  # W_max is 7.65 segments, cwnd_prior 9
    begun = cubic.cwnd / MSS
    rounds = 3
    grown = drive(cubic, 0.0, rounds * 0.001, rtt=0.001)
    assert grown == pytest.approx(begun + ALPHA * rounds, abs=0.2)


def test_estimate_is_followed_as_soon_as_the_curve_is_below():
    """RFC 9438 4.3: compared with the curve now, not a round trip ahead."""
    cubic = after_loss(30)
    rounds = 12
    grown = drive(cubic, 0.0, rounds * 0.2, rtt=0.2)
    assert grown >= int(21 + ALPHA * (rounds - 1))


def test_curve_begins_anew_after_a_timeout():
    """RFC 9438 4.8: K is 0, W_max the window with which congestion avoidance begins."""
    cubic = after_loss(1000)
    cubic.on_timeout(0.0, 700 * MSS, True)
    cubic.cwnd = cubic.ssthresh
    begun = cubic.cwnd / MSS
    seconds = 3
    assert drive(cubic, 0.0, seconds) == pytest.approx(
        max(begun + C * (seconds + RTT) ** 3, begun + ALPHA * seconds / RTT), rel=0.02
    )


def test_undo_goes_on_with_the_curve():
    """RFC 9438 4.9: W_max, K, cwnd_prior, the estimate and the time come back too."""
    cubic, undisturbed = after_loss(1000), after_loss(1000)
    for each in (cubic, undisturbed):
        drive(each, 0.0, 2)
    before = cubic.cwnd, cubic.ssthresh
    cubic.on_loss(2.0, cubic.cwnd)
    cubic.undo(*before)
    assert drive(cubic, 2.0, 3) == pytest.approx(drive(undisturbed, 2.0, 3), rel=0.001)


def mean_window(name, loss, rtt):
    """Return the mean window in segments if each ``1 / loss``-th segment is lost (RFC 9438 5)."""
    control = make(name, MSS, 10)
    start = max(reno_window(loss), cubic_window(loss, rtt))
    control.cwnd = int(start * MSS)
    control.on_loss(0.0, control.cwnd)
    now = total = elapsed = sent = 0.0
    episodes = 0
    while episodes < 20:
        acked = max(control.cwnd // 10, MSS)  # ten times a round trip
        spent = rtt * acked / control.cwnd
        now += spent
        control.on_ack(now, acked, control.cwnd, rtt, rtt)
        sent += acked / MSS
        if episodes >= 10:
            total += spent * control.cwnd / MSS
            elapsed += spent
        if sent * loss >= 1:
            sent -= 1 / loss
            episodes += 1
            control.on_loss(now, control.cwnd)
    return total / elapsed


def reno_window(loss):
    """RFC 9438 4.3: of AIMD(1, 0.5), and so of AIMD(alpha, beta) with CUBIC's alpha."""
    return (3 / (2 * loss)) ** 0.5


def cubic_window(loss, rtt):
    """RFC 9438 5.1, equation 5."""
    return (C * (3 + BETA) / (4 * (1 - BETA))) ** 0.25 * (rtt / loss) ** 0.75


@pytest.mark.parametrize("rtt", [0.001, 0.01, 0.03])
@pytest.mark.parametrize("loss", [1e-2, 1e-3, 1e-4])
def test_where_standard_tcp_is_good_enough_cubic_has_the_same_window(rtt, loss):
    assert cubic_window(loss, rtt) < 0.8 * reno_window(loss)  # RFC 9438 5.2: its friendly region
    assert mean_window("newreno", loss, rtt) == pytest.approx(reno_window(loss), rel=0.15)
    assert mean_window("cubic", loss, rtt) == pytest.approx(reno_window(loss), rel=0.15)


@pytest.mark.parametrize("rtt", [0.1, 0.2])
@pytest.mark.parametrize("loss", [1e-5, 1e-6])
def test_on_long_paths_with_few_losses_cubic_follows_its_response_function(rtt, loss):
    assert cubic_window(loss, rtt) > reno_window(loss)
    assert mean_window("cubic", loss, rtt) == pytest.approx(cubic_window(loss, rtt), rel=0.15)


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
