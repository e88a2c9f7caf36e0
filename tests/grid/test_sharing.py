"""What flows make of a link of their own, and how they share one.

A round trip of 100 ms, a queue of one bandwidth-delay product, nothing lost but by the queue.
"""

import pytest

from netstack.bench.path import FRAME, Path, bandwidth_delay, jain
from netstack.core.config import TcpConfig
from netstack.transport.tcp.congestion.cubic import BETA, C

ROUND_TRIP = 0.1
TEXT = FRAME - 52  # octets of text in a full frame
SLOW = (1e7, 20.0)  # bit/s, seconds
FAST = (1e8, 60.0)
BUFFERS = {"send_buffer": 8 << 20, "receive_buffer": 8 << 20}
pytestmark = pytest.mark.usefixtures("either_way")

both = pytest.mark.parametrize(
    ("rate", "seconds"),
    [SLOW, pytest.param(*FAST, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])],
    ids=["10-Mb/s", "100-Mb/s"],
)


def shares(rate, seconds, *algorithms, round_trip=ROUND_TRIP):
    """Return the share of the link that each flow had; each begins 100 ms after the one before."""
    queue = bandwidth_delay(rate, round_trip)
    path = Path(1, TcpConfig(**BUFFERS), delay=round_trip / 2, rate=rate, queue=queue)
    for algorithm in algorithms:
        path.start(None, congestion=algorithm)
        path.run(path.now + 0.1)
    path.run(seconds)
    assert path.near.counters().get("tcp.retransmission_timer", 0) == 0
    most = rate / 8 * seconds * TEXT / FRAME
    return [flow.received / most for flow in path.flows]


@both
@pytest.mark.parametrize("algorithm", ["cubic", "newreno"])
def test_one_flow_fills_the_link(algorithm, rate, seconds):
    (share,) = shares(rate, seconds, algorithm)
    assert share >= 0.95


@both
def test_two_cubic_flows_share_evenly(rate, seconds):
    each = shares(rate, seconds, "cubic", "cubic")
    assert sum(each) >= 0.95
    assert jain(each) >= 0.95


def predicted(rate):
    """Return the shares of NewReno and CUBIC by their response functions (RFC 9438 4.3, 5.1).

    Both see the loss rate at which their mean windows fill the path and half of its queue.
    """
    window = 1.5 * bandwidth_delay(rate, ROUND_TRIP)
    delay = 1.5 * ROUND_TRIP
    factor = (C * (3 + BETA) / (4 * (1 - BETA))) ** 0.25
    low, high = 1e-9, 1.0
    for _ in range(60):
        loss = (low * high) ** 0.5
        newreno, cubic = (3 / (2 * loss)) ** 0.5, factor * (delay / loss) ** 0.75
        low, high = (loss, high) if newreno + cubic > window else (low, loss)
    return newreno / window, cubic / window


@both
def test_newreno_and_cubic_share_by_their_response_functions(rate, seconds):
    each = shares(rate, seconds, "newreno", "cubic")
    assert sum(each) >= 0.95
    assert min(each) >= 0.25
    for share, expected in zip(each, predicted(rate), strict=True):
        assert share >= 0.8 * expected


@pytest.mark.parametrize("algorithms", [("newreno", "cubic"), ("cubic", "newreno")])
def test_on_a_short_path_newreno_and_cubic_have_half_each(algorithms):
    """RFC 9438 4.3: where standard TCP is good enough, CUBIC's mean window is the same."""
    each = shares(*SLOW, *algorithms, round_trip=0.02)
    assert sum(each) >= 0.95
    assert min(each) >= 0.4
