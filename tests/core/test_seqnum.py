"""Sequence numbers modulo 2**32 (RFC 9293 3.4)."""

from hypothesis import given
from hypothesis import strategies as st

from netstack.core import seqnum

numbers = st.integers(0, 2**32 - 1)
near = st.integers(-(2**31) + 1, 2**31 - 1)


@given(numbers, near)
def test_distance_undoes_addition(seq, octets):
    assert seqnum.diff(seqnum.add(seq, octets), seq) == octets


@given(numbers, near)
def test_order_is_the_sign_of_the_distance(seq, octets):
    other = seqnum.add(seq, octets)
    assert seqnum.lt(seq, other) == (octets > 0)


def test_numbers_wrap():
    assert seqnum.add(0xFFFFFFFF, 1) == 0
    assert seqnum.lt(0xFFFFFFF0, 5)


def test_opposite_ends_of_the_circle_have_a_fixed_order():
    assert seqnum.diff(0x80000000, 0) == -0x80000000
    assert seqnum.lt(0x80000000, 0)
