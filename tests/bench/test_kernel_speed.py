"""Each kernel beside its readable twin; part of ``make bench`` only.

Only the ratio counts: a kernel below twice its twin's speed leaves.
"""

import statistics
import time
from contextlib import ExitStack

import pytest

from netstack import _ext
from netstack.bench.kernels import BURST, pairs, seconds_stood_by
from netstack.driver.pulse import PulsePy

SAMPLE_S = 0.005
ALONE = f"io: read {BURST} frames"
"""What makes this kernel stay is how it does beside another thread."""


def titles():
    if not _ext.COMPILED:
        return ["none"]
    with ExitStack() as resources:
        return [pair.title for pair in pairs(resources)]


@pytest.fixture(params=titles())
def pair(request):
    with ExitStack() as resources:
        yield next(each for each in pairs(resources) if each.title == request.param)


def seconds_a_call(function, arguments):
    calls, start = 0, time.perf_counter()
    while (taken := time.perf_counter() - start) < SAMPLE_S:
        function(*arguments)
        calls += 1
    return taken / calls


@pytest.mark.bench
@pytest.mark.needs("kernels")
def test_kernel_speed(benchmark, pair):
    with pair.beside():
        benchmark(pair.kernel, *pair.arguments)


@pytest.mark.bench
@pytest.mark.needs("kernels")
def test_twin_speed(benchmark, pair):
    with pair.beside():
        benchmark(pair.twin, *pair.arguments)


@pytest.mark.bench
@pytest.mark.needs("kernels")
def test_kernel_is_at_least_twice_its_twin(pair, capsys):
    with pair.beside():
        ratios = sorted(
            seconds_a_call(pair.twin, pair.arguments) / seconds_a_call(pair.kernel, pair.arguments)
            for _ in range(15)
        )
    with capsys.disabled():
        low, middle, high = ratios[2], statistics.median(ratios), ratios[-3]
        print(f"\n{pair.title}: {middle:.1f} x its twin ({low:.1f} - {high:.1f})")
    assert statistics.median(ratios) >= (1 if pair.title == ALONE else 2)


@pytest.mark.bench
@pytest.mark.needs("kernels")
def test_standing_by_takes_half_the_cpu_of_its_twin_at_most(capsys):
    from netstack._ext.pulse import Pulse

    ratios = [seconds_stood_by(Pulse, 0.2) / seconds_stood_by(PulsePy, 0.2) for _ in range(7)]
    with capsys.disabled():
        print(f"\nstanding by: {statistics.median(ratios):.1f} x its twin")
    assert statistics.median(ratios) >= 2
