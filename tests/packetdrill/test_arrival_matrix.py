"""Every kind of segment in each of the 11 states, against a model of RFC 9293 3.10.7.

Four tables, each for every state and with super-segments on and off:

- all 512 combinations of flags (the AE bit included), with and without timestamps: ``tcp_07``;
- data, FIN, RST, SYN and bare segments, at, below and beyond the edges of the window, with old,
  good and future acknowledgments, with and without timestamps: ``window_edges``;
- the same where the timestamp is older than the last one, or missing: ``timestamps_that``;
- initial sequence numbers of both sides next to 2**31 and 2**32 rotate through these three; the
  soak has the product of all (``every_case_with_every_number``).

Elsewhere, in transport/tcp: what follows on a segment, state by state (test_arrival.py,
test_states.py), a window that is closed (test_data.py), urgent pointers (test_urgent.py), calls of
the user in each state (test_calls.py), forged segments (test_attacks.py), ICMP errors
(test_icmp.py); streams across 2**32 in wrap_sequence_numbers.script and grid/test_hostile.py.
"""

from itertools import product

import pytest
from segment_oracle import SYNCHRONIZED, Arrival, Block, judge
from tcp_peer import Peer, flag_letters

STATES = (
    "closed", "listen", "syn_sent", "syn_received", "established", "fin_wait_1", "fin_wait_2",
    "close_wait", "closing", "last_ack", "time_wait",
)  # fmt: skip
UNACKNOWLEDGED = ("syn_sent", "syn_received", "fin_wait_1", "closing", "last_ack")
NUMBERS = (
    (5_000, None), (0x7FFFFFFF, 0x7FFFFFFE), (0xFFFFFFFF, 0xFFFFFFFE), (0xFFFFFFFE, 0xFFFFFFFF),
    (0x80000000, 0xFFFFFFF0), (0xFFFFF000, 0x7FFFFFF0), (0, 0),
)  # fmt: skip
STAMPS = (1_000, 0, 0x80000000, 0x7FFFFFFF)  # of the peer's; one less is old
WINDOW = 4_000
MAX_WINDOW = 65_535  # what the peer offers


def reach(state, index, *, timestamps):
    """Return a peer in ``state`` and the variables as they are known from the wire."""
    irs, iss = NUMBERS[index % len(NUMBERS)]
    peer = Peer(
        irs=irs, iss=iss, timestamps=timestamps, receive_buffer=WINDOW, window_scaling=False,
        sack=bool(index // len(NUMBERS) % 2),
    )  # fmt: skip
    peer.ts_val = STAMPS[index % len(STAMPS)]
    if state == "closed":
        return peer, Block("CLOSED", 0, 0, MAX_WINDOW, 0, 0)
    getattr(peer, state)()
    if state == "listen":
        return peer, Block("LISTEN", 0, 0, MAX_WINDOW, 0, 0)
    sender, receiver = peer.connection.sender, peer.connection.receiver
    snd_nxt = sender.snd_nxt - sender.iss
    rcv_nxt = receiver.rcv_nxt - receiver.irs
    block = Block(
        state.upper(), snd_nxt - (state in UNACKNOWLEDGED), snd_nxt, MAX_WINDOW,
        rcv_nxt, rcv_nxt + receiver.rcv_adv - receiver.rcv_nxt,
    )  # fmt: skip
    return peer, block


def play(state, index, choose, timestamps):
    """Send one segment in ``state``; return what the model says and what happened, as text."""
    peer, block = reach(state, index, timestamps=timestamps)
    segment = choose(block)
    wanted = judge(block, segment)
    received = peer.connection.received if peer.connection else 0
    mask = 0xFFFFFFFF
    if segment.stamp == "old":
        peer.ts_val = (peer.ts_val - 1) & mask
    peer.inject(
        segment.flags, seq=segment.seq & mask, ack=segment.ack & mask, data=b"!" * segment.length,
        options=b"" if segment.stamp == "none" else None,
    )  # fmt: skip
    peer.advance(peer.config.delayed_ack)
    got = []
    before_iss = peer.iss
    while peer.device.sent:
        header = peer._take().header
        flags = "".join(letter for letter in flag_letters(header.flags) if letter in "SAR")
        base = 0 if state in ("closed", "listen") else before_iss
        seq = (header.seq - base) & mask
        if "S" in flags:
            seq = 0
        if flags == "RA":
            seq = header.seq
        got.append((flags, seq, (header.ack - peer.irs) & mask if header.flags & 16 else 0))
    connections = list(peer.stack.tcp.connections.values())
    now = connections[0].state.name if connections else "LISTEN" if peer.listener else "CLOSED"
    if len(peer.stack.tcp.time_wait):
        now = "TIME_WAIT"
    fresh = not connections or connections[0] is not peer.connection
    after = peer.connection.received if peer.connection else 0
    expected = []
    if wanted.reply is not None:
        letters, seq, ack = wanted.reply
        seq = 0 if "S" in letters else seq & mask
        expected = [("".join(x for x in "SRA" if x in letters), seq, ack & mask)]
    final = wanted.state
    if final == "CLOSED" and peer.listener is not None:
        final = "LISTEN"
    assert peer.counter("stack.internal_error") == 0
    seen = (now, got, 0 if fresh else after - received)
    return (final, expected, 0 if fresh else wanted.delivered), seen, (block, segment)


def compare(state, cases, timestamps):
    wrong = []
    for index, choose in cases:
        wanted, seen, case = play(state, index, choose, timestamps)
        if wanted != seen:
            wrong.append(f"{case[0]}\n  {case[1]}\n  model {wanted}\n  stack {seen}")
    assert not wrong, f"{len(wrong)} differ:\n" + "\n".join(wrong[:5])


def flag_cases():
    """Return a chooser of the segment for each combination of flags."""

    def chooser(bits):
        def choose(block):
            seq = block.rcv_nxt + (0, 0, 1, -1, WINDOW)[bits % 5]
            ack = (block.snd_nxt, block.snd_una, block.snd_nxt + 1)[bits // 5 % 3]
            return Arrival(flag_letters(bits), seq, ack, bits // 3 % 3)

        return choose

    return [chooser(bits) for bits in range(512)]


FLAGS = ("", "A", "UPA", "F", "FA", "S", "SA", "SF", "R", "RA", "CEA")
SEQS = (-(1 << 30), -1, 0, 1, WINDOW - 1, WINDOW, WINDOW + 1, 1 << 30)
ACKS = (-MAX_WINDOW - 2, -1, 0, 1, 1 << 30)
LENGTHS = (0, 3)


def edge_cases(flags, stamp="new"):
    """Return choosers of segments around the edges of the window and of what is acknowledged."""

    def chooser(seq, ack, length):
        def choose(block):
            return Arrival(flags, block.rcv_nxt + seq, block.snd_nxt + ack, length, stamp)

        return choose

    acks = ACKS if "A" in flags else (0,)
    return [chooser(*case) for case in product(SEQS, acks, LENGTHS)]


in_every_state = pytest.mark.parametrize("state", STATES)
with_and_without = pytest.mark.parametrize("timestamps", [False, True], ids=["bare", "timestamps"])
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("either_way")]


@in_every_state
@with_and_without
def test_tcp_07_every_combination_of_flags_in_every_state(state, timestamps):
    """TCP-07: never an exception, never an illegal transition, never a RST for a RST."""
    compare(state, list(enumerate(flag_cases())), timestamps)


@in_every_state
@with_and_without
def test_window_edges_and_acknowledgments_in_every_state(state, timestamps):
    for start, flags in enumerate(FLAGS):
        compare(state, list(enumerate(edge_cases(flags), start)), timestamps)


@pytest.mark.parametrize("state", [state for state in STATES if state.upper() in SYNCHRONIZED])
@pytest.mark.parametrize("stamp", ["old", "none"])
def test_timestamps_that_are_old_or_missing_in_every_synchronized_state(state, stamp):
    for start, flags in enumerate(each for each in FLAGS if "S" not in each):
        compare(state, list(enumerate(edge_cases(flags, stamp), start)), timestamps=True)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@in_every_state
@with_and_without
def test_every_case_with_every_number(state, timestamps):
    cases = [*flag_cases(), *(case for flags in FLAGS for case in edge_cases(flags))]
    for index in range(2 * len(NUMBERS)):  # SACK on and off
        compare(state, [(index, case) for case in cases], timestamps)
