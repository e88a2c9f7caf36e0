"""A benchmark's ratios as a picture; needs matplotlib, the extra ``plot``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from netstack.bench.result import BenchError

if TYPE_CHECKING:
    from netstack.bench.result import Result, Summary, Work

_ROW_INCHES = 0.5


def check(path: str) -> None:
    """Find out before the measuring whether a plot could be written to ``path``.

    Raises: BenchError without matplotlib, or if the suffix is of no format it writes.
    """
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError:
        raise BenchError("a plot needs matplotlib: pip install 'netstack[plot]'") from None
    suffix = Path(path).suffix.lstrip(".").lower()
    formats = FigureCanvasBase.get_supported_filetypes()
    if suffix not in formats:
        raise BenchError(f"{path}: no format for a plot; one of {' '.join(sorted(formats))}")


def save(result: Result, path: str) -> None:
    """Write the ratios of ``result`` to ``path``; its suffix says the format (PNG, SVG, PDF).

    A dot is the median, the line through it the range of the rounds.

    Raises: as ``check``; BenchError without a ratio; OSError.
    """
    check(path)
    from matplotlib.figure import Figure

    works = [work for work in result.works if work.ratio is not None]
    if not works:
        raise BenchError(f"{result.bench} has no ratios to draw")
    figure = Figure(figsize=(9, 1.6 + _ROW_INCHES * len(works)), layout="constrained")
    axes = figure.subplots()
    names = [result.subject, *sorted({name for work in works for name in work.peers})]
    for number, name in enumerate(names):
        drawn = [
            (row + 0.15 * number, ratio)
            for row, work in enumerate(works)
            if (ratio := work.ratio if not number else work.peer_ratio(name)) is not None
        ]
        medians = [ratio.median for _, ratio in drawn]
        ranges = _error_bars([ratio for _, ratio in drawn])
        axes.errorbar(
            medians, [row for row, _ in drawn], xerr=ranges, fmt="o", capsize=3, label=name
        )
    axes.axvline(1.0, color="gray", linewidth=1, label=result.baseline)
    axes.set_xscale("log")
    axes.set_yticks(range(len(works)), [_label(work) for work in works])
    axes.invert_yaxis()
    axes.set_xlabel(
        f"ratio to {result.baseline} in the same round; median and range of {result.rounds}"
    )
    axes.set_title(f"netstack bench {result.bench}")
    axes.grid(visible=True, axis="x", which="both", alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def _label(work: Work) -> str:
    return work.title if work.higher_is_better else f"{work.title}\n(lower is better)"


def _error_bars(ratios: list[Summary]) -> list[list[float]]:
    below = [ratio.median - ratio.low for ratio in ratios]
    above = [ratio.high - ratio.median for ratio in ratios]
    return [below, above]
