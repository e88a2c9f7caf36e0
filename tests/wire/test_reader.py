"""The bounded cursor."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.core.errors import ParseError
from netstack.wire.reader import Reader


def test_numbers_are_read_big_endian_one_after_another():
    reader = Reader(b"\x01\x02\x03\x04\x05\x06\x07\x08")
    assert (reader.u8(), reader.u16(), reader.u32()) == (0x01, 0x0203, 0x04050607)
    assert reader.remaining == 1
    assert reader.offset == 7


def test_take_returns_octets_by_reference():
    data = bytearray(b"abcd")
    taken = Reader(data, 1).take(2)
    data[1] = ord("X")
    assert taken == b"Xc"


@pytest.mark.parametrize(("method", "need"), [("u8", 1), ("u16", 2), ("u32", 4)])
def test_reading_past_the_end_is_an_error_and_moves_nothing(method, need):
    for have in range(need):
        reader = Reader(bytes(have))
        with pytest.raises(ParseError):
            getattr(reader, method)()
        assert reader.remaining == have


def test_restricted_reader_sees_only_its_window_and_outer_goes_on_after_it():
    outer = Reader(b"\x02abcd")
    inner = outer.restrict(outer.u8())
    assert bytes(outer.take(2)) == b"cd"
    assert bytes(inner.take(2)) == b"ab"
    inner.done()
    with pytest.raises(ParseError):
        inner.u8()


def test_restrict_beyond_the_end_is_an_error():
    with pytest.raises(ParseError):
        Reader(b"abc").restrict(4)


def test_octets_left_unread_are_an_error():
    reader = Reader(b"abc")
    reader.u16()
    with pytest.raises(ParseError):
        reader.done()


@pytest.mark.parametrize(("offset", "end"), [(4, None), (-1, None), (2, 1), (0, 4)])
def test_a_window_outside_the_data_is_an_error(offset, end):
    with pytest.raises(ParseError):
        Reader(b"abc", offset, end)


@given(st.binary(max_size=64), st.lists(st.integers(-5, 80), max_size=12))
def test_any_sequence_of_takes_reads_the_data_in_order_or_raises(data, counts):
    reader = Reader(data)
    taken = b""
    for count in counts:
        try:
            taken += reader.take(count)
        except ParseError:
            continue
    assert data.startswith(taken)
    assert reader.remaining == len(data) - len(taken)
