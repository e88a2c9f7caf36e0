"""The message of a ``Deadlock``: who waits for what, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netstack.driver.tasks import Wait
    from netstack.stack import Stack

COLUMNS = ("task", "host", "call", "TCP state", "octets queued", "since")


def _endpoint_name(endpoint: object) -> str:
    local, remote = getattr(endpoint, "local", None), getattr(endpoint, "remote", None)
    names = [f"{name[0]}:{name[1]}" for name in (local, remote) if isinstance(name, tuple)]
    return f" ({' > '.join(names)})" if names else ""


def _row(wait: Wait[Any], stacks: Sequence[Stack]) -> tuple[str, ...]:
    endpoint = wait.endpoint
    state = getattr(endpoint, "state", None)
    return (
        wait.strand.name,
        wait.waiting.host or getattr(wait.strand.task, "host", "") or "-",
        (wait.waiting.call or "-") + _endpoint_name(endpoint),
        str(getattr(state, "name", None) or "-").replace("_", "-"),
        _queued(endpoint, stacks),
        f"t={wait.since:.6f}",
    )


def _queued(endpoint: object, stacks: Sequence[Stack]) -> str:
    """Return the octets in a connection's send and receive queues."""
    name = getattr(endpoint, "local", None), getattr(endpoint, "remote", None)
    for stack in stacks:
        for info in stack.connections():
            if (info.local, info.remote) == name:
                return f"{info.send_queue} out, {info.receive_queue} in"
    return "-"


def waits_table(why: str, waits: Sequence[Wait[Any]], stacks: Sequence[Stack]) -> str:
    """Return ``why`` and, below it, one line for each wait."""
    rows = [COLUMNS, *(_row(wait, stacks) for wait in waits)]
    widths = [max(len(row[n]) for row in rows) for n in range(len(COLUMNS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join((why, *("  " + line for line in lines)))
