"""TCP options as scripts write them: ``<mss 1460,sackOK,TS val 10 ecr 1000,nop,wscale 7>``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from netstack.core.seqnum import MASK, diff
from netstack.wire.tcp import TcpOption

if TYPE_CHECKING:
    from collections.abc import Callable


def split_options(text: str) -> list[str]:
    """Return the items between the angle brackets."""
    return [item.strip() for item in text.strip("<>").split(",") if item.strip()]


def build_options(items: list[str], echo: Callable[[str], int], iss: int) -> bytes:
    """Return the octets of ``items``, padded with NOP; SACK edges are relative to ``iss``.

    ``kind N HEX`` gives any option by number and value, ``raw HEX`` octets as they are.
    """
    octets = b"".join(_build(item.split(), echo, iss) for item in items)
    return octets + bytes([TcpOption.NOP]) * (-len(octets) % 4)


def _build(words: list[str], echo: Callable[[str], int], iss: int) -> bytes:
    name, *values = words
    if name == "mss":
        return bytes((2, 4)) + int(values[0]).to_bytes(2, "big")
    if name == "wscale":
        return bytes((3, 3, int(values[0])))
    if name == "sackOK":
        return bytes((4, 2))
    if name == "nop":
        return b"\x01"
    if name == "eol":
        return b"\x00"
    if name == "TS":
        value = int(values[1]) & MASK
        return bytes((8, 10)) + value.to_bytes(4, "big") + echo(values[3]).to_bytes(4, "big")
    if name == "sack":
        edges = [int(edge) for block in values for edge in block.split(":")]
        octets = b"".join(((iss + edge) & MASK).to_bytes(4, "big") for edge in edges)
        return bytes((5, 2 + len(octets))) + octets
    if name == "kind":
        value = bytes.fromhex(values[1] if len(values) > 1 else "")
        return bytes((int(values[0]), 2 + len(value))) + value
    if name == "raw":
        return bytes.fromhex(values[0])
    raise ValueError(f"no option {name}")


def read_options(options: bytes) -> dict[str, Any]:
    """Return the options by name, without padding."""
    found: dict[str, Any] = {}
    position = 0
    while position < len(options) and options[position] != TcpOption.END:
        kind = options[position]
        if kind == TcpOption.NOP:
            position += 1
            continue
        size = options[position + 1]
        value = options[position + 2 : position + size]
        position += size
        words = [int.from_bytes(value[at : at + 4], "big") for at in range(0, len(value), 4)]
        if kind == TcpOption.MSS:
            found["mss"] = int.from_bytes(value, "big")
        elif kind == TcpOption.WINDOW_SCALE:
            found["wscale"] = value[0]
        elif kind == TcpOption.SACK_PERMITTED:
            found["sackOK"] = True
        elif kind == TcpOption.TIMESTAMPS:
            found["TS"] = (words[0], words[1])
        elif kind == TcpOption.SACK:
            found["sack"] = list(zip(words[::2], words[1::2], strict=True))
        else:
            found[f"kind {kind}"] = value.hex()
    return found


def format_options(found: dict[str, Any], ts_base: int, irs: int) -> str:
    """Return ``found`` as a script writes it: timestamps and SACK edges relative."""
    items = []
    for name, value in found.items():
        if value is True:
            items.append(name)
        elif name == "TS":
            items.append(f"TS val {(value[0] - ts_base) & MASK} ecr {value[1]}")
        elif name == "sack":
            blocks = [
                f"{diff(left, irs & MASK)}:{diff(right, irs & MASK)}" for left, right in value
            ]
            items.append(f"sack {' '.join(blocks)}")
        else:
            items.append(f"{name} {value}")
    return ",".join(items)


def compare_options(
    wanted: list[str], found: dict[str, Any], ts_base: int, irs: int, error: type[Exception]
) -> None:
    """Raise ``error`` unless ``found`` is what the script wants; ``...`` allows others."""
    got = {
        item.split()[0]: item for item in format_options(found, ts_base, irs).split(",") if item
    }
    open_ended = "..." in wanted
    for item in wanted:
        if item in ("...", "nop", "eol"):
            continue
        other = got.pop(item.split()[0], None)
        if other is None:
            raise error(f"option: expected {item}, it is missing")
        for expected, seen in zip(item.split(), other.split(), strict=False):
            if expected not in ("*", seen):
                raise error(f"option: expected {item}, got {other}")
        if len(item.split()) != len(other.split()) and not item.endswith("*"):
            raise error(f"option: expected {item}, got {other}")
    if got and not open_ended:
        raise error(f"option: {', '.join(got.values())} not expected")
