"""Recorders: what a wire would carry, written to a capture as it passes one point.

Frames are recorded as copies, cut and with complete checksums, whatever the device takes: that
is what a capture's reader can judge. Simulated time starts at a fixed date, so that the same
seed gives the same file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from netstack.capture import LinkType, PcapngWriter
from netstack.capture.stream import Closing
from netstack.device.base import Medium, as_frame
from netstack.device.middleware import Middleware
from netstack.device.offload import wire_octets

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

    from netstack.capture.stream import Target
    from netstack.device.base import Device, Frame

SIMULATION_EPOCH_NS = 1_577_836_800 * 10**9
"""2020-01-01 00:00:00 UTC: the time 0.0 of a simulation in its captures."""


class PacketWriter(Protocol):
    """What ``PcapWriter`` and ``PcapngWriter`` have in common."""

    def write(
        self,
        time_ns: int,
        data: Buffer,
        interface: int = 0,
        comment: str | None = None,
        original_length: int | None = None,
    ) -> None:
        """Append a packet."""


def link_type(medium: Medium) -> LinkType:
    """Return how captures name that medium."""
    return LinkType.ETHERNET if medium is Medium.ETHERNET else LinkType.RAW


class LinkRecorder:
    """One point of capture: an interface of a capture file.

    ``epoch_ns`` is what the clock's 0.0 means, in nanoseconds since 1970. A capture must not
    stop the network: after an error of the file nothing more is written; ``error`` has it.
    """

    __slots__ = ("_writer", "epoch_ns", "error", "interface", "recorded")

    def __init__(
        self,
        writer: PacketWriter,
        *,
        interface: int = 0,
        epoch_ns: int = SIMULATION_EPOCH_NS,
    ) -> None:
        self._writer = writer
        self.interface = interface
        self.epoch_ns = epoch_ns
        self.error: OSError | None = None
        self.recorded = 0
        """Packets written."""

    def record(self, now: float, octets: Buffer, comment: str | None = None) -> None:
        """Append one packet as it passes at ``now`` (seconds)."""
        if self.error is not None:
            return
        try:
            self._writer.write(self.epoch_ns + round(now * 1e9), octets, self.interface, comment)
        except (OSError, ValueError) as error:  # ValueError: the file was closed
            self.error = error if isinstance(error, OSError) else OSError(str(error))
            return
        self.recorded += 1


class Recording(Closing):
    """A pcapng file with an interface for each link; context manager."""

    def __init__(self, target: Target, *, epoch_ns: int = SIMULATION_EPOCH_NS) -> None:
        """Begin the file. Raises: OSError."""
        self._writer = PcapngWriter(target)
        self._epoch_ns = epoch_ns
        self._links: list[LinkRecorder] = []

    def add_link(self, name: str, medium: Medium = Medium.ETHERNET) -> LinkRecorder:
        """Describe one more link, at any time; return its recorder. Raises: OSError."""
        index = self._writer.add_interface(name, link_type(medium))
        recorder = LinkRecorder(self._writer, interface=index, epoch_ns=self._epoch_ns)
        self._links.append(recorder)
        return recorder

    @property
    def recorded(self) -> int:
        """Packets written on all links."""
        return sum(link.recorded for link in self._links)

    @property
    def error(self) -> OSError | None:
        """The first error that ended the recording of a link."""
        return next((link.error for link in self._links if link.error is not None), None)

    def close(self) -> None:
        """End the file; what passes later is not recorded. Idempotent."""
        self._writer.close()


class RecordDevice(Middleware):
    """Records what passes a device in both directions.

    ``clock`` returns the time in seconds that the recorder's epoch is added to. ``raw`` keeps
    super-segments whole and checksums as they are, to see what the device was really given.
    """

    def __init__(
        self,
        inner: Device,
        recorder: LinkRecorder,
        clock: Callable[[], float],
        *,
        raw: bool = False,
    ) -> None:
        super().__init__(inner)
        self.recorder = recorder
        self._clock = clock
        self._raw = raw

    def _record(self, frame: Frame, now: float) -> None:
        for octets in [frame.octets()] if self._raw else wire_octets(frame):
            self.recorder.record(now, octets)

    def transmit(self, frame: Frame) -> bool:
        """Take ``frame`` to the wire and record it; False = busy, nothing recorded."""
        if not self.inner.transmit(frame):
            return False
        self._record(frame, self._clock())
        return True

    def receive_burst(self, limit: int = 64) -> list[Frame]:
        """Return, and record, up to ``limit`` frames that have arrived."""
        frames = [as_frame(each) for each in self.inner.receive_burst(limit)]
        if frames:
            now = self._clock()
            for frame in frames:
                self._record(frame, now)
        return frames
