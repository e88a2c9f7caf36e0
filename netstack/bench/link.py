"""Two stacks in this process, joined by a simulated cable, beside kernel to kernel over veth.

No driver, no descriptor, one thread: what is measured is the stack itself, both ends of it. The
applications are called in turn with the stacks, as the simulation's tasks are: what the sender
writes is copied into its connection, what the receiver reads is copied out and compared. Time is
virtual, but the figures are by the clock.

The kernel does its work in three processes on however many CPUs there are, in both directions one
after the other; the faster one counts.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from netstack.bench.pattern import BLOCK, Check
from netstack.bench.result import BenchError, Result, Work, environment
from netstack.bench.worlds import World
from netstack.core.config import Config
from netstack.core.rng import Rng
from netstack.core.timers import EventHeap
from netstack.device.cable import Cable
from netstack.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SUBJECT, BASELINE = "netstack", "kernel"
BULK_S: Final = 1.5
NEAR, FAR = "198.18.0.1", "198.18.0.2"  # RFC 2544 C.2.2
PORT: Final = 7001
WHOLE: Final = 65_535  # octets: the largest packet
DELAY_S: Final = 50e-6  # of the cable, virtual
_AT_ONCE: Final = 65_536  # octets offered, and asked for
WORKS: Final = (
    ("whole", "super-segments by reference", WHOLE),
    ("wire", "wire-sized frames, checksums both ways", 0),
)
NOTES = (
    "content: every octet compared within the timed part, by the receiver",
    "ours: one thread for both stacks and both applications; kernel: the faster direction",
)


class Transfer:
    """One connection over a cable; ``gso_max_size``: of its super-segments, 0 for none."""

    def __init__(self, gso_max_size: int) -> None:
        self._events = EventHeap()
        cable = Cable(
            self._events, Rng(1, "link"), "link", gso_max_size=gso_max_size, delay=DELAY_S
        )
        self._near, self._far = Stack("near", seed=1), Stack("far", seed=2)
        self._near.attach(cable.a, NEAR + "/24")
        self._far.attach(cable.b, FAR + "/24")
        self._listener = self._far.listen(("", PORT))
        self._sender = self._near.connect((FAR, PORT), 0.0)
        while not self._sender.writable:
            self._step()
        accepted = self._listener.accept()
        while accepted is None:
            self._step()
            accepted = self._listener.accept()
        self._receiver = accepted
        self._block = memoryview(bytearray(BLOCK))  # no ``bytes``: it is copied when it is sent
        self._written = 0
        self._check = Check()
        self._ended = False

    def run(self, seconds: float) -> float:
        """Send for that long and to the end; return octets per second.

        Raises: BenchError for wrong content.
        """
        start = time.monotonic()
        end = start + seconds
        while time.monotonic() < end:
            self._write()
            self._step()
            self._read()
        self._sender.shutdown_write(self._events.now)
        while not self._ended:
            self._step()
            self._read()
        taken = time.monotonic() - start
        check = self._check
        if check.wrong or check.octets != self._written:
            raise BenchError(
                f"link: {check.wrong} reads of {check.octets} octets were not what was sent"
            )
        return check.octets / taken

    def counters(self) -> Mapping[str, int]:
        """Return the receiving stack's counters."""
        return self._far.counters()

    def _step(self) -> None:
        """Let happen what is due next, all that is due at that time."""
        events, near, far = self._events, self._near, self._far
        times = (events.next_time(), near.next_deadline(), far.next_deadline())
        now = max(min(due for due in times if due is not None), events.now)
        while (due := events.next_time()) is not None and due <= now:
            events.run_next()
        events.now = now
        near.poll(now)
        far.poll(now)
        while near.next_event() is not None or far.next_event() is not None:
            pass

    def _write(self) -> None:
        sender, block, now = self._sender, self._block, self._events.now
        while sender.writable:
            position = self._written % len(block)
            taken = sender.send(block[position : position + _AT_ONCE], now)
            self._written += taken
            if not taken:
                return

    def _read(self) -> None:
        receiver, now = self._receiver, self._events.now
        while (data := receiver.receive(_AT_ONCE, now)) is not None:
            if not data:
                self._ended = True
                return
            self._check.take(data, len(data))


def run(rounds: int, tell: Callable[[str], None], *, seconds: float = BULK_S) -> Result:
    """Measure all works ``rounds`` times, each for that many seconds.

    Raises: BenchError if there is no kernel to compare with, or if content arrived wrong.
    """
    figures: dict[str, list[float]] = {name: [] for name, _, _ in WORKS}
    kernel: list[float] = []
    with World() as world:
        for number in range(1, rounds + 1):
            kernel.append(max(_kernel(world, name, seconds) for name in _DIRECTIONS))
            told = [f"kernel {kernel[-1]:,.0f} MB/s"]
            for name, title, gso_max_size in WORKS:
                figures[name].append(Transfer(gso_max_size).run(seconds) / 1e6)
                told.append(f"{title} {figures[name][-1]:,.0f}")
            tell(f"round {number}/{rounds}: {', '.join(told)}")
        setup = dict(world.setup)
    ours: dict[str, Any] = {
        "path": "simulated cable between two stacks",
        "congestion": Config().tcp.congestion,
        "mtu": 1500,
        "kernels": environment()["kernels"],
    }
    works = [
        Work(name, title, "MB/s", tuple(figures[name]), tuple(kernel)) for name, title, _ in WORKS
    ]
    return Result(
        "link", rounds, SUBJECT, BASELINE, {SUBJECT: ours, BASELINE: setup}, works, NOTES
    )


_DIRECTIONS: Final = ("bulk_send", "bulk_receive")


def _kernel(world: World, name: str, seconds: float) -> float:
    did = world.kernel.call("work", name=name, seconds=seconds)
    return float(did["octets"]) / float(did["seconds"]) / 1e6
