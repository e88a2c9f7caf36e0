"""Every frame of a run, layer by layer, with the reason it was sent and that reason's RFC."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netstack.core.trace import Dropped, FrameReceived, FrameSent
from netstack.explain.dissect import dissect

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from netstack.core.trace import Reason, TraceEvent
    from netstack.explain.dissect import Layer


def milliseconds(seconds: float) -> str:
    """Return a time of a trace as people read it: ``12.345 ms``."""
    return f"{seconds * 1e3:.3f} ms"


def explain(
    events: Iterable[TraceEvent], *, received: bool = True, start: float = 0.0
) -> Iterator[str]:
    """Yield the lines that show each frame of ``events``.

    ``received`` False: frames are shown where they were sent only, for a trace of all hosts of
    a network. Times count from ``start`` (seconds).
    """
    number = 0
    for event in events:
        if isinstance(event, FrameSent) or (received and isinstance(event, FrameReceived)):
            number += 1
            sent = isinstance(event, FrameSent)
            verb = "sends" if sent else "receives"
            wire = f", {event.segments} wire frames" if event.segments > 1 else ""
            when = milliseconds(event.time - start)
            yield (
                f"frame {number}  {when}  {event.host} {verb} "
                f"{len(event.data)} octets on {event.interface}{wire}"
            )
            if isinstance(event, FrameSent) and event.reason is not None:
                yield f"  why: {_why(event.reason)}"
            for layer in dissect(event.data, medium_of(event.data)):
                yield from _layer_lines(layer)
            yield ""
        elif isinstance(event, Dropped):
            yield f"{milliseconds(event.time - start)}  {event.host} drops: {event.reason}"
            yield ""


def _why(reason: Reason) -> str:
    return f"{reason.value} [{reason.name}]"


def _layer_lines(layer: Layer) -> Iterator[str]:
    level = f"layer {layer.osi}" if layer.osi else "       "
    yield f"  {level}  {layer.name}: {layer.summary}"
    for field in layer.fields:
        place = f"[{field.offset}:{field.offset + field.length}]" if field.length else ""
        yield f"    {place:>9}  {field.name}: {field.value}"


def medium_of(data: bytes) -> str:
    """Return ``ip`` if ``data`` is a bare IPv4 packet, else ``ethernet``.

    A trace does not say which medium an interface has. A packet's first octet says version 4
    and its length field equals what is there; an Ethernet frame that looks so would need a
    destination MAC that begins with 0x45 and holds its own length.
    """
    packet = len(data) >= 20 and data[0] >> 4 == 4
    return "ip" if packet and int.from_bytes(data[2:4], "big") == len(data) else "ethernet"
