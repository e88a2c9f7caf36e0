"""The receiving half by itself: window, reassembly, acknowledgments."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.core.timers import NEVER
from netstack.core.trace import Reason
from netstack.transport.tcp.receiver import Receiver


def opened(size=10_000, irs=100, shift=0):
    receiver = Receiver(size)
    receiver.shift = shift
    receiver.open(irs)
    receiver.window_to_advertise(shift)
    return receiver


def take(receiver, seq, data):
    return receiver.take_text(seq, [memoryview(data)], len(data))


def read(receiver, limit=1 << 30):
    if receiver.buffer is None:
        return b""
    data = receiver.buffer.take(limit)
    if not receiver.buffer.length:
        receiver.buffer = None
    return data


@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.tuples(st.integers(-20, 320), st.integers(1, 60)), max_size=60),
    st.randoms(use_true_random=False),
)
def test_tcp_25_any_order_and_overlap_gives_the_stream(irs, segments, shuffle):
    stream = random.Random(1).randbytes(300)
    receiver = opened(100_000, irs)
    pieces = [(max(start, 0), min(start + size, 300)) for start, size in segments]
    pieces += [(start, start + 50) for start in range(0, 300, 50)]
    shuffle.shuffle(pieces)
    advanced = 0
    for start, end in pieces:
        if start < end:
            advanced += take(receiver, irs + 1 + start, stream[start:end])
        assert receiver.rcv_nxt == irs + 1 + advanced
    assert read(receiver) == stream
    assert not receiver.out_of_order


@given(st.permutations(range(1, 6)), st.integers(1, 5))
def test_tcp_45_text_behind_the_fin_that_came_early_is_cut_off(order, last):
    receiver = opened(10_000)
    first = receiver.rcv_nxt
    for index in order:
        take(receiver, first + index * 10, b"%d" % index * 10)
    receiver.fin_seq = first + last * 10
    take(receiver, first, b"0" * 10)
    assert receiver.rcv_nxt == receiver.fin_seq
    assert read(receiver) == b"".join(b"%d" % index * 10 for index in range(last))


@given(
    st.integers(1, 300_000),
    st.integers(0, 14),
    st.lists(st.tuples(st.integers(0, 5_000), st.integers(0, 9_000)), max_size=40),
)
def test_right_edge_never_moves_left_and_promises_stay_near_the_buffer(size, shift, steps):
    receiver = opened(size, shift=shift)
    edge = receiver.rcv_adv
    for arriving, reading in steps:
        arriving = min(arriving, receiver.rcv_adv - receiver.rcv_nxt)
        take(receiver, receiver.rcv_nxt, bytes(arriving))
        read(receiver, reading)
        field = receiver.window_to_advertise(shift)
        assert 0 <= field <= 0xFFFF
        assert receiver.rcv_adv >= edge
        edge = receiver.rcv_adv
        held = receiver.buffer.length if receiver.buffer else 0
        assert held + edge - receiver.rcv_nxt <= size + size // 8 + (1 << shift)


def test_small_segments_nobody_reads_close_the_window():
    receiver = Receiver(1_000_000)
    receiver.choose_shift()
    receiver.open(0)
    receiver.window_to_advertise(receiver.shift)
    received = 0
    while receiver.rcv_adv > receiver.rcv_nxt:
        received += take(receiver, receiver.rcv_nxt, bytes(15))
        receiver.window_to_advertise(receiver.shift)
        assert received < 1_200_000


@pytest.mark.parametrize("size", [1, 2, 3, 10, 1_000, 65_535, 1_000_000])
def test_draining_a_full_buffer_is_worth_an_update(size):
    receiver = Receiver(size)
    receiver.choose_shift()
    receiver.open(0)
    receiver.window_to_advertise(receiver.shift)
    while receiver.rcv_adv > receiver.rcv_nxt:
        take(receiver, receiver.rcv_nxt, bytes(min(1_460, receiver.rcv_adv - receiver.rcv_nxt)))
        receiver.window_to_advertise(receiver.shift)
    assert not receiver.wants_window_update()
    read(receiver)
    assert receiver.wants_window_update()
    receiver.window_to_advertise(receiver.shift)
    assert not receiver.wants_window_update()


def test_two_full_segments_are_acknowledged_one_is_delayed():
    receiver = opened(100_000)
    receiver.on_in_order(1_460, 1_460, 5.0, 0.04)
    assert receiver.ack_reason is None
    assert receiver.ack_deadline == 5.04
    receiver.on_in_order(1_460, 1_460, 5.01, 0.04)
    assert receiver.ack_reason is Reason.ACK
    receiver.on_ack_sent()
    assert receiver.ack_reason is None
    assert receiver.ack_deadline == NEVER


def test_at_least_one_acknowledgment_in_64_kib():
    receiver = opened(1_000_000)
    receiver.on_in_order(65_536, 65_536, 0.0, 0.04)
    assert receiver.ack_reason is Reason.ACK


def test_text_out_of_order_is_kept_up_to_twice_the_buffer():
    receiver = opened(1_000)
    for index in range(900, 0, -2):
        if receiver.keeps(receiver.rcv_nxt + index):
            take(receiver, receiver.rcv_nxt + index, b"x")
    assert receiver.keeps(receiver.rcv_nxt)
    assert receiver.out_of_order.charged < 2 * 1_000 + 300


@pytest.mark.parametrize(
    ("size", "shift"), [(65_535, 0), (65_536, 1), (1 << 20, 5), (1 << 40, 14)]
)
def test_scale_follows_from_the_buffer(size, shift):
    receiver = Receiver(size)
    receiver.choose_shift()
    assert receiver.shift == shift
