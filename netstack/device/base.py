"""Frames, and the interface of whatever carries them.

A frame is what passes between a device and the stack. Going down, TCP makes one with a fresh
``header`` that has headroom, and each layer packs its header in front of the last, in place;
payload is never copied. Going up, ``header`` holds the octets read from the device. A frame
with ``gso_size`` is a super-segment: it stands for ``segments`` wire frames, and every MTU,
queue, rate and counter decision uses those.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, TypeGuard

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typing_extensions import Buffer

    from netstack.core.trace import Reason

HEADROOM = 80
"""Octets in front of a transport header: Ethernet 14 + VLAN 4 + IPv6 40, and room to spare."""

MAX_PAYLOAD_BUFFERS = 16
"""Payload buffers of a frame going down: what one gathering system call takes well."""


class Medium(IntEnum):
    """What a device's frames begin with."""

    ETHERNET = 1
    IP = 2


class Checksum(IntEnum):
    """What is known about the transport checksum of a frame.

    PARTIAL: the field holds the pseudo-header's sum; the sum from ``checksum_start`` on is still
    to be added, and the result goes to ``checksum_start + checksum_offset``.
    """

    UNKNOWN = 0
    VALID = 1
    PARTIAL = 2


class GsoType(IntEnum):
    """How a super-segment is to be cut."""

    NONE = 0
    TCPV4 = 1
    TCPV6 = 4


# Looked up once: an enum's attribute costs a function call in CPython 3.11, a frame has two.
_NOT_GSO = GsoType.NONE
_UNKNOWN = Checksum.UNKNOWN


class Frame:
    """Octets on their way through a stack.

    The frame is ``header[start:]`` followed by the ``payload`` buffers (at most 16 going down;
    read-only, by reference). Protocol headers lie in ``header`` whole; payload may
    begin there. ``checksum_start`` is an index into ``header``, ``checksum_offset`` counts from
    it; a super-segment has both, whatever its ``checksum`` state.
    ``group``: arrived as link-layer broadcast or multicast. ``id`` is 0 unless traced.
    ``queued``: octets of the whole frame, noted by the output queue that it waits in.
    """

    __slots__ = (
        "checksum",
        "checksum_offset",
        "checksum_start",
        "group",
        "gso_size",
        "gso_type",
        "header",
        "id",
        "payload",
        "queued",
        "reason",
        "received_at",
        "segments",
        "start",
    )

    def __init__(
        self,
        header: bytes | bytearray | memoryview,
        payload: Sequence[Buffer] = (),
        *,
        start: int = 0,
    ) -> None:
        self.header = header
        self.start = start
        self.payload = payload
        self.gso_size = 0
        self.gso_type = _NOT_GSO
        self.checksum = _UNKNOWN
        self.checksum_start = 0
        self.checksum_offset = 0
        self.segments = 1
        self.received_at = 0.0
        self.group = False
        self.reason: Reason | None = None
        self.id = 0
        self.queued = 0

    def __len__(self) -> int:
        """Return the octets of the whole frame, super-segments whole."""
        length = len(self.header) - self.start
        for piece in self.payload:
            length += len(piece)  # type: ignore[arg-type]
        return length

    def octets(self) -> bytes:
        """Return a copy of the frame as one ``bytes``, as it stands (PARTIAL stays PARTIAL)."""
        return b"".join((self.header[self.start :], *self.payload))


def as_frame(received: Frame | bytes) -> Frame:
    """Return what a device returned as a frame."""
    return received if isinstance(received, Frame) else Frame(received)


def only_octets(received: Sequence[Frame | Buffer]) -> TypeGuard[Sequence[bytes]]:
    """Return whether a device gave nothing but octets."""
    for each in received:  # noqa: SIM110 - C has no generators
        if type(each) is not bytes:
            return False
    return True


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a device can do.

    ``mtu`` counts octets of an IP packet. ``tx_checksum``: PARTIAL frames may be handed over;
    ``rx_checksum``: it marks frames VALID or PARTIAL. ``gso_max_size`` is the largest IP packet
    of a super-segment that it takes, 0 for none.
    """

    medium: Medium = Medium.ETHERNET
    mtu: int = 1500
    tx_checksum: bool = False
    rx_checksum: bool = False
    gso_max_size: int = 0


class Device:
    """A source and sink of frames; subclasses override what they can do.

    ``transmit`` never delivers to a receiver in the same call: what is sent is handed over in a
    later step, so that no layer is entered twice.
    """

    def __init__(self, name: str, capabilities: Capabilities) -> None:
        self.name = name
        self.capabilities = capabilities
        self._on_pending: Callable[[], None] | None = None
        self._on_drop: Callable[[str, int], None] | None = None

    @property
    def on_pending(self) -> Callable[[], None] | None:
        """Called (by a device without descriptor) when frames became pending; set by a driver.

        It must only take a note: never step a stack from it.
        """
        return self._on_pending

    @on_pending.setter
    def on_pending(self, callback: Callable[[], None] | None) -> None:
        self._on_pending = callback

    @property
    def on_drop(self) -> Callable[[str, int], None] | None:
        """Told of each frame that ends in the device, by reason and wire frames.

        Set by the interface, which counts it.
        """
        return self._on_drop

    @on_drop.setter
    def on_drop(self, callback: Callable[[str, int], None] | None) -> None:
        self._on_drop = callback

    def drop(self, reason: str, segments: int = 1) -> None:
        """Have a frame counted that ends here."""
        if self.on_drop is not None:
            self.on_drop(reason, segments)

    def transmit(self, frame: Frame) -> bool:
        """Take ``frame`` to the wire; False = busy, the caller keeps it and tries again later."""
        raise NotImplementedError

    def transmit_cuts(self, octets: bytearray, step: int, first: int, last: int) -> int:
        """Take the wire frames ``first`` to ``last`` (excluded) of one super-segment.

        They lie end to end in ``octets``, checksums complete: each ``step`` octets long, the
        last what is left.
        Return how many were taken; fewer = busy.
        """
        view = memoryview(octets)
        for number in range(first, last):
            if not self.transmit(Frame(bytes(view[number * step : (number + 1) * step]))):
                return number - first
        return last - first

    def receive_burst(self, limit: int = 64) -> Sequence[Frame | bytes]:
        """Return up to ``limit`` frames that have arrived; never blocks.

        A wire frame of which nothing is known but its octets may come as those alone.
        """
        raise NotImplementedError

    def pending(self) -> bool:
        """Return whether frames wait that no descriptor announces."""
        return False

    def fileno(self) -> int:
        """Return the descriptor to poll for readability, or -1 if there is none."""
        return -1

    def close(self) -> None:
        """Release what the device holds; idempotent."""
