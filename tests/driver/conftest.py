"""A small stack with which the real-time driver can be tested alone.

Its protocol: a frame is a connection's number, a kind and a payload; nothing is lost. A frame of
kind BUG makes the step raise in the middle of that connection.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections import deque
from time import monotonic

import pytest

from netstack.core.context import Context
from netstack.core.errors import Reset
from netstack.core.timers import TimerQueue
from netstack.device.base import Capabilities, Device, Frame
from netstack.driver.base import PENDING
from netstack.driver.realtime import RealTimeDriver
from netstack.stack import Stack
from netstack.transport.events import Closed, Readable, Writable

DATA, BUG, CLOSE = 0, 1, 2
_HEAD = struct.Struct("!IB")


class SocketDevice(Device):
    """A device whose wire is a pair of packet sockets."""

    def __init__(self, end: socket.socket, name: str = "pair") -> None:
        super().__init__(name, Capabilities())
        self._end = end
        end.setblocking(False)

    def transmit(self, frame: Frame) -> bool:
        try:
            self._end.send(frame.octets())
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def receive_burst(self, limit: int = 64) -> list[Frame]:
        frames = []
        while len(frames) < limit:
            try:
                octets = self._end.recv(70000)
            except (BlockingIOError, ConnectionError):
                break
            if not octets:
                break
            frames.append(Frame(octets))
        return frames

    def fileno(self) -> int:
        return self._end.fileno()

    def close(self) -> None:
        self._end.close()


class QuietDevice(Device):
    """A device without descriptor: what is put in is pending."""

    def __init__(self, name: str = "quiet") -> None:
        super().__init__(name, Capabilities())
        self.inbox: deque[bytes] = deque()
        self.sent: list[bytes] = []

    def put(self, octets: bytes) -> None:
        self.inbox.append(octets)
        if self.on_pending is not None:
            self.on_pending()

    def transmit(self, frame: Frame) -> bool:
        self.sent.append(frame.octets())
        return True

    def pending(self) -> bool:
        return bool(self.inbox)

    def receive_burst(self, limit: int = 64) -> list[Frame]:
        return [Frame(self.inbox.popleft()) for _ in range(min(limit, len(self.inbox)))]


class FakeInterface:
    def __init__(self, device: Device) -> None:
        self.device = device
        self.queue: deque[bytes] = deque()
        self.busy = False

    @property
    def queued(self) -> int:
        return len(self.queue)

    def flush(self) -> None:
        self.busy = False
        for _ in range(256):
            if not self.queue:
                return
            if not self.device.transmit(Frame(self.queue[0])):
                self.busy = True
                return
            self.queue.popleft()


class FakeConnection:
    def __init__(self, stack: FakeStack, number: int) -> None:
        self.stack = stack
        self.number = number
        self.inbox: deque[bytes] = deque()
        self.outbox: deque[tuple[int, bytes]] = deque()
        self.error: Exception | None = None
        self.deadline: float | None = None
        self.fired_at: float | None = None
        self.on_timer = None
        self.closed = False

    @property
    def readable(self) -> bool:
        return bool(self.inbox) or self.error is not None

    @property
    def writable(self) -> bool:
        return len(self.outbox) < 16

    def send(self, data: bytes, now: float, kind: int = DATA) -> int:
        if self.error is not None:
            raise self.error
        self.outbox.append((kind, bytes(data)))
        self.stack.dirty[self] = None
        return len(data)

    def receive(self, limit: int, now: float) -> bytes | None:
        if self.inbox:
            return self.inbox.popleft()
        if self.error is not None:
            raise self.error
        return None

    def arm(self, deadline: float) -> None:
        self.deadline = deadline
        self.stack.rebuild_timers()

    def close(self, now: float) -> None:
        self.closed = True
        self.stack.connections.pop(self.number, None)

    def abort(self, now: float) -> None:
        if self.error is None:
            self.error = Reset("aborted", 103)  # ECONNABORTED
            self.stack.post(Closed(self, self.error))


class FakeStack(Stack):
    """A stack to the driver, which is all that it is."""

    def __init__(self, *devices: Device) -> None:
        self.context = Context("fake", seed=1)
        self.attachments = 0
        self.ends: list[FakeInterface] = []
        self.connections: dict[int, FakeConnection] = {}
        self.dirty: dict[FakeConnection, None] = {}
        self.told: deque = deque()
        self.current: FakeConnection | None = None
        self.timers = TimerQueue()
        self.rest = iter(())
        for device in devices:
            self.attach(device)

    def attach(self, device: Device) -> None:
        self.ends.append(FakeInterface(device))
        self.attachments += 1

    @property
    def devices(self) -> list[Device]:
        return [end.device for end in self.ends]

    @property
    def interfaces(self) -> list[FakeInterface]:
        return self.ends

    def waits_for_output(self) -> bool:
        return any(end.queue for end in self.ends)

    def connection(self, number: int) -> FakeConnection:
        return self.connections.setdefault(number, FakeConnection(self, number))

    def post(self, event) -> None:
        self.told.append(event)

    def receive(self, device: Device, frames, now: float) -> None:
        self.rest = iter(frames)
        self.receive_rest(now)

    def receive_rest(self, now: float) -> None:
        self.context.now = max(now, self.context.now)
        for frame in self.rest:
            octets = bytes(frame.header)
            number, kind = _HEAD.unpack_from(octets)
            connection = self.connections.get(number)
            if connection is None:
                self.context.drop("fake.no_connection")
                continue
            self.current = connection
            if kind == BUG:
                raise KeyError(number)
            connection.inbox.append(octets[_HEAD.size :])
            self.post(Readable(connection))
            self.current = None

    def poll(self, now: float) -> None:
        self.context.now = max(now, self.context.now)
        for device in self.devices:
            if device.pending():
                self.receive(device, device.receive_burst(), now)
        self.timers.run_due(now)
        for connection in tuple(self.dirty):
            while connection.outbox:
                kind, data = connection.outbox[0]
                self.ends[0].queue.append(_HEAD.pack(connection.number, kind) + data)
                connection.outbox.popleft()
            self.post(Writable(connection))
            del self.dirty[connection]
        for end in self.ends:
            end.flush()

    def earliest(self) -> float:
        pending = any(device.pending() for device in self.devices)
        if self.dirty or pending or any(end.queue and not end.busy for end in self.ends):
            return self.context.now
        return self.timers.earliest()

    def next_event(self):
        return self.told.popleft() if self.told else None

    def abort_current(self, now: float, error=None) -> None:
        if self.current is not None:
            self.context.count("fake.aborted")
            self.current.abort(now)
            self.current = None
        for connection in self.connections.values():
            self.dirty[connection] = None

    def rebuild_timers(self) -> None:
        from netstack.core.timers import Timer

        self.timers = TimerQueue()
        for connection in self.connections.values():
            if connection.deadline is not None:
                self.timers.arm(Timer(self._fire(connection)), connection.deadline)

    def _fire(self, connection: FakeConnection):
        def fire(now: float) -> None:
            connection.deadline = None
            connection.fired_at = monotonic()
            self.post(Readable(connection))
            if connection.on_timer is not None:
                connection.on_timer(now)

        return fire

    def close(self, now: float) -> None:
        pass

    @property
    def drained(self) -> bool:
        return not self.dirty and not any(end.queue for end in self.ends)

    def abort(self, now: float) -> None:
        for connection in tuple(self.connections.values()):
            connection.abort(now)


class World:
    """A driver, its stack, and the far end of the stack's wire."""

    def __init__(self) -> None:
        near, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.far.settimeout(20)
        self.device = SocketDevice(near)
        self.stack = FakeStack(self.device)
        self.driver = RealTimeDriver()
        self.driver.add_stack(self.stack)

    def connection(self, number: int) -> FakeConnection:
        return self.driver.call(lambda now: self.stack.connection(number))

    def recv(self, connection: FakeConnection, timeout: float | None = 20.0) -> bytes:
        def condition(now: float):
            if connection.closed:
                raise OSError(9, "Bad file descriptor")
            data = connection.receive(65536, now)
            return PENDING if data is None else data

        return self.driver.wait(connection, condition, timeout)

    def send(self, connection: FakeConnection, data: bytes, kind: int = DATA) -> None:
        self.driver.call(lambda now: connection.send(data, now, kind))

    def inject(self, number: int, data: bytes = b"", kind: int = DATA) -> None:
        """Let a frame arrive from the wire."""
        self.far.send(_HEAD.pack(number, kind) + data)

    def take(self) -> tuple[int, int, bytes]:
        """Return the next frame that the stack sent."""
        octets = self.far.recv(70000)
        number, kind = _HEAD.unpack_from(octets)
        return number, kind, octets[_HEAD.size :]

    def wait_until(self, condition, timeout: float = 10.0) -> None:
        """Yield the CPU until ``condition()`` holds of the driver's state."""
        end = monotonic() + timeout
        pause = threading.Event()
        while not condition():
            assert monotonic() < end, "the condition never held"
            pause.wait(0.0005)

    def close(self) -> None:
        self.driver.close(0.2)
        self.far.close()


@pytest.fixture
def make_world():
    worlds = []

    def make() -> World:
        worlds.append(World())
        return worlds[-1]

    yield make
    for world in worlds:
        world.close()


@pytest.fixture
def world(make_world) -> World:
    return make_world()


@pytest.fixture
def soak(request) -> bool:
    """Whether the full figures of an issue are asked for."""
    return "soak" in (request.config.option.markexpr or "")


@pytest.fixture
def quiet_device() -> QuietDevice:
    return QuietDevice()


@pytest.fixture
def run_threads():
    """Run functions in threads, join them, and raise what one of them raised."""

    def run(*functions, timeout: float = 100.0) -> None:
        errors = []

        def guard(function):
            try:
                function()
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=guard, args=(f,), daemon=True) for f in functions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout)
        if errors:
            raise errors[0]
        assert not any(thread.is_alive() for thread in threads), "a thread hangs"

    return run
