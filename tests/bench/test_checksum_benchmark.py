"""The checksum kernel beside its readable twin; part of ``make bench`` only.

Only the ratio counts: a kernel below twice its twin's speed leaves.
"""

import random
import statistics
import time

import pytest

from netstack.core.checksum import internet_sum_py

LENGTHS = (20, 1460, 65_000)


def kernel():
    from netstack._ext.checksum import internet_sum

    return internet_sum


def seconds_a_call(function, data, calls=200):
    start = time.perf_counter()
    for _ in range(calls):
        function(data)
    return (time.perf_counter() - start) / calls


@pytest.mark.bench
@pytest.mark.needs("kernels")
@pytest.mark.parametrize("length", LENGTHS)
def test_kernel_speed(benchmark, length):
    data = random.Random(length).randbytes(length)
    benchmark(kernel(), data)


@pytest.mark.bench
@pytest.mark.parametrize("length", LENGTHS)
def test_twin_speed(benchmark, length):
    data = random.Random(length).randbytes(length)
    benchmark(internet_sum_py, data)


@pytest.mark.bench
@pytest.mark.needs("kernels")
@pytest.mark.parametrize("length", LENGTHS)
def test_kernel_is_at_least_twice_its_twin(length, capsys):
    data = random.Random(length).randbytes(length)
    ratios = sorted(
        seconds_a_call(internet_sum_py, data) / seconds_a_call(kernel(), data) for _ in range(15)
    )
    with capsys.disabled():
        low, middle, high = ratios[2], statistics.median(ratios), ratios[-3]
        print(f"\nchecksum, {length} octets: {middle:.1f} x its twin ({low:.1f} - {high:.1f})")
    assert statistics.median(ratios) >= 2
