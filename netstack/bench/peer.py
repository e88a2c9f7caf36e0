"""The kernel's side: small servers on kernel sockets, the same for both contestants.

Each runs in a thread of its own that blocks; at any time one connection is served.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from netstack.bench.pattern import BLOCK, READ_SIZE, Check
from netstack.bench.roundtrip import RoundTrips, of_kernel

if TYPE_CHECKING:
    from collections.abc import Callable

# Ports.
SINK: Final = 7001
SOURCE: Final = 7002
ECHO: Final = 7003
ONE: Final = 7004
HOLD: Final = 7005

CONGESTION: Final = "cubic"
BACKLOG: Final = 1024
PATIENCE_S: Final = 30.0
VERDICT: Final = struct.Struct("!QQ")  # octets that arrived, reads that were wrong
DURATION: Final = struct.Struct("!d")  # seconds


class Servers:
    """All of them; they listen from the start, and end with the process."""

    def __init__(self) -> None:
        self._held: list[socket.socket] = []
        self.round_trips = RoundTrips(of_kernel)
        """Of the connection that was sent to last."""
        _start(SINK, _sink)
        _start(SOURCE, self._source)
        _start(ECHO, _echo)
        _start(ONE, _one)
        _start(HOLD, self._held.append)

    def release(self) -> None:
        """Close the connections that were held."""
        while self._held:
            self._held.pop().close()

    def _source(self, connection: socket.socket) -> None:
        self.round_trips = watch = RoundTrips(of_kernel)
        with connection:
            (seconds,) = DURATION.unpack(connection.recv(DURATION.size, socket.MSG_WAITALL))
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                connection.sendall(BLOCK)
                watch(connection)


def _start(port: int, serve: Callable[[socket.socket], None]) -> None:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # What is accepted inherits these.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, CONGESTION.encode())
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.bind(("", port))
    listener.listen(BACKLOG)

    def run() -> None:
        while True:
            connection, _ = listener.accept()
            # The client sees a connection that ended early, and says so.
            with suppress(OSError):
                serve(connection)

    threading.Thread(target=run, name=f"port {port}", daemon=True).start()


def _sink(connection: socket.socket) -> None:
    buffer, check = bytearray(READ_SIZE), Check()
    with connection:
        while length := connection.recv_into(buffer):
            check.take(buffer, length)
        connection.sendall(VERDICT.pack(check.octets, check.wrong))


def _echo(connection: socket.socket) -> None:
    with connection:
        while data := connection.recv(READ_SIZE):
            connection.sendall(data)


def _one(connection: socket.socket) -> None:
    # The server closes first: TIME-WAIT stays here, the client's ports don't run out.
    connection.sendall(connection.recv(1))
    connection.close()
