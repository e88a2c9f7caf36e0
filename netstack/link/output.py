"""The output queue of an interface: bounded, one turn for each flow after another.

TCP asks for ``room`` before it builds, so that a flow keeps at most 128 KiB below it and takes
its turn with the others; what asks nobody is refused when its flow or the whole queue is full.
Here, just above the device, a super-segment that the device cannot take is cut, and a checksum
that it cannot complete is completed. A cut that was begun is finished before anything else of
its flow, also if the device was busy in between.

A driver may cut a step anywhere (an interrupt). Steps are ordered so that at worst a frame is
sent twice or dropped, and the counts of what waits err upwards until the queue is next empty.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from netstack.core.trace import FrameSent
from netstack.device.base import Checksum
from netstack.device.offload import complete_checksum, cut_frame, wire_frames
from netstack.wire.layout import u8

if TYPE_CHECKING:
    from netstack.core.context import Context, Counter
    from netstack.device.base import Device, Frame

_PARTIAL = Checksum.PARTIAL

MAX_FLOW_OCTETS = 128 * 1024  # of one flow; one more frame may begin below that
MAX_OCTETS = 8 * 1024 * 1024  # of all flows
MAX_FLUSH = 256  # frames handed over in one turn
MAX_FRAMES = 4096  # of all flows, super-segments counted once


class _Flow:
    """The waiting frames of one flow: most often it is one."""

    __slots__ = ("first", "key", "octets", "rest", "then")

    def __init__(self) -> None:
        self.key: object = None
        self.first: Frame | None = None
        self.rest: deque[Frame] = deque()  # behind the first
        self.octets = 0
        self.then: _Flow = self  # whose turn comes next


def header_octets(frame: Frame) -> int:
    """Return how many octets each wire frame of a TCP super-segment begins with."""
    tcp = frame.checksum_start
    return tcp - frame.start + (u8(frame.header, tcp + 12) >> 4 << 2)


def wire_octets(frame: Frame, length: int) -> int:
    """Return how many octets a wire carries for a frame of ``length`` octets."""
    if frame.segments == 1:
        return length
    return length + (frame.segments - 1) * header_octets(frame)


class _Cut:
    """The wire frames of the super-segment under way, and which of them is next."""

    __slots__ = ("count", "frame", "next", "octets", "partial", "step")

    def __init__(self, frame: Frame, partial: bool, min_length: int) -> None:
        self.frame = frame
        octets, step = cut_frame(frame, partial=partial)
        self.octets: bytearray = octets
        self.step: int = step
        """Octets of a wire frame; the last has what is left."""
        if step < min_length:  # each is short
            self._pad_each(min_length)
        length = len(self.octets)
        self.count: int = (length + self.step - 1) // self.step
        short = min_length - (length - (self.count - 1) * self.step)
        if short > 0:
            self.octets += bytes(short)
        self.partial = partial
        self.next = 0

    def _pad_each(self, length: int) -> None:
        octets, step = self.octets, self.step
        cuts = [octets[at : at + step].ljust(length, b"\0") for at in range(0, len(octets), step)]
        self.octets = bytearray().join(cuts)
        self.step = length

    def octets_of(self, first: int, last: int) -> int:
        """Return how long the frames ``first`` to ``last`` (excluded) are together."""
        return min(last * self.step, len(self.octets)) - first * self.step


class OutputQueue:
    """Frames on their way to ``device``.

    ``link_octets``: the length of the link header, which no MTU counts. ``min_length``: shorter
    frames are padded with zeros.
    """

    def __init__(
        self, context: Context, device: Device, name: str, link_octets: int, min_length: int
    ) -> None:
        self.frames = 0  # super-segments counted once
        self.octets = 0
        self.busy = False  # the device refused the last frame offered
        self._context = context
        self._device = device
        self._name = name
        self._partial: bool = device.capabilities.tx_checksum  # it completes checksums itself
        self._gso_max_size: int = device.capabilities.gso_max_size
        self._link_octets = link_octets
        self._min_length = min_length
        self._padding = bytes(min_length)
        self._flows: dict[object, _Flow] = {}  # those with frames only
        self._last: _Flow | None = None  # of a ring: the next is the one whose turn it is
        self._spare: _Flow | None = None  # one that left: most often it is the next to come
        self._cut: _Cut | None = None  # of the first flow's super-segment
        self._frames_sent: Counter = context.counter("link.frames_sent")
        self._octets_sent: Counter = context.counter("link.octets_sent")
        self._supers_sent: Counter = context.counter("link.super_segments_sent")

    def room(self, flow: object) -> int:
        """Return how many octets ``flow`` may queue now."""
        if not self.frames:
            return MAX_FLOW_OCTETS
        if self.frames >= MAX_FRAMES or self.octets >= MAX_OCTETS:
            return 0
        queue: _Flow | None = self._flows.get(flow)
        return MAX_FLOW_OCTETS if queue is None else max(0, MAX_FLOW_OCTETS - queue.octets)

    def add(self, frame: Frame, length: int, flow: object) -> bool:
        """Queue ``frame`` of ``length`` octets; False = full, dropped and counted."""
        queue: _Flow | None = self._flows.get(flow)
        if (
            self.frames >= MAX_FRAMES
            or self.octets >= MAX_OCTETS
            or (queue is not None and queue.octets >= MAX_FLOW_OCTETS)
        ):
            self._context.drop("link.queue_full", frame.segments, frame.id)
            return False
        if length < self._min_length:
            # RFC 894; zeros, since anything else would leak memory (CVE-2003-0001).
            frame.payload = (*frame.payload, self._padding[length:])
            length = self._min_length
        frame.queued = length
        self.octets += length
        self.frames += 1
        if queue is None:
            queue = self._join(flow)
        queue.octets += length
        if queue.first is None:
            queue.first = frame
        else:
            queue.rest.append(frame)
        return True

    def _join(self, key: object) -> _Flow:
        """Give a flow its place in the round, behind all others."""
        flow = self._spare
        if flow is None:
            flow = _Flow()
        self._spare = None
        flow.key = key
        flow.octets = 0
        last = self._last
        if last is None:
            flow.then = flow
        else:
            flow.then = last.then
            last.then = flow
        self._last = flow
        self._flows[key] = flow
        return flow

    def clear(self) -> int:
        """Forget all that waits; return how many wire frames that was."""
        waiting = 0
        for flow in self._flows.values():
            if flow.first is not None:
                waiting += flow.first.segments
            for frame in flow.rest:
                waiting += frame.segments
        self._flows.clear()
        if self._last is not None:
            self._last.then = self._last  # no circle is left to the collector
        self._last = self._cut = None
        self.frames = self.octets = 0
        return waiting

    def flush(self, limit: int = MAX_FLUSH) -> bool:
        """Hand up to ``limit`` frames to the device; False = some still wait."""
        self.busy = False
        while self._last is not None:
            if limit <= 0:
                return False
            last = self._last
            flow = last.then
            frame = flow.first
            if frame is None:  # a step was cut just here
                self._leave(last, flow)
                continue
            length = frame.queued
            if frame.gso_size and self._must_cut(length):
                limit = self._send_cut(frame, limit)
                if self._cut is not None:
                    return False
            else:
                if frame.checksum is _PARTIAL and not self._partial:
                    complete_checksum(frame)
                if not self._transmit(frame):
                    self.busy = True
                    return False
                limit -= 1
                self._count(frame, length)
            if flow.rest:
                flow.first = flow.rest.popleft()
                flow.octets -= length
                self._last = flow
            else:
                flow.first = None
                self._leave(last, flow)
            self.octets -= length
            self.frames -= 1
        self.frames = self.octets = 0
        return True

    def _count(self, frame: Frame, length: int) -> None:
        if frame.gso_size:
            self._frames_sent.value += frame.segments
            self._octets_sent.value += wire_octets(frame, length)
            self._supers_sent.value += 1
        else:
            self._frames_sent.value += 1
            self._octets_sent.value += length

    def _must_cut(self, length: int) -> bool:
        """Return whether a super-segment is more than the device takes."""
        return length > self._gso_max_size + self._link_octets

    def _leave(self, last: _Flow, flow: _Flow) -> None:
        """Take a flow without frames, whose turn it is, out of the round."""
        if self._flows.get(flow.key) is flow:
            del self._flows[flow.key]
        if flow is last:
            self._last = None
        else:
            last.then = flow.then
            flow.then = flow
        self._spare = flow

    def _send_cut(self, frame: Frame, limit: int) -> int:
        """Transmit the wire frames of a super-segment; return what is left of ``limit``."""
        cut = self._cut
        if cut is None or cut.frame is not frame:  # not its own: a step was cut
            cut = self._cut = _Cut(frame, self._partial, self._min_length)
        first: int = cut.next
        last: int = min(cut.count, first + limit)
        taken: int = 0
        if cut.partial or self._context.trace is not None:
            taken = self._transmit_each(frame, cut, last)
        else:
            taken = self._device.transmit_cuts(cut.octets, cut.step, first, last)
        cut.next = first + taken
        self._frames_sent.value += taken
        if taken:
            self._octets_sent.value += cut.octets_of(first, cut.next)
        self.busy = cut.next < last
        if cut.next == cut.count:
            self._cut = None
        return limit - taken

    def _transmit_each(self, whole: Frame, cut: _Cut, last: int) -> int:
        """Transmit up to the ``last`` wire frame of a cut; return how many were taken."""
        frames = wire_frames(whole, cut.octets, cut.step, cut.partial)
        for number in range(cut.next, last):
            if not self._transmit(frames[number]):
                return number - cut.next
        return last - cut.next

    def _transmit(self, frame: Frame) -> bool:
        trace = self._context.trace
        if trace is None:
            return self._device.transmit(frame)
        data = frame.octets()
        if not frame.id:
            frame.id = trace.frame_id()
        if not self._device.transmit(frame):
            return False
        now, host = self._context.now, self._context.name
        segments, number = frame.segments, frame.id
        trace.emit(FrameSent(now, host, "link", self._name, data, frame.reason, segments, number))
        return True
