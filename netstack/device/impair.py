"""What goes wrong on a wire: loss, reordering, duplication, one flipped bit.

``Impairment`` decides for one direction, by seed: each kind draws from its own stream, so that
changing one does not change what another does. ``Cable`` asks it; ``ImpairDevice`` does so around
any device, which has no clock: there a late frame waits for one to three others.
"""

from __future__ import annotations

from collections import deque
from math import inf, log
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from netstack.device.base import Device, Frame, Medium, as_frame, only_octets
from netstack.device.burst import Burst
from netstack.device.middleware import Middleware
from netstack.device.offload import wire_octets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netstack.core.rng import Rng

_ETHERNET = 14  # octets of an Ethernet II header
_F = TypeVar("_F", Frame, bytes, "Frame | bytes")
_MAX_OVERTAKING = 3  # frames that may pass a late one in ``ImpairDevice``


class Counters:
    """Wire frames of one direction: what became of them."""

    __slots__ = (
        "corrupted", "delivered", "duplicated", "lost", "queue_drops", "reordered", "sent",
        "too_big",
    )  # fmt: skip

    def __init__(self) -> None:
        self.sent = 0
        self.delivered = 0
        self.lost = 0
        self.corrupted = 0
        self.duplicated = 0
        self.reordered = 0
        self.queue_drops = 0
        self.too_big = 0


class Fate(NamedTuple):
    """What is to become of a wire frame; ``comment`` tells a capture's reader."""

    octets: bytes
    lost: bool = False
    duplicate: bool = False
    late: bool = False
    comment: str | None = None


class Impairment:
    """Decides what becomes of the frames of one direction.

    ``loss``, ``reorder``, ``duplicate`` and ``corrupt`` are probabilities a wire frame; each may
    be changed at any time.
    """

    __slots__ = (
        "_corrupt", "_duplicate", "_loss", "_medium", "_passing", "_passing_at", "_reorder",
        "corrupt", "counters", "duplicate", "loss", "reorder",
    )  # fmt: skip

    def __init__(
        self,
        rng: Rng,
        medium: Medium,
        *,
        loss: float = 0.0,
        reorder: float = 0.0,
        duplicate: float = 0.0,
        corrupt: float = 0.0,
    ) -> None:
        self._medium = medium
        self._loss = rng.child("loss")
        self._reorder = rng.child("reorder")
        self._duplicate = rng.child("duplicate")
        self._corrupt = rng.child("corrupt")
        self.loss = loss
        self.reorder = reorder
        self.duplicate = duplicate
        self.corrupt = corrupt
        self.counters = Counters()
        self._passing: float = inf  # frames until one is lost, where nothing else happens
        self._passing_at = 0.0  # what ``loss`` was when that was drawn

    @property
    def active(self) -> bool:
        """Whether anything can go wrong."""
        return bool(self.loss or self.reorder or self.duplicate or self.corrupt)

    @property
    def only_loses(self) -> bool:
        """Whether a frame arrives as it is or not at all."""
        return not (self.reorder or self.duplicate or self.corrupt)

    def survivors(self, frames: Sequence[_F]) -> Sequence[_F]:
        """Return those of ``frames``, wire frames, that are not lost, and count them.

        For a wire on which nothing else happens.
        """
        count: int = len(frames)
        if self.loss != self._passing_at:
            self._passing_at = self.loss
            self._passing = self._until_lost()
        lost: list[int] = []
        at: float = self._passing
        while at < count:
            lost.append(int(at))
            at += 1 + self._until_lost()
        self._passing = at - count
        counters = self.counters
        counters.sent += count
        counters.delivered += count - len(lost)
        counters.lost += len(lost)
        return _without(frames, lost) if lost else frames

    def _until_lost(self) -> float:
        """Return how many frames pass until the next is lost: one draw for all of them.

        As many as of single draws would be above ``loss`` in a row (geometric distribution).
        """
        loss: float = self.loss
        if loss <= 0:
            return inf
        if loss >= 1:
            return 0.0
        return float(log(1.0 - self._loss.random()) // log(1.0 - loss))

    def judge(self, octets: bytes) -> Fate:
        """Decide about a wire frame whose checksums are complete, and count it."""
        counters = self.counters
        if self.loss and self._loss.random() < self.loss:
            counters.lost += 1
            return Fate(octets, lost=True, comment="lost")
        notes = []
        if self.corrupt and self._corrupt.random() < self.corrupt:
            bit = self._flip(octets)
            if bit is not None:
                octets, position = bit
                counters.corrupted += 1
                notes.append(f"corrupted: bit {position} of the IP packet flipped")
        duplicate = bool(self.duplicate) and self._duplicate.random() < self.duplicate
        late = bool(self.reorder) and self._reorder.random() < self.reorder
        if duplicate:
            counters.duplicated += 1
            notes.append("duplicated")
        if late:
            counters.reordered += 1
            notes.append("reordered: delayed, later frames may overtake")
        return Fate(octets, False, duplicate, late, "; ".join(notes) or None)

    def lateness(self) -> float:
        """Return how late the frame just judged is, uniformly in [0, 1)."""
        return self._reorder.random()

    def _flip(self, octets: bytes) -> tuple[bytes, int] | None:
        """Return a copy with one bit of its IP packet flipped, and which; None if it has none.

        The link header, ARP and padding are left alone: the FCS of a real link would have
        dropped the frame, and a checksum can't notice what it doesn't cover.
        """
        start, length = _ip_packet(octets, self._medium)
        if not length:
            return None
        bit = self._corrupt.below(length * 8)
        changed = bytearray(octets)
        changed[start + (bit >> 3)] ^= 0x80 >> (bit & 7)
        return bytes(changed), bit


def _ip_packet(octets: bytes, medium: Medium) -> tuple[int, int]:
    """Return where the IP packet of a frame starts and its length; a length of 0 if none."""
    start = 0
    if medium is Medium.ETHERNET:
        if octets[12:14] not in (b"\x08\x00", b"\x86\xdd"):
            return 0, 0
        start = _ETHERNET
    there = len(octets) - start
    if there < 20:
        return 0, 0
    if octets[start] >> 4 == 6:
        length = int.from_bytes(octets[start + 4 : start + 6], "big") + 40
    else:
        length = int.from_bytes(octets[start + 2 : start + 4], "big")
    return start, min(length, there)


def _without(frames: Sequence[_F], lost: list[int]) -> Sequence[_F]:
    """Return ``frames`` but those at ``lost``, which ascend; of a burst it is the same one."""
    if isinstance(frames, Burst):
        frames.leave_out(lost)
        return frames
    kept = list(frames)
    for index in reversed(lost):
        del kept[index]
    return kept


class _Lane:
    """One direction of an ``ImpairDevice``; late frames wait here for others to pass."""

    __slots__ = ("_held", "impairment", "passed")

    def __init__(self, impairment: Impairment) -> None:
        self.impairment = impairment
        self.passed: deque[Frame | bytes] = deque()
        """What is through, and could not go on yet."""
        self._held: list[tuple[int, bytes]] = []  # how many must still pass, octets

    @property
    def waiting(self) -> bool:
        """Whether frames wait."""
        return bool(self._held or self.passed)

    @property
    def holding(self) -> bool:
        """Whether frames wait for others to pass."""
        return bool(self._held)

    @property
    def idle(self) -> bool:
        """Whether frames may pass untouched."""
        return not self._held and not self.impairment.active

    def carry(self, octets: bytes) -> list[bytes]:
        """Return what comes out when ``octets`` go in."""
        impairment = self.impairment
        impairment.counters.sent += 1
        fate = impairment.judge(octets)
        if fate.lost:
            return []
        out = [] if fate.late else [fate.octets]
        if fate.duplicate:
            out.append(fate.octets)
        if out:
            out += [held for left, held in self._held if left == 1]
            self._held = [(left - 1, held) for left, held in self._held if left > 1]
        if fate.late:
            self._held.append((1 + int(impairment.lateness() * _MAX_OVERTAKING), fate.octets))
        impairment.counters.delivered += len(out)
        return out

    def release(self) -> list[bytes]:
        """Return all that still waits: nothing may wait longer than a poll."""
        out = [held for _, held in self._held]
        self._held = []
        self.impairment.counters.delivered += len(out)
        return out


def _any_super(frames: Sequence[Frame | bytes]) -> bool:
    if isinstance(frames, Burst) or only_octets(frames):
        return False
    for frame in frames:  # noqa: SIM110 - C has no generators
        if as_frame(frame).gso_size:
            return True
    return False


class ImpairDevice(Middleware):
    """Any device with a bad wire, in both directions; super-segments are cut before.

    ``outgoing`` and ``incoming`` hold the probabilities, which may be changed at any time, and
    the counters. A late frame waits until one to three others have passed it, or for the next
    poll if none come.
    """

    def __init__(
        self,
        inner: Device,
        rng: Rng,
        *,
        loss: float = 0.0,
        reorder: float = 0.0,
        duplicate: float = 0.0,
        corrupt: float = 0.0,
    ) -> None:
        Middleware.__init__(self, inner)  # no super(): C has none

        def lane(direction: str) -> _Lane:
            return _Lane(
                Impairment(
                    rng.child(direction), inner.capabilities.medium,
                    loss=loss, reorder=reorder, duplicate=duplicate, corrupt=corrupt,
                )
            )  # fmt: skip

        self._down = lane("outgoing")  # frames wait in it while the inner device is busy
        self._up = lane("incoming")  # and in this one beyond a burst's limit

    @property
    def outgoing(self) -> Impairment:
        """What goes wrong on the way to the wire."""
        return self._down.impairment

    @property
    def incoming(self) -> Impairment:
        """What goes wrong on the way from the wire."""
        return self._up.impairment

    def _drain(self) -> bool:
        """Hand on what waits for the inner device; False if it is busy."""
        passed = self._down.passed
        while passed:
            if not self.inner.transmit(as_frame(passed[0])):
                return False
            passed.popleft()
        return True

    def transmit(self, frame: Frame) -> bool:
        """Take ``frame`` to the wire, or what is left of it; False = busy."""
        down: _Lane = self._down
        if down.passed and not self._drain():
            return False
        if down.idle:
            return self.inner.transmit(frame)
        for octets in wire_octets(frame):
            down.passed.extend(down.carry(octets))
        self._drain()
        return True

    def transmit_cuts(self, octets: bytearray, step: int, first: int, last: int) -> int:
        """Take wire frames that lie end to end; over a good wire all at once."""
        down: _Lane = self._down
        if down.idle and not down.passed:
            return self.inner.transmit_cuts(octets, step, first, last)
        return Device.transmit_cuts(self, octets, step, first, last)

    def receive_burst(self, limit: int = 64) -> Sequence[Frame | bytes]:
        """Return up to ``limit`` frames that have arrived; late ones going out leave now."""
        down: _Lane = self._down
        if down.holding:
            down.passed.extend(down.release())
        if down.passed:
            self._drain()
        lane: _Lane = self._up
        arrived = lane.passed
        if len(arrived) < limit:
            frames = self.inner.receive_burst(limit)
            if lane.idle and not arrived:
                return frames
            if lane.impairment.only_loses and not lane.holding and not _any_super(frames):
                frames = lane.impairment.survivors(frames)
                if not arrived:
                    return frames
                arrived.extend(frames)
            else:
                for frame in frames:
                    self._carry_up(as_frame(frame))
                if not frames:
                    arrived.extend(Frame(octets) for octets in lane.release())
        return [arrived.popleft() for _ in range(min(limit, len(arrived)))]

    def _carry_up(self, frame: Frame) -> None:
        lane: _Lane = self._up
        for octets in wire_octets(frame):
            for out in lane.carry(octets):
                arrived = Frame(out)
                arrived.received_at = frame.received_at
                arrived.group = frame.group
                lane.passed.append(arrived)

    def pending(self) -> bool:
        """Return whether frames wait here or in the inner device."""
        down: _Lane = self._down
        up: _Lane = self._up
        return down.waiting or up.waiting or self.inner.pending()
