"""A simulated cable: two ends, and a wire each way that takes time and makes mistakes.

Theory of operation. What a cable is handed becomes octets at once: super-segments are cut,
checksums completed, and each wire frame goes its own way. It waits until the frames before it
were sent at ``rate``; if too many wait already, it is dropped. On the wire it may be lost,
changed, doubled or late. It arrives ``delay`` after its last octet left, sooner or later by up
to ``jitter``, but never before the frame in front of it: only ``reorder`` lets frames overtake.

A cable made with a ``gso_max_size`` offers its ends to pass super-segments. It passes them whole,
by reference, while there is none of this (delay and jitter aside) and no recorder.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypedDict

from netstack.core.checksum import internet_sum
from netstack.device.base import Capabilities, Device, Frame, Medium
from netstack.device.impair import Counters, Impairment
from netstack.device.offload import wire_octets

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from netstack.core.rng import Rng
    from netstack.core.timers import EventHeap
    from netstack.device.record import LinkRecorder

FRAME_OVERHEAD = 24  # octets: preamble and delimiter 8, FCS 4, gap 12 (IEEE 802.3)
MIN_FRAME = 60  # octets without the FCS
MAX_INBOX = 65_536  # frames that nobody fetched
_LATE_DELAY_S = 100e-6  # a late frame on a cable without delay is late by a part of this


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """What one direction of a cable does to frames.

    ``delay`` and ``jitter`` in seconds; ``rate`` in bit/s of all that occupies a wire, None for
    no limit; ``queue`` counts frames that wait behind the one being sent, None for no limit;
    ``mark_above``: with more frames than this waiting, a packet that is ECN-capable is marked as
    having seen congestion (RFC 3168 5), None for never; ``black_hole``: IP packets larger than
    this vanish without a word, None for none. Loss, reorder, duplicate and corrupt are
    probabilities a wire frame. ``up`` False: nothing arrives.
    """

    delay: float = 50e-6
    jitter: float = 0.0
    rate: float | None = None
    queue: int | None = None
    mark_above: int | None = None
    black_hole: int | None = None
    loss: float = 0.0
    reorder: float = 0.0
    duplicate: float = 0.0
    corrupt: float = 0.0
    up: bool = True

    def __post_init__(self) -> None:
        for name in ("loss", "reorder", "duplicate", "corrupt"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is a probability, not {getattr(self, name)}")
        if self.delay < 0 or self.jitter < 0:
            raise ValueError("delay and jitter are not negative")
        if self.rate is not None and self.rate <= 0:
            raise ValueError(f"a rate of {self.rate} bit/s never ends")
        if self.queue is not None and self.queue < 0:
            raise ValueError(f"a queue of {self.queue} frames")


class LinkChanges(TypedDict, total=False):
    """Settings by name."""

    delay: float
    jitter: float
    rate: float | None
    queue: int | None
    mark_above: int | None
    black_hole: int | None
    loss: float
    reorder: float
    duplicate: float
    corrupt: float
    up: bool


class Direction:
    """The wire from one end to the other: ``settings`` now, ``counters`` so far."""

    def __init__(self, cable: Cable, rng: Rng, settings: LinkSettings, receiver: CableEnd) -> None:
        self._cable = cable
        self._receiver = receiver
        self._medium = receiver.capabilities.medium
        self._impairment = Impairment(rng, self._medium)
        self._jitter = rng.child("jitter")
        self._departures: deque[float] = deque()  # when frames not sent yet will have left
        self._last_arrival = 0.0
        self.settings = settings
        self.set()

    @property
    def counters(self) -> Counters:
        """What became of the wire frames of this direction."""
        return self._impairment.counters

    def set(self, **changes: Unpack[LinkChanges]) -> None:
        """Change settings from now on; frames under way keep their fate.

        Raises: ValueError.
        """
        settings = self.settings = replace(self.settings, **changes)
        impairment = self._impairment
        impairment.loss = settings.loss
        impairment.reorder = settings.reorder
        impairment.duplicate = settings.duplicate
        impairment.corrupt = settings.corrupt
        self._plain = (
            settings.up
            and settings.rate is None
            and settings.queue is None
            and settings.mark_above is None
            and settings.black_hole is None
            and not impairment.active
        )
        """Nothing happens to frames on this wire but that they take a time."""
        self._by_reference = self._plain and self._receiver.capabilities.gso_max_size > 0

    def carry(self, frame: Frame) -> None:
        """Take what an end transmits."""
        if self._by_reference and self._cable.recorder is None:
            self.counters.sent += frame.segments
            self._deliver(frame, self._cable.events.now)
            return
        self.carry_octets(wire_octets(frame))

    def carry_octets(self, frames: list[bytes]) -> None:
        """Take wire frames that leave one after the other, complete."""
        if not self._plain or self.settings.jitter or self._cable.recorder is not None:
            for octets in frames:
                self._carry_octets(octets)
            return
        events = self._cable.events
        self.counters.sent += len(frames)
        self._last_arrival = max(events.now + self.settings.delay, self._last_arrival)
        events.schedule(self._last_arrival, self._arrive, *frames)

    def _carry_octets(self, octets: bytes) -> None:
        settings, counters, now = self.settings, self.counters, self._cable.events.now
        counters.sent += 1
        link = 14 if self._medium is Medium.ETHERNET else 0
        if not settings.up:
            counters.lost += 1
            self._record(octets, "lost: the link is down")
        elif settings.black_hole is not None and len(octets) - link > settings.black_hole:
            counters.too_big += 1
            self._record(octets, f"dropped: larger than {settings.black_hole} octets")
        elif self._queue_full(now):
            counters.queue_drops += 1
            self._record(octets, "dropped: the queue is full")
        else:
            mark = settings.mark_above
            if mark is not None and len(self._departures) > mark:
                octets = marked(octets, link)
            departure = self._departure(octets, now)
            fate = self._impairment.judge(octets)
            self._record(fate.octets, fate.comment)
            if fate.lost:
                return
            self._deliver(Frame(fate.octets), departure, late=fate.late)
            if fate.duplicate:
                self._record(fate.octets, "duplicate")
                self._deliver(Frame(fate.octets), departure)

    def _record(self, octets: bytes, comment: str | None) -> None:
        recorder = self._cable.recorder
        if recorder is not None:
            recorder.record(self._cable.events.now, octets, comment)

    def _queue_full(self, now: float) -> bool:
        departures = self._departures
        while departures and departures[0] <= now:
            departures.popleft()
        limit = self.settings.queue
        return limit is not None and len(departures) > limit  # the first is being sent

    def _departure(self, octets: bytes, now: float) -> float:
        """Return when the last octet leaves: frames are sent one after the other."""
        if self.settings.rate is None:
            return now
        departures = self._departures
        begin = departures[-1] if departures else now
        departure = begin + self._sending_time(len(octets), self.settings.rate)
        departures.append(departure)
        return departure

    def _sending_time(self, length: int, rate: float) -> float:
        if self._medium is Medium.ETHERNET:
            length = max(length, MIN_FRAME) + FRAME_OVERHEAD
        return length * 8 / rate

    def _deliver(self, frame: Frame, departure: float, *, late: bool = False) -> None:
        settings = self.settings
        arrival = departure + settings.delay
        if settings.jitter:
            arrival += settings.jitter * (2 * self._jitter.random() - 1)
        arrival = max(arrival, self._last_arrival, departure)
        if late:
            arrival += self._lateness(len(frame.header))
        else:
            self._last_arrival = arrival
        self._cable.events.schedule(arrival, self._arrive, frame)

    def _lateness(self, length: int) -> float:
        """Return how late a late frame is: so much that some of those behind it overtake.

        10-60 % of the delay, and on a cable with a rate one to three frames' sending time.
        """
        settings, draw = self.settings, self._impairment.lateness()
        late = (0.1 + 0.5 * draw) * max(settings.delay, _LATE_DELAY_S)
        if settings.rate is not None:
            late += (1 + 2 * draw) * self._sending_time(length, settings.rate)
        return late

    def _arrive(self, *frames: Frame | bytes) -> None:
        up, counters, now = self.settings.up, self.counters, self._cable.events.now
        for frame in frames:
            segments = 1
            if isinstance(frame, Frame):
                segments = frame.segments
                frame.received_at = now
            if not up:  # unplugged while this was under way
                counters.lost += segments
            elif self._receiver.take(frame):
                counters.delivered += segments
            else:
                counters.queue_drops += segments


def marked(octets: bytes, start: int) -> bytes:
    """Return a frame with the IPv4 packet at ``start`` marked CE, if its transport takes that."""
    if octets[start] != 0x45 or not octets[start + 1] & 3:
        return octets
    changed = bytearray(octets)
    changed[start + 1] |= 3
    changed[start + 10 : start + 12] = bytes(2)
    checksum = ~internet_sum(changed[start : start + 20]) & 0xFFFF
    changed[start + 10 : start + 12] = checksum.to_bytes(2, "big")
    return bytes(changed)


class CableEnd(Device):
    """One end of a cable, to be attached to a stack or a switch."""

    def __init__(self, name: str, capabilities: Capabilities) -> None:
        super().__init__(name, capabilities)
        self.outgoing: Direction
        """The wire from this end to the other."""
        self._inbox: deque[Frame | bytes] = deque()

    def transmit(self, frame: Frame) -> bool:
        """Put ``frame`` on the wire; always taken: a full queue drops, as a switch's would."""
        self.outgoing.carry(frame)
        return True

    def transmit_cuts(self, octets: bytearray, step: int, first: int, last: int) -> int:
        """Put wire frames that lie end to end on the wire; all are taken."""
        view = memoryview(octets)
        self.outgoing.carry_octets(
            [bytes(view[number * step : (number + 1) * step]) for number in range(first, last)]
        )
        return last - first

    def take(self, frame: Frame | bytes) -> bool:
        """Put a frame that arrived into the inbox; False = full."""
        if len(self._inbox) >= MAX_INBOX:
            return False
        self._inbox.append(frame)
        if self.on_pending is not None:
            self.on_pending()
        return True

    def receive_burst(self, limit: int = 64) -> list[Frame | bytes]:
        """Return up to ``limit`` frames that have arrived."""
        inbox = self._inbox
        return [inbox.popleft() for _ in range(min(limit, len(inbox)))]

    def pending(self) -> bool:
        """Return whether frames have arrived."""
        return bool(self._inbox)


class Cable:
    """A cable with the ends ``a`` and ``b``; every setting applies to each direction.

    Frames travel in the virtual time of ``events``. Chances come from ``rng.child(name)``, a
    stream for each direction and kind. ``mtu`` is what both ends announce; ``medium`` what
    frames begin with. ``recorder`` may be set and removed at any time: it sees each wire frame
    when it enters the cable, as the wire carries it, with its fate as a comment.
    """

    def __init__(
        self,
        events: EventHeap,
        rng: Rng,
        name: str,
        *,
        mtu: int = 1500,
        medium: Medium = Medium.ETHERNET,
        gso_max_size: int = 0,
        record: LinkRecorder | None = None,
        end_names: tuple[str, str] | None = None,
        **settings: Unpack[LinkChanges],
    ) -> None:
        self.events = events
        self.name = name
        self.recorder = record
        whole = gso_max_size > 0
        capabilities = Capabilities(medium, mtu, whole, whole, gso_max_size)
        first, second = end_names or (f"{name}:a", f"{name}:b")
        self.a = CableEnd(first, capabilities)
        self.b = CableEnd(second, capabilities)
        link = LinkSettings(**settings)
        own = rng.child(name)
        self.a.outgoing = Direction(self, own.child("a-b"), link, self.b)
        self.b.outgoing = Direction(self, own.child("b-a"), link, self.a)

    def set(self, *, toward: CableEnd | None = None, **changes: Unpack[LinkChanges]) -> None:
        """Change settings from now on, in both directions or only ``toward`` one end.

        Raises: ValueError.
        """
        for end, other in ((self.a, self.b), (self.b, self.a)):
            if toward is None or toward is other:
                end.outgoing.set(**changes)
