from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from netstack.core.intervals import Intervals

ranges = st.tuples(st.integers(0, 60), st.integers(0, 60)).map(lambda p: (min(p), max(p)))


def test_touching_ranges_become_one():
    covered = Intervals()
    assert covered.add(0, 8) == 8
    assert covered.add(16, 24) == 8
    assert len(covered) == 2
    assert covered.add(8, 16) == 8
    assert list(covered) == [(0, 24)]


def test_add_counts_only_what_is_new():
    covered = Intervals()
    covered.add(10, 20)
    assert covered.add(10, 20) == 0
    assert covered.add(5, 15) == 5
    assert covered.add(0, 100) == 85
    assert covered.add(7, 7) == 0


def test_gaps_lists_the_missing_pieces_in_order():
    covered = Intervals()
    covered.add(10, 20)
    covered.add(30, 40)
    assert covered.gaps(0, 50) == [(0, 10), (20, 30), (40, 50)]
    assert covered.gaps(10, 20) == []
    assert covered.gaps(15, 31) == [(20, 30)]


def test_first_and_last_of_an_empty_set_are_none():
    covered = Intervals()
    assert covered.first() is None
    assert covered.last() is None
    covered.add(3, 5)
    covered.add(7, 9)
    assert covered.first() == (3, 5)
    assert covered.last() == (7, 9)
    covered.clear()
    assert covered.first() is None
    assert repr(covered) == "Intervals([])"


def test_remove_below_cuts_the_range_it_falls_into():
    covered = Intervals()
    covered.add(0, 10)
    covered.add(20, 30)
    covered.remove_below(25)
    assert list(covered) == [(25, 30)]
    covered.remove_below(30)
    assert list(covered) == []


@given(st.lists(ranges, max_size=20), ranges, st.integers(0, 60))
def test_intervals_agree_with_a_set_of_numbers(additions, probe, bound):
    covered = Intervals()
    model: set[int] = set()
    for start, end in additions:
        new = set(range(start, end)) - model
        assert covered.overlaps(start, end) == bool(set(range(start, end)) & model)
        assert covered.add(start, end) == len(new)
        model |= new
    wanted = set(range(*probe))
    assert covered.covers(*probe) == (wanted <= model)
    missing = {n for start, end in covered.gaps(*probe) for n in range(start, end)}
    assert missing == wanted - model
    pairs = list(covered)
    assert all(a[1] < b[0] for a, b in pairwise(pairs))
    covered.remove_below(bound)
    assert {n for a, b in covered for n in range(a, b)} == {n for n in model if n >= bound}
