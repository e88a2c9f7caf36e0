"""``netstack bench kernels``: each kernel beside its twin."""

import pytest

from netstack import _ext
from netstack.bench import kernels
from netstack.bench.result import BenchError


@pytest.mark.needs("kernels")
def test_every_kernel_is_measured_beside_its_twin():
    told = []
    result = kernels.run(2, told.append, sample=0.0005)
    assert len(told) == len(result.works)
    measured = {work.title.partition(",")[0].partition(":")[0] for work in result.works}
    assert measured >= {"checksum", "checksum and copy", "segment", "coalesce", "io", "pulse"}
    for work in result.works:
        assert len(work.subject) == len(work.baseline) == 2
        assert work.ratio.median > 0


@pytest.mark.needs("kernels")
def test_kernel_that_differs_from_its_twin_is_an_error(monkeypatch):
    monkeypatch.setattr(kernels, "internet_sum_py", lambda data: -1)
    with pytest.raises(BenchError, match="differ"):
        kernels.run(1, lambda line: None, sample=0.0)


def test_without_kernels_there_is_nothing_to_measure(monkeypatch):
    monkeypatch.setattr(_ext, "COMPILED", False)
    monkeypatch.setattr(_ext, "REASON", "NETSTACK_PURE is set")
    with pytest.raises(BenchError, match="NETSTACK_PURE is set"):
        kernels.run(1, lambda line: None)
