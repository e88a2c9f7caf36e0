"""Tail loss probes by hand: when they go, what they carry, what they cost (RFC 8985 7)."""

import pytest

from netstack.core.config import TcpConfig
from netstack.core.seqnum import MASK
from netstack.core.timers import NEVER
from netstack.core.trace import Reason
from netstack.transport.tcp.congestion import make
from netstack.transport.tcp.recovery import Phase
from netstack.transport.tcp.rtt import RttEstimator
from netstack.transport.tcp.sender import Sender
from netstack.transport.tcp.tail_probe import MAX_PROBES, next_probe
from netstack.transport.tcp.transmission import Transmission, next_range

MSS = 100
ISS = 2**32 - 250  # the stream crosses the wrap of sequence numbers
ROUND_TRIP = 0.01
FIRST = ISS + 1


class Probed:
    """A sender with SACK, ``segments`` of whose data are in flight, and its clock."""

    def __init__(self, segments=4, queued=0, congestion="newreno"):
        config = TcpConfig()
        self.now = ROUND_TRIP
        self.sender = Sender(ISS, config, make(congestion, MSS, 20), RttEstimator(config))
        self.sender.sack_on = True
        self.sender.on_sent(Transmission(ISS, FIRST, Reason.SYN), 0.0)
        self.sender.on_ack(FIRST, self.now, None)
        self.sender.on_window(100_000, grew=False)
        self.send(segments)
        self.sender.take(bytes(queued * MSS))
        self.window = self.sender.congestion.cwnd

    def send(self, segments):
        self.sender.take(bytes(segments * MSS))
        while (transmission := next_range(self.sender, self.now, MSS)) is not None:
            self.sender.on_sent(transmission, self.now)

    def probe(self):
        """Let the probe's timer expire; return what goes, as segment numbers."""
        sender = self.sender
        assert sender.timer_kind == "tlp"
        self.now = sender.timer_deadline
        transmission = next_probe(sender, self.now)
        if transmission is not None:
            assert transmission.reason is Reason.TLP
            sender.on_sent(transmission, self.now)
        sender.on_probed(self.now, sent=transmission is not None)
        return transmission and (transmission.start - FIRST) // MSS

    def ack(self, segments, *blocks):
        self.now += ROUND_TRIP
        edges = [
            ((FIRST + left * MSS) & MASK, (FIRST + right * MSS) & MASK) for left, right in blocks
        ]
        self.sender.on_ack(FIRST + segments * MSS, self.now, None, edges)

    @property
    def slowed(self):
        return self.sender.congestion.cwnd < self.window


def test_probes_are_backed_off_bounded_and_before_the_timeout():
    flow = Probed()
    begun = flow.now
    times = []
    while flow.sender.timer_kind == "tlp":
        assert flow.probe() == 3
        times.append(flow.now - begun)
    assert times == pytest.approx([0.02, 0.06, 0.14])
    assert len(times) == MAX_PROBES
    assert flow.sender.timer_kind == "rto"
    # RFC 8985 7.3: it runs from the first probe on; the others don't put it off.
    assert flow.sender.timer_deadline == pytest.approx(begun + 0.02 + flow.sender.rtt.rto)


def test_a_probe_that_would_be_as_late_as_the_timeout_is_left_to_it():
    flow = Probed(segments=1)  # its acknowledgment may be delayed
    flow.probe()
    assert flow.sender.timer_kind == "rto"


def test_first_probe_carries_new_octets_and_the_next_repeats_them():
    flow = Probed(segments=20, queued=2)
    assert flow.sender.data_end > flow.sender.snd_nxt
    assert flow.probe() == 20
    assert flow.probe() == 20
    assert flow.probe() == 20


def test_delivery_lets_probes_begin_anew():
    flow = Probed()
    flow.probe()
    flow.probe()
    flow.ack(1)
    begun = flow.now
    flow.probe()
    assert flow.now - begun == pytest.approx(2 * flow.sender.rtt.srtt)


def test_no_probe_without_sack_or_after_a_timeout():
    flow = Probed()
    flow.sender.on_timeout(1.0)
    assert flow.sender.timer_kind == "rto"
    flow = Probed()
    flow.sender.sack_on = False
    flow.sender.restart_timer(flow.now)
    assert flow.sender.timer_kind == "rto"


def test_a_probe_that_could_not_leave_does_not_put_the_timeout_off():
    flow = Probed()
    deadline = flow.sender.rto_deadline
    flow.now = flow.sender.timer_deadline
    next_probe(flow.sender, flow.now)
    flow.sender.on_probed(flow.now, sent=False)
    assert flow.sender.rto_deadline == deadline


# ---- what a probe repaired slows down once (RFC 8985 7.4) --------------------------------------


def later(flow, segments=4):
    """Deliver more data, sent after all this."""
    flow.send(segments)
    flow.ack((flow.sender.snd_nxt - FIRST) // MSS)


@pytest.mark.parametrize("congestion", ["newreno", "cubic"])
def test_loss_that_only_the_probe_repaired_halves_what_was_in_flight(congestion):
    flow = Probed(segments=16, congestion=congestion)
    flow.probe()
    flow.ack(16)
    assert not flow.slowed  # which of the two it was is not known yet
    later(flow)
    assert flow.slowed
    assert flow.sender.congestion.ssthresh >= (8 if congestion == "newreno" else 11) * MSS
    assert flow.sender.tail_probe is None


def test_needless_probe_costs_nothing():
    flow = Probed()
    flow.probe()
    flow.ack(4)
    flow.ack(4, (3, 4))
    later(flow)
    assert not flow.slowed


def test_each_of_several_probes_must_be_explained():
    flow = Probed()
    flow.probe()
    flow.probe()
    flow.ack(4)
    flow.ack(4, (3, 4))  # of three copies, two arrived
    later(flow)
    assert flow.slowed


def test_all_of_several_probes_explained_cost_nothing():
    flow = Probed()
    flow.probe()
    flow.probe()
    flow.ack(4)
    flow.ack(4, (3, 4))
    flow.ack(4, (3, 4))
    later(flow)
    assert not flow.slowed
    assert flow.sender.tail_probe is None


def test_another_duplicate_explains_nothing():
    flow = Probed()
    flow.probe()
    flow.ack(4, (0, 1))
    later(flow)
    assert flow.slowed


def test_two_copies_of_one_tail_slow_down_once():
    flow = Probed(segments=16)
    flow.probe()
    flow.probe()
    flow.ack(16)
    later(flow)
    once = flow.sender.congestion.ssthresh
    later(flow)
    assert flow.sender.congestion.ssthresh == once == 8 * MSS


def test_loss_that_a_probe_made_recovery_see_slows_down_once():
    flow = Probed(segments=16)
    flow.probe()
    flow.ack(13, (15, 16))
    assert flow.sender.recovering
    slowed = flow.sender.congestion.ssthresh
    while (transmission := next_range(flow.sender, flow.now, MSS)) is not None:
        flow.sender.on_sent(transmission, flow.now)
    flow.ack(16)
    assert not flow.sender.recovering
    later(flow, 8)
    assert flow.sender.congestion.ssthresh == slowed


def test_a_tail_probed_again_before_it_is_explained_counts_as_lost():
    flow = Probed()
    flow.probe()
    flow.ack(4)
    flow.send(4)
    flow.probe()  # two round trips of silence later no D-SACK has come
    assert flow.slowed


# ---- which segment ------------------------------------------------------------------------------


def test_recovery_probes_with_what_is_missing_first_and_slows_down_no_more():
    flow = Probed(segments=16)
    flow.ack(2, (3, 16))
    assert flow.sender.recovering
    slowed = flow.sender.congestion.ssthresh
    transmission = next_range(flow.sender, flow.now, MSS)
    flow.sender.on_sent(transmission, flow.now)  # gets lost
    assert flow.probe() == 2
    assert flow.probe() == 2
    flow.ack(16)
    assert flow.sender.recovery.phase is Phase.OPEN
    later(flow)
    assert flow.sender.congestion.ssthresh == slowed


def test_where_the_tail_has_arrived_the_head_is_the_probe():
    flow = Probed(segments=2)
    flow.ack(0, (1, 2))
    flow.sender.recovery.reorder_timeout = None
    flow.sender._reorder_deadline = NEVER  # as after a loss that was no loss
    flow.sender.restart_timer(flow.now)
    assert flow.probe() == 0
    flow.ack(2)
    later(flow)
    assert flow.slowed  # the probe repaired it, as one of the tail would have
