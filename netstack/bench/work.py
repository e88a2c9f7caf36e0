"""What a client does, on sockets of any make: the kernel's or ours.

Each returns its figures by name: ``octets``, ``seconds``, ``cpu`` (seconds, user and system, of
the whole process), ``count``.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Protocol

from netstack.bench.pattern import BLOCK, READ_SIZE, Check
from netstack.bench.peer import DURATION, ECHO, HOLD, ONE, SINK, SOURCE, VERDICT
from netstack.bench.result import BenchError

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

_CLOCK_EVERY = 8  # exchanges between looks at the clock


class Stream(Protocol):
    """A connected stream socket, as far as it is used here."""

    # ruff: noqa: D102 - the methods are those of socket.socket
    def sendall(self, data: Buffer, flags: int = 0, /) -> None: ...
    def recv(self, bufsize: int, flags: int = 0, /) -> bytes: ...
    def recv_into(self, buffer: bytearray, nbytes: int = 0, flags: int = 0, /) -> int: ...
    def shutdown(self, how: int, /) -> None: ...
    def setsockopt(self, level: int, optname: int, value: int, /) -> None: ...
    def close(self) -> None: ...


if TYPE_CHECKING:
    Connect = Callable[[int], Stream]
    """Opens a connection to that port of the peer."""


def cpu() -> float:
    """Return the CPU seconds of this process so far, user and system."""
    return time.process_time()


def bulk_send(
    connect: Connect, seconds: float, watch: Callable[[Stream], None] | None = None
) -> dict[str, float]:
    """Send for that long; the time ends when the peer has read, compared and said so.

    ``watch`` sees the connection after each block.
    Raises: BenchError for wrong content.
    """
    stream = connect(SINK)
    used, start = cpu(), time.monotonic()
    end, octets = start + seconds, 0
    while time.monotonic() < end:
        stream.sendall(BLOCK)
        octets += len(BLOCK)
        if watch is not None:
            watch(stream)
    stream.shutdown(socket.SHUT_WR)
    verdict = b""
    while more := stream.recv(VERDICT.size):
        verdict += more
    taken = time.monotonic() - start
    used = cpu() - used
    stream.close()
    if verdict != VERDICT.pack(octets, 0):
        raise BenchError(f"bulk send: what arrived is not what was sent ({verdict.hex()})")
    return {"octets": octets, "seconds": taken, "cpu": used}


def bulk_receive(connect: Connect, seconds: float) -> dict[str, float]:
    """Receive what the peer sends for that long, to its end.

    Raises: BenchError for wrong content.
    """
    stream = connect(SOURCE)
    buffer, check = bytearray(READ_SIZE), Check()
    used, start = cpu(), time.monotonic()
    stream.sendall(DURATION.pack(seconds))
    while length := stream.recv_into(buffer):
        check.take(buffer, length)
    taken = time.monotonic() - start
    used = cpu() - used
    stream.close()
    if check.wrong or check.octets % len(BLOCK) or not check.octets:
        raise BenchError(
            f"bulk receive: {check.wrong} reads of {check.octets} octets were not what was sent"
        )
    return {"octets": check.octets, "seconds": taken, "cpu": used}


def request_response(connect: Connect, seconds: float) -> dict[str, float]:
    """Send one octet and await the same one, again and again.

    Raises: BenchError for a wrong answer.
    """
    stream = connect(ECHO)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    requests = [bytes((number,)) for number in range(_CLOCK_EVERY)]

    def exchange() -> None:
        for request in requests:
            stream.sendall(request)
            if stream.recv(1) != request:
                raise BenchError("request and response: a wrong answer")

    exchange()
    count, start, used = 0, time.monotonic(), cpu()
    while (taken := time.monotonic() - start) < seconds:
        exchange()
        count += _CLOCK_EVERY
    used = cpu() - used
    stream.close()
    return {"count": count, "seconds": taken, "cpu": used}


def connections(connect: Connect, seconds: float) -> dict[str, float]:
    """Connect, send one octet, await it and the end, close; again and again.

    Raises: BenchError for a wrong answer.
    """
    _one(connect)
    count, start, used = 0, time.monotonic(), cpu()
    while (taken := time.monotonic() - start) < seconds:
        _one(connect)
        count += 1
    return {"count": count, "seconds": taken, "cpu": cpu() - used}


def _one(connect: Connect) -> None:
    stream = connect(ONE)
    stream.sendall(b"1")
    if stream.recv(2) != b"1" or stream.recv(1) != b"":
        raise BenchError("connect and close: a wrong answer")
    stream.close()


def first_octet(connect: Connect) -> None:
    """Return once one octet was answered.

    Raises: BenchError for a wrong answer.
    """
    stream = connect(ECHO)
    stream.sendall(b"1")
    if stream.recv(1) != b"1":
        raise BenchError("first octet: a wrong answer")
    stream.close()


def open_idle(connect: Connect, count: int) -> list[Stream]:
    """Open connections that will be idle."""
    return [connect(HOLD) for _ in range(count)]


def idle_share(seconds: float) -> dict[str, float]:
    """Do nothing for that long; ``cpu`` is what the process used meanwhile."""
    used, start = cpu(), time.monotonic()
    time.sleep(seconds)
    taken = time.monotonic() - start
    return {"seconds": taken, "cpu": cpu() - used}
