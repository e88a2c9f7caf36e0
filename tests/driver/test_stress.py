"""The real-time driver under load, bugs, signals, forks and garbage collection.

Each of these failed with a driver that looked just as plausible. Small counts in a normal run,
the full ones with ``-m soak``; bounds in time are medians, since machines are shared.
"""

from __future__ import annotations

import errno
import gc
import hashlib
import os
import random
import select
import signal
import statistics
import struct
import threading
import time
from time import monotonic

import pytest

from netstack.core.errors import Reset, TimedOut
from netstack.driver import background

BUG = 1


class Alarm(Exception):
    """Raised by a signal handler."""


# An alarm may ring in a finalizer, which can only print it.
ALARMS_IN_FINALIZERS = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture
def alarms():
    """Arm raising alarms; the handler and the timer are put back afterwards."""

    def ring(signum, frame):
        raise Alarm

    old = signal.signal(signal.SIGALRM, ring)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, old)


def _receive_messages(world, run_threads, count):
    """Eight threads in recv, random traffic: none lost, none foreign, none out of order."""
    threads = 8
    connections = [world.connection(number) for number in range(threads)]
    dice = random.Random(1)
    plan = [dice.randrange(threads) for _ in range(count)]
    got = [0] * threads

    def read(number):
        expected = plan.count(number)
        for serial in range(expected):
            timeout = None if serial % 3 else 30.0
            data = world.recv(connections[number], timeout)
            assert struct.unpack("!II", data) == (number, serial)
            got[number] += 1

    def feed():
        serials = [0] * threads
        for step, number in enumerate(plan):
            world.inject(number, struct.pack("!II", number, serials[number]))
            serials[number] += 1
            if step % 512 == 0:
                time.sleep(0)

    run_threads(*[lambda n=n: read(n) for n in range(threads)], feed, timeout=110)
    assert sum(got) == count


def test_eight_threads_lose_no_message(world, run_threads):
    _receive_messages(world, run_threads, 8_000)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_eight_threads_lose_no_message_of_many(make_world, run_threads):
    for _ in range(4):
        _receive_messages(make_world(), run_threads, 200_000)


def test_threads_that_time_out_all_the_time_lose_nothing(world, run_threads, soak):
    count = 2000 if soak else 200
    connections = [world.connection(number) for number in range(6)]

    def read(number):
        dice = random.Random(number)
        serial = 0
        while serial < count:
            try:
                data = world.recv(connections[number], dice.random() * 0.004)
            except TimedOut:
                continue
            assert data == b"%d" % serial
            serial += 1

    def feed():
        dice = random.Random(7)
        pause = threading.Event()
        for serial in range(count):
            for number in range(6):
                world.inject(number, b"%d" % serial)
            if serial % 4 == 0:
                pause.wait(dice.random() * 0.004)

    run_threads(*[lambda n=n: read(n) for n in range(6)], feed, timeout=60)


@pytest.mark.filterwarnings("ignore")
def test_bugs_in_a_step_cost_their_own_connections_only(world, run_threads, caplog):
    bugs = 20
    broken = [world.connection(100 + number) for number in range(bugs)]
    healthy = [world.connection(number) for number in range(4)]
    seen = []

    def own(connection):
        with pytest.raises(Reset) as caught:
            world.recv(connection)
        assert caught.value.errno == errno.ECONNABORTED
        seen.append(connection)

    def read(connection):
        for serial in range(100):
            assert world.recv(connection) == b"%d" % serial

    def feed():
        for serial in range(100):
            for connection in healthy:
                world.inject(connection.number, b"%d" % serial)
            if serial < bugs:
                world.inject(100 + serial, kind=BUG)

    run_threads(
        *[lambda c=c: own(c) for c in broken], *[lambda c=c: read(c) for c in healthy], feed
    )
    assert len(seen) == bugs
    assert world.stack.context.counters["driver.bugs"] == bugs
    assert world.driver.repairs.bugs == bugs
    assert "a bug aborted a connection" in caplog.text


def test_bug_in_a_handler_costs_its_endpoint(world, caplog):
    connection, other = world.connection(1), world.connection(2)

    def fail(event, now):
        raise KeyError("handler")

    world.driver.set_handler(connection, fail)

    def run():
        world.inject(1, b"x")
        world.inject(2, b"fine")
        return world.recv(other)

    assert world.driver.spawn(run).join(10) == b"fine"
    world.wait_until(lambda: connection.error is not None)


def test_bug_in_the_main_threads_step_is_raised_there_and_repaired(world):
    connection, other = world.connection(1), world.connection(2)
    world.driver.background.join(0)
    caught = 0
    for _ in range(50):  # the background may have been the one that led
        connection.error = None
        world.inject(1, kind=BUG)
        world.inject(2, b"rest of the burst")
        try:
            data = world.recv(other, 10.0)
        except KeyError:
            caught += 1
            data = world.recv(other, 10.0)
        assert data == b"rest of the burst"
        assert isinstance(connection.error, Reset)
    assert caught > 0


class _Transfer:
    """Messages to some connections, each sent again until it is acknowledged, as TCP would.

    A cut section may lose the frame it was at, like a wire, and abort the connection it was at:
    its owner is told, and begins again here.
    """

    def __init__(self, world, numbers):
        self.world = world
        self.connections = [world.connection(number) for number in numbers]
        self.sent = {number: hashlib.sha256() for number in numbers}
        self.got = {number: hashlib.sha256() for number in numbers}
        self.aborted = 0
        self.stop = threading.Event()

    def feed(self):
        world, dice = self.world, random.Random(3)
        world.far.settimeout(0.05)
        serial = dict.fromkeys(self.sent, 0)
        message = {}
        while message or not self.stop.is_set():
            for number in serial:
                if number not in message and not self.stop.is_set():
                    message[number] = struct.pack("!I", serial[number]) + dice.randbytes(20)
                    self.sent[number].update(message[number])
                    world.inject(number, message[number])
                world.inject(50, b"noise")
            try:
                number, _, acknowledged = world.take()
            except TimeoutError:
                for number, octets in message.items():
                    world.inject(number, octets)
                continue
            if number in message and acknowledged == message[number][:4]:
                del message[number]
                serial[number] += 1
        for number in serial:
            world.inject(number, b"end")

    def read(self, connection):
        expected = 0
        while True:
            try:
                data = self.world.recv(connection, 30.0)
                if data == b"end":
                    return
                if struct.unpack_from("!I", data)[0] == expected:
                    self.got[connection.number].update(data)
                    expected += 1
                self.world.send(connection, data[:4])
            except Reset:
                connection.error = None
                self.aborted += 1

    def run(self, meanwhile):
        tasks = [self.world.driver.spawn(self.read, each) for each in self.connections]
        tasks.append(self.world.driver.spawn(self.feed))
        meanwhile()
        self.stop.set()
        for task in tasks:
            task.join(40)
        for number in self.sent:
            assert self.sent[number].digest() == self.got[number].digest()


@ALARMS_IN_FINALIZERS
def test_raising_alarms_during_transfers_lose_and_lock_nothing(world, alarms, soak):
    mine = world.connection(50)
    dice = random.Random(5)

    def ring():
        rang = 0
        while rang < (1000 if soak else 150):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0001 + dice.random() * 0.002)
                for _ in range(200):  # an alarm in a finalizer is swallowed there
                    try:
                        world.recv(mine, 0.01 if rang % 2 else 1.0)
                    except (TimedOut, Reset):
                        mine.error = None
            except Alarm:
                rang += 1

    def ring_and_stop():
        while True:
            try:
                ring()
                signal.setitimer(signal.ITIMER_REAL, 0)
                return
            except Alarm:  # one that rang where the last was being caught
                continue

    transfer = _Transfer(world, (1, 2, 3))
    transfer.run(ring_and_stop)
    assert world.driver.repairs.cuts > 0


@ALARMS_IN_FINALIZERS
def test_raising_alarms_in_calls_leave_the_driver_whole(world, alarms, soak):
    """Alarms cut sections of the main thread; the others' calls go on and lose nothing."""
    count = 1000 if soak else 150
    driver = world.driver
    connection, other = world.connection(1), world.connection(2)
    count_of_rest = [0]
    end = threading.Event()

    def work():
        serial = 0
        while not end.is_set():
            payload = b"%d" % serial
            world.inject(2, payload)
            assert world.recv(other, 20.0) == payload
            serial += 1
        count_of_rest[0] = serial

    task = driver.spawn(work)
    rang = 0
    dice = random.Random(2)
    while rang < count:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.00005 + dice.random() * 0.001)
            for _ in range(1000):
                driver.call(lambda now: connection.arm(now + 100))
        except Alarm:
            rang += 1
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    end.set()
    task.join(30)
    assert count_of_rest[0] > 0
    world.wait_until(lambda: not driver.torn)
    assert driver.call(lambda now: 5) == 5


def test_call_in_a_signal_handler_of_the_leader_runs_but_a_wait_is_refused(world):
    mine, other = world.connection(1), world.connection(2)
    seen = []

    def handle(signum, frame):
        seen.append(world.driver.call(lambda now: "called"))
        try:
            world.driver.sleep(0.01)
        except RuntimeError as error:
            seen.append(str(error))
        world.inject(1, b"go on")

    old = signal.signal(signal.SIGALRM, handle)
    try:
        main = threading.get_ident()

        def shoot():
            world.wait_until(lambda: world.driver.leader and world.driver.leader.thread == main)
            world.wait_until(lambda: world.driver.sleep_until)
            signal.pthread_kill(main, signal.SIGALRM)

        task = world.driver.spawn(shoot)
        assert world.recv(mine) == b"go on"
        task.join(5)
    finally:
        signal.signal(signal.SIGALRM, old)
    assert seen[0] == "called"
    # The handler may have hit a moment in which the thread did not lead: then it slept.
    assert len(seen) == 1 or "while this thread leads" in seen[1]
    assert other.error is None


@ALARMS_IN_FINALIZERS
def test_interrupted_wait_lets_others_go_on(world, alarms):
    mine, other = world.connection(1), world.connection(2)
    task = world.driver.spawn(world.recv, other, 20.0)
    for _ in range(20):
        signal.setitimer(signal.ITIMER_REAL, 0.003)
        with pytest.raises(Alarm):
            world.recv(mine)
    assert not task.done
    world.inject(2, b"still here")
    assert task.join(5) == b"still here"


def test_finalizers_run_their_errands_wherever_they_hit(world, run_threads, soak):
    """Garbage collection calls finalizers inside sections too, of any thread."""
    driver = world.driver
    closed = []

    class Socket:
        def __init__(self, number):
            self.number = number
            self.me = self  # a cycle: only the collector ends it

        def __del__(self):
            number = self.number
            driver.defer(lambda now: closed.append(number))

    count = 5000 if soak else 500
    connection = world.connection(1)

    def make():
        for number in range(count):
            Socket(number)
            if number % 50 == 0:
                driver.call(lambda now: gc.collect())

    def traffic():
        for serial in range(count // 5):
            world.inject(1, b"%d" % serial)
            assert world.recv(connection) == b"%d" % serial

    run_threads(make, traffic)
    gc.collect()
    world.wait_until(lambda: len(closed) >= count)
    assert sorted(closed) == list(range(count))


def test_errand_of_a_finalizer_runs_though_everybody_sleeps(world):
    done = threading.Event()
    connection = world.connection(1)
    task = world.driver.spawn(world.recv, connection)
    world.wait_until(lambda: world.driver.sleep_until)
    world.driver.defer(lambda now: done.set())
    assert done.wait(5)
    world.inject(1, b"end")
    assert task.join(5) == b"end"


def _echo_process(world):
    """Fork a process that sends back whatever the stack sends: a peer without our GIL."""
    child = os.fork()
    if child == 0:
        end = world.far
        end.settimeout(30)
        try:
            while octets := end.recv(70000):
                end.send(octets)
        except OSError:
            pass
        os._exit(0)
    return child


def _end(child):
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def _ping_pong(world, connection, count):
    began = monotonic()
    for _ in range(count):
        world.send(connection, b"ping")
        assert world.recv(connection) == b"ping"
    return monotonic() - began


def test_background_standing_by_costs_a_ping_pong_little(world, soak):
    """Kicked out of the lead at every call it would cost two thirds."""
    child = _echo_process(world)
    driver = world.driver
    connection = world.connection(1)
    pause = threading.Event()
    ratios = []
    try:
        for _ in range(25 if soak else 15):
            count = 2000 if soak else 300
            _ping_pong(world, connection, 50)
            terms = driver.pulse.beats
            with_background = _ping_pong(world, connection, count)
            assert driver.pulse.beats > terms
            # Without: the thread is kept in its tick.
            background.MIN_TICK_S, kept = 60.0, background.MIN_TICK_S
            with driver.lock:
                driver.pulse.nudge()
            pause.wait(0.005)
            without = _ping_pong(world, connection, count)
            background.MIN_TICK_S = kept
            with driver.lock:
                driver.pulse.nudge()
            ratios.append(without / with_background)
    finally:
        background.MIN_TICK_S = 0.002
        _end(child)
    assert statistics.median(ratios) > (0.9 if soak else 0.75)


def test_idle_connections_cost_nothing(make_world, soak):
    world = make_world()
    for number in range(1000):
        world.connection(number)
    waiting = [world.driver.spawn(world.recv, world.connection(n), 60.0) for n in range(4)]
    world.wait_until(lambda: len(world.driver.waiters) == 3)
    threading.Event().wait(0.6)  # let the background's tick grow
    cpu, wall = time.process_time(), monotonic()
    threading.Event().wait(10 if soak else 1.0)
    used = (time.process_time() - cpu) / (monotonic() - wall)
    for number in range(4):
        world.inject(number, b"end")
    assert [task.join(5) for task in waiting] == [b"end"] * 4
    assert used < (0.001 if soak else 0.01)


def test_idle_driver_without_calls_sleeps(world, soak):
    for number in range(1000):
        world.connection(number)
    driver = world.driver
    world.wait_until(lambda: driver.leader is driver.background.waiter and driver.sleep_until)
    cpu, wall = time.process_time(), monotonic()
    threading.Event().wait(10 if soak else 0.5)
    assert (time.process_time() - cpu) / (monotonic() - wall) < (0.001 if soak else 0.01)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_forked_children_get_ebadf_and_the_parent_is_unaffected(world, soak):
    driver = world.driver
    connections = [world.connection(number) for number in range(4)]
    watched = world.connection(50)
    mirror = driver.mirror(watched, lambda: (watched.readable, True))
    epoll = select.epoll()
    epoll.register(mirror.fileno(), select.EPOLLIN)
    stop = threading.Event()
    counts = [0] * 4

    def work(number):
        while not stop.is_set():
            payload = b"%d" % counts[number]
            world.inject(number, payload)
            assert world.recv(connections[number], 30.0) == payload
            counts[number] += 1

    tasks = [driver.spawn(work, number) for number in range(4)]
    for _ in range(60 if soak else 12):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                driver.call(lambda now: None)
            except OSError as error:
                closed = world.device.fileno() == -1 and mirror.fileno() == -1
                code = 0 if error.errno == errno.EBADF and closed else 2
            finally:
                os._exit(code)
        before = list(counts)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        world.wait_until(
            lambda before=before: all(c > b for c, b in zip(counts, before, strict=True))
        )
    stop.set()
    for task in tasks:
        task.join(10)
    world.inject(50, b"the set still has it")
    assert epoll.poll(5) == [(mirror.fileno(), select.EPOLLIN)]
    epoll.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_child_forked_in_a_wait_gets_ebadf(world):
    """A signal handler may fork while its thread leads; the child's poll must end."""
    mine = world.connection(1)
    parent = os.getpid()

    def handle(signum, frame):
        children.append(os.fork())

    children = []
    old = signal.signal(signal.SIGALRM, handle)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        threading.Timer(0.1, lambda: world.inject(1, b"parent")).start()
        try:
            got = world.recv(mine, 10.0)
        except OSError as error:
            if os.getpid() != parent:
                os._exit(0 if error.errno == errno.EBADF else 1)
            raise
        if os.getpid() != parent:
            os._exit(2)
    finally:
        signal.signal(signal.SIGALRM, old)
    assert got == b"parent"
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0
