"""File objects over a stream socket: what ``makefile`` returns."""

from __future__ import annotations

import io
import socket as std
from typing import TYPE_CHECKING, Any, Literal, cast

if TYPE_CHECKING:
    from netstack.socket.stream import StreamSocket


def make_file(
    sock: StreamSocket,
    mode: str,
    buffering: int | None,
    *,
    encoding: str | None,
    errors: str | None,
    newline: str | None,
) -> io.IOBase:
    """Return a file over ``sock``, as ``socket.socket.makefile`` does.

    Raises: ValueError for a mode with other letters than r, w and b, and for unbuffered text.
    """
    if not set(mode) <= {"r", "w", "b"}:
        raise ValueError(f"invalid mode {mode!r} (only r, w, b allowed)")
    if buffering == 0 and "b" not in mode:
        raise ValueError("unbuffered streams must be binary")
    reading, writing = "r" in mode or "w" not in mode, "w" in mode
    raw_mode: Literal["r", "w", "rw"] = "w"
    if reading:
        raw_mode = "rw" if writing else "r"
    # The standard library's raw file asks of a socket only recv_into, send and the two below.
    raw = std.SocketIO(cast("std.socket", sock), raw_mode)
    sock.hold()
    if buffering == 0:
        return raw
    size = io.DEFAULT_BUFFER_SIZE if buffering is None or buffering < 0 else buffering
    buffered: Any
    if reading and writing:
        buffered = io.BufferedRWPair(raw, raw, size)
    elif reading:
        buffered = io.BufferedReader(raw, size)
    else:
        buffered = io.BufferedWriter(raw, size)
    if "b" in mode:
        return cast("io.IOBase", buffered)
    text = io.TextIOWrapper(buffered, encoding, errors, newline)
    text.mode = mode  # type: ignore[misc]
    return text
