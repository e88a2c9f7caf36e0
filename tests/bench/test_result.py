"""Figures, ratios, the report and the check against committed figures."""

import json

import pytest

from netstack.bench.report import lines
from netstack.bench.result import Result, Summary, Work, shortfalls


def result(*works):
    contestants = {"ours": {"offloads": []}, "theirs": {"offloads": ["tso", "gso"]}}
    return Result("some", 3, "ours", "theirs", contestants, works, ("a note",))


SPEED = Work("speed", "speed", "MB/s", (10.0, 40.0, 30.0), (100.0, 100.0, 50.0))
ALONE = Work("alone", "alone", "ms", (1.0, 2.0), (), higher_is_better=False)


def test_summary_is_median_and_range():
    assert Summary.of([3.0, 1.0, 9.0]) == (3.0, 1.0, 9.0)


def test_ratio_compares_figures_of_the_same_round():
    assert SPEED.ratio == pytest.approx((0.4, 0.1, 0.6))


def test_peers_stand_beside_with_their_own_ratio():
    work = Work("speed", "speed", "MB/s", (10.0,), (100.0,), peers={"another": (20.0,)})
    assert work.peer_ratio("another") == pytest.approx((0.2, 0.2, 0.2))
    assert work.peer_ratio("absent") is None
    assert work.as_json("ours", "theirs")["another"]["ratio"]["median"] == 0.2
    text = "\n".join(lines(result(work, ALONE)))
    assert "another: ratio" in text
    assert "0.200" in text


def test_work_without_a_baseline_has_no_ratio():
    assert ALONE.ratio is None
    assert "theirs" not in ALONE.as_json("ours", "theirs")


def test_document_holds_every_round_and_the_setup_of_both():
    document = json.loads(json.dumps(result(SPEED, ALONE).as_json()))
    speed, alone = document["works"]
    assert speed["ours"] == {"median": 30, "low": 10, "high": 40, "values": [10, 40, 30]}
    assert speed["ratio"] == {"median": 0.4, "low": 0.1, "high": 0.6}
    assert alone["ratio"] is None
    assert document["contestants"]["theirs"]["offloads"] == ["tso", "gso"]
    assert document["environment"]["kernels"]


@pytest.mark.parametrize("width", [None, 120])
def test_report_shows_medians_ranges_ratio_and_setup(width):
    text = "\n".join(lines(result(SPEED, ALONE), width=width))
    assert "speed, MB/s" in text
    assert "30.0 (10.0 - 40.0)" in text
    assert "0.400 (0.100 - 0.600)" in text
    assert "theirs: offloads tso gso" in text
    assert "ours: offloads none" in text
    assert text.endswith("a note")


def test_check_passes_at_and_above_the_fraction():
    committed = result(SPEED, ALONE).as_json()
    slower = Work("speed", "speed", "MB/s", (10.0,), (100.0,))
    assert shortfalls(result(slower), committed, 0.25) == []


def test_check_names_a_ratio_below_the_fraction():
    committed = result(SPEED).as_json()
    slower = Work("speed", "speed", "MB/s", (9.0,), (100.0,))
    (line,) = shortfalls(result(slower), committed, 0.25)
    assert line == "speed: ratio 0.09, below 0.25 of the committed 0.4"


def test_check_compares_a_share_by_itself():
    committed = result(Work("share", "share", "wanted 0.6", (0.6, 0.7, 0.8))).as_json()
    assert shortfalls(result(Work("share", "share", "wanted 0.6", (0.2,))), committed, 0.25) == []
    (line,) = shortfalls(result(Work("share", "share", "wanted 0.6", (0.1,))), committed, 0.25)
    assert line == "share: ratio 0.1, below 0.25 of the committed 0.7"


def test_check_counts_a_work_that_was_not_measured():
    assert shortfalls(result(ALONE), result(SPEED).as_json(), 0.25) == ["speed: not measured"]
