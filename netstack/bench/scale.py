"""Many idle connections on one host: what each costs, and what they cost the others.

A host with sockets on the real-time driver; its peers are played: every segment that they send is
made when it is needed, so that the process holds the host's own connections and nothing beside.
A few connections are opened first and measured (the baseline), then many, in the same process;
each round has a process of its own, since memory given back earlier would hide what is taken.

``python -m netstack.bench.scale FEW MANY`` is that process; it prints its figures as JSON.
"""

from __future__ import annotations

import gc
import json
import os
import random
import subprocess
import sys
import time
from array import array
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from netstack.api import run as run_stack
from netstack.bench.result import BenchError, Result, Work, environment
from netstack.bench.worlds import module_path
from netstack.core.address import IPAddress, parse_address
from netstack.core.config import Config, TcpConfig
from netstack.core.seqnum import MASK
from netstack.device.base import Capabilities, Device, Frame, Medium
from netstack.stack import Stack
from netstack.wire.ipv4 import IPv4Header
from netstack.wire.tcp import (
    ACK,
    PSH,
    SYN,
    TcpHeader,
    build_syn_options,
    build_timestamps,
    parse_segment,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from netstack.socket.stream import StreamSocket

FEW, MANY = 1_000, 100_000
PATIENCE_S = 1_800.0
_OURS = parse_address("10.0.0.1")
_PORT = 80
_BURST = 64  # frames a step, as drivers read them
_BATCH = 512  # handshakes at once
_PER_PEER = 1_000  # connections
_WARM_UP = 200  # connections: what a host and its first connection take once
_SAMPLE = 500  # connections that get a segment
_REPEATS = 5
_IDLE_S = 2.0
_TS = 1_000  # the peers' clock stands still: no rule minds
_IP_HEADER = 20
NOTES = (
    "a connection: with its socket, by the growth of the process's resident memory",
    "a segment: one octet, taken by the stack in bursts of 64, each to another connection",
    "an exchange: its recv, and a send of one octet with the segment that carries it",
    "collection: a full one of the garbage collector, before and after gc.freeze()",
)
_FIGURES: Mapping[str, tuple[str, str]] = {
    "memory": ("an idle connection", "octets"),
    "segment": ("a segment that arrives", "us"),
    "exchange": ("recv and send of an octet", "us"),
    "open": ("a connection opened: SYN, ACK and accept", "us"),
    "idle": ("idle", "% of a core"),
    "collection": ("collection", "ms"),
    "frozen": ("collection after gc.freeze", "ms"),
    "pause": ("longest pause for a collection while opening", "ms"),
}


class _Wire(Device):
    """Keeps what the host sends."""

    def __init__(self) -> None:
        super().__init__("wire", Capabilities(Medium.IP, 1500))
        self.sent: list[bytes] = []

    def transmit(self, frame: Frame) -> bool:
        self.sent.append(frame.octets())
        return True

    def receive_burst(self, limit: int = _BURST) -> list[Frame]:
        return []


class _Pauses:
    """The longest collection, in seconds."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._began = 0.0

    def __call__(self, phase: str, _: Mapping[str, int]) -> None:
        if phase == "start":
            self._began = time.perf_counter()
        else:
            self.longest = max(self.longest, time.perf_counter() - self._began)


class Crowd:
    """One host, and up to ``capacity`` peers' connections to it."""

    def __init__(self, capacity: int) -> None:
        config = TcpConfig(max_syn_received=2 * _BATCH)
        stack = Stack("server", config=Config(tcp=config))
        self.wire = _Wire()
        stack.attach(self.wire, f"{_OURS}/8")
        self.stack = stack
        self.host = run_stack(stack)
        self._listener = self.host.create_server(("", _PORT), backlog=2 * _BATCH)
        self._listener.settimeout(0)
        self.sockets: list[StreamSocket] = []
        self._by_peer: list[StreamSocket | None] = [None] * capacity
        self._iss = array("I", bytes(4 * capacity))  # the host's
        self._stamp = array("I", bytes(4 * capacity))
        self._sent = array("I", bytes(4 * capacity))  # octets, by the peer
        self._received = array("I", bytes(4 * capacity))
        self._dice = random.Random(4)

    def close(self) -> None:
        """End everything."""
        self.stack.tcp.connections.clear()  # nobody is there to be told
        self.host.close(timeout=0)

    # ---- the peers -------------------------------------------------------------------------

    def _packet(self, number: int, flags: int, options: bytes, data: bytes = b"") -> Frame:
        peer, port = divmod(number, _PER_PEER)
        source = IPAddress((0x0A010001 + peer).to_bytes(4, "big"))
        seq = 0 if flags & SYN else 1 + self._sent[number]
        ack = 0 if flags & SYN else self._iss[number] + 1 + self._received[number] & MASK
        segment = TcpHeader(
            1024 + port, _PORT, seq, ack, flags, 65_535, options=options
        ).with_checksum(source.packed, _OURS.packed, data)  # fmt: skip
        octets = segment.build() + data
        length = _IP_HEADER + len(octets)
        ip = IPv4Header(source=source, destination=_OURS, protocol=6, total_length=length)
        return Frame(ip.with_checksum().build() + octets)

    def _segment(self, number: int, data: bytes = b"") -> Frame:
        stamps = build_timestamps(_TS, self._stamp[number])
        return self._packet(number, ACK | PSH if data else ACK, stamps, data)

    def _take(self, frames: list[Frame]) -> float:
        """Let the host take ``frames``; return the CPU seconds of that."""
        began = time.thread_time()
        for start in range(0, len(frames), _BURST):
            burst = frames[start : start + _BURST]
            self.host.driver.call(partial(self.stack.receive, self.wire, burst))
        return time.thread_time() - began

    def _answers(self) -> Iterable[tuple[int, Any]]:
        """Yield what the host has sent, by connection."""
        sent, self.wire.sent = self.wire.sent, []
        for octets in sent:
            segment = parse_segment(octets, _IP_HEADER, len(octets) - _IP_HEADER)
            peer = int.from_bytes(octets[16:20], "big") - 0x0A010001
            port = int.from_bytes(octets[22:24], "big") - 1024
            yield peer * _PER_PEER + port, segment

    # ---- what is measured ------------------------------------------------------------------

    def open(self, count: int) -> float:
        """Open up to ``count`` connections in all; return the CPU seconds of each new one."""
        first, seconds = len(self.sockets), 0.0
        options = build_syn_options(1460, 7, (_TS, 0), sack=True)
        while len(self.sockets) < count:
            begun = len(self.sockets)
            batch = range(begun, min(begun + _BATCH, count))
            seconds += self._take([self._packet(number, SYN, options) for number in batch])
            for number, segment in self._answers():
                if segment.flags & SYN:  # else a delayed ACK of an earlier one
                    self._iss[number] = segment.seq
                self._stamp[number] = segment.ts_val
            seconds += self._take([self._segment(number) for number in batch])
            began = time.thread_time()
            with suppress(BlockingIOError):
                while True:
                    self.sockets.append(self._listener.accept()[0])
            seconds += time.thread_time() - began
            if len(self.sockets) != batch.stop:
                raise BenchError(f"{batch.stop - len(self.sockets)} connections did not open")
            for sock in self.sockets[begun:]:
                host, port = sock.getpeername()
                peer = int.from_bytes(parse_address(host).packed, "big") - 0x0A010001
                self._by_peer[peer * _PER_PEER + port - 1024] = sock
        return seconds / max(len(self.sockets) - first, 1)

    def exchange(self) -> tuple[float, float]:
        """Return the CPU seconds of a segment that arrives, and of its ``recv`` and a ``send``."""
        count = len(self.sockets)
        chosen = self._dice.sample(range(count), min(_SAMPLE, count))
        arrival = self._take([self._segment(number, b"?") for number in chosen])
        sockets = [self._by_peer[number] for number in chosen]
        began = time.thread_time()
        for sock in sockets:
            if sock is None or sock.recv(16) != b"?":
                raise BenchError("a connection got something else than its octet")
            sock.send(b"!")
        calls = time.thread_time() - began
        answered = set()
        for number, segment in self._answers():
            if segment.length:  # perhaps again: peers are slow where the machine is
                answered.add(number)
            self._stamp[number] = segment.ts_val
        if silent := set(chosen) - answered:
            raise BenchError(f"{len(silent)} connections did not answer")
        for number in chosen:
            self._sent[number] += 1
            self._received[number] += 1
        self._take([self._segment(number) for number in chosen])
        return arrival / len(chosen), calls / len(chosen)

    def figures(self, memory: float, opened: float) -> dict[str, float]:
        """Return all figures of what is open now, in the units of the report."""
        trips = sorted(self.exchange() for _ in range(_REPEATS))
        segment, _ = trips[_REPEATS // 2]
        exchange = sorted(calls for _, calls in trips)[_REPEATS // 2]
        time.sleep(0.2)  # delayed ACKs
        self.wire.sent.clear()
        began = time.process_time()
        time.sleep(_IDLE_S)
        idle = (time.process_time() - began) / _IDLE_S
        began = time.perf_counter()
        gc.collect()
        collection = time.perf_counter() - began
        gc.freeze()
        began = time.perf_counter()
        gc.collect()
        frozen = time.perf_counter() - began
        gc.unfreeze()
        return {
            "memory": memory,
            "segment": segment * 1e6,
            "exchange": exchange * 1e6,
            "open": opened * 1e6,
            "idle": idle * 100,
            "collection": collection * 1e3,
            "frozen": frozen * 1e3,
        }


def resident() -> int:
    """Return the octets of this process that are in memory.

    Raises: BenchError where the system does not tell.
    """
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            pages = int(file.read().split()[1])
    except OSError:
        raise BenchError("needs Linux, which tells a process's resident memory") from None
    return pages * os.sysconf("SC_PAGE_SIZE")


def measure(few: int, many: int) -> list[dict[str, float]]:
    """Return the figures of ``few`` connections, then of ``many``."""
    crowd = Crowd(many)
    pauses = _Pauses()
    figures = []
    try:
        crowd.open(min(_WARM_UP, few // 2))
        crowd.exchange()
        gc.callbacks.append(pauses)
        for count in (few, many):
            gc.collect()
            pauses.longest = 0.0
            before, first = resident(), len(crowd.sockets)
            opened = crowd.open(count)
            pause = pauses.longest
            gc.collect()
            memory = (resident() - before) / (count - first)
            figures.append({**crowd.figures(memory, opened), "pause": pause * 1e3})
    finally:
        with suppress(ValueError):
            gc.callbacks.remove(pauses)
        crowd.close()
    return figures


def run(rounds: int, tell: Callable[[str], None], *, few: int = FEW, many: int = MANY) -> Result:
    """Measure ``rounds`` times, each in a process of its own.

    Raises: BenchError.
    """
    resident()
    seen: list[list[dict[str, float]]] = []
    for number in range(1, rounds + 1):
        seen.append(_in_a_process(few, many))
        memory, segment = (seen[-1][1][name] for name in ("memory", "segment"))
        tell(f"round {number}/{rounds}: {memory:,.0f} octets each, {segment:.1f} us a segment")
    works = []
    for name, (title, unit) in _FIGURES.items():
        ours, theirs = (tuple(each[side][name] for each in seen) for side in (1, 0))
        works.append(Work(name, title, unit, ours, theirs, higher_is_better=False))
    subject, baseline = f"{many:,}", f"{few:,}"
    setup = {"sockets": "accepted, blocking", "kernels": environment()["kernels"]}
    contestants = {subject: setup, baseline: {"in": "the same process, before"}}
    return Result("scale", rounds, subject, baseline, contestants, works, NOTES)


def _in_a_process(few: int, many: int) -> list[dict[str, float]]:
    command = [sys.executable, "-m", "netstack.bench.scale", str(few), str(many)]
    environ = {**os.environ, "PYTHONPATH": module_path()}
    try:
        done = subprocess.run(
            command, env=environ, stdout=subprocess.PIPE, timeout=PATIENCE_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise BenchError("the process did not come to an end") from None
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise BenchError(f"the process ended with status {done.returncode}") from None
    if "error" in answer:
        raise BenchError(str(answer["error"]))
    figures: list[dict[str, float]] = answer["figures"]
    return figures


def main(arguments: list[str]) -> int:
    """Measure in this process, and print the figures as JSON."""
    try:
        answer: dict[str, Any] = {"figures": measure(*map(int, arguments))}
    except BenchError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
