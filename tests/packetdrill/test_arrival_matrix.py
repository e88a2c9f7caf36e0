"""Every kind of segment in each of the 11 states, against a model of RFC 9293 3.10.7.

Two tables: all 512 combinations of flags (the AE bit included), and the usual flags at, below and
beyond the edges of the window with old, good and future acknowledgments. Timestamps, initial
sequence numbers around 2**31 and 2**32 and the way of sending rotate through both.
"""

from itertools import product

import pytest
from segment_oracle import Arrival, Block, judge
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
WINDOW = 4_000
MAX_WINDOW = 65_535  # what the peer offers


def reach(state, index):
    """Return a peer in ``state`` and the variables as they are known from the wire."""
    irs, iss = NUMBERS[index % len(NUMBERS)]
    peer = Peer(
        irs=irs, iss=iss, timestamps=bool(index // 7 % 2), receive_buffer=WINDOW,
        window_scaling=False, sack=bool(index // 14 % 2), super_segments=bool(index // 28 % 2),
    )  # fmt: skip
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


def play(state, index, choose):
    """Send one segment in ``state``; return what the model says and what happened, as text."""
    peer, block = reach(state, index)
    segment = choose(block)
    wanted = judge(block, segment)
    received = peer.connection.received if peer.connection else 0
    mask = 0xFFFFFFFF
    peer.inject(
        segment.flags, seq=segment.seq & mask, ack=segment.ack & mask, data=b"!" * segment.length
    )
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


def compare(state, cases):
    wrong = []
    for index, choose in cases:
        wanted, seen, case = play(state, index, choose)
        if wanted != seen:
            wrong.append(f"{case[0]}\n  {case[1]}\n  model {wanted}\n  stack {seen}")
    assert not wrong, f"{len(wrong)} differ:\n" + "\n".join(wrong[:5])


@pytest.mark.slow
@pytest.mark.parametrize("state", STATES)
def test_tcp_07_every_combination_of_flags_in_every_state(state):
    """TCP-07: never an exception, never an illegal transition, never a RST for a RST."""

    def chooser(bits):
        def choose(block):
            seq = block.rcv_nxt + (0, 0, 1, -1, WINDOW)[bits % 5]
            ack = (block.snd_nxt, block.snd_una, block.snd_nxt + 1)[bits // 5 % 3]
            return Arrival(flag_letters(bits), seq, ack, bits // 3 % 3)

        return choose

    compare(state, [(bits, chooser(bits)) for bits in range(512)])


FLAGS = ("", "A", "UPA", "F", "FA", "S", "SA", "SF", "R", "RA", "CEA")
SEQS = (-(1 << 30), -1, 0, 1, WINDOW - 1, WINDOW, WINDOW + 1, 1 << 30)
ACKS = (-MAX_WINDOW - 2, -1, 0, 1, 1 << 30)
LENGTHS = (0, 3)


@pytest.mark.slow
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("flags", FLAGS)
def test_window_edges_and_acknowledgments_in_every_state(state, flags):
    def chooser(seq, ack, length):
        def choose(block):
            return Arrival(flags, block.rcv_nxt + seq, block.snd_nxt + ack, length)

        return choose

    cases = [chooser(*case) for case in product(SEQS, ACKS, LENGTHS)]
    if "A" not in flags:
        cases = [chooser(seq, 0, length) for seq, length in product(SEQS, LENGTHS)]
    compare(state, list(enumerate(cases, len(flags))))
