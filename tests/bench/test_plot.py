"""The ratios of a benchmark as a picture."""

import pytest

from netstack.bench import plot
from netstack.bench.result import BenchError, Result, Work

SPEED = Work("speed", "speed", "MB/s", (10.0, 40.0), (100.0, 100.0), peers={"other": (20.0, 25.0)})
ALONE = Work("alone", "alone", "ms", (1.0,), (), higher_is_better=False)


def result(*works):
    return Result("some", 2, "ours", "theirs", {"ours": {}, "theirs": {}}, works)


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_plot_is_written_in_the_format_of_its_suffix(tmp_path, suffix, start):
    path = tmp_path / f"plot.{suffix}"
    plot.save(result(SPEED, ALONE), str(path))
    assert path.read_bytes().startswith(start)


def test_nothing_to_draw_is_an_error(tmp_path):
    with pytest.raises(BenchError, match="no ratios"):
        plot.save(result(ALONE), str(tmp_path / "plot.png"))


def test_unknown_format_is_named_before_anything_is_measured():
    with pytest.raises(BenchError, match=r"plot\.xyz: no format"):
        plot.check("plot.xyz")


def test_missing_library_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.backend_bases", None)
    with pytest.raises(BenchError, match=r"netstack\[plot\]"):
        plot.check("plot.png")
