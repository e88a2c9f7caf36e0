"""What a stack tells about its own work. Every view (narrative, explain, statistics) reads this.

Events are immutable and are made only while somebody listens. Each transmission carries the
``Reason`` it was made for, with the RFC section that asks for it. System calls and segments
carry absolute stream offsets (octets since the start of the stream, SYN not counted), so that
``send [a, b)`` can be followed into ``segment [c, d)``; frames carry an id while traced.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Reason(Enum):
    """Why something was transmitted; the value is the sentence and its source."""

    NEW_DATA = "new data the window allows (RFC 9293 3.8)"
    SYN = "open the connection (RFC 9293 3.5)"
    SYN_DATA = "data in the SYN: the server knows us by its cookie (RFC 7413 4.2.2)"
    SYN_ACK = "answer the peer's SYN (RFC 9293 3.5)"
    FIN = "no more data will follow (RFC 9293 3.6)"
    RTO = "the retransmission timer expired (RFC 6298 5.4)"
    FAST_RETRANSMIT = "three duplicate acknowledgments (RFC 5681 3.2)"
    PARTIAL_ACK = "a partial acknowledgment showed the next hole (RFC 6582 3.2)"
    LIMITED_TRANSMIT = "a duplicate acknowledgment let one new segment go (RFC 3042)"
    FAST_OPEN_AGAIN = "the handshake did not acknowledge this (RFC 7413 4.2.2)"
    TLP = "tail loss probe (RFC 8985 7)"
    PROBE = "zero-window probe (RFC 9293 3.8.6.1)"
    PMTU = "the path's MTU became smaller (RFC 1191 6.4)"
    PMTU_PROBE = "does the path take segments of this size? (RFC 4821 7.3)"
    ACK = "acknowledge every second full segment (RFC 9293 3.8.6.3)"
    ACK_OUT_OF_ORDER = "duplicate acknowledgment: a gap before what arrived (RFC 5681 4.2)"
    DELAYED_ACK = "the delayed acknowledgment's time was up (RFC 9293 3.8.6.3)"
    WINDOW_UPDATE = "the application read: the window opened (RFC 9293 3.8.6.2.2)"
    ACK_HANDSHAKE = "third part of the handshake (RFC 9293 3.5)"
    ACK_FIN = "acknowledge the peer's FIN (RFC 9293 3.6)"
    ACK_UNACCEPTABLE = "an unacceptable segment is answered with an ACK (RFC 9293 3.10.7.4)"
    USER_TIMEOUT = "tell how long we wait for an acknowledgment (RFC 5482 3)"
    CHALLENGE_ACK = "a doubtful segment is challenged (RFC 5961)"
    KEEPALIVE = "keep-alive probe (RFC 9293 3.8.4)"
    RESET = "no such connection, or it was aborted (RFC 9293 3.5.2)"
    DATAGRAM = "the application sent a datagram (RFC 768)"
    ECHO_REQUEST = "echo request (RFC 792)"
    ECHO_REPLY = "answer to an echo request (RFC 1122 3.2.2.6)"
    ICMP_ERROR = "a packet could not be delivered (RFC 1122 3.2.2)"
    ARP_REQUEST = "who has the next hop's address? (RFC 826)"
    ARP_REPLY = "somebody asked for our address (RFC 826)"
    ARP_PROBE = "is this neighbour still there? (RFC 4861 7.3.3)"
    ARP_ANNOUNCEMENT = "tell the link our address (RFC 5227 2.3)"
    FORWARDED = "a packet on its way through this router (RFC 1812 5)"


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """Something that happened: when (seconds), on which host, in which layer."""

    time: float
    host: str
    layer: str


@dataclass(frozen=True, slots=True)
class SystemCall(TraceEvent):
    """The application called: ``start .. end`` are the stream offsets moved, if any."""

    call: str
    endpoint: str
    start: int = 0
    end: int = 0


@dataclass(frozen=True, slots=True)
class SegmentSent(TraceEvent):
    """A TCP segment went down; ``start .. end`` are stream offsets of its payload."""

    local: str
    remote: str
    seq: int
    ack: int
    flags: int
    window: int
    start: int
    end: int
    reason: Reason
    segments: int = 1
    frame_id: int = 0


@dataclass(frozen=True, slots=True)
class SegmentReceived(TraceEvent):
    """A TCP segment with a good checksum came up to its connection."""

    local: str
    remote: str
    seq: int
    ack: int
    flags: int
    window: int
    length: int
    segments: int = 1
    frame_id: int = 0


@dataclass(frozen=True, slots=True)
class PacketSent(TraceEvent):
    """The internet layer sent a packet; ``length`` is the whole packet's."""

    source: str
    destination: str
    protocol: int
    length: int
    reason: Reason | None
    frame_id: int = 0


@dataclass(frozen=True, slots=True)
class FrameSent(TraceEvent):
    """A frame was handed to a device; ``data`` is the frame as built (super-segments whole)."""

    interface: str
    data: bytes
    reason: Reason | None
    segments: int = 1
    frame_id: int = 0


@dataclass(frozen=True, slots=True)
class FrameReceived(TraceEvent):
    """A frame arrived from a device."""

    interface: str
    data: bytes
    segments: int = 1
    frame_id: int = 0


@dataclass(frozen=True, slots=True)
class Dropped(TraceEvent):
    """Something was discarded; ``reason`` is the counter's name."""

    reason: str
    segments: int = 1
    frame_id: int = 0


@dataclass(frozen=True, slots=True)
class StateChanged(TraceEvent):
    """A connection or cache entry changed state."""

    subject: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class CongestionSample(TraceEvent):
    """Congestion state after it changed; windows in octets, times in seconds."""

    local: str
    remote: str
    cwnd: int
    ssthresh: int
    flight_size: int
    srtt: float
    rto: float


@dataclass(frozen=True, slots=True)
class CacheLookup(TraceEvent):
    """A cache (``neighbour``, ``route``, ``name``) was asked."""

    cache: str
    key: str
    hit: bool


@dataclass(frozen=True, slots=True)
class TimerSet(TraceEvent):
    """A protocol timer was armed for ``deadline`` (seconds)."""

    timer: str
    subject: str
    deadline: float


@dataclass(frozen=True, slots=True)
class TimerFired(TraceEvent):
    """A protocol timer expired."""

    timer: str
    subject: str


@dataclass(frozen=True, slots=True)
class NameStep(TraceEvent):
    """One step of a name's resolution: ``server`` was asked, ``outcome`` is its answer."""

    name: str
    type: str
    server: str
    outcome: str


class Trace:
    """Collects the events of one step."""

    __slots__ = ("_events", "_next_id")

    def __init__(self) -> None:
        self._events: list[TraceEvent] = []
        self._next_id = 0

    def emit(self, event: TraceEvent) -> None:
        """Keep ``event`` until the step is over."""
        self._events.append(event)

    def frame_id(self) -> int:
        """Return a fresh id for a frame, counted from 1."""
        self._next_id += 1
        return self._next_id

    def take(self) -> list[TraceEvent]:
        """Return what was emitted since the last call."""
        events, self._events = self._events, []
        return events
