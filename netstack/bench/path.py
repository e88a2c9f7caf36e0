"""A simulated path with bulk transfers on it: two stacks, one cable, virtual time, no threads.

What is measured here depends on the seed and nothing else: no clock, no load of the machine. The
sending side is ``near``, the receiving side ``far``; each ``Flow`` is one connection. Applications
read what arrives at once and write whatever fits.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from netstack.core.config import Config, TcpConfig
from netstack.core.rng import Rng
from netstack.core.timers import EventHeap
from netstack.device.base import Medium
from netstack.device.cable import Cable
from netstack.stack import Stack
from netstack.transport.tcp.congestion import make

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Unpack

    from netstack.device.base import Device
    from netstack.device.cable import LinkChanges
    from netstack.transport.tcp.connection import Connection

NEAR, FAR = "10.0.0.1", "10.0.0.2"
PORT = 80
FRAME = 1500  # octets of a full IP packet
_BLOCK = bytes(range(251)) * 1045  # 251 is prime: an octet out of place shows
_WRITE = 65_536  # octets offered at once


class Flow:
    """One transfer of ``length`` octets (None: without end); ``data`` is repeated.

    ``begun_at`` is when the first octet was handed over, ``received`` counts what the far
    application has read, ``finished_at`` is when it read the end.
    """

    def __init__(self, connection: Connection, data: bytes, length: int | None) -> None:
        self.connection = connection
        self.peer: Connection | None = None
        self.received = 0
        self.digest = hashlib.sha256()
        self.begun_at: float | None = None
        self.finished_at: float | None = None
        self._data = memoryview(data)
        self._length = length
        self._taken = 0

    def write(self, now: float) -> None:
        """Hand over what the send buffer takes, and close after the last octet."""
        connection, data = self.connection, self._data
        if self.begun_at is None:
            self.begun_at = now
        while self._length is None or self._taken < self._length:
            position = self._taken % len(data)
            end = min(position + _WRITE, len(data))
            if self._length is not None:
                end = min(end, position + self._length - self._taken)
            taken = connection.send(data[position:end], now)
            self._taken += taken
            if taken < end - position:
                return
        connection.shutdown_write(now)

    @property
    def goodput(self) -> float:
        """Octets a second, from the first handed over to the end read; 0 if that is not yet."""
        if self.finished_at is None or self.begun_at is None:
            return 0.0
        return self.received / max(self.finished_at - self.begun_at, 1e-9)

    def read(self, now: float) -> None:
        """Read what has arrived."""
        peer = self.peer
        while peer is not None and (piece := peer.receive(1 << 20, now)) is not None:
            if not piece:
                if self.finished_at is None:
                    self.finished_at = now
                    peer.close(now)
                return
            self.received += len(piece)
            self.digest.update(piece)


def _as_it_is(device: Device) -> Device:
    return device


class Path:
    """Two stacks on one cable; ``link`` as for ``Cable``.

    ``near_device`` and ``far_device`` may wrap the ends of the cable in a middleware.
    """

    def __init__(
        self,
        seed: int,
        config: TcpConfig | None = None,
        *,
        near_device: Callable[[Device], Device] = _as_it_is,
        far_device: Callable[[Device], Device] = _as_it_is,
        **link: Unpack[LinkChanges],
    ) -> None:
        self.events = EventHeap()
        self.cable = Cable(self.events, Rng(seed, "path"), "path", medium=Medium.IP, **link)
        whole = Config(tcp=config or TcpConfig())
        self.near = Stack("near", seed=seed, config=whole)
        self.far = Stack("far", seed=seed, config=whole)
        self.near.attach(near_device(self.cable.a), NEAR + "/24")
        self.far.attach(far_device(self.cable.b), FAR + "/24")
        self.flows: list[Flow] = []
        self._listener = self.far.listen(("", PORT))

    @property
    def now(self) -> float:
        """The virtual time, in seconds."""
        return self.events.now

    def start(
        self, length: int | None, *, congestion: str | None = None, data: bytes = _BLOCK
    ) -> Flow:
        """Begin a transfer; ``congestion`` names its control if it is not the stack's."""
        connection = self.near.connect((FAR, PORT), self.now)
        if congestion is not None:
            window = self.near.context.config.tcp.initial_window
            connection.sender.use_congestion(make(congestion, connection.sender.mss, window))
        flow = Flow(connection, data, length)
        self.flows.append(flow)
        return flow

    def run(self, until: float, watch: Callable[[float], None] | None = None) -> bool:
        """Let everything happen up to ``until``; True as soon as every flow has finished.

        ``watch`` is called with the time after every step.
        """
        while True:
            now = self._next_time()
            if now is None or now > until:
                self.events.now = max(self.now, until)
                return False
            self.step(watch)
            if self.flows and all(flow.finished_at is not None for flow in self.flows):
                return True

    def step(self, watch: Callable[[float], None] | None = None) -> bool:
        """Let happen what is due next, all that is due at that time; False if nothing ever is."""
        events, near, far = self.events, self.near, self.far
        now = self._next_time()
        if now is None:
            return False
        while (due := events.next_time()) is not None and due <= now:
            events.run_next()
        events.now = now
        near.poll(now)
        far.poll(now)
        self._applications(now)
        if watch is not None:
            watch(now)
        return True

    def _next_time(self) -> float | None:
        times = (self.events.next_time(), self.near.next_deadline(), self.far.next_deadline())
        known = [time for time in times if time is not None]
        return max(min(known), self.now) if known else None

    def _applications(self, now: float) -> None:
        near, far = self.near, self.far
        while near.next_event() is not None or far.next_event() is not None:
            pass
        while (accepted := self._listener.accept()) is not None:
            for flow in self.flows:
                if flow.connection.local_port == accepted.remote_port:
                    flow.peer = accepted
        for flow in self.flows:
            flow.read(now)
            sender = flow.connection.sender
            if flow.connection.writable and sender.snd_una > sender.iss and not sender.fin_queued:
                flow.write(now)


def bandwidth_delay(rate: float, round_trip: float) -> int:
    """Return how many full frames such a path holds."""
    return max(round(rate * round_trip / 8 / FRAME), 1)


def jain(shares: list[float]) -> float:
    """Return Jain's fairness index: 1 for equal shares, 1/n if one takes all."""
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 1.0
