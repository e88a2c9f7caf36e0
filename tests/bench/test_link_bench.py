"""``netstack bench link``: two stacks in this process move octets and compare them."""

import pytest

from netstack.bench import link
from netstack.bench.result import BenchError
from netstack.bench.worlds import World


@pytest.mark.parametrize("gso_max_size", [0, link.WHOLE])
def test_transfer_arrives_whole(gso_max_size):
    transfer = link.Transfer(gso_max_size)
    assert transfer.run(0.01) > 0


def test_super_segments_are_by_reference_or_cut():
    def counters(gso_max_size):
        transfer = link.Transfer(gso_max_size)
        transfer.run(0.02)
        return transfer.counters()

    whole, wire = counters(link.WHOLE), counters(0)
    assert whole["link.super_segments_received"] > 0
    assert "link.super_segments_received" not in wire
    for each in (whole, wire):
        assert each["link.octets_received"] / each["link.frames_received"] > 500


def test_wrong_content_ends_the_run(monkeypatch):
    transfer = link.Transfer(0)
    monkeypatch.setattr("netstack.bench.pattern._TWICE", bytes(1 << 20))
    with pytest.raises(BenchError, match="not what was sent"):
        transfer.run(0.01)


@pytest.mark.slow
@pytest.mark.needs("netns")
def test_each_round_measures_the_kernel_too():
    told = []
    result = link.run(2, told.append, seconds=0.03)
    assert [work.name for work in result.works] == ["whole", "wire"]
    for work in result.works:
        assert len(work.subject) == len(work.baseline) == 2
        assert work.ratio.median > 0
    assert len(told) == 2
    assert result.contestants["kernel"]["congestion"] == "cubic"


def test_without_a_kernel_to_compare_with_there_is_no_result(monkeypatch):
    def refuse(self):
        raise BenchError("needs root")

    monkeypatch.setattr(World, "__enter__", refuse)
    with pytest.raises(BenchError, match="needs root"):
        link.run(1, lambda line: None)
