"""netstack bench: measure speed, beside a baseline in the same run.

Without a name: what there is. ``--check`` compares with committed figures: only the ratio to the
baseline counts, and only a fall below a quarter of it fails.
"""

from __future__ import annotations

import json
import shutil
import sys
from typing import TYPE_CHECKING, Any

from netstack.bench import plot
from netstack.bench.catalogue import BENCHES
from netstack.bench.report import lines
from netstack.bench.result import SCHEMA, BenchError, shortfalls
from netstack.cli.common import FAILED, SUCCESS, Failure, UsageError, add_output_options, count

if TYPE_CHECKING:
    import argparse

    from netstack.cli.output import Output

CHECK_FRACTION = 0.25
"""Of the committed ratio: machines differ, and others may be at work on this one."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.add_argument(
        "name", metavar="NAME", nargs="?", choices=tuple(BENCHES), help=", ".join(BENCHES)
    )
    parser.add_argument("--rounds", metavar="N", type=count, help="measure so many times")
    parser.add_argument(
        "--check", metavar="FILE", help="fail far below the ratios of this earlier JSON output"
    )
    parser.add_argument(
        "--plot", metavar="FILE", help="also draw the ratios, as PNG, SVG or PDF by its suffix"
    )
    add_output_options(parser)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Run a benchmark, or list them; return the exit status."""
    if arguments.name is None:
        if (arguments.rounds, arguments.check, arguments.plot) != (None, None, None):
            raise UsageError("which one? netstack bench lists them")
        _list(output)
        return SUCCESS
    bench = BENCHES[arguments.name]
    committed = None if arguments.check is None else _committed(arguments.check, arguments.name)
    try:
        if arguments.plot is not None:
            plot.check(arguments.plot)  # before the minutes of measuring
        measure = bench.load()
        result = measure(arguments.rounds or bench.rounds, output.tell)
        if arguments.plot is not None:
            plot.save(result, arguments.plot)
    except (BenchError, ImportError) as error:
        raise Failure(f"bench {arguments.name}: {error}") from None
    if output.as_json:
        output.document(SCHEMA, result.as_json())
    else:
        draw = arguments.output == "-" and sys.stdout.isatty() and arguments.color != "never"
        for line in lines(result, width=shutil.get_terminal_size().columns if draw else None):
            output.line(line)
    short = [] if committed is None else shortfalls(result, committed, CHECK_FRACTION)
    for line in short:
        output.show(line, "error")
    return FAILED if short else SUCCESS


def _list(output: Output) -> None:
    if output.as_json:
        listed = [{"name": name, "summary": each.summary} for name, each in BENCHES.items()]
        output.document(SCHEMA, {"benches": listed})
        return
    for name, bench in BENCHES.items():
        output.line(f"{name:<10} {bench.summary}")


def _committed(path: str, name: str) -> dict[str, Any]:
    """Return the document of an earlier run.

    Raises: Failure if it is none of that benchmark, OSError.
    """
    with open(path, encoding="utf-8") as file:
        try:
            document: dict[str, Any] = json.load(file)
            fits = (document["schema"], document["bench"]) == (SCHEMA, name)
        except (ValueError, KeyError, TypeError):
            fits = False
    if not fits:
        raise Failure(f"{path}: no output of netstack bench {name} --json")
    return document
