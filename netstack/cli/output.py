"""Where a command's words go: data to stdout or ``-o``, narrative to stderr.

Colour is rich's, if that is installed (extra ``cli``); without it the same lines appear plain.
A reader that goes away (``| head``) is no error: ``ClosedPipe`` ends the command quietly.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Style of a narrative line by the kind of what it tells.
_STYLES = {
    "name": "cyan",
    "connection": "green",
    "request": "bold",
    "response": "bold",
    "warning": "yellow",
    "error": "bold red",
    "head": "bold",
    "dim": "dim",
}


class ClosedPipe(Exception):
    """The reader of stdout or stderr has gone."""


def _colour_wanted(when: str, stream: TextIO | None) -> bool:
    if when != "auto":
        return when == "always"
    return stream is not None and stream.isatty() and not os.environ.get("NO_COLOR")


def occupy_closed_descriptors() -> None:
    """Keep what is opened from now on, such as a TAP, off the numbers of closed standard streams.

    Python has None for a stream that was closed at the start (``>&-``).
    """
    if None in (sys.stdin, sys.stdout, sys.stderr):
        while True:
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor > 2:
                os.close(descriptor)
                return


class Output:
    """The streams of one run of a command."""

    def __init__(
        self, *, color: str = "auto", quiet: bool = False, path: str = "-", as_json: bool = False
    ) -> None:
        self.quiet = quiet
        self.as_json = as_json
        self._path = path
        self._file: BinaryIO | None = None
        self._stderr: TextIO | None = sys.stderr  # None: closed, and nobody to tell
        self._paint = _painter(sys.stderr) if _colour_wanted(color, self._stderr) else None

    @contextmanager
    def open(self) -> Iterator[Output]:
        """Hold the output file, if any, while the command runs; flush in the end."""
        try:
            if self._path != "-":
                self._file = open(self._path, "wb")  # noqa: SIM115 - closed below
            yield self
            self.flush()
        finally:
            if self._file is not None:
                self._file.close()

    def data(self, octets: bytes) -> None:
        """Write what was asked for.

        Raises: OSError, ClosedPipe.
        """
        try:
            stream = _stdout().buffer if self._file is None else self._file
            stream.write(octets)
        except BrokenPipeError:
            raise ClosedPipe from None

    def line(self, text: str = "") -> None:
        """Write a line of data; it appears at once."""
        self.data(text.encode("utf-8", "surrogateescape") + b"\n")
        self.flush()

    def document(self, schema: str, fields: dict[str, Any]) -> None:
        """Write one JSON document (one line) that says its schema."""
        text = json.dumps({"schema": schema, **fields}, ensure_ascii=False, allow_nan=False)
        self.line(text)

    def separate(self, path: str, pieces: Iterable[str]) -> None:
        """Write a document that has a file of its own, ``path``; - is stdout.

        Raises: OSError, ClosedPipe.
        """
        if path != "-":
            with open(path, "w", encoding="utf-8", newline="\n") as file:
                file.writelines(pieces)
            return
        try:
            stream = _stdout()
            for piece in pieces:
                stream.buffer.write(piece.encode("utf-8"))
            stream.flush()
        except BrokenPipeError:
            raise ClosedPipe from None

    def tell(self, text: str, kind: str = "") -> None:
        """Write a line of narrative, unless it was not wanted."""
        if not self.quiet:
            self._write(text, kind)

    def show(self, text: str, kind: str = "") -> None:
        """Write a line to stderr that was asked for by name, ``-q`` or not."""
        self._write(text, kind)

    def error(self, text: str) -> None:
        """Write the one line that says what went wrong."""
        self._write(f"netstack: {text}", "error")

    def _write(self, text: str, kind: str) -> None:
        if self._stderr is None:
            return
        if self._paint is not None and kind in _STYLES:
            text = self._paint(text, _STYLES[kind])
        try:
            self._stderr.write(text + "\n")
            self._stderr.flush()
        except BrokenPipeError:
            raise ClosedPipe from None

    def flush(self) -> None:
        """Hand what was written to the system."""
        try:
            (_stdout() if self._file is None else self._file).flush()
        except BrokenPipeError:
            raise ClosedPipe from None


def _stdout() -> TextIO:
    # The annotation of the standard library forgets streams that were closed at the start.
    stream: TextIO | None = sys.stdout
    if stream is None:
        raise OSError(errno.EBADF, "standard output is closed")
    return stream


def _painter(stream: TextIO) -> Any:
    """Return a function that styles a line, or None without rich."""
    try:
        from rich.console import Console
        from rich.text import Text
    except ImportError:
        return None
    console = Console(file=stream, force_terminal=True, soft_wrap=True, highlight=False)

    def paint(text: str, style: str) -> str:
        with console.capture() as captured:
            console.print(Text(text, style=style), end="")
        return str(captured.get())

    return paint


def leave_closed_pipe() -> None:
    """Keep the interpreter from complaining at exit about a stream nobody reads."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue
        try:
            stream.flush()
        except (BrokenPipeError, ValueError):
            os.dup2(descriptor, stream.fileno())
