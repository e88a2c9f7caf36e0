"""The queue of events: in order, each kind once a source until it was pulled."""

from hypothesis import given
from hypothesis import strategies as st

from netstack.transport.events import (
    MAX_UNPULLED,
    Accepted,
    Closed,
    Connected,
    EventQueue,
    Readable,
    Writable,
)

KINDS = (Connected, Readable, Writable, Closed)


def pull(queue):
    return list(iter(queue.next_event, None))


def test_an_event_that_waits_is_not_doubled_one_that_was_pulled_is_new():
    queue, source = EventQueue(), object()
    queue.post(Readable(source))
    queue.post(Readable(source))
    queue.post(Readable(object()))
    assert len(queue) == 2
    assert queue.next_event().source is source
    queue.post(Readable(source))
    assert len(pull(queue)) == 2


def test_every_accepted_connection_is_told():
    queue, listener = EventQueue(), object()
    for number in range(3):
        queue.post(Accepted(listener, number))
    assert [event.connection for event in pull(queue)] == [0, 1, 2]


@given(st.lists(st.one_of(st.none(), st.tuples(st.sampled_from(KINDS), st.integers(0, 3)))))
def test_queue_is_an_ordered_set(steps):
    sources = [object() for _ in range(4)]
    queue, model = EventQueue(), []
    for step in steps:
        if step is None:
            event = queue.next_event()
            expected = model.pop(0) if model else None
            seen = None if event is None else (type(event), sources.index(event.source))
            assert seen == expected
        else:
            queue.post(step[0](sources[step[1]]))
            if step not in model:
                model.append(step)
        assert len(queue) == len(model)


def test_events_that_nobody_ever_pulled_are_bounded():
    queue = EventQueue()
    for number in range(MAX_UNPULLED + 10):
        queue.post(Accepted("listener", number))
        queue.post(Readable(number))
    assert len(queue) == MAX_UNPULLED
    assert queue.next_event() == Accepted("listener", 10 + MAX_UNPULLED // 2)
    queue.post(Readable(0))  # told again: the first one gave way
    assert len(queue) == MAX_UNPULLED


def test_whoever_pulls_gets_every_event():
    queue = EventQueue()
    assert queue.next_event() is None
    for number in range(MAX_UNPULLED * 2):
        queue.post(Accepted("listener", number))
    assert len(queue) == MAX_UNPULLED * 2
