"""The compiled kernels beside their readable twins: calls per second, interleaved.

A kernel below twice its twin's speed leaves (house rule); what it replaces stays readable.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from netstack import _ext
from netstack.bench.result import BenchError, Result, Work
from netstack.core.checksum import internet_sum_py

if TYPE_CHECKING:
    from collections.abc import Callable

SAMPLE_S = 0.02  # of calls, at least
LENGTHS = (20, 1460, 65_000)  # octets: an IPv4 header, a segment, a super-segment


class Pair(NamedTuple):
    """A kernel, its twin, and what both are called with."""

    title: str
    kernel: Callable[..., Any]
    twin: Callable[..., Any]
    arguments: tuple[Any, ...]


def pairs() -> list[Pair]:
    """Return what there is to compare.

    Raises: BenchError without compiled kernels.
    """
    if not _ext.COMPILED:
        raise BenchError(f"there are no compiled kernels here: {_ext.REASON}")
    from netstack._ext.checksum import internet_sum

    return [
        Pair(
            f"checksum, {length:,} octets",
            internet_sum,
            internet_sum_py,
            (random.Random(length).randbytes(length),),
        )
        for length in LENGTHS
    ]


def run(rounds: int, tell: Callable[[str], None], *, sample: float = SAMPLE_S) -> Result:
    """Measure each pair ``rounds`` times, each sample at least ``sample`` seconds long.

    Raises: BenchError.
    """
    works = []
    for title, kernel, twin, arguments in pairs():
        if kernel(*arguments) != twin(*arguments):
            raise BenchError(f"{title}: the kernel and its twin differ")
        kernels, twins = [], []
        for _ in range(rounds):
            kernels.append(_calls_per_second(kernel, arguments, sample))
            twins.append(_calls_per_second(twin, arguments, sample))
        works.append(Work(title.replace(",", ""), title, "calls/s", tuple(kernels), tuple(twins)))
        tell(f"{title}: measured")
    contestants = {"kernel": {"code": "Cython"}, "twin": {"code": "Python"}}
    return Result("kernels", rounds, "kernel", "twin", contestants, works)


def _calls_per_second(
    function: Callable[..., Any], arguments: tuple[Any, ...], sample: float
) -> float:
    clock, calls, batch = time.perf_counter, 0, 8
    start = now = clock()
    while now - start < sample:
        for _ in range(batch):
            function(*arguments)
        calls += batch
        batch *= 2 if now - start < sample / 4 else 1
        now = clock()
    return calls / (now - start)
