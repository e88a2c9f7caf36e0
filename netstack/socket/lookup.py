"""Drives a name's resolution with endpoints of the host's own stack, as a blocking call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from netstack.core.address import parse_address
from netstack.core.errors import NetstackError, TimedOut
from netstack.driver.base import PENDING, Pending, Waiting
from netstack.naming.exchange import OpenStream, SendDatagram
from netstack.transport.tcp.state import State

if TYPE_CHECKING:
    from netstack.driver.base import Driver
    from netstack.naming.exchange import Action
    from netstack.naming.resolver import Resolution, Resolver
    from netstack.stack import Stack
    from netstack.transport.tcp.connection import Connection
    from netstack.transport.udp import Datagrams

CHUNK = 65_536


def look_up(
    driver: Driver,
    stack: Stack,
    resolver: Resolver,
    name: str,
    type: str,
    timeout: float | None,
    *,
    over_tcp: bool = False,
) -> Resolution:
    """Return the resolution of a question, done within ``timeout`` seconds.

    Raises: TimedOut if it wasn't; ValueError for what cannot be asked.
    """
    resolution = driver.call(lambda now: resolver.start(name, type, now, over_tcp=over_tcp))
    performer = _Performer(stack, resolution)
    limit = None if timeout is None else driver.now + timeout
    waiting = Waiting(stack.name, f"resolve {name}")
    try:
        while True:
            until = _earliest(resolution.next_deadline(), limit)
            share = None if until is None else max(until - driver.now, 0.0)
            try:
                # Whoever else asks the same may perform the action: any step may bring the end.
                return driver.wait(None, performer.step, share, waiting)
            except TimedOut:
                if limit is not None and driver.now >= limit:
                    raise TimedOut(f"resolving {name} took more than {timeout:g} s") from None
    finally:
        driver.call(lambda now: performer.leave(resolver, now))


def _earliest(a: float | None, b: float | None) -> float | None:
    if a is None or b is None:
        return b if a is None else a
    return min(a, b)


class _Performer:
    """Performs a resolution's actions: each datagram from a port of its own (RFC 5452 9.2)."""

    def __init__(self, stack: Stack, resolution: Resolution) -> None:
        self._stack = stack
        self._resolution = resolution
        self._action: Action | None = None
        self._datagrams: Datagrams | None = None
        self._connection: Connection | None = None
        self._unsent: bytes | memoryview = b""

    def step(self, now: float) -> Resolution | Literal[Pending.PENDING]:
        """Take what arrived, do what is due, start what comes next."""
        resolution = self._resolution
        deadline = resolution.next_deadline()
        if deadline is not None and deadline <= now:
            resolution.handle_timers(now)
        try:
            self._take_datagrams(now)
            self._take_stream(now)
        except NetstackError as error:
            self._drop(now)
            resolution.handle_failure(str(error), now)
        while not resolution.done and (action := resolution.next_action(now)) is not None:
            self._drop(now)
            try:
                self._start(action, now)
            except NetstackError as error:
                resolution.handle_failure(str(error), now)
        return resolution if resolution.done else PENDING

    def leave(self, resolver: Resolver, now: float) -> None:
        """Close the endpoint; others who wait for the same answer start it anew."""
        performing = self._action is not None
        self._drop(now)
        if performing and not self._resolution.done:
            self._resolution.abandon(now)
        resolver.release(self._resolution)

    def _start(self, action: Action, now: float) -> None:
        self._action = action
        server = str(action.server), action.port
        if isinstance(action, SendDatagram):
            self._datagrams = self._stack.datagrams()
            self._datagrams.connect(server)
            self._datagrams.send(action.message, now)
        elif isinstance(action, OpenStream):
            self._connection = self._stack.connect(server, now)
            self._unsent = action.message

    def _take_datagrams(self, now: float) -> None:
        endpoint, action = self._datagrams, self._action
        if endpoint is None or action is None:
            return
        error = endpoint.take_error()
        if error is not None:
            raise error
        while self._datagrams is endpoint and (item := endpoint.receive()) is not None:
            data, (host, port) = item
            self._resolution.receive_datagram(parse_address(host), port, data, now)

    def _take_stream(self, now: float) -> None:
        connection = self._connection
        if connection is None or connection.state in (State.SYN_SENT, State.SYN_RECEIVED):
            return
        if self._unsent:
            taken = connection.send(self._unsent, now)
            self._unsent = memoryview(self._unsent)[taken:]
        while (data := connection.receive(CHUNK, now)) is not None:
            self._resolution.receive_stream(data, now)
            if not data:
                self._drop(now)
                return

    def _drop(self, now: float) -> None:
        """Close the last action's endpoint."""
        self._action = None
        if self._datagrams is not None:
            self._datagrams.close(now)
            self._datagrams = None
        if self._connection is not None:
            self._connection.close(now)
            self._connection = None
