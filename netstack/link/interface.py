"""What every interface does, whatever its medium: queue downwards, count and hand on upwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netstack.core.buffer import octets_of
from netstack.core.errors import DeviceError
from netstack.core.trace import FrameReceived
from netstack.device.base import as_frame, only_octets
from netstack.device.burst import Burst
from netstack.device.offload import coalesce as merge
from netstack.link.output import MAX_FLUSH, OutputQueue, header_octets, wire_octets

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from netstack.core.address import InterfaceAddress, IPAddress
    from netstack.core.context import Context, Counter
    from netstack.device.base import Device, Frame


class Interface:
    """A stack's end of a device; ``EthernetInterface`` and ``RawIpInterface`` are the kinds.

    ``handlers`` maps an EtherType to what takes such a packet: ``handler(frame, offset,
    interface)``, ``offset`` being where the packet's header starts in ``frame.header``.
    ``on_unresolved(next_hop, frame, offset)`` gets back packets whose next hop did not answer;
    ``on_change()`` is told when paths through this interface may have changed.
    """

    link_octets = 0  # length of the link header
    min_frame_octets = 0  # shorter frames are padded

    def __init__(
        self,
        context: Context,
        index: int,
        device: Device,
        *,
        name: str | None = None,
        mtu: int | None = None,
    ) -> None:
        """Join ``device`` to a stack; ``mtu`` may lower the device's.

        Raises: DeviceError if the device can't carry packets of ``mtu`` octets.
        """
        largest = device.capabilities.mtu
        if mtu is not None and not 68 <= mtu <= largest:  # RFC 791 3.2: 68 octets at least
            raise DeviceError(f"{device.name}: an MTU of 68 to {largest} octets, not {mtu}")
        self.context = context
        self.index = index
        self.device = device
        device.on_drop = context.drop
        self.name = device.name if name is None else name
        self.mtu: int = largest if mtu is None else mtu
        self.addresses: list[InterfaceAddress] = []
        self.up = True
        self.handlers: dict[int, Callable[[Frame, int, Interface], None]] = {}
        self.on_change: Callable[[], None] | None = None
        self._rest: list[Frame] = []  # the burst under way
        self._next = 0  # of it
        self._frames_received: Counter = context.counter("link.frames_received")
        self._octets_received: Counter = context.counter("link.octets_received")
        self.on_unresolved: Callable[[IPAddress, Frame, int], None] | None = None
        self.output = OutputQueue(
            context, device, self.name, self.link_octets, self.min_frame_octets
        )

    # -- going up ----------------------------------------------------------------------------

    def receive_burst(self, received: Burst | Sequence[Frame | bytes], coalesce: bool) -> None:
        """Take what one read of the device returned.

        ``coalesce``: merge segments of one flow.
        """
        context = self.context
        before = self._frames_received.value
        frames: list[Frame] | None = None
        supers = 0
        if isinstance(received, Burst) and (len(received) == 1 or context.trace is not None):
            received = list(received)
        if isinstance(received, Burst):
            self._frames_received.value += len(received)
            self._octets_received.value += received.total
        elif len(received) > 1 and only_octets(received):
            self._frames_received.value += len(received)
            self._octets_received.value += octets_of(received)
        else:
            frames = [as_frame(each) for each in received]
            supers = self._count_frames(frames)
        if context.trace is not None:
            received = frames = frames or [as_frame(each) for each in received]
            self._trace_received(frames)
        if not self.up:
            context.drop("link.down", self._frames_received.value - before)
            return
        if coalesce and supers < len(received) - 1:  # a device that merges leaves little to do
            frames = merge(frames or received, self.device.capabilities.medium)
        elif frames is None:
            frames = [as_frame(each) for each in received]
        for frame in frames:
            frame.received_at = context.now
        self._next = 0
        self._rest = frames
        self.receive_rest()

    def _count_frames(self, frames: list[Frame]) -> int:
        """Count what a wire carried; return how many were super-segments."""
        count = octets = supers = 0
        for frame in frames:
            length = len(frame) if frame.payload else len(frame.header) - frame.start
            if frame.gso_size:
                supers += 1
                count += frame.segments
                octets += wire_octets(frame, length)
            else:
                count += 1
                octets += length
        self._frames_received.value += count
        self._octets_received.value += octets
        if supers:
            self.context.count("link.super_segments_received", supers)
        return supers

    def receive_rest(self) -> None:
        """Take what is left of the last burst, if an exception ended it."""
        rest = self._rest
        while self._next < len(rest):
            frame = rest[self._next]
            self._next += 1
            self.receive_frame(frame)
        self._rest = []  # whose buffers may be used again

    def receive_frame(self, frame: Frame) -> None:
        """Take one frame: check its link header and hand on the packet."""
        raise NotImplementedError

    def _trace_received(self, frames: list[Frame]) -> None:
        context = self.context
        for frame in frames:
            if context.trace is None:
                return
            frame.id = context.trace.frame_id()  # the sender's id means nothing on this host
            event = FrameReceived(
                context.now, context.name, "link", self.name, frame.octets(),
                frame.segments, frame.id,
            )  # fmt: skip
            context.trace.emit(event)

    # -- going down --------------------------------------------------------------------------

    @property
    def queued(self) -> int:
        """How many frames wait for the device, super-segments counted once."""
        return self.output.frames

    @property
    def busy(self) -> bool:
        """Whether frames wait because the device took no more, not for want of a turn."""
        return self.output.busy

    def send_packet(self, next_hop: IPAddress, frame: Frame, flow: object = None) -> bool:
        """Send the packet at ``frame.start`` to a neighbour.

        False = refused here (no room, too big, interface down); counted.
        """
        raise NotImplementedError

    def room(self, flow: object) -> int:
        """Return how many octets ``flow`` may queue here now; 128 KiB at most."""
        return self.output.room(flow)

    def flush(self, limit: int = MAX_FLUSH) -> bool:
        """Hand queued frames to the device, a turn for each flow.

        False = the device is busy or ``limit`` frames went: some still wait.
        """
        return self.output.flush(limit)

    def close(self) -> None:
        """Forget all that waits here, counted; for an interface that leaves its stack."""
        self.up = False
        waiting = self.output.clear()
        if waiting:
            self.context.drop("link.down", waiting)

    def announce(self) -> None:
        """Tell the link our addresses, where a link wants to know."""

    def confirm(self, next_hop: IPAddress) -> None:
        """Note that a higher layer saw ``next_hop`` pass on or answer what was sent."""

    def _packet_octets(self, frame: Frame) -> int:
        """Return the length of the packet at ``frame.start``; 0 = not sendable, counted."""
        length = len(frame)
        on_wire = header_octets(frame) + frame.gso_size if frame.gso_size else length
        if on_wire > self.mtu:
            self.context.drop("link.too_big", frame.segments, frame.id)
            return 0
        if not self.up:
            self.context.drop("link.down", frame.segments, frame.id)
            return 0
        return length

    def _changed(self) -> None:
        if self.on_change is not None:
            self.on_change()
