"""Octets ahead of the stream, against a plain dict of octets."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.transport.tcp.reassembly import PIECE_OVERHEAD, OutOfOrderQueue
from netstack.transport.tcp.receiver import Receiver

INSERTS = st.lists(
    st.tuples(st.integers(0, 60), st.lists(st.binary(min_size=1, max_size=8), max_size=3)),
    max_size=25,
)


def fill(queue, inserts, first=0):
    """Insert all; return the dict that the queue should equal."""
    model = {}
    for start, pieces in inserts:
        start += first
        new = queue.insert(start, [memoryview(piece) for piece in pieces])
        data = b"".join(pieces)
        missing = [at for at in range(start, start + len(data)) if at not in model]
        assert new == len(missing)
        for at in missing:
            model[at] = data[at - start]
    return model


def ranges(queue):
    return [queue.range(index) for index in range(len(queue))]


def runs(model):
    result = []
    for at in sorted(model):
        if result and result[-1][1] == at:
            result[-1] = (result[-1][0], at + 1)
        else:
            result.append((at, at + 1))
    return result


@pytest.mark.parametrize("first", [0, 2**31 - 30, 2**32 - 30])
@given(INSERTS)
def test_queue_holds_the_first_copy_of_every_octet(first, inserts):
    queue = OutOfOrderQueue()
    model = fill(queue, inserts, first)
    assert ranges(queue) == runs(model)
    assert bool(queue) == bool(model)
    for start, end in runs(model):
        taken = b"".join(queue.take(start))
        assert taken == bytes(model[at] for at in range(start, end))
    assert not queue
    assert queue.charged == 0


@given(INSERTS, st.integers(-5, 90))
def test_take_in_the_middle_forgets_what_lies_before(inserts, position):
    queue = OutOfOrderQueue()
    model = fill(queue, inserts)
    expected = bytearray()
    at = position
    while at in model:
        expected.append(model[at])
        at += 1
    assert b"".join(queue.take(position)) == expected
    left = {octet: value for octet, value in model.items() if octet > max(position, at)}
    assert ranges(queue) == runs(left)
    held = sum(len(piece) + PIECE_OVERHEAD for pieces in queue._pieces for piece in pieces)
    assert queue.charged == held


def test_what_is_charged_is_no_less_than_what_is_held():
    queue = OutOfOrderQueue()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for start in range(0, 4_000, 2):
            queue.insert(start, [memoryview(bytes(1))])
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert held <= queue.charged * 1.1


@pytest.mark.slow
@pytest.mark.parametrize("order", ["up", "down", "every second"])
def test_tcp_24_one_octet_floods_stay_bounded(make_peer, order):
    peer = make_peer(receive_buffer=20_000).established()
    seqs = {"up": range(3, 4_000), "down": range(4_000, 2, -1), "every second": range(3, 8_000, 2)}

    def inject(seq):
        peer.inject("A", seq=seq, ack=1, data=b"x", poll=False)
        peer.script.clear()

    for _ in range(2_000):
        inject(0)  # fills the interpreter's free lists
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for seq in seqs[order]:
            inject(seq)
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert used < 4 * 20_000
    peer.inject("A", seq=1, ack=1, data=b"ab")
    assert peer.connection.receive(100_000, peer.now)[:2] == b"ab"


@given(INSERTS, st.integers(-1, 70))
def test_every_held_octet_is_found_in_its_range(inserts, position):
    queue = OutOfOrderQueue()
    model = fill(queue, inserts)
    index = queue.find(position)
    assert (index >= 0) == (position in model)
    if index >= 0:
        start, end = queue.range(index)
        assert start <= position < end


@pytest.mark.parametrize("first", [0, 2**32 - 30])
@given(
    arrivals=st.lists(st.tuples(st.integers(0, 60), st.binary(min_size=1, max_size=9))),
    fin=st.none() | st.integers(0, 70),
    limit=st.integers(-1, 5),
)
def test_text_in_any_order_gives_the_stream_and_blocks_in_order_of_arrival(
    first, arrivals, fin, limit
):
    receiver = Receiver(1000)
    receiver.open(first - 1)
    receiver.rcv_adv = first + 70
    receiver.fin_seq = None if fin is None else first + fin
    end = 70 if fin is None else fin
    model, latest, stream = {}, [], 0
    for start, data in arrivals:
        advanced = receiver.take_text(first + start, [memoryview(data)], len(data))
        model = {at: octet for at, octet in enumerate(data, start) if at < end} | model
        if stream < start < end:
            latest.insert(0, start)
        before = stream
        while stream in model:
            stream += 1
        assert (advanced, receiver.rcv_nxt) == (stream - before, first + stream)
    if receiver.buffer is not None:
        assert receiver.buffer.take(100) == bytes(model[at] for at in range(stream))
    held = [block for block in runs(model) if block[0] > stream]
    blocks = []
    for position in latest[:8]:
        blocks += [each for each in held if each[0] <= position < each[1] and each not in blocks]
    blocks += [each for each in held if each not in blocks]
    told = [(first + left, first + right + (right == fin)) for left, right in blocks]
    if receiver.duplicate is not None:
        told.insert(0, receiver.duplicate)
    expected = [(left % 2**32, right % 2**32) for left, right in told[: max(limit, 0)]]
    assert receiver.sack_blocks(limit) == expected
    assert receiver.duplicate is None or limit <= 0
