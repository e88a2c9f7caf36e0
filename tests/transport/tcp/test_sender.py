"""The sending half by itself: its books under any sequence of sends, losses and answers."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from netstack.core.config import TcpConfig
from netstack.core.seqnum import MASK
from netstack.core.timers import NEVER
from netstack.core.trace import Reason
from netstack.transport.tcp.congestion import make
from netstack.transport.tcp.rtt import RttEstimator
from netstack.transport.tcp.sender import Sender
from netstack.transport.tcp.transmission import Transmission, needs_persist, next_range, probe

SMSS = 100
ISS = 2**32 - 500  # the stream crosses the wrap of sequence numbers


def opened(window=10_000, **options):
    config = TcpConfig(**options)
    sender = Sender(ISS, config, make("newreno", SMSS, 10), RttEstimator(config))
    sender.on_sent(Transmission(ISS, ISS + 1, Reason.SYN), 0.0)
    sender.on_ack(ISS + 1, 0.1, None)
    sender.on_window(window, grew=False)
    return sender


def transmit(sender, now, limit=10 * SMSS):
    """Send all that may go; return the ranges."""
    sent = []
    while (transmission := next_range(sender, now, limit)) is not None:
        sender.on_sent(transmission, now)
        sent.append(transmission)
    return sent


def test_each_acknowledgment_of_a_burst_opens_the_window():
    sender = opened()
    sender.congestion.ssthresh = sender.congestion.cwnd = 10 * SMSS
    sender.take(bytes(100 * SMSS))
    transmit(sender, 0.2)
    for _ in range(4):
        ack = sender.snd_una
        for segments in (3, 3, 4):  # nothing can leave between them
            ack += segments * SMSS
            sender.on_ack(ack, 0.3, 0.1)
        transmit(sender, 0.3)
    assert sender.congestion.cwnd == 13 * SMSS


def test_loss_seen_late_in_a_burst_halves_the_window_of_its_beginning():
    sender = opened()
    sender.sack_on = True
    sender.congestion.ssthresh = sender.congestion.cwnd = 20 * SMSS
    sender.take(bytes(100 * SMSS))
    transmit(sender, 0.2, 20 * SMSS)
    start = sender.snd_una + 8 * SMSS
    sender.on_ack(start, 0.3, 0.1)
    for end in (2, 3, 4):
        block = ((start + SMSS) & MASK, (start + end * SMSS) & MASK)
        sender.on_ack(start, 0.3, None, (block,))
    assert sender.recovering
    assert sender.congestion.ssthresh == 10 * SMSS


class SenderMachine(RuleBasedStateMachine):
    """A sender whose peer, network and user do whatever they like."""

    def __init__(self):
        super().__init__()
        self.now = 1.0
        self.sender = opened()
        self.highest = self.sender.snd_max
        self.transmitted = set()

    @rule(size=st.integers(1, 3_000))
    def write(self, size):
        if not self.sender.fin_queued:
            assert self.sender.take(bytes(size)) == size

    @rule()
    def finish(self):
        self.sender.fin_queued = True

    @rule(limit=st.integers(1, 20), elapsed=st.floats(0, 1))
    def send(self, limit, elapsed):
        self.now += elapsed
        for transmission in transmit(self.sender, self.now, limit * SMSS):
            start, end, sent = transmission.start, transmission.end, transmission.retransmitted
            assert self.sender.snd_una <= start < end <= self.sender.end
            octets = min(end, self.sender.data_end) - start
            assert octets <= max(limit * SMSS, self.sender.mss)
            short = octets % self.sender.mss and end < self.sender.data_end
            if short and sent is None:  # only the window may cut what is not the tail
                assert end == self.sender.snd_una + self.sender.snd_wnd

    @precondition(lambda self: self.sender.queue)
    @rule(part=st.floats(0, 1), elapsed=st.floats(0, 1), stamped=st.booleans())
    def acknowledge(self, part, elapsed, stamped):
        self.now += elapsed
        sender = self.sender
        ack = sender.snd_una + max(int((sender.snd_max - sender.snd_una) * part), 1)
        sender.on_ack(ack, self.now, elapsed if stamped else None)
        assert sender.snd_una == ack
        assert sender.timeouts == 0

    @rule(count=st.integers(1, 5))
    def duplicate_acks(self, count):
        if self.sender.persist:
            return  # answers to probes are no duplicates
        for _ in range(count):
            self.sender.on_duplicate_ack(self.now)

    @precondition(lambda self: self.sender.queue)
    @rule()
    def time_out(self):
        if self.sender.persist:
            return
        self.now = max(self.now, self.sender.timer_deadline)
        before = self.sender.rtt.timeout()
        self.sender.on_timeout(self.now)
        assert self.sender.flight_size == 0
        assert self.sender.rtt.timeout() >= before

    @rule(window=st.sampled_from((0, 1, 50, 99, 100, 1_000, 100_000)))
    def advertise(self, window):
        self.sender.on_window(window, grew=window > self.sender.snd_wnd)

    @precondition(lambda self: needs_persist(self.sender))
    @rule()
    def probe(self):
        sender = self.sender
        if next_range(sender, self.now, SMSS) is None:
            sender.start_persist(self.now)
            transmission = probe(sender)
            assert 0 < transmission.end - transmission.start <= max(sender.snd_wnd, 1)
            sender.on_sent(transmission, self.now)

    @rule(mss=st.integers(36, 200))
    def change_mss(self, mss):
        if mss < self.sender.mss:
            before = self.sender.congestion.ssthresh
            self.sender.mark_larger_than(mss)
            assert self.sender.congestion.ssthresh == before
        self.sender.on_mss(mss)

    @invariant()
    def ranges_cover_the_flight(self):
        sender = self.sender
        position = sender.snd_una
        for sent in sender.queue:
            assert sent.start == position < sent.end
            position = sent.end
        assert position == sender.snd_nxt

    @invariant()
    def numbers_agree(self):
        sender = self.sender
        lost = sum(sent.end - sent.start for sent in sender.queue if sent.lost)
        assert sender.lost_octets == lost
        assert 0 <= sender.flight_size <= sender.snd_nxt - sender.snd_una
        assert sender.snd_una <= sender.snd_nxt <= sender.snd_max <= sender.end
        assert sender.inflation >= 0
        assert sender.congestion.cwnd >= min(sender.mss, SMSS)

    @invariant()
    def timer_runs_while_octets_are_in_flight(self):
        if self.sender.queue:
            assert self.sender.timer_deadline != NEVER
        if self.sender.recovering:
            assert self.sender.queue


SenderMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestSender = SenderMachine.TestCase


def test_new_data_goes_in_whole_segments_and_a_tail():
    sender = opened()
    sender.take(bytes(950))
    assert [t.end - t.start for t in transmit(sender, 1.0, 400)] == [400, 400, 150]


def test_second_tail_waits_for_the_first_one():
    sender = opened()
    sender.take(bytes(450))
    transmit(sender, 1.0)
    sender.take(bytes(50))
    assert transmit(sender, 1.0) == []
    sender.take(bytes(60))
    assert [t.end - t.start for t in transmit(sender, 1.0)] == [100]


def test_timeout_sends_one_segment_then_what_the_window_allows():
    sender = opened()
    sender.take(bytes(950))
    transmit(sender, 1.0)
    sender.on_timeout(5.0)
    first = transmit(sender, 5.0)
    assert [(t.start - ISS, t.end - ISS) for t in first] == [(1, 101)]
    sender.on_ack(ISS + 101, 5.1, None)
    assert [(t.start - ISS, t.end - ISS) for t in transmit(sender, 5.1)] == [(101, 301)]


def test_recovery_repeats_each_hole_once():
    sender = opened()
    sender.take(bytes(1_000))
    transmit(sender, 1.0)
    for _ in range(3):
        sender.on_duplicate_ack(1.1)
    assert [(t.start - ISS, t.reason) for t in transmit(sender, 1.1)] == [
        (1, Reason.FAST_RETRANSMIT)
    ]
    sender.on_ack(ISS + 501, 1.2, None)
    assert [(t.start - ISS, t.reason) for t in transmit(sender, 1.2)] == [
        (501, Reason.PARTIAL_ACK)
    ]
    sender.on_ack(ISS + 1_001, 1.3, None)
    assert not sender.recovering
    assert sender.timer_deadline == NEVER


def test_a_forged_flood_of_duplicate_acks_inflates_by_the_flight_only():
    """TCP-19."""
    sender = opened(window=1_000_000)
    sender.take(bytes(500_000))
    transmit(sender, 1.0)
    flight = sender.snd_nxt - sender.snd_una
    for _ in range(1_000):
        sender.on_duplicate_ack(1.1)
        transmit(sender, 1.1)
    assert sender.inflation <= sender.snd_nxt - sender.snd_una
    assert sender.snd_nxt - sender.snd_una <= 4 * flight
