"""The real-time driver over real stacks, joined by a pair of packet sockets."""

from __future__ import annotations

import random
import signal
import socket
import threading
from time import monotonic

import pytest

from netstack.core.errors import NetstackError, TimedOut
from netstack.driver.base import PENDING
from netstack.driver.realtime import RealTimeDriver
from netstack.stack import Stack


class Alarm(Exception):
    pass


class Ends:
    """Two stacks, 192.0.2.1 and 192.0.2.2, and blocking calls over them."""

    def __init__(self, device_type, one: RealTimeDriver, two: RealTimeDriver) -> None:
        ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.drivers = (one, two)
        self.stacks = (Stack("one", seed=1), Stack("two", seed=2))
        for number in (0, 1):
            device = device_type(ends[number], f"pair{number}")
            self.stacks[number].attach(device, f"192.0.2.{number + 1}/24")
            self.drivers[number].add_stack(self.stacks[number])

    def listen(self, port):
        return self.drivers[1].call(lambda now: self.stacks[1].listen(("", port)))

    def accept(self, listener, timeout=20.0):
        def condition(now):
            connection = listener.accept()
            return PENDING if connection is None else connection

        return self.drivers[1].wait(listener, condition, timeout)

    def connect(self, port):
        driver = self.drivers[0]
        connection = driver.call(lambda now: self.stacks[0].connect(("192.0.2.2", port), now))

        def condition(now):
            if connection.error is not None:
                raise connection.error
            return True if connection.writable else PENDING

        driver.wait(connection, condition, 20.0)
        return connection

    def recv(self, side, connection, timeout=20.0):
        def condition(now):
            data = connection.receive(65536, now)
            return PENDING if data is None else data

        return self.drivers[side].wait(connection, condition, timeout)

    def send_all(self, side, connection, data):
        sent, whole = 0, memoryview(data)

        def condition(now):
            nonlocal sent
            sent += connection.send(whole[sent:], now)
            return True if sent == len(data) else PENDING

        self.drivers[side].wait(connection, condition, 30.0)

    def close(self, side, connection):
        self.drivers[side].call(connection.close)


@pytest.fixture(params=["one driver", "two drivers"])
def ends(request, world):
    one = RealTimeDriver()
    two = one if request.param == "one driver" else RealTimeDriver()
    ends = Ends(type(world.device), one, two)
    yield ends
    for driver in {id(one): one, id(two): two}.values():
        driver.close(0.5)


class Exchange:
    """``octets`` each way over one connection."""

    def __init__(self, ends, port, octets, seed):
        self.ends, self.octets = ends, octets
        dice = random.Random(seed)
        self.data = (dice.randbytes(octets), dice.randbytes(octets))
        self.got = (bytearray(), bytearray())
        self.port = port
        self.connections = {}
        self.failed = False

    def run(self):
        """Return whether all arrived as sent; raise what a thread raised, after all ended."""
        listener = self.ends.listen(self.port)
        spawn = self.ends.drivers[0].spawn
        tasks = [spawn(self._guarded, side, listener) for side in (0, 1)]
        errors = [error for task in tasks if (error := task.join(100)) is not None]
        self.ends.drivers[1].call(listener.close)
        for got, sent in zip(self.got, reversed(self.data), strict=True):
            assert sent.startswith(got), "octets arrived that nobody sent"
        if errors:
            raise errors[0]
        return len(self.got[0]) == len(self.got[1]) == self.octets

    def _guarded(self, side, listener):
        try:
            self._one_side(side, listener)
        except (NetstackError, OSError) as error:
            # The other side may wait for octets that will never come.
            self.failed = True
            for each, connection in dict(self.connections).items():
                self.ends.drivers[each].call(connection.abort)
            return error

    def _one_side(self, side, listener):
        ends = self.ends
        connection = ends.connect(self.port) if side == 0 else ends.accept(listener, 3.0)
        self.connections[side] = connection
        if self.failed:  # the other side ended before it could know this connection
            ends.drivers[side].call(connection.abort)
        writer = ends.drivers[0].spawn(self._write, side, connection)
        while len(self.got[side]) < self.octets:
            piece = ends.recv(side, connection)
            if not piece:  # an error is told once: the writer may have had it
                assert connection.error is not None, "an early end"
                raise connection.error
            self.got[side].extend(piece)
        if (error := writer.join(60)) is not None:
            raise error
        ends.close(side, connection)

    def _write(self, side, connection):
        try:
            self.ends.send_all(side, connection, self.data[side])
        except (NetstackError, OSError) as error:
            return error


def _exchange(ends, port, octets, seed):
    return Exchange(ends, port, octets, seed).run()


def test_megabytes_both_ways(ends, soak):
    assert _exchange(ends, 80, 50_000_000 if soak else 2_000_000, 1)
    for stack in ends.stacks:
        assert not stack.counters().get("stack.internal_error")


def test_connections_side_by_side(ends, soak):
    driver = ends.drivers[0]
    count = 60 if soak else 12
    tasks = [driver.spawn(_exchange, ends, 1000 + n, 50_000, n) for n in range(count)]
    assert all(task.join(60) for task in tasks)


def test_close_drains_what_was_sent(ends):
    listener = ends.listen(80)
    got = []

    def serve():
        connection = ends.accept(listener)
        try:
            while piece := ends.recv(1, connection):
                got.append(piece)
        except (OSError, NetstackError) as error:  # the one driver may end before this reads on
            got.append(error)

    task = ends.drivers[1].spawn(serve)
    connection = ends.connect(80)
    data = random.Random(1).randbytes(300_000)
    ends.send_all(0, connection, data)
    began = monotonic()
    ends.drivers[0].close(5.0)
    assert monotonic() - began < 4
    if ends.drivers[0] is not ends.drivers[1]:
        task.join(10)
        assert b"".join(got) == data


# An alarm may ring in a finalizer, which can only print it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_raising_alarms_in_the_thread_that_leads_spare_the_others(ends, soak):
    """A cut step costs the connection that it was at; the others lose nothing, nobody hangs."""
    driver = ends.drivers[0]
    stop = threading.Event()
    whole, aborted = [], []

    def others(first_port):
        count = 0
        while not stop.is_set():
            try:
                assert _exchange(ends, first_port + count, 60_000, count)
                whole.append(count)
            except (NetstackError, OSError) as error:
                aborted.append(error)
            count += 1

    tasks = [driver.spawn(others, port) for port in (2000, 12000)]
    nothing = object()

    def ring(signum, frame):
        raise Alarm

    old = signal.signal(signal.SIGALRM, ring)
    dice = random.Random(4)
    rang = 0
    try:
        # How many exchanges an alarm leaves time for depends on the machine: go on until enough,
        # though those under way should be aborted too, and leave them ever more time.
        least = 1000 if soak else 100
        enough = len(tasks)
        while rang < least or (len(whole) <= len(aborted) + enough and rang < 10 * least):
            pause = 0.003 * min(max(rang / least, 1), 5)
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0002 + dice.random() * pause)
                driver.wait(nothing, lambda now: PENDING, 0.02)
            except Alarm:
                rang += 1
            except TimedOut:
                continue  # it rang in a finalizer, which swallows exceptions
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
        stop.set()
    for task in tasks:
        task.join(100)
    assert len(whole) > len(aborted)
    cuts = sum(each.repairs.cuts for each in {id(d): d for d in ends.drivers}.values())
    assert len(aborted) <= cuts
    assert _exchange(ends, 1999, 60_000, 1)
