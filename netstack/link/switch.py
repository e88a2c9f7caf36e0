"""A learning switch (IEEE 802.1D bridge) between the ends of simulated cables.

It learns behind which port a source address is, forwards to that port, and floods what it does
not know. The table is bounded and ages; when it is full, new addresses stay unlearned and their
frames flood, while known ones keep their places. There is no spanning tree: in a loop of switches
a flooded frame would circle forever, so each port takes in a bounded number of frames to be
flooded in a second, as storm control of real switches does, and reports what exceeds it.

Frames are handled in a step of their own, planned in the event heap when a port reports them.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING

from netstack.device.base import Checksum, Frame, as_frame
from netstack.wire.ethernet import HEADER_LENGTH

if TYPE_CHECKING:
    from netstack.core.context import Context
    from netstack.core.timers import EventHeap
    from netstack.device.base import Device

MAX_ADDRESSES = 4096
AGEING_TIME_S = 300.0  # IEEE 802.1D 7.9.2, recommended default
MAX_WAITING_FRAMES = 256  # of a port whose device is busy
MAX_FLOODS = 1000  # frames to be flooded that a port takes in a second
FLOOD_PERIOD_S = 1.0
BURST = 64  # frames of a port handled before the others' turn

_RESERVED = b"\x01\x80\xc2\x00\x00"  # IEEE 802.1D 7.12.6: 00 to 0F are never forwarded


class SwitchPort:
    """One port: the cable's end at the switch, and what waits for it."""

    __slots__ = ("device", "flood_period", "floods", "number", "waiting")

    def __init__(self, number: int, device: Device) -> None:
        self.number = number
        self.device = device
        self.waiting: deque[Frame] = deque()
        self.flood_period = -1
        self.floods = 0  # in that period

    def may_flood(self, now: float) -> bool:
        """Count a frame to be flooded; return whether the port may still take it in."""
        period = int(now / FLOOD_PERIOD_S)
        if period != self.flood_period:
            self.flood_period = period
            self.floods = 0
        self.floods += 1
        return self.floods <= MAX_FLOODS


class Switch:
    """A switch in a simulated world; ``context`` counts and traces for it."""

    def __init__(self, events: EventHeap, context: Context) -> None:
        self.context = context
        self.ports: list[SwitchPort] = []
        self._events = events
        self._planned = False
        # Where each address was last heard, and when; the longest silent first.
        self._table: OrderedDict[bytes, tuple[SwitchPort, float]] = OrderedDict()

    @property
    def name(self) -> str:
        """The switch's name."""
        return self.context.name

    def attach(self, device: Device) -> SwitchPort:
        """Add a port with the near end of a cable; return it."""
        port = SwitchPort(len(self.ports), device)
        self.ports.append(port)
        device.on_pending = self._plan
        if device.pending():
            self._plan()
        return port

    def addresses(self) -> dict[bytes, int]:
        """Return the addresses known now and the numbers of their ports."""
        oldest = self._events.now - AGEING_TIME_S
        return {mac: port.number for mac, (port, at) in self._table.items() if at > oldest}

    def _plan(self) -> None:
        if not self._planned:
            self._planned = True
            self._events.schedule(self._events.now, self._forward_pending)

    def _forward_pending(self) -> None:
        self._planned = False
        self.context.now = self._events.now
        for port in self.ports:
            for received in port.device.receive_burst(BURST):
                self._receive(port, as_frame(received))
            if port.device.pending():
                self._plan()
        for port in self.ports:
            self._transmit(port)
        self.context.deliver_trace()

    def _receive(self, port: SwitchPort, frame: Frame) -> None:
        context, start = self.context, frame.start
        addresses = bytes(frame.header[start : start + 12])
        if len(frame.header) - start < HEADER_LENGTH:
            context.drop("switch.malformed", frame.segments)
            return
        destination, source = addresses[:6], addresses[6:]
        if source[0] & 1 or not any(source):
            context.drop("switch.bad_source", frame.segments)
            return
        context.count("switch.frames_received", frame.segments)
        self._learn(source, port)
        if destination[0] & 1:
            if destination.startswith(_RESERVED) and destination[5] < 16:
                context.drop("switch.reserved", frame.segments)
            else:
                self._flood(port, frame)
            return
        known = self._table.get(destination)
        if known is None or known[1] <= context.now - AGEING_TIME_S:
            self._flood(port, frame)
        elif known[0] is port:
            context.drop("switch.same_port", frame.segments)
        else:
            self._queue(known[0], frame)

    def _learn(self, source: bytes, port: SwitchPort) -> None:
        table, now = self._table, self.context.now
        known = table.get(source)
        if known is not None:
            if known[0] is not port:
                self.context.count("switch.moved")
        elif len(table) >= MAX_ADDRESSES:
            oldest, (_, heard_at) = next(iter(table.items()))
            if heard_at > now - AGEING_TIME_S:
                self.context.count("switch.table_full")
                return
            del table[oldest]
        table[source] = (port, now)
        table.move_to_end(source)

    def _flood(self, port: SwitchPort, frame: Frame) -> None:
        if not port.may_flood(self.context.now):
            self.context.drop("switch.storm", frame.segments)
            return
        self.context.count("switch.flooded", frame.segments)
        for other in self.ports:
            if other is not port:
                self._queue(other, _copy(frame))

    def _queue(self, port: SwitchPort, frame: Frame) -> None:
        if len(port.waiting) >= MAX_WAITING_FRAMES:
            # What the device does not take at once waits here: try before dropping.
            self._transmit(port)
        if len(port.waiting) >= MAX_WAITING_FRAMES:
            self.context.drop("switch.queue_full", frame.segments)
            return
        frame.group = False
        port.waiting.append(frame)

    def _transmit(self, port: SwitchPort) -> None:
        waiting = port.waiting
        while waiting and port.device.transmit(waiting[0]):
            self.context.count("switch.frames_sent", waiting.popleft().segments)


def _copy(frame: Frame) -> Frame:
    """Return a frame of its own over the same octets, which only a PARTIAL one will change."""
    partial = frame.checksum is Checksum.PARTIAL
    copy = Frame(
        bytearray(frame.header) if partial else frame.header, frame.payload, start=frame.start
    )
    copy.gso_size = frame.gso_size
    copy.gso_type = frame.gso_type
    copy.checksum = frame.checksum
    copy.checksum_start = frame.checksum_start
    copy.checksum_offset = frame.checksum_offset
    copy.segments = frame.segments
    copy.reason = frame.reason
    copy.id = frame.id
    return copy
