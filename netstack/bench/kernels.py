"""The compiled kernels beside their readable twins: calls per second, interleaved.

A kernel below twice its twin's speed leaves (house rule); what it replaces stays readable. Twins
call twins: no compiled code helps them. Reading and writing is measured on /dev/zero and
/dev/null, whose calls cost little, so that what is around the system call shows.
"""

from __future__ import annotations

import os
import random
import select
import threading
import time
from array import array
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

from netstack import _ext
from netstack.bench.result import BenchError, Result, Work
from netstack.core.address import parse_address
from netstack.core.checksum import copy_and_sum_py, internet_sum_py, sum_pieces_py
from netstack.device.burst import SPAN
from netstack.device.cut import cut_py
from netstack.device.io import read_frames_py, write_burst_py, write_pieces_py
from netstack.device.merge import merge_py
from netstack.driver.background import MAX_TICK_S, MIN_TICK_S
from netstack.driver.pulse import PulsePy
from netstack.wire.ethernet import EtherType
from netstack.wire.ipv4 import IPv4Header
from netstack.wire.tcp import ACK, TcpHeader, build_timestamps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from netstack.driver.pulse import Pulse

SAMPLE_S = 0.02  # of calls, at least
LENGTHS = (20, 1460, 65_000)  # octets: an IPv4 header, a segment, a super-segment
BURST = 64  # frames
_MSS = 1448  # octets, with timestamps
_CUTS = 44  # in 64 KB
_TURN = range(4000)  # numbers to add: about 0.1 ms
_LINK = bytes(12) + EtherType.IPV4.to_bytes(2, "big")
_SOURCE, _DESTINATION = map(parse_address, ("198.18.0.1", "198.18.0.2"))  # RFC 2544 C.2.2


class Pair(NamedTuple):
    """A kernel, its twin, and what both are called with."""

    title: str
    kernel: Callable[..., Any]
    twin: Callable[..., Any]
    arguments: tuple[Any, ...]
    beside: Callable[[], AbstractContextManager[None]] = nullcontext
    """What else goes on meanwhile."""


@contextmanager
def busy_thread() -> Iterator[None]:
    """Have another thread want the interpreter all the time, as an application's may."""
    ended = False

    def work() -> None:
        count = 0
        while not ended:
            count += 1

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended = True
        thread.join()


def frame(data: bytes, seq: int, port: int = 80, ack: int = 1) -> bytes:
    """Return an Ethernet frame with a TCP segment with timestamps, checksums complete."""
    options = build_timestamps(1, 2)
    tcp = TcpHeader(port, 40_000, seq, ack, ACK, 1000, options=options)
    tcp = tcp.with_checksum(_SOURCE.packed, _DESTINATION.packed, data)
    segment = tcp.build() + data
    ip = IPv4Header(_SOURCE, _DESTINATION, 6, 20 + len(segment), dont_fragment=True)
    return _LINK + ip.with_checksum().build() + segment


def pairs(resources: ExitStack) -> list[Pair]:
    """Return what there is to compare; ``resources`` holds what must be closed afterwards.

    Raises: BenchError without compiled kernels.
    """
    if not _ext.COMPILED:
        raise BenchError(f"there are no compiled kernels here: {_ext.REASON}")
    return [*_checksums(), *_cuts(), *_merges(), *_bursts(resources)]


def _checksums() -> list[Pair]:
    from netstack._ext.checksum import copy_and_sum, internet_sum, sum_pieces

    data = random.Random(0).randbytes(max(LENGTHS))
    odd = [data[:33], data[33:1034], data[1034:1460]]
    segment = (bytearray(1514), 53, data[:1460])
    return [
        *(
            Pair(f"checksum, {length:,} octets", internet_sum, internet_sum_py, (data[:length],))
            for length in LENGTHS
        ),
        Pair("checksum, 1,460 octets in 3 pieces", sum_pieces, sum_pieces_py, (odd,)),
        Pair("checksum and copy, 1,460 octets", copy_and_sum, copy_and_sum_py, segment),
    ]


def _cuts() -> list[Pair]:
    from netstack._ext.segment import cut

    data = random.Random(1).randbytes(_CUTS * _MSS)
    header = frame(b"", 1)
    made = []
    for count in (2, _CUTS):
        payload = [data[: count * _MSS // 2], data[count * _MSS // 2 : count * _MSS]]
        title = f"segment, {count} frames of {_MSS:,} octets"
        made.append(Pair(title, cut, cut_py, (header, 0, 14, 34, payload, _MSS)))
    return made


def _merges() -> list[Pair]:
    from netstack._ext.coalesce import merge

    data = random.Random(2).randbytes(_MSS)
    one = [frame(data, number * _MSS) for number in range(BURST)]
    flows = [frame(b"x", 1, number) for number in range(BURST)]
    answers = [frame(b"", 1, number) for number in range(BURST)]
    acks = [frame(b"", 1, ack=number) for number in range(BURST)]
    return [
        Pair(f"coalesce, {BURST} frames of one flow", merge, merge_py, (one, None, 14)),
        Pair(f"coalesce, {BURST} frames of as many flows", merge, merge_py, (flows, None, 14)),
        Pair(f"coalesce, {BURST} frames without data", merge, merge_py, (answers, None, 14)),
        Pair(f"coalesce, {BURST} ACKs of one flow", merge, merge_py, (acks, None, 14)),
    ]


def _bursts(resources: ExitStack) -> list[Pair]:
    from netstack._ext.io import read_frames, write_burst, write_pieces

    zero, null = os.open("/dev/zero", os.O_RDONLY), os.open("/dev/null", os.O_WRONLY)
    resources.callback(os.close, zero)
    resources.callback(os.close, null)
    octets = bytes(BURST * 1514)
    room, spans = bytearray(BURST * 1536), array("q", bytes(8 * SPAN * BURST))
    reading = read_frames, read_frames_py, (zero, room, spans, 1514, BURST)
    writing = write_burst, write_burst_py, (null, octets, 1514, 0, BURST)
    pieces = (bytes(76), memoryview(bytes(40_000)), memoryview(bytes(25_000)))
    return [
        Pair(
            "io: write a super-segment beside a busy thread",
            write_pieces, write_pieces_py, (null, pieces), busy_thread,
        ),
        Pair(f"io: read {BURST} frames", *reading),
        Pair(f"io: read {BURST} frames beside a busy thread", *reading, busy_thread),
        Pair(f"io: write {BURST} frames", *writing),
        Pair(f"io: write {BURST} frames beside a busy thread", *writing, busy_thread),
    ]  # fmt: skip


def seconds_stood_by(make: Callable[[], Pulse | PulsePy], seconds: float) -> float:
    """Return seconds of standing by a thread that leads in short turns, per second of CPU time."""
    pulse = make()
    used: list[float] = []
    poll = select.poll().poll

    def stand_by() -> None:
        pulse.stand_by(MIN_TICK_S, MAX_TICK_S)
        used.append(time.thread_time())

    thread = threading.Thread(target=stand_by)
    thread.start()
    start = now = time.perf_counter()
    while now - start < seconds:
        pulse.lead()
        poll(0)  # gives the interpreter up, as each turn does
        sum(_TURN)
        pulse.leave()
        now = time.perf_counter()
    pulse.nudge()
    thread.join()
    return (now - start) / used[0]


def _standing_by(rounds: int, seconds: float) -> Work:
    from netstack._ext.pulse import Pulse

    kernels, twins = [], []
    for _ in range(rounds):
        kernels.append(seconds_stood_by(Pulse, seconds))
        twins.append(seconds_stood_by(PulsePy, seconds))
    title = "pulse: standing by beside turns of 0.1 ms"
    return Work("pulse: standing by", title, "s/CPU s", tuple(kernels), tuple(twins))


def run(rounds: int, tell: Callable[[str], None], *, sample: float = SAMPLE_S) -> Result:
    """Measure each pair ``rounds`` times, each sample at least ``sample`` seconds long.

    Raises: BenchError.
    """
    works = []
    with ExitStack() as resources:
        for title, kernel, twin, arguments, beside in pairs(resources):
            if kernel(*arguments) != twin(*arguments):
                raise BenchError(f"{title}: the kernel and its twin differ")
            kernels, twins = [], []
            with beside():
                for _ in range(rounds):
                    kernels.append(_calls_per_second(kernel, arguments, sample))
                    twins.append(_calls_per_second(twin, arguments, sample))
            name = title.replace(",", "")
            works.append(Work(name, title, "calls/s", tuple(kernels), tuple(twins)))
            tell(f"{title}: measured")
    works.append(_standing_by(rounds, 10 * sample))
    tell(f"{works[-1].title}: measured")
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
