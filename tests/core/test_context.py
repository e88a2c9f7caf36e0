"""Counters, and a trace that costs nothing while nobody listens."""

import dataclasses

import pytest

from netstack.core import trace
from netstack.core.config import Config, TcpConfig
from netstack.core.context import Context
from netstack.core.trace import Dropped, NameStep, Reason


@pytest.fixture
def context():
    return Context("host", seed=1)


def test_counts_add_up(context):
    context.count("tcp.accepted")
    context.count("tcp.accepted", 4)
    context.drop("ipv4.bad_checksum", 3)
    assert context.counters == {"tcp.accepted": 5, "ipv4.bad_checksum": 3}


def test_a_counter_that_a_layer_keeps_is_shown_once_it_counted(context):
    kept = context.counter("link.frames_sent")
    assert "link.frames_sent" not in context.counters
    assert context.counters.snapshot() == {}
    kept.value += 3
    context.count("link.frames_sent")
    assert context.counters["link.frames_sent"] == 4
    assert context.counter("link.frames_sent") is kept


def test_counters_can_be_set_and_forgotten_by_name(context):
    kept = context.counter("tcp.accepted")
    context.counters["tcp.accepted"] = 0
    assert dict(context.counters) == {"tcp.accepted": 0}
    del context.counters["tcp.accepted"]
    assert len(context.counters) == 0
    with pytest.raises(KeyError):
        del context.counters["tcp.accepted"]
    kept.value += 1
    assert repr(context.counters) == "{'tcp.accepted': 1}"


def test_without_a_listener_there_is_no_trace(context):
    assert context.trace is None
    context.drop("ipv4.bad_checksum")
    context.deliver_trace()


def test_drop_is_traced_with_its_layer_and_time(context):
    events = []
    context.listen(events.append)
    context.now = 1.5
    context.drop("ipv4.bad_checksum", 2, frame_id=7)
    assert events == []  # only after the step
    context.deliver_trace()
    assert events == [Dropped(1.5, "host", "ipv4", "ipv4.bad_checksum", 2, 7)]


def test_the_last_listener_takes_the_trace_with_it(context):
    first, second = [], []
    stop_first, stop_second = context.listen(first.append), context.listen(second.append)
    stop_first()
    stop_first()
    context.drop("a.b")
    context.deliver_trace()
    assert (len(first), len(second)) == (0, 1)
    stop_second()
    assert context.trace is None


def test_listener_may_stop_itself_while_called(context):
    events = []
    stops = []

    def once(event):
        events.append(event)
        stops.pop()()

    stops.append(context.listen(once))
    context.drop("a.b")
    context.drop("a.c")
    context.deliver_trace()
    assert len(events) == 1


def test_frame_ids_count_from_one(context):
    context.listen(lambda event: None)
    assert [context.trace.frame_id() for _ in range(3)] == [1, 2, 3]


def test_every_event_is_frozen_and_slotted():
    kinds = [kind for kind in vars(trace).values() if isinstance(kind, type)]
    events = [kind for kind in kinds if issubclass(kind, trace.TraceEvent)]
    assert len(events) > 10
    for kind in events:
        assert "__slots__" in vars(kind), kind
    event = NameStep(0.0, "h", "dns", "a.test", "A", "10.0.0.1", "referral")
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.time = 1.0


def test_every_reason_names_its_section():
    for reason in Reason:
        assert "RFC " in reason.value, reason


def test_configuration_is_frozen_and_given_not_global():
    config = Config(tcp=TcpConfig(nagle=False))
    assert Context(config=config).config.tcp.nagle is False
    assert Context().config.tcp.nagle is True
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.tcp = TcpConfig()
