"""``netstack bench modules``: the compiled modules pay, or they leave."""

import pytest

from netstack._ext import choose
from netstack.bench import modules
from netstack.bench.result import BenchError

WANTED = {"request_response": 1.2, "transfer": 1.05, "transfer_loss": 1.0, "connections": 1.0}
"""How many times faster. Kernels do most of a transfer; opening runs much that is not compiled."""


@pytest.mark.parametrize("name", modules.WORKS)
def test_every_work_gets_its_content_through_and_costs_something(name):
    assert modules.measure(name, 0.02) > 0


@pytest.mark.needs("modules")
def test_both_contestants_are_measured_every_round():
    told = []
    result = modules.run(2, told.append, part=0.01)
    assert len(told) == len(result.works) == len(modules.WORKS)
    for work in result.works:
        assert len(work.subject) == len(work.baseline) == 2


def test_without_compiled_modules_there_is_nothing_to_measure(monkeypatch):
    monkeypatch.setattr(choose, "COMPILED", False)
    monkeypatch.setattr(choose, "REASON", "not built")
    with pytest.raises(BenchError, match="not built"):
        modules.run(1, lambda line: None)


@pytest.mark.bench
@pytest.mark.needs("modules")
def test_compiled_modules_are_faster_than_their_sources(capsys):
    result = modules.run(7, lambda line: None)
    with capsys.disabled():
        for work in result.works:
            middle, low, high = (1 / each for each in work.ratio)
            print(f"\n{work.title}: {middle:.2f} x the sources ({high:.2f} - {low:.2f})")
    assert all(1 / work.ratio.median >= WANTED[work.name] for work in result.works)
