"""Proportional rate reduction: RFC 9937 section 6."""

from netstack.transport.tcp.prr import ProportionalRateReduction

MSS = 1000


def recover(prr, flight, deliveries, lost_first):
    """Send what each ACK allows; return how much that was."""
    flight -= lost_first
    sent = []
    for delivered in deliveries:
        flight -= delivered
        window = prr.window(delivered, flight, MSS, safe=False)
        out = max(window - flight, 0) // MSS * MSS
        prr.on_sent(out)
        flight += out
        sent.append(out)
    return sent, flight


def test_half_the_deliveries_are_sent_when_the_window_halves():
    prr = ProportionalRateReduction(20 * MSS, 10 * MSS)
    sent, flight = recover(prr, 20 * MSS, [MSS] * 19, MSS)
    assert sent[0] == MSS
    assert sum(sent) <= 10 * MSS
    assert sum(sent) >= 9 * MSS
    assert flight <= 11 * MSS


def test_a_burst_of_losses_is_repaired_no_faster_than_deliveries():
    prr = ProportionalRateReduction(20 * MSS, 10 * MSS)
    sent, _ = recover(prr, 20 * MSS, [MSS] * 4, 15 * MSS)
    assert sum(sent) <= 4 * MSS + MSS


def test_safe_acks_grow_by_one_segment_more():
    prr = ProportionalRateReduction(20 * MSS, 10 * MSS)
    prr.on_sent(MSS)
    assert prr.window(MSS, 4 * MSS, MSS, safe=True) == 6 * MSS
    other = ProportionalRateReduction(20 * MSS, 10 * MSS)
    other.on_sent(MSS)
    assert other.window(MSS, 4 * MSS, MSS, safe=False) == 5 * MSS


def test_window_never_exceeds_ssthresh_from_below():
    prr = ProportionalRateReduction(20 * MSS, 10 * MSS)
    assert prr.window(50 * MSS, 2 * MSS, MSS, safe=True) <= 10 * MSS
