"""ICMP echo as a blocking call: what ping is made of."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

from netstack.core.address import parse_address
from netstack.core.errors import TimedOut, Unreachable
from netstack.driver.base import PENDING, Pending, Waiting
from netstack.internet.echo import EchoError
from netstack.socket.errno import os_error

if TYPE_CHECKING:
    from netstack.socket.base import System

DEFAULT_SIZE = 56  # octets of payload, as ping of old


class EchoReply(NamedTuple):
    """An answered ping: by whom, to which request, ``rtt`` in seconds, ``size`` in octets."""

    address: str
    sequence: int
    ttl: int
    rtt: float
    size: int


class EchoSocket:
    """Sends echo requests, one after the other, under one identifier."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._closed = False
        self._endpoint = system.driver.call(lambda _now: system.stack.echo())
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    def ping(
        self,
        host: str,
        *,
        size: int = DEFAULT_SIZE,
        timeout: float | None = 1.0,
    ) -> EchoReply:
        """Send one echo request and return its reply; ``host`` may be a name.

        Raises: TimedOut; Unreachable if a router or this host says so.
        """
        if self._closed:
            raise os_error(errno.EBADF)
        system = self._system
        try:
            address = str(parse_address(host))
        except ValueError:
            address = system.resolve(host, timeout)[0]
        self._sequence = sequence = (self._sequence + 1) & 0xFFFF
        payload = bytes(n & 0xFF for n in range(size))
        endpoint = self._endpoint

        def send(now: float) -> float:
            endpoint.send(address, sequence, payload, now)
            return now

        def take(now: float) -> EchoReply | Literal[Pending.PENDING]:
            if self._closed:
                raise os_error(errno.EBADF)
            while (item := endpoint.receive()) is not None:
                if item.sequence != sequence:
                    continue  # a late answer to a ping that was given up
                if isinstance(item, EchoError):
                    reporter = item.reporter or "this host"
                    raise Unreachable(f"{address}: {item.kind.value} (from {reporter})")
                if item.payload == payload:
                    source = str(item.source)
                    return EchoReply(source, sequence, item.ttl, item.time - sent_at, size)
            return PENDING

        sent_at = system.driver.call(send)
        try:
            return system.driver.wait(endpoint, take, timeout, Waiting(system.name, "ping"))
        except TimedOut:
            raise TimedOut(f"no echo reply from {address} within {timeout:g} s") from None

    def close(self) -> None:
        """Give the identifier back; idempotent."""
        if not self._closed:
            self._closed = True

            def close(now: float) -> None:
                self._endpoint.close(now)
                self._system.driver.wake(self._endpoint)

            self._system.driver.call(close)
