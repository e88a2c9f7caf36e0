"""What flows make of a link of their own, and how they share one.

A round trip of 100 ms, a queue of one bandwidth-delay product, nothing lost but by the queue.
"""

import pytest

from netstack.bench.path import FRAME, Path, bandwidth_delay, jain
from netstack.core.config import TcpConfig

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


def shares(rate, seconds, *algorithms):
    """Return the share of the link that each flow had; each begins 100 ms after the one before."""
    queue = bandwidth_delay(rate, ROUND_TRIP)
    path = Path(1, TcpConfig(**BUFFERS), delay=ROUND_TRIP / 2, rate=rate, queue=queue)
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


@both
def test_cubic_leaves_newreno_its_share(rate, seconds):
    """RFC 9438 4.3: no more than standard TCP where that is good enough, so about half each."""
    each = shares(rate, seconds, "newreno", "cubic")
    assert sum(each) >= 0.95
    assert min(each) >= 0.25
