"""What a stand-by sees of those who lead: the kernel and its twin, one behaviour."""

import threading

import pytest

from netstack.driver.pulse import PulsePy

LEAST, MOST = 0.001, 0.004
LONG = 60.0


@pytest.fixture(params=["twin", pytest.param("kernel", marks=pytest.mark.needs("kernels"))])
def pulse(request):
    if request.param == "twin":
        return PulsePy()
    from netstack._ext.pulse import Pulse

    return Pulse()


class Standing:
    """A thread that stands by once."""

    def __init__(self, pulse, least, most):
        self.result = None

        def stand():
            self.result = pulse.stand_by(least, most)

        self._thread = threading.Thread(target=stand, daemon=True)
        self._thread.start()

    def ended(self, within=10.0):
        self._thread.join(within)
        return not self._thread.is_alive()


def test_whole_tick_without_a_leader_is_told(pulse):
    assert pulse.stand_by(LEAST, MOST) is True


def test_lead_that_lasts_is_looked_at_after_the_longest_tick(pulse):
    pulse.lead()
    assert pulse.stand_by(LEAST, MOST) is False
    assert pulse.stand_by(LEAST, MOST) is False
    pulse.leave()
    assert pulse.stand_by(LEAST, MOST) is True


def test_nudge_ends_a_tick_however_long(pulse):
    standing = Standing(pulse, LONG, LONG)
    pulse.nudge()
    assert standing.ended()
    assert standing.result is False


def test_nudge_before_ends_the_next_stand_by_once(pulse):
    pulse.nudge()
    pulse.nudge()
    assert pulse.stand_by(0.1, 0.1) is False
    assert pulse.stand_by(LEAST, MOST) is True


def test_hurry_leaves_a_shortest_tick_alone(pulse):
    standing = Standing(pulse, LONG, LONG)
    pulse.hurry()
    assert not standing.ended(0.02)
    pulse.nudge()
    assert standing.ended()


def test_hurry_ends_a_tick_that_has_grown(pulse):
    pulse.nudge()
    assert pulse.stand_by(LONG, LONG) is False
    pulse.lead()
    standing = Standing(pulse, LEAST, LONG)  # its first tick is as long as the last was
    pulse.leave()
    pulse.hurry()
    assert standing.ended()
    assert standing.result is True


def test_beats_keep_the_stand_by_asleep(pulse):
    """A tick in which a lead began or ended is not one without a leader."""
    standing = Standing(pulse, 0.5, LONG)
    pause = threading.Event()
    for _ in range(60):
        pulse.lead()
        pulse.leave()
        pause.wait(0.01)
    assert standing.result is None
    assert standing.ended()
    assert standing.result is True
    assert pulse.beats == 120
