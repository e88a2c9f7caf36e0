"""When the leader spins before it sleeps."""

from __future__ import annotations

import pytest

from netstack.driver import poller as module
from netstack.driver.poller import SPIN_S, Poller


class Clock:
    """A clock that polling moves, and what is polled: ready ``answer`` seconds after the wait."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ready_at = 0.0
        self.shared = False  # one CPU for both: the answer takes its time once we sleep
        self.spins = 0

    def monotonic(self) -> float:
        return self.now

    def poll(self, timeout: int | None) -> list[tuple[int, int]]:
        if timeout == 0:
            self.spins += 1
            self.now += 5e-6
            return [] if self.shared or self.now < self.ready_at else [(99, 1)]
        self.now = self.now + 1e-5 if self.shared else max(self.now, self.ready_at)
        return [(99, 1)]


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "monotonic", clock.monotonic)
    return clock


@pytest.fixture
def poller(clock):
    poller = Poller()
    poller._poll = clock
    poller._many_cpus = True
    yield poller
    poller.forget()


def wait(poller, clock, answer):
    """Wait once; return whether it spun."""
    before = clock.spins
    clock.ready_at = clock.now + answer
    assert poller.wait(clock.now + 1.0, ()) == [(99, 1)]
    return clock.spins > before


def test_leader_spins_once_answers_come_fast(poller, clock):
    assert [wait(poller, clock, 2e-5) for _ in range(8)] == [False] * 4 + [True] * 4


def test_leader_stops_spinning_when_answers_come_late(poller, clock):
    for _ in range(20):
        wait(poller, clock, 2e-5)
    assert [wait(poller, clock, 100 * SPIN_S) for _ in range(8)] == [True] * 5 + [False] * 3


def test_leader_stops_spinning_at_once_where_that_holds_up_the_answer(poller, clock):
    for _ in range(20):
        wait(poller, clock, 2e-5)
    clock.shared = True
    assert wait(poller, clock, 2e-5)
    assert not any(wait(poller, clock, 2e-5) for _ in range(200))
    clock.shared = False
    assert any(wait(poller, clock, 2e-5) for _ in range(200))


def test_poller_tells_whether_something_was_there_without_a_wait(poller, clock):
    found = []
    for answer in (0.0, 5e-5, 0.0):
        wait(poller, clock, answer)
        found.append(poller.at_once)
    assert found == [True, False, True]


def test_nothing_found_is_not_at_once_however_short_the_look(poller, clock):
    clock.ready_at = 1.0
    for sleep_until in (0.0, None):
        poller.at_once = True
        if sleep_until is None:
            assert poller.glance() == []
        else:
            assert poller.wait(sleep_until, ()) == []
        assert not poller.at_once
