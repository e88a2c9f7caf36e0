"""A run as one HTML page: the story, then every frame that opens into its layers and octets.

The page is whole in itself: no script, no resource from elsewhere. What came from the wire is
text in it and nothing else: escaped, and unprintable characters spelled out.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from netstack.core.trace import Dropped, FrameReceived, FrameSent
from netstack.explain.dissect import dissect
from netstack.explain.layers import medium_of, milliseconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from netstack.core.trace import TraceEvent
    from netstack.explain.dissect import Field, Layer
    from netstack.explain.narrative import Line

DUMP_LIMIT = 4096
"""Octets of one layer that are shown; a super-segment may have 64 KiB of the same."""

_ROW = 16  # octets in a line of a dump

# What a layer carries without being a protocol: the one before it says what the frame is about.
_CONTENTS = frozenset(("data", "fragment", "padding", "quoted packet"))

_STYLE = """
:root { color-scheme: light dark; --fore: #1c1e21; --back: #fff; --faint: #667; --line: #d5d8de;
  --tint: #f4f6f8; --name: #067; --good: #174; --bad: #a40; }
@media (prefers-color-scheme: dark) {
  :root { --fore: #dde1e6; --back: #16181c; --faint: #99a1ad; --line: #363b43; --tint: #1f2329;
    --name: #6cd; --good: #7d9; --bad: #fa6; } }
body { margin: 2rem auto; padding: 0 1rem; max-width: 72rem; color: var(--fore);
  background: var(--back); font: 15px/1.45 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.3rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
pre, code, td, .row { font-family: ui-monospace, monospace; font-size: 13px; }
pre { overflow-x: auto; background: var(--tint); padding: .6rem; margin: .4rem 0; }
summary { cursor: pointer; padding: .2rem 0; }
.frame { border-top: 1px solid var(--line); }
.frame > :not(summary) { margin-left: 1.2rem; }
.faint, .dim { color: var(--faint); } .name { color: var(--name); }
.connection { color: var(--good); } .warning { color: var(--bad); }
.request, .response { font-weight: bold; }
.why { display: block; margin: 0 0 .3rem 1.2rem; color: var(--faint); }
table { border-collapse: collapse; } th { text-align: left; font-weight: 600; }
td, th { padding: .1rem .8rem .1rem 0; vertical-align: top; }
"""


def page(
    events: Iterable[TraceEvent],
    story: Iterable[Line],
    *,
    title: str,
    outcome: str = "",
    received: bool = True,
    start: float = 0.0,
) -> Iterator[str]:
    """Yield the pieces of a page that shows each frame of ``events`` below its ``story``.

    ``outcome`` is how the run ended. ``received`` False: frames are shown where they were sent
    only, for a trace of all hosts of a network. Times count from ``start`` (seconds).
    """
    yield (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{_text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{_text(title)}</h1>\n"
    )
    if outcome:
        yield f"<p>{_text(outcome)}</p>\n"
    yield "<h2>What happened</h2>\n<pre>"
    for line in story:
        yield f'<span class="{_text(line.kind)}">{_text(line.text)}</span>\n'
    yield "</pre>\n<h2>Every frame</h2>\n"
    number = 0
    for event in events:
        if isinstance(event, FrameSent) or (received and isinstance(event, FrameReceived)):
            number += 1
            yield from _frame(event, number, milliseconds(event.time - start))
        elif isinstance(event, Dropped):
            text = f"{milliseconds(event.time - start)}  {event.host} drops: {event.reason}"
            yield f'<div class="frame row warning">{_text(text)}</div>\n'
    yield "</body>\n</html>\n"


def _text(text: str) -> str:
    """Return ``text`` as HTML text; controls, bidirectional marks and the like as escapes."""
    if not text.isprintable():
        text = "".join(
            each if each.isprintable() else each.encode("unicode_escape").decode("ascii")
            for each in text
        )
    return escape(text)


def _frame(event: FrameSent | FrameReceived, number: int, when: str) -> Iterator[str]:
    layers = dissect(event.data, medium_of(event.data))
    verb = "sends" if isinstance(event, FrameSent) else "receives"
    wire = f", {event.segments} wire frames" if event.segments > 1 else ""
    yield (
        f'<details class="frame"><summary class="row">{number} '
        f'<span class="faint">{when}</span> <b>{_text(event.host)}</b> {verb} on '
        f'{_text(event.interface)} <span class="faint">({len(event.data)} octets{wire})</span> '
        f"{_text(_summary(layers))}"
    )
    if isinstance(event, FrameSent) and event.reason is not None:
        # Inside the summary, so that the reason shows while the row is closed.
        why = _text(f"{event.reason.value} [{event.reason.name}]")
        yield f'<span class="why">why: {why}</span>'
    yield "</summary>\n"
    for layer in layers:
        yield from _layer(layer, event.data)
    yield "</details>\n"


def _summary(layers: list[Layer]) -> str:
    """Return what the innermost protocol of a frame says."""
    named = [layer for layer in layers if layer.name not in _CONTENTS]
    return f"{named[-1].name}: {named[-1].summary}" if named else ""


def _layer(layer: Layer, data: bytes) -> Iterator[str]:
    level = f' <span class="faint">layer {layer.osi}</span>' if layer.osi else ""
    yield (
        f'<details class="layer" open><summary><b>{_text(layer.name)}</b>{level} '
        f"{_text(layer.summary)}</summary>\n"
    )
    if layer.fields:
        yield "<table>\n<tr><th>field</th><th>value</th><th>place</th><th>octets</th></tr>\n"
        for field in layer.fields:
            yield _field(field, data)
        yield "</table>\n"
    octets = data[layer.offset : layer.offset + layer.length]
    if octets:
        yield f"<pre>{_dump(octets, layer.offset)}</pre>\n"
    yield "</details>\n"


def _field(field: Field, data: bytes) -> str:
    end = field.offset + field.length
    place, octets = "", ""
    if field.length:
        place, octets = f"{field.offset}:{end}", data[field.offset : end].hex(" ")
    cells = (field.name, field.value, place, octets)
    return "<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in cells) + "</tr>\n"


def _dump(octets: bytes, offset: int) -> str:
    """Return ``octets`` as hexadecimal and ASCII; offsets count from the frame's start."""
    rows = []
    for at in range(0, min(len(octets), DUMP_LIMIT), _ROW):
        row = octets[at : at + _ROW]
        plain = "".join(chr(octet) if 0x20 <= octet < 0x7F else "." for octet in row)
        rows.append(f"{offset + at:04x}  {row.hex(' '):<{3 * _ROW - 1}}  {_text(plain)}")
    if len(octets) > DUMP_LIMIT:
        rows.append(f"... and {len(octets) - DUMP_LIMIT} octets more")
    return "\n".join(rows)
