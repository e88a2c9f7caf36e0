"""The stack over a TAP device beside kernel to kernel over veth, in the same run.

Three processes at any time: the peer (kernel servers, in a network namespace of its own), a
client on kernel sockets in a second namespace, joined to the peer by veth, and a client on this
stack, which opens a TAP in the peer's network. Both clients run the same code against the same
servers, one after the other, each work in turn; who begins alternates from round to round. The
stack gets a fresh process each round, since some speeds differ from start to start; and a second
one for bulk work without offloads: wire-sized frames only, complete checksums, both ways. Where
lwIP is installed, it does the same works over a TAP of its own.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from netstack.bench import lwip
from netstack.bench.result import Result, Work, environment
from netstack.bench.worlds import Child, World

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SUBJECT, BASELINE, LWIP = "netstack", "kernel", "lwIP"
PEERS = (LWIP,)
PLAIN = "plain"
"""How the works without offloads are called."""
MAX_ROUNDS = 10_000
NOTES = (
    "content: every octet of the bulk runs compared within the timed part, by the receiver",
    "CPU: user and system time of the process; the kernel books what it does for a frame on "
    "whoever it interrupts",
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How long each work takes, in seconds, and how many connections are idle."""

    bulk: float = 2.0
    exchange: float = 1.0
    idle: float = 3.0
    idle_connections: int = 1000


DEFAULT_PLAN = Plan()


class _Figures:
    """Figures by work and contestant, one a round."""

    def __init__(self) -> None:
        self._of: dict[tuple[str, str], list[float]] = {}

    def copy_last(self, work: str, to: str, contestant: str) -> None:
        """Take a figure of this round, if there is one, for another work too."""
        if (work, contestant) in self._of:
            self.add(to, contestant, self.last(work, contestant))

    def add(self, work: str, contestant: str, figure: float) -> None:
        self._of.setdefault((work, contestant), []).append(figure)

    def last(self, work: str, contestant: str) -> float:
        return self._of[work, contestant][-1]

    def work(self, name: str, title: str, unit: str, *, higher_is_better: bool = True) -> Work:
        peers = {each: tuple(self._of[name, each]) for each in PEERS if (name, each) in self._of}
        return Work(
            name,
            title,
            unit,
            tuple(self._of[name, SUBJECT]),
            tuple(self._of.get((name, BASELINE), ())),
            higher_is_better,
            peers,
        )


def run(rounds: int, tell: Callable[[str], None], *, plan: Plan = DEFAULT_PLAN) -> Result:
    """Measure all works ``rounds`` times.

    Raises: BenchError if it can't run here, or if content arrived wrong.
    """
    figures = _Figures()
    described: Mapping[str, Any] = {}
    plain: Mapping[str, Any] = {}
    notes = list(NOTES)
    others: dict[str, Child] = {}
    setups: dict[str, Mapping[str, Any]] = {}
    with World() as world:
        if why := lwip.missing():
            notes.append(f"{LWIP}: not measured: {why}")
        else:
            others[LWIP] = world.lwip()
            setups[LWIP] = others[LWIP].call("start")
            notes.append(f"{LWIP}: bulk receive not measured: {lwip.LIBRARY} dies of it")
        warm_up = world.stack()
        warm_up.call("start", started=warm_up.started, number=0)
        warm_up.close()
        for number in range(1, rounds + 1):
            stack = world.stack()
            started = stack.call("start", started=stack.started, number=number)
            described = stack.call("describe")
            figures.add("start", SUBJECT, started["host"] * 1e3)
            figures.add("start_process", SUBJECT, started["process"] * 1e3)
            contestants = [(SUBJECT, stack), (BASELINE, world.kernel), *others.items()]
            if number % 2:
                contestants.reverse()
            for name in ("bulk_send", "bulk_receive"):
                for contestant, child in _able(contestants, name):
                    _bulk(figures, world.peer, name, contestant, child, plan.bulk)
                _progress(tell, figures, number, rounds, name, "MB/s")
            for name in ("request_response", "connections"):
                for contestant, child in contestants:
                    _exchange(figures, world.peer, name, contestant, child, plan.exchange)
                _progress(tell, figures, number, rounds, name, "/s")
            _idle(figures, world.peer, stack, plan)
            stack.call("close")
            stack.close()
            plain = _plain(figures, world, number, plan)
            _progress(tell, figures, number, rounds, "bulk_send_plain", "MB/s")
            _progress(tell, figures, number, rounds, "bulk_receive_plain", "MB/s")
        setup = dict(world.setup)
    kernels = {name: environment()[name] for name in ("kernels", "modules")}
    plain_setup = {f"offloads_{PLAIN}": plain["offloads"]}
    ours = {**described, **plain_setup, **kernels}
    contestants_setup = {SUBJECT: ours, BASELINE: setup, **setups}
    return Result(
        "tap", rounds, SUBJECT, BASELINE, contestants_setup, _works(figures, plan), notes
    )


def _able(contestants: list[tuple[str, Child]], work: str) -> list[tuple[str, Child]]:
    unable = {LWIP} if work in lwip.UNABLE else set()
    return [each for each in contestants if each[0] not in unable]


def _works(figures: _Figures, plan: Plan) -> list[Work]:
    works = []
    bulk = (
        ("bulk_send", "bulk send, super-segments"),
        ("bulk_receive", "bulk receive, super-segments"),
        (f"bulk_send_{PLAIN}", "bulk send, no offload"),
        (f"bulk_receive_{PLAIN}", "bulk receive, no offload"),
    )
    for name, title in bulk:
        works.append(figures.work(name, title, "MB/s"))
        for part, whose in (("cpu", "own CPU"), ("peer_cpu", "peer's CPU")):
            works.append(
                figures.work(f"{name}_{part}", f"{title}: {whose}", "s/GB", higher_is_better=False)
            )
    works.append(figures.work("request_response", "1-octet request and response", "1/s"))
    works.append(figures.work("connections", "connect, 1 octet, close", "1/s"))
    lower: tuple[tuple[str, str, str], ...] = (
        ("start", "start to first octet answered", "ms"),
        ("start_process", "the same with the interpreter's start", "ms"),
        ("idle", f"{plan.idle_connections:,} idle connections", "% of a core"),
    )
    works.extend(figures.work(*each, higher_is_better=False) for each in lower)
    return works


def _bulk(
    figures: _Figures,
    peer: Child,
    name: str,
    contestant: str,
    child: Child,
    seconds: float,
    to: str = "",
) -> None:
    """Do bulk work; its figures go under ``to``, or its name."""
    before = peer.call("cpu")
    did = child.call("work", name=name, seconds=seconds)
    peer_cpu = peer.call("cpu") - before
    to = to or name
    figures.add(to, contestant, did["octets"] / did["seconds"] / 1e6)
    figures.add(f"{to}_cpu", contestant, did["cpu"] / did["octets"] * 1e9)
    figures.add(f"{to}_peer_cpu", contestant, peer_cpu / did["octets"] * 1e9)


def _plain(figures: _Figures, world: World, number: int, plan: Plan) -> dict[str, Any]:
    """Measure bulk work without offloads; return how the stack is set up then.

    The others' figures of this round stand beside it: the kernel's are its best, with offloads.
    """
    stack = world.stack()
    # The address is another than in any round with offloads.
    stack.call("start", started=stack.started, number=number + MAX_ROUNDS, offload=False)
    for name in ("bulk_send", "bulk_receive"):
        to = f"{name}_{PLAIN}"
        _bulk(figures, world.peer, name, SUBJECT, stack, plan.bulk, to)
        for part in ("", "_cpu", "_peer_cpu"):
            for other in (BASELINE, *PEERS):
                figures.copy_last(name + part, to + part, other)
    described: dict[str, Any] = stack.call("describe")
    stack.call("close")
    stack.close()
    return described


def _exchange(
    figures: _Figures, peer: Child, name: str, contestant: str, child: Child, seconds: float
) -> None:
    # One CPU for both sides: on two, what is measured is how one wakes the other.
    cpus = sorted(os.sched_getaffinity(0))
    try:
        for each in (peer, child):
            each.call("pin", cpus=cpus[-1:])
        did = child.call("work", name=name, seconds=seconds)
    finally:
        for each in (peer, child):
            each.call("pin", cpus=cpus)
    figures.add(name, contestant, did["count"] / did["seconds"])


def _idle(figures: _Figures, peer: Child, stack: Child, plan: Plan) -> None:
    stack.call("open_idle", count=plan.idle_connections)
    did = stack.call("idle_share", seconds=plan.idle)
    peer.call("release")
    stack.call("close_idle")
    figures.add("idle", SUBJECT, did["cpu"] / did["seconds"] * 100)


def _progress(
    tell: Callable[[str], None], figures: _Figures, number: int, rounds: int, name: str, unit: str
) -> None:
    ours, theirs = (figures.last(name, each) for each in (SUBJECT, BASELINE))
    title = name.replace("_", " ")
    tell(f"round {number}/{rounds}: {title}: {ours:,.0f} {unit}, kernel {theirs:,.0f} {unit}")
