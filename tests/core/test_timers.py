"""Timers move cheaply and fire exactly; events keep their order."""

import gc
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from netstack.core.timers import EventHeap, Timer, TimerQueue


@pytest.fixture
def queue():
    return TimerQueue()


@pytest.fixture
def fired():
    return []


def test_timer_fires_once_at_its_deadline(queue, fired):
    timer = Timer(fired.append)
    queue.arm(timer, 2.0)
    assert queue.next_deadline() == 2.0
    assert queue.run_due(1.999) == 0
    assert queue.run_due(2.0) == 1
    assert queue.run_due(9.0) == 0
    assert fired == [2.0]
    assert queue.next_deadline() is None


def test_moved_timer_fires_at_the_last_deadline_only(queue, fired):
    timer = Timer(fired.append)
    for deadline in (5.0, 3.0, 8.0, 6.0):
        queue.arm(timer, deadline)
    assert queue.next_deadline() == 6.0
    queue.run_due(5.9)
    assert fired == []
    queue.run_due(6.0)
    assert fired == [6.0]


def test_disarmed_timer_does_not_fire(queue, fired):
    timer = Timer(fired.append)
    queue.arm(timer, 1.0)
    queue.disarm(timer)
    queue.disarm(timer)
    assert queue.armed == 0
    assert queue.next_deadline() is None
    assert queue.run_due(2.0) == 0


def test_disarmed_timers_do_not_keep_their_owners_alive(queue):
    class Owner:
        def __init__(self):
            self.timer = Timer(self.on_timer)

        def on_timer(self, now):
            pass

    owners = [Owner() for _ in range(1000)]
    for owner in owners:
        queue.arm(owner.timer, 900.0)
    alive = [weakref.ref(owner) for owner in owners]
    for owner in owners:
        queue.disarm(owner.timer)
    del owners, owner
    gc.collect()
    assert sum(reference() is not None for reference in alive) <= 64


def test_deadline_is_exact_while_stale_entries_are_swept(queue):
    first, second, *others = [Timer(lambda now: None) for _ in range(102)]
    for timer, deadline in ((first, 1.0), (second, 2.0)):
        queue.arm(timer, deadline)
    for timer in others:
        queue.arm(timer, 20.0)
    queue.arm(first, 10.0)
    queue.arm(second, 3.0)
    for timer in others:
        queue.disarm(timer)
    assert queue.next_deadline() == 3.0
    assert queue.run_due(3.0) == 1


def test_timer_disarmed_by_an_earlier_callback_of_the_round_does_not_fire(queue, fired):
    second = Timer(fired.append)
    first = Timer(lambda now: queue.disarm(second))
    queue.arm(first, 1.0)
    queue.arm(second, 1.0)
    assert queue.run_due(1.0) == 1
    assert fired == []


def test_timer_moved_by_an_earlier_callback_of_the_round_fires_later(queue, fired):
    second = Timer(fired.append)
    first = Timer(lambda now: queue.arm(second, 4.0))
    queue.arm(first, 1.0)
    queue.arm(second, 1.0)
    queue.run_due(1.0)
    assert fired == []
    assert queue.next_deadline() == 4.0
    queue.run_due(4.0)
    assert fired == [4.0]


def test_timer_that_rearms_itself_for_now_does_not_run_for_ever(queue, fired):
    def again(now):
        fired.append(now)
        queue.arm(timer, now)

    timer = Timer(again)
    queue.arm(timer, 1.0)
    assert queue.run_due(1.0) == 1
    assert queue.next_deadline() == 1.0
    assert queue.run_due(1.0) == 1


def test_ties_fire_in_order_of_arming(queue, fired):
    for number in range(20):
        queue.arm(Timer(lambda now, number=number: fired.append(number)), 1.0)
    queue.run_due(1.0)
    assert fired == list(range(20))


def test_a_million_moves_keep_the_heap_small(queue):
    timers = [Timer(lambda now: None) for _ in range(10)]
    for step in range(20_000):
        queue.arm(timers[step % 10], 1e6 - step)
    assert len(queue._heap) <= 100


def test_only_housekeeping_looks_at_armed_timers_only(queue):
    work, upkeep = Timer(lambda now: None), Timer(lambda now: None, housekeeping=True)
    assert queue.only_housekeeping()
    queue.arm(upkeep, 1.0)
    assert queue.only_housekeeping()
    queue.arm(work, 1.0)
    assert not queue.only_housekeeping()
    queue.disarm(work)
    assert queue.only_housekeeping()


class TimersEqualTheirModel(RuleBasedStateMachine):
    """The queue against a dictionary of deadlines."""

    def __init__(self):
        super().__init__()
        self.queue = TimerQueue()
        self.now = 0.0
        self.model = {}
        self.fired = []
        self.timers = [
            Timer(lambda now, number=number: self.fired.append(number)) for number in range(5)
        ]

    @rule(number=st.integers(0, 4), delay=st.integers(0, 20))
    def arm(self, number, delay):
        self.queue.arm(self.timers[number], self.now + delay)
        self.model[number] = self.now + delay

    @rule(number=st.integers(0, 4))
    def disarm(self, number):
        self.queue.disarm(self.timers[number])
        self.model.pop(number, None)

    @rule(step=st.integers(0, 15))
    def advance(self, step):
        self.now += step
        self.fired.clear()
        due = {number for number, deadline in self.model.items() if deadline <= self.now}
        assert self.queue.run_due(self.now) == len(due)
        assert sorted(self.fired) == sorted(due)
        for number in due:
            del self.model[number]

    @invariant()
    def deadline_is_exact(self):
        assert self.queue.next_deadline() == min(self.model.values(), default=None)
        assert self.queue.armed == len(self.model)


test_timers_equal_their_model = TimersEqualTheirModel.TestCase


def test_events_run_by_time_and_then_by_order_of_planning():
    heap, seen = EventHeap(), []
    heap.schedule(2.0, seen.append, "c")
    heap.schedule(1.0, seen.append, "a")
    heap.schedule(1.0, seen.append, "b")
    while len(heap):
        heap.run_next()
    assert seen == ["a", "b", "c"]
    assert heap.now == 2.0
    assert heap.next_time() is None


def test_an_event_planned_for_the_past_happens_now():
    heap, seen = EventHeap(), []
    heap.schedule(5.0, lambda: heap.schedule(1.0, lambda: seen.append(heap.now)))
    heap.run_next()
    assert heap.next_time() == 5.0
    heap.run_next()
    assert seen == [5.0]


def test_an_empty_heap_has_no_next_event():
    with pytest.raises(IndexError):
        EventHeap().run_next()


@given(st.lists(st.floats(0, 1e6), max_size=50))
def test_the_clock_of_the_heap_never_goes_back(times):
    heap, seen = EventHeap(), []
    for when in times:
        heap.schedule(when, lambda: seen.append(heap.now))
    while len(heap):
        heap.run_next()
    assert seen == sorted(times)


def test_rebuild_finds_every_armed_timer_again(queue, fired):
    """An exception may have hit between marking a timer as queued and queueing it."""
    early, late = Timer(lambda now: fired.append("early")), Timer(lambda now: fired.append("late"))
    queue.arm(late, 2.0)
    early.deadline = early.queued = 1.0
    queue._armed[early] = None  # cut right before the heap's entry
    queue.rebuild()
    queue.rebuild()
    assert queue.next_deadline() == 1.0
    assert queue.run_due(3.0) == 2
    assert fired == ["early", "late"]
    assert queue.armed == 0
