"""Bulk transfer over a TAP that loses frames, beside kernel to kernel under the same loss.

The world is that of ``netstack bench tap``, but no device carries more than a segment a frame
(TSO, GSO and GRO are off), so that a loss is of one segment. Frames with data are dropped where
they arrive: by nftables at the ingress of the kernel that receives, by ``ImpairDevice`` above the
TAP where this stack does. Per round, each contestant sends and receives without loss and at each
rate of loss, one right after the other.

What can be asked of a sender under loss is bounded by what it does without and by what the kernel
does under the same loss, the baseline. The *share* is that of the smaller of the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from netstack.bench.result import Result, Work, environment
from netstack.bench.worker import TAP, VETH
from netstack.bench.worlds import Child, World

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SUBJECT, BASELINE = "netstack", "kernel"
LOSSES = (0.0, 0.001, 0.01)
WANTED: Mapping[tuple[str, float], float] = {
    ("send", 0.001): 0.8,
    ("send", 0.01): 0.6,
    ("receive", 0.001): 0.7,
    ("receive", 0.01): 0.7,
}
"""Shares of min(own figure without loss, the kernel's under the same loss)."""
NOTES = (
    "share: of the smaller of the own figure without loss and the kernel's under the same loss",
    "round trip: median of the sender's smoothed estimate while it sends, queues included",
    "content: every octet compared within the timed part, by the receiver",
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How long each transfer takes, in seconds."""

    bulk: float = 2.0


DEFAULT_PLAN = Plan()
_Key = tuple[str, float, str]


class _Contestant:
    """One of the two clients, the kernel that it works with, and how to lose frames."""

    def __init__(self, name: str, client: Child, peer: Child, interface: str) -> None:
        self.name = name
        self._client = client
        self._peer = peer
        self._interface = interface

    def lose(self, direction: str, share: float) -> None:
        """Lose that share of what arrives at the receiving side."""
        if direction == "send":
            self._peer.call("lose", interface=self._interface, share=share)
        else:
            self._client.call("lose", share=share)

    def measure(self, direction: str, share: float, seconds: float) -> tuple[float, float]:
        """Return octets a second and the round-trip time in seconds."""
        self.lose(direction, share)
        try:
            if direction == "send":
                did = self._client.call("send_watched", seconds=seconds)
                round_trip = did["round_trip"]
            else:
                did = self._client.call("work", name="bulk_receive", seconds=seconds)
                round_trip = self._peer.call("round_trip")
        finally:
            self.lose(direction, 0.0)
        return did["octets"] / did["seconds"], round_trip


def run(rounds: int, tell: Callable[[str], None], *, plan: Plan = DEFAULT_PLAN) -> Result:
    """Measure everything ``rounds`` times.

    Raises: BenchError if it can't run here, or if content arrived wrong.
    """
    speeds: dict[_Key, list[float]] = {}
    round_trips: dict[_Key, list[float]] = {}
    described: Mapping[str, Any] = {}
    offloads: list[str] = []
    with World() as world:
        kernel = _Contestant(BASELINE, world.kernel, world.peer, VETH)
        setup = dict(world.setup)
        world.peer.call("turn_offloads_off", interface=VETH)
        setup["offloads"] = world.kernel.call("turn_offloads_off")
        for number in range(1, rounds + 1):
            stack = world.stack()
            stack.call("start_impaired", number=number)
            offloads = world.peer.call("turn_offloads_off", interface=TAP)
            described = stack.call("describe")
            contestants = [_Contestant(SUBJECT, stack, world.peer, TAP), kernel]
            if number % 2:
                contestants.reverse()
            for direction in ("send", "receive"):
                for share in LOSSES:
                    for contestant in contestants:
                        speed, trip = contestant.measure(direction, share, plan.bulk)
                        key = (direction, share, contestant.name)
                        speeds.setdefault(key, []).append(speed / 1e6)
                        round_trips.setdefault(key, []).append(trip * 1e6)
                    tell(_progress(speeds, direction, share, number, rounds))
            stack.call("close")
            stack.close()
    compiled = {name: environment()[name] for name in ("kernels", "modules")}
    kernels = {**compiled, "kernel's side": offloads}
    contestants_setup = {SUBJECT: {**described, **kernels}, BASELINE: setup}
    works = _works(speeds, round_trips)
    return Result("loss", rounds, SUBJECT, BASELINE, contestants_setup, works, NOTES)


def _percent(share: float) -> str:
    return f"{share * 100:g} %"


def _progress(
    speeds: Mapping[_Key, list[float]], direction: str, share: float, number: int, rounds: int
) -> str:
    ours, theirs = (speeds[direction, share, each][-1] for each in (SUBJECT, BASELINE))
    line = f"round {number}/{rounds}: {direction}, {_percent(share)} lost: {ours:,.1f} MB/s"
    return f"{line}, kernel {theirs:,.1f} MB/s"


def shares(
    figures: list[float], lossless: list[float], baseline: list[float]
) -> tuple[float, ...]:
    """Return each round's share of what could be asked."""
    together = zip(figures, lossless, baseline, strict=True)
    return tuple(figure / min(bounds) for figure, *bounds in together)


def _works(
    speeds: Mapping[_Key, list[float]], round_trips: Mapping[_Key, list[float]]
) -> list[Work]:
    works = []
    for direction in ("send", "receive"):
        for share in LOSSES:
            name, title = f"{direction}_{share:g}", f"{direction}, {_percent(share)} lost"
            ours, theirs = (direction, share, SUBJECT), (direction, share, BASELINE)
            works.append(Work(name, title, "MB/s", tuple(speeds[ours]), tuple(speeds[theirs])))
            if share:
                wanted = WANTED[direction, share]
                reached = shares(speeds[ours], speeds[direction, 0.0, SUBJECT], speeds[theirs])
                works.append(
                    Work(f"{name}_share", f"{title}: share", f"wanted {wanted:g}", reached)
                )
            works.append(
                Work(
                    f"{name}_rtt", f"{title}: round trip", "us",
                    tuple(round_trips[ours]), tuple(round_trips[theirs]), higher_is_better=False,
                )
            )  # fmt: skip
    return works
