"""What a benchmark measured: figures of two contestants, interleaved, and their ratios.

Timings on a shared machine vary by a factor of two; what is compared, committed and checked is
the ratio of two figures from the same round.
"""

from __future__ import annotations

import os
import platform
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from netstack import _ext
from netstack._ext import choose
from netstack._version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SCHEMA = "netstack.bench/1"


class BenchError(Exception):
    """A benchmark that cannot run here, or that found wrong content; the text says why."""


class Summary(NamedTuple):
    """Figures of several rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Summary:
        """Return the summary of one figure a round."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Work:
    """One kind of work, measured once a round; the figures of a round stand side by side."""

    name: str
    title: str
    unit: str
    subject: tuple[float, ...]
    baseline: tuple[float, ...] = ()
    higher_is_better: bool = True
    peers: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Other stacks at the same work, by name."""

    @property
    def ratio(self) -> Summary | None:
        """The subject's figure by the baseline's, of the rounds; None without a baseline."""
        return self._ratio(self.subject)

    def peer_ratio(self, name: str) -> Summary | None:
        """A peer's figure by the baseline's, of the rounds; None if it did not do this work."""
        return self._ratio(self.peers.get(name, ()))

    def _ratio(self, figures: Sequence[float]) -> Summary | None:
        pairs = zip(figures, self.baseline, strict=False)
        ratios = [figure / baseline for figure, baseline in pairs if baseline > 0]
        return Summary.of(ratios) if ratios else None

    def as_json(self, subject: str, baseline: str) -> dict[str, Any]:
        """Return it with the contestants' names as keys."""
        fields: dict[str, Any] = {
            "name": self.name,
            "title": self.title,
            "unit": self.unit,
            "higher_is_better": self.higher_is_better,
            subject: _figures(self.subject),
        }
        if self.baseline:
            fields[baseline] = _figures(self.baseline)
        ratio = self.ratio
        fields["ratio"] = None if ratio is None else _rounded(ratio)
        for name, figures in self.peers.items():
            peer_ratio = self.peer_ratio(name)
            fields[name] = _figures(figures)
            if peer_ratio is not None:
                fields[name]["ratio"] = _rounded(peer_ratio)
        return fields


@dataclass(frozen=True, slots=True)
class Result:
    """What one benchmark measured; ``contestants`` says how each was set up, peers too."""

    bench: str
    rounds: int
    subject: str
    baseline: str
    contestants: Mapping[str, Mapping[str, Any]]
    works: Sequence[Work]
    notes: Sequence[str] = ()
    environment: Mapping[str, Any] = field(default_factory=lambda: environment())

    def as_json(self) -> dict[str, Any]:
        """Return the document without its schema."""
        return {
            "bench": self.bench,
            "rounds": self.rounds,
            "subject": self.subject,
            "baseline": self.baseline,
            "environment": dict(self.environment),
            "contestants": {name: dict(setup) for name, setup in self.contestants.items()},
            "works": [work.as_json(self.subject, self.baseline) for work in self.works],
            "notes": list(self.notes),
        }


def environment() -> dict[str, Any]:
    """Return what the figures depend on besides the code."""
    return {
        "netstack": __version__,
        "kernels": "compiled" if _ext.COMPILED else f"pure ({_ext.REASON})",
        "modules": "compiled" if choose.COMPILED else f"sources ({choose.REASON})",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cpus": os.cpu_count() or 1,
    }


def shortfalls(result: Result, committed: Mapping[str, Any], fraction: float) -> list[str]:
    """Return a line for each work whose ratio fell below ``fraction`` of the committed one.

    Only works where higher is better are compared; where there is no baseline such a figure is a
    share, a ratio by itself. A committed one that was not measured counts as a shortfall.
    """
    measured = {work.name: work.ratio or Summary.of(work.subject) for work in result.works}
    lines = []
    for work in committed["works"]:
        if not work["higher_is_better"]:
            continue
        before = (work["ratio"] or work[committed["subject"]])["median"]
        ratio = measured.get(work["name"])
        if ratio is None:
            lines.append(f"{work['title']}: not measured")
        elif ratio.median < before * fraction:
            lines.append(
                f"{work['title']}: ratio {ratio.median:.3g}, below {fraction:g} of the "
                f"committed {before:.3g}"
            )
    return lines


def _figures(values: Sequence[float]) -> dict[str, Any]:
    return {**_rounded(Summary.of(values)), "values": [_short(value) for value in values]}


def _rounded(summary: Summary) -> dict[str, float]:
    return {name: _short(value) for name, value in summary._asdict().items()}


def _short(value: float) -> float:
    return float(f"{value:.4g}")
