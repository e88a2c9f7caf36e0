"""A benchmark's result for people: a table, and what must be known to read it."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING, Any

from netstack.bench.result import Summary

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from netstack.bench.result import Result, Work


def lines(result: Result, *, width: int | None = None) -> Iterator[str]:
    """Yield the report's lines.

    The table is Markdown, as in docs/benchmarks.md; with ``width`` (columns of a terminal) it is
    drawn by rich, if that is installed.
    """
    peers = sorted({name for work in result.works for name in work.peers})
    heading = ["", result.subject, result.baseline, "ratio", *(f"{name}: ratio" for name in peers)]
    rows = [[*_row(work), *_peers(work, peers)] for work in result.works]
    drawn = None if width is None else _drawn(heading, rows, width)
    yield from drawn if drawn is not None else _markdown(heading, rows)
    yield ""
    yield f"rounds: {result.rounds}, interleaved; median (lowest - highest)"
    for name, setup in result.contestants.items():
        yield f"{name}: {_listed(setup)}"
    yield f"on: {_listed(result.environment)}"
    yield from result.notes


def _row(work: Work) -> list[str]:
    title = f"{work.title}, {work.unit}"
    subject = _cell(Summary.of(work.subject))
    if not work.baseline:
        return [title, subject, "", ""]
    ratio = work.ratio
    return [
        title,
        subject,
        _cell(Summary.of(work.baseline)),
        "" if ratio is None else _cell(ratio),
    ]


def _peers(work: Work, names: Iterable[str]) -> Iterator[str]:
    for name in names:
        ratio = work.peer_ratio(name)
        yield "" if ratio is None else _cell(ratio)


def _cell(summary: Summary) -> str:
    median, low, high = (_number(value) for value in summary)
    return median if low == high else f"{median} ({low} - {high})"


def _number(value: float) -> str:
    if value >= 1000:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:#.3g}".rstrip(".")


def _listed(setup: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_text(value)}" for name, value in setup.items())


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " ".join(str(each) for each in value) or "none"
    return str(value)


def _markdown(heading: list[str], rows: list[list[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in (heading, *rows)) for column in range(len(heading))]

    def line(cells: list[str]) -> str:
        return f"| {' | '.join(map(str.ljust, cells, widths))} |"

    yield line(heading)
    yield f"|{'|'.join('-' * (width + 2) for width in widths)}|"
    for row in rows:
        yield line(row)


def _drawn(heading: list[str], rows: list[list[str]], width: int) -> list[str] | None:
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        return None
    table = Table()
    for column, name in enumerate(heading):
        table.add_column(name, justify="right" if column else "left", no_wrap=bool(column))
    for row in rows:
        table.add_row(*row)
    text = StringIO()
    Console(file=text, width=max(width, 80), force_terminal=False, color_system=None).print(table)
    return text.getvalue().splitlines()
