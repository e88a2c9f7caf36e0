"""Stream buffers against plain bytes; what was handed out never changes."""

import gc
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.core.buffer import BY_REFERENCE, ReceiveBuffer, SendBuffer, unpinned

SIZES = st.one_of(st.integers(0, 40), st.integers(0, 3 * BY_REFERENCE), st.just(BY_REFERENCE))


def octets(size, salt):
    return bytes((index * 7 + salt) & 0xFF for index in range(size))


SEND_STEPS = st.lists(
    st.tuples(
        st.sampled_from(("append", "append part", "bytearray", "pieces", "release")),
        SIZES,
        st.floats(0, 1),
    ),
    max_size=40,
)


class SendModel:
    """What the buffer should hold, as one ``bytes`` of the whole stream."""

    def __init__(self):
        self.stream = b""
        self.start = 0

    def range(self, size, where):
        start = self.start + int((len(self.stream) - self.start) * where)
        return start, min(start + size, len(self.stream))


@given(SEND_STEPS, st.integers(1, 20))
def test_send_buffer_behaves_as_plain_bytes(steps, limit):
    buffer, model = SendBuffer(), SendModel()
    handed_out = []
    for number, (step, size, where) in enumerate(steps):
        if step in ("append", "append part", "bytearray"):
            data = octets(size, number)
            length = int(size * where) if step == "append part" else size
            source = bytearray(data) if step == "bytearray" else data
            buffer.append(source, length)
            model.stream += data[:length]
            if step == "bytearray":
                source[:] = bytes(size)  # the caller may reuse its buffer
        elif step == "pieces":
            start, end = model.range(size, where)
            pieces = buffer.pieces(start, end, limit)
            assert len(pieces) <= limit
            assert all(memoryview(piece).readonly for piece in pieces)
            assert b"".join(pieces) == model.stream[start:end]
            handed_out.append((pieces, model.stream[start:end]))
        else:
            model.start, _ = model.range(0, where)
            buffer.release(model.start)
        assert (buffer.start, buffer.end) == (model.start, len(model.stream))
        assert len(buffer) == len(model.stream) - model.start
    for pieces, expected in handed_out:
        assert b"".join(pieces) == expected


def test_large_bytes_are_sent_by_reference():
    data = bytes(BY_REFERENCE)
    buffer = SendBuffer()
    buffer.append(data, len(data))
    (piece,) = buffer.pieces(0, BY_REFERENCE, 16)
    assert piece.obj is data


def test_a_view_of_bytes_is_sent_by_reference_and_one_of_a_bytearray_copied():
    for kind, by_reference in ((bytes, True), (bytearray, False)):
        data = kind(2 * BY_REFERENCE)
        buffer = SendBuffer()
        buffer.append(memoryview(data)[BY_REFERENCE:], BY_REFERENCE)
        (piece,) = buffer.pieces(0, BY_REFERENCE, 16)
        assert piece.readonly
        assert (piece.obj is data) == by_reference


def test_released_octets_are_let_go():
    tracemalloc.start()
    try:
        buffer = SendBuffer()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(300):
            buffer.append(b"x" * 3_000, 3_000)
            buffer.release(buffer.end)
        assert tracemalloc.get_traced_memory()[0] - before < 200_000
    finally:
        tracemalloc.stop()


RECEIVE_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.lists(SIZES, max_size=5)),
        st.tuples(st.sampled_from(("take", "take into")), st.integers(0, 20_000)),
    ),
    max_size=40,
)


@given(RECEIVE_STEPS)
def test_receive_buffer_behaves_as_plain_bytes(steps):
    buffer, model = ReceiveBuffer(), b""
    taken = []
    for number, (step, argument) in enumerate(steps):
        if step == "append":
            pieces = [octets(size, number + size) for size in argument]
            buffer.append([memoryview(piece) for piece in pieces])
            model += b"".join(pieces)
        elif step == "take into":
            room = bytearray(argument)
            length = buffer.take_into(memoryview(room))
            assert length == min(argument, len(model))
            assert room[:length] == model[:length]
            assert not any(room[length:])
            model = model[length:]
        else:
            data = buffer.take(argument)
            assert type(data) is bytes
            assert data == model[:argument]
            taken.append((data, model[:argument]))
            model = model[argument:]
        assert buffer.length == len(model)
    assert all(data == expected for data, expected in taken)


@pytest.mark.parametrize("size", [1, 2, 100, 511, 512])
def test_small_pieces_cost_little_more_than_their_octets(size):
    count = 100_000 // size
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        buffer = ReceiveBuffer()
        for _ in range(count):
            buffer.append([memoryview(bytes(size))])
        gc.collect()
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert buffer.length == count * size
    assert used < 200_000


def test_a_small_piece_does_not_pin_a_large_buffer():
    frame = bytes(65_536)
    copied = unpinned(memoryview(frame)[:1_000])
    assert isinstance(copied, bytes)
    assert len(copied) == 1_000
    assert unpinned(memoryview(frame)[:20_000]).obj is frame
