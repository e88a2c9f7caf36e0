"""Goodput over loss, delay, buffers and reordering, in virtual time: the simulation grid.

A cell is one transfer over a path of 1 Gb/s whose queue never overflows by itself, so that loss
and reordering are what the cell says. Its figure is the geometric mean over the seeds of octets a
second, from the end of the handshake to the last octet read. The snapshot is a text file, one
line a cell: a change of the figures shows as a difference of lines.

``python -m netstack.bench.grid FILE FILE`` measures every cell and writes the snapshots: with
super-segments and without. Both cross the same cable, but draw its losses in another order.
"""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path as FilePath
from typing import NamedTuple

from netstack.bench.path import Path
from netstack.core.config import TcpConfig

SEEDS = range(5)
RATE = 1e9  # bit/s
QUEUE = 2_000  # frames: more than any window here
LOSSES = (0.0, 0.001, 0.01, 0.03, 0.10)
ROUND_TRIPS = (0.0001, 0.01, 0.1)  # seconds
BUFFERS = (65_536, 1 << 20, None)
ALGORITHMS = ("newreno", "cubic")
REORDER = 0.05  # probability a frame where it is on
_GIVE_UP = 3_600.0  # virtual seconds


class Cell(NamedTuple):
    """One place of the grid; ``buffer`` in octets, None: the stack chooses."""

    algorithm: str
    loss: float
    round_trip: float
    buffer: int | None
    reorder: bool

    @property
    def name(self) -> str:
        """The cell as the snapshot names it."""
        buffer = "auto" if self.buffer is None else f"{self.buffer // 1024}K"
        order = "reordered" if self.reorder else "in-order"
        return (
            f"{self.algorithm} loss={self.loss * 100:g}% rtt={self.round_trip * 1000:g}ms "
            f"buffer={buffer} {order}"
        )

    @property
    def octets(self) -> int:
        """How much a transfer carries: less where every octet takes long."""
        return 300_000 if self.loss >= 0.03 else 1_000_000


CELLS = [
    Cell(algorithm, loss, round_trip, buffer, reorder)
    for algorithm, round_trip, buffer, reorder, loss in product(
        ALGORITHMS, ROUND_TRIPS, BUFFERS, (False, True), LOSSES
    )
]


def path_of(cell: Cell, seed: int, *, super_segments: bool = True) -> Path:
    """Return the path of a cell."""
    config = TcpConfig(congestion=cell.algorithm, super_segments=super_segments)
    if cell.buffer is not None:
        config = replace(config, send_buffer=cell.buffer, receive_buffer=cell.buffer)
    return Path(
        seed, config, delay=cell.round_trip / 2, rate=RATE, queue=QUEUE, loss=cell.loss,
        reorder=REORDER if cell.reorder else 0.0,
    )  # fmt: skip


def goodput(cell: Cell, seed: int, *, super_segments: bool = True) -> float:
    """Return octets a second of one transfer; 0 if it does not end."""
    path = path_of(cell, seed, super_segments=super_segments)
    flow = path.start(cell.octets)
    path.run(_GIVE_UP)
    return flow.goodput if flow.received == cell.octets else 0.0


def mean(figures: list[float]) -> float:
    """Return the geometric mean."""
    if not all(figures):
        return 0.0
    return math.exp(sum(map(math.log, figures)) / len(figures))


def line(cell: Cell, figures: list[float]) -> str:
    """Return the snapshot's line: kB/s, the mean and then each seed's."""
    seeds = " ".join(f"{figure / 1000:.1f}" for figure in figures)
    return f"{cell.name}: {mean(figures) / 1000:.1f} ({seeds})"


def load(path: FilePath) -> dict[str, list[float]]:
    """Return the snapshot: by cell's name, kB/s, the mean and then each seed's."""
    snapshot = {}
    for text in path.read_text(encoding="utf-8").splitlines():
        name, _, figures = text.partition(": ")
        if figures:
            snapshot[name] = [
                float(each) for each in figures.replace("(", " ").rstrip(")").split()
            ]
    return snapshot


def main(arguments: list[str]) -> int:
    """Write the snapshots, with super-segments and without."""
    for name, whole in zip(arguments, (True, False), strict=True):
        lines = [
            line(cell, [goodput(cell, seed, super_segments=whole) for seed in SEEDS])
            for cell in CELLS
        ]
        FilePath(name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
