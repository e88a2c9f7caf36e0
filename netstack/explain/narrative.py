"""The story of a fetch, told from the trace of the host that did it.

Each resolution step from the root down, ARP, the handshake, the request, the response and what
went wrong on the way, with times. It reads trace events and takes frames apart; it asks no layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from netstack.core.trace import (
    CacheLookup,
    Dropped,
    FrameReceived,
    FrameSent,
    NameStep,
    Reason,
    SegmentReceived,
    SegmentSent,
    StateChanged,
)
from netstack.explain.dissect import dissect
from netstack.explain.layers import medium_of, milliseconds
from netstack.wire.tcp import TcpFlag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from netstack.core.trace import TraceEvent

_RETRANSMISSIONS = frozenset(
    (Reason.RTO, Reason.FAST_RETRANSMIT, Reason.PARTIAL_ACK, Reason.TLP, Reason.PMTU)
)


class Line(NamedTuple):
    """One line of the story; ``kind`` names its colour."""

    kind: str
    text: str


class _Connection:
    """What was seen of one connection so far."""

    def __init__(self, started: float) -> None:
        self.started = started
        self.received = 0  # octets of payload
        self.segments = 0


class Narrative:
    """Turns the events of ``host`` into lines; times count from ``start`` (seconds).

    ``verbose``: caches asked and states changed are told too.
    """

    def __init__(self, host: str, start: float = 0.0, *, verbose: bool = False) -> None:
        self._host = host
        self._start = start
        self._verbose = verbose
        self._connections: dict[tuple[str, str], _Connection] = {}
        self._tellers: dict[type[TraceEvent], Callable[..., Iterator[Line]]] = {
            NameStep: self._name_step,
            SegmentSent: self._segment_sent,
            SegmentReceived: self._segment_received,
            FrameSent: self._frame_sent,
            FrameReceived: self._frame_received,
            Dropped: self._dropped,
        }
        if verbose:
            self._tellers[CacheLookup] = self._cache_lookup
            self._tellers[StateChanged] = self._state_changed

    def tell(self, events: Iterable[TraceEvent]) -> Iterator[Line]:
        """Yield the lines that ``events``, in order, give."""
        for event in events:
            if event.host == self._host:
                teller = self._tellers.get(type(event))
                if teller is not None:
                    yield from teller(event)

    def end(self) -> Iterator[Line]:
        """Yield what can be said only when all is over."""
        for (_, remote), connection in self._connections.items():
            if connection.received:
                number = connection.segments
                text = f"{connection.received} octets from {remote} in {number} segment"
                yield Line("dim", f"{'':>12}  {'total':<9}  {text}{'s' * (number != 1)}")

    def _line(self, kind: str, time: float, word: str, text: str) -> Line:
        return Line(kind, f"{milliseconds(time - self._start):>12}  {word:<9}  {text}")

    def _name_step(self, event: NameStep) -> Iterator[Line]:
        text = f"{event.name} {event.type}: {event.server} says {event.outcome}"
        yield self._line("name", event.time, "resolve", text)

    def _segment_sent(self, event: SegmentSent) -> Iterator[Line]:
        key = (event.local, event.remote)
        if event.reason in _RETRANSMISSIONS:
            text = f"to {event.remote}: {event.reason.value}"
            yield self._line("warning", event.time, "again", text)
        elif event.reason is Reason.SYN:
            self._connections[key] = _Connection(event.time)
            yield self._line("connection", event.time, "connect", f"SYN to {event.remote}")
        elif event.reason is Reason.ACK_HANDSHAKE:
            text = f"ACK: connected from {event.local}"
            yield self._line("connection", event.time, "connect", text)
        elif event.flags & TcpFlag.RST:
            text = f"RST to {event.remote}: {event.reason.value}"
            yield self._line("warning", event.time, "reset", text)
        elif event.reason is Reason.FIN:
            yield self._line("connection", event.time, "close", f"FIN to {event.remote}")

    def _segment_received(self, event: SegmentReceived) -> Iterator[Line]:
        connection = self._connections.get((event.local, event.remote))
        if connection is None:
            return
        if event.flags & TcpFlag.RST:
            yield self._line("warning", event.time, "reset", f"RST from {event.remote}")
        elif event.flags & TcpFlag.SYN:
            took = milliseconds(event.time - connection.started)
            text = f"SYN-ACK from {event.remote} after {took}"
            yield self._line("connection", event.time, "connect", text)
        else:
            if event.length:
                connection.segments += event.segments
            connection.received += event.length
            if event.flags & TcpFlag.FIN:
                text = f"FIN from {event.remote}"
                yield self._line("connection", event.time, "close", text)

    def _frame_sent(self, event: FrameSent) -> Iterator[Line]:
        if event.reason is Reason.ARP_REQUEST:
            yield from self._arp(event)
        elif event.reason is Reason.NEW_DATA:
            yield from self._message(event, "request")

    def _frame_received(self, event: FrameReceived) -> Iterator[Line]:
        yield from self._message(event, "response")

    def _arp(self, event: FrameSent) -> Iterator[Line]:
        for layer in dissect(event.data, medium_of(event.data)):
            if layer.name == "ARP":
                yield self._line("dim", event.time, "neighbour", f"ARP: {layer.summary}")

    def _message(self, event: FrameSent | FrameReceived, word: str) -> Iterator[Line]:
        for layer in dissect(event.data, medium_of(event.data)):
            if layer.name == "HTTP":
                yield self._line(word, event.time, word, layer.summary)
            elif layer.name == "ICMP" and not layer.summary.startswith("echo"):
                yield self._line("warning", event.time, "icmp", layer.summary)

    def _dropped(self, event: Dropped) -> Iterator[Line]:
        # What a link carries for others (IPv6 multicast, mostly) is no part of the story.
        if event.layer != "ethernet" or self._verbose:
            yield self._line("warning", event.time, "dropped", event.reason)

    def _cache_lookup(self, event: CacheLookup) -> Iterator[Line]:
        found = "in" if event.hit else "not in"
        text = f"{event.key} is {found} the {event.cache} cache"
        yield self._line("dim", event.time, "cache", text)

    def _state_changed(self, event: StateChanged) -> Iterator[Line]:
        text = f"{event.subject}: {event.old} -> {event.new}"
        yield self._line("dim", event.time, "state", text)
