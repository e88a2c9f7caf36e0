"""The compiled modules beside the sources they were made of: CPU time for each frame.

Two stacks in one process hand each other frames over devices of memory; a process does one kind
of work, with the compiled modules or without, and says what it took. ``python -m
netstack.bench.modules WORK`` is such a process.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from netstack._ext import choose
from netstack.bench.result import BenchError, Result, Work
from netstack.core.rng import Rng
from netstack.device.queue import QueueDevice
from netstack.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from netstack.transport.tcp.connection import Connection

SUBJECT, BASELINE = "compiled", "sources"
_SERVER = ("192.0.2.2", 7)
_BLOCK = bytes(65_536)


class Wire:
    """Two stacks, joined by what may lose frames."""

    def __init__(self, loss: float = 0.0) -> None:
        self.near, self.far = Stack("near", seed=1), Stack("far", seed=2)
        self._devices = QueueDevice(), QueueDevice()
        self._rng = Rng(3)
        self._loss = 0.0
        self.now = 0.0
        self.frames = 0
        for stack, device, last in zip(self._both, self._devices, (1, 2), strict=True):
            stack.attach(device, f"192.0.2.{last}/24")
        self.listener = self.far.listen(_SERVER)
        self.client = self.connect()
        self.server = self.accept()
        self._loss = loss

    @property
    def _both(self) -> tuple[Stack, Stack]:
        return self.near, self.far

    def connect(self) -> Connection:
        """Open a connection from the near stack to the far one."""
        connection = self.near.connect(_SERVER, self.now)
        self.exchange(2)
        return connection

    def accept(self) -> Connection:
        """Return the connection that the far stack has for it."""
        connection = self.listener.accept()
        if connection is None:
            raise BenchError("the connection was not accepted")
        return connection

    def exchange(self, rounds: int = 1) -> bool:
        """Let each side send what it has, ``rounds`` times; return whether frames went."""
        before = self.frames
        for _ in range(rounds):
            for index, stack in enumerate(self._both):
                stack.poll(self.now)
                while stack.next_event() is not None:
                    pass
                for packet in self._devices[index].transmitted():
                    self.frames += 1
                    if not self._loss or self._rng.random() >= self._loss:
                        self._devices[1 - index].receive(packet)
        return self.frames > before

    def wait(self) -> None:
        """Let time pass: a little, or up to the next timer."""
        self.now += 2e-4
        if not self.exchange():
            due = [each for stack in self._both if (each := stack.next_deadline()) is not None]
            self.now = max(self.now, min(due, default=self.now))


def _request_response(wire: Wire, count: int) -> None:
    for _ in range(count):
        wire.now += 1e-4
        wire.client.send(b"?", wire.now)
        wire.exchange()
        wire.far.poll(wire.now)
        wire.server.send(wire.server.receive(16, wire.now) or b"", wire.now)
        wire.exchange(2)
        if wire.client.receive(16, wire.now) != b"?":
            raise BenchError("request and response: a wrong answer")


def _connections(wire: Wire, count: int) -> None:
    for _ in range(count):
        wire.now += 1e-3
        client = wire.connect()
        server = wire.accept()
        server.send(b"1", wire.now)
        server.close(wire.now)
        wire.exchange(2)
        if client.receive(16, wire.now) != b"1":
            raise BenchError("connections: a wrong octet")
        client.close(wire.now)
        wire.exchange(2)


def _transfer(wire: Wire, count: int) -> None:
    left = total = count * len(_BLOCK)
    while total:
        if left:
            left -= wire.client.send(_BLOCK[: min(left, len(_BLOCK))], wire.now)
        wire.wait()
        while data := wire.server.receive(1 << 20, wire.now):
            total -= len(data)


WORKS: Mapping[str, tuple[str, Callable[[Wire, int], None], float, int]] = {
    "request_response": ("1-octet request and response", _request_response, 0.0, 1500),
    "connections": ("connect, 1 octet, close", _connections, 0.0, 300),
    "transfer": ("transfer", _transfer, 0.0, 120),
    "transfer_loss": ("transfer, 1 % of the frames lost", _transfer, 0.01, 120),
}


def measure(name: str, part: float = 1.0) -> float:
    """Return microseconds of CPU for each frame of that work."""
    _, work, loss, count = WORKS[name]
    wire = Wire(loss)
    work(wire, max(int(count * part) // 10, 1))  # warm
    before, start = wire.frames, time.process_time()
    work(wire, max(int(count * part), 1))
    return (time.process_time() - start) / (wire.frames - before) * 1e6


def _in_a_process(name: str, pure: str, part: float) -> float:
    done = subprocess.run(
        [sys.executable, "-m", "netstack.bench.modules", name, str(part)],
        env={**os.environ, "NETSTACK_PURE": pure},
        capture_output=True,
        check=False,
        text=True,
    )
    if done.returncode:
        raise BenchError(f"{name}: {done.stderr.strip().rpartition(chr(10))[2]}")
    return float(done.stdout)


def run(rounds: int, tell: Callable[[str], None], *, part: float = 1.0) -> Result:
    """Measure each work ``rounds`` times, with the compiled modules and with the sources.

    Raises: BenchError where no compiled modules run.
    """
    if not choose.COMPILED:
        raise BenchError(f"no compiled modules run here: {choose.REASON}")
    works = []
    for name, (title, *_) in WORKS.items():
        figures: dict[str, list[float]] = {"": [], "stack": []}
        for number in range(rounds):
            for pure in sorted(figures, reverse=bool(number % 2)):
                figures[pure].append(_in_a_process(name, pure, part))
        compiled, sources = tuple(figures[""]), tuple(figures["stack"])
        works.append(Work(name, title, "us/frame", compiled, sources, higher_is_better=False))
        tell(f"{title}: measured")
    contestants = {SUBJECT: {"code": "Cython"}, BASELINE: {"code": "Python"}}
    return Result("modules", rounds, SUBJECT, BASELINE, contestants, works)


if __name__ == "__main__":
    sys.stdout.write(f"{measure(sys.argv[1], float(sys.argv[2]))}\n")
