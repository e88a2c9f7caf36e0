"""Which benchmarks there are; each is loaded only when it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from netstack.bench.result import Result


class Runner(Protocol):
    """A benchmark."""

    def __call__(self, rounds: int, tell: Callable[[str], None]) -> Result:
        """Measure ``rounds`` times; tell the progress in lines.

        Raises: BenchError if it can't run here.
        """


class Bench(NamedTuple):
    """One benchmark: what it is about, how to get its runner, rounds unless told."""

    summary: str
    load: Callable[[], Runner]
    rounds: int


def _tap() -> Runner:
    from netstack.bench.tap import run

    return run


def _loss() -> Runner:
    from netstack.bench.loss import run

    return run


def _http() -> Runner:
    from netstack.bench.http import run

    return run


def _scale() -> Runner:
    from netstack.bench.scale import run

    return run


def _link() -> Runner:
    from netstack.bench.link import run

    return run


def _kernels() -> Runner:
    from netstack.bench.kernels import run

    return run


def _modules() -> Runner:
    from netstack.bench.modules import run

    return run


BENCHES: Mapping[str, Bench] = {
    "tap": Bench("the stack over a TAP device beside kernel to kernel over veth", _tap, 5),
    "loss": Bench("the stack over a TAP that loses frames beside kernel to kernel", _loss, 5),
    "http": Bench("small HTTP responses over kept connections, beside nginx", _http, 5),
    "link": Bench("two stacks in one process beside kernel to kernel over veth", _link, 5),
    "scale": Bench("100,000 idle connections in one process beside 1,000", _scale, 3),
    "kernels": Bench("the compiled kernels beside their readable twins", _kernels, 15),
    "modules": Bench("the compiled modules beside their sources, in memory", _modules, 7),
}
