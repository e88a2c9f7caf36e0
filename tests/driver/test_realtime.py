"""The real-time driver over a small stack: who leads, who is woken, and who ends how."""

from __future__ import annotations

import errno
import gc
import sys
import threading
from time import monotonic

import pytest

from netstack.core.errors import TimedOut
from netstack.driver import background
from netstack.driver.base import PENDING
from netstack.driver.realtime import RealTimeDriver


def _in_wait(world, connection) -> bool:
    driver = world.driver
    leader = driver.leader
    frames = [*driver.waiters, *([leader] if leader is not None else [])]
    return any(frame.endpoint is connection for frame in frames)


def test_wait_leads_and_returns_what_arrives(world):
    connection = world.connection(1)
    world.inject(1, b"hello")
    assert world.recv(connection) == b"hello"


def test_call_transmits_before_it_returns(world):
    connection = world.connection(1)
    world.send(connection, b"out")
    assert world.take() == (1, 0, b"out")


def test_wait_times_out_and_no_earlier(world):
    connection = world.connection(1)
    began = monotonic()
    with pytest.raises(TimedOut):
        world.recv(connection, 0.03)
    assert 0.03 <= monotonic() - began < 1.0


def test_timeout_zero_asks_once(world):
    connection = world.connection(1)
    asked = []
    with pytest.raises(TimedOut):
        world.driver.wait(connection, lambda now: asked.append(now) or PENDING, 0.0)
    assert len(asked) == 1


def test_follower_is_woken_by_the_leaders_step(world, run_threads):
    first, second = world.connection(1), world.connection(2)
    got = {}

    def read(connection):
        got[connection.number] = world.recv(connection)

    def feed():
        world.wait_until(lambda: _in_wait(world, first) and _in_wait(world, second))
        world.inject(2, b"b")
        world.inject(1, b"a")

    run_threads(lambda: read(first), lambda: read(second), feed)
    assert got == {1: b"a", 2: b"b"}


def test_leader_is_woken_when_another_thread_makes_its_condition_true(world, run_threads):
    connection = world.connection(1)
    late = []

    def close():
        for _ in range(1):
            world.wait_until(lambda: _in_wait(world, connection) and world.driver.sleep_until)

            def act(now):
                connection.close(now)
                world.driver.wake(connection)

            late.append(monotonic())
            world.driver.call(act)

    def block():
        with pytest.raises(OSError) as caught:  # noqa: PT011 - the errno is looked at
            world.recv(connection)
        late.append(monotonic())
        assert caught.value.errno == errno.EBADF

    run_threads(block, close)
    assert late[1] - late[0] < 0.1


def test_waiter_on_nothing_special_sees_every_step(world):
    world.connection(1)
    world.inject(1, b"x")
    stack = world.stack
    counted = stack.connections[1].inbox
    world.driver.wait(None, lambda now: True if counted else PENDING, 5.0)


def test_condition_that_changes_state_is_settled(world):
    connection = world.connection(1)
    sent = []

    def condition(now):
        connection.send(b"%d" % len(sent), now)
        sent.append(now)
        return True if len(sent) == 3 else PENDING  # asked again by its own Writable

    world.driver.wait(connection, condition, 5.0)
    assert [world.take()[2] for _ in range(3)] == [b"0", b"1", b"2"]


def test_exception_of_a_condition_passes_through_and_leaves_in_order(world):
    connection = world.connection(1)

    def condition(now):
        raise ConnectionResetError(errno.ECONNRESET, "reset")

    with pytest.raises(ConnectionResetError):
        world.driver.wait(connection, condition, 5.0)
    world.inject(1, b"on")
    assert world.recv(connection) == b"on"


def test_exception_of_a_call_passes_through_settled(world):
    connection = world.connection(1)

    def fail(now):
        connection.send(b"before", now)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        world.driver.call(fail)
    assert world.take()[2] == b"before"
    assert not world.driver.torn


def test_handlers_have_events_and_what_they_send_goes_out(world):
    connection = world.connection(1)

    def echo(event, now):
        while (data := connection.receive(65536, now)) is not None:
            connection.send(data.upper(), now)

    world.driver.set_handler(connection, echo)
    world.inject(1, b"shout")  # no call waits: the background leads
    assert world.take()[2] == b"SHOUT"
    world.driver.set_handler(connection, None)
    world.inject(1, b"quiet")
    assert world.recv(connection) == b"quiet"


def test_call_from_inside_a_section_is_refused(world):
    with pytest.raises(RuntimeError, match="inside"):
        world.driver.call(lambda now: world.driver.call(lambda now: None))
    with pytest.raises(RuntimeError, match="inside"):
        world.driver.call(lambda now: world.driver.sleep(0))
    assert world.driver.call(lambda now: 7) == 7


def test_sleep_takes_its_time(world):
    began = monotonic()
    world.driver.sleep(0.02)
    assert 0.02 <= monotonic() - began < 1.0
    world.driver.sleep(-1)


def test_task_returns_its_result_and_raises_its_exception(world):
    assert world.driver.spawn(lambda a, b: a + b, 2, b=3).join(5.0) == 5
    task = world.driver.spawn(int, "x")
    with pytest.raises(ValueError, match="invalid literal"):
        task.join(5.0)
    assert task.done


def test_task_join_times_out(world):
    end = threading.Event()
    task = world.driver.spawn(end.wait, 10)
    with pytest.raises(TimedOut):
        task.join(0.01)
    end.set()
    assert task.join(5.0) is True


def test_devices_without_descriptor_are_served(world, quiet_device, run_threads):
    connection = world.connection(1)
    world.driver.call(lambda now: world.stack.attach(quiet_device))
    got = []

    def put():
        world.wait_until(lambda: _in_wait(world, connection) and world.driver.sleep_until)
        quiet_device.put(b"\0\0\0\x01\0quiet")

    run_threads(lambda: got.append(world.recv(connection)), put)
    assert got == [b"quiet"]


def test_device_attached_while_the_leader_sleeps_is_watched(make_world, run_threads):
    world, other = make_world(), make_world()
    connection = world.connection(1)
    other.driver.remove_stack(other.stack)
    got = []

    def attach():
        world.wait_until(lambda: _in_wait(world, connection) and world.driver.sleep_until)
        world.driver.call(lambda now: world.stack.attach(other.device))
        other.inject(1, b"by the new one")

    run_threads(lambda: got.append(world.recv(connection)), attach)
    assert got == [b"by the new one"]


def test_removed_stack_is_polled_no_longer(world):
    connection = world.connection(1)
    world.driver.remove_stack(world.stack)
    world.device.close()  # nobody may poll it now: a foreign descriptor could get its number
    with pytest.raises(TimedOut):
        world.recv(connection, 0.02)


def test_two_stacks_in_one_driver_talk(make_world):
    one, two = make_world(), make_world()
    driver = one.driver
    two.driver.remove_stack(two.stack)
    driver.add_stack(two.stack)
    a = one.connection(1)
    b = driver.call(lambda now: two.stack.connection(1))

    def relay(source, target):
        octets = source.recv(70000)
        target.send(octets)

    for number in range(50):
        one.send(a, b"%d" % number)
        relay(one.far, two.far)
        assert one.recv(b) == b"%d" % number


def test_busy_device_is_watched_for_room(world):
    connection = world.connection(1)
    count = 2000
    for _ in range(count):
        world.send(connection, bytes(1000))
    assert world.stack.interfaces[0].queued
    for _ in range(count):
        world.take()
    world.wait_until(lambda: not world.stack.interfaces[0].queued)


def test_device_that_ends_does_not_spin(world):
    connection = world.connection(1)
    world.far.close()
    with pytest.raises(TimedOut):
        world.recv(connection, 0.02)
    assert world.stack.context.counters["driver.device_failed"] == 1


def test_flood_does_not_starve_calls(world, soak):
    """Without giving way a call took 5 to 101 ms here."""
    connection = world.connection(1)
    stop = threading.Event()

    def flood():
        with_data = bytes(100)
        world.far.settimeout(1)
        while not stop.is_set():
            try:
                world.inject(2, with_data)
            except OSError:
                return

    thread = threading.Thread(target=flood, daemon=True)
    reader = world.driver.spawn(lambda: world.recv(connection))
    thread.start()
    taken = []
    for _ in range(1000 if soak else 100):
        began = monotonic()
        world.driver.call(lambda now: None)
        taken.append(monotonic() - began)
        world.driver.call(lambda now: connection.inbox.clear())
    stop.set()
    thread.join(5)
    world.driver.call(lambda now: (connection.inbox.append(b"end"), world.driver.wake(connection)))
    assert reader.join(5) == b"end"
    taken.sort()
    assert taken[len(taken) // 2] < 0.02


def test_leader_that_times_out_hands_over(make_world, soak):
    """A nominated waiter that passed nothing on left the third one asleep for ever."""
    worst = []
    for _ in range(20 if soak else 3):
        world = make_world()
        late = []

        def wait(number, timeout, world=world, late=late):
            connection = world.connection(number)
            began = monotonic()
            with pytest.raises(TimedOut):
                world.recv(connection, timeout)
            late.append(monotonic() - began - timeout)

        tasks = [world.driver.spawn(wait, n, 0.02 + 0.01 * (n % 4)) for n in range(1, 9)]
        last = world.connection(99)
        got = world.driver.spawn(world.recv, last, 10.0)
        for task in tasks:
            task.join(10)
        world.inject(99, b"still led")
        assert got.join(5) == b"still led"
        worst.append(max(late))
    worst.sort()
    assert worst[len(worst) // 2] < 0.03


def test_timer_armed_while_the_leader_sleeps_fires_in_time(world, soak):
    sleeper = world.connection(1)
    task = world.driver.spawn(world.recv, sleeper)
    timed = world.connection(2)
    late = []
    for _ in range(200 if soak else 25):
        world.wait_until(lambda: world.driver.sleep_until)
        deadline = monotonic() + 0.005
        world.driver.call(lambda now, deadline=deadline: timed.arm(deadline))
        world.wait_until(lambda: timed.fired_at is not None)
        late.append(timed.fired_at - deadline)
        timed.fired_at = None
    world.inject(1, b"end")
    assert task.join(5) == b"end"
    late.sort()
    assert min(late) >= 0
    assert late[len(late) // 2] <= 0.002


def test_close_while_blocked_is_ebadf_for_everybody(make_world):
    worst = []
    for _ in range(5):
        world = make_world()
        ended = []

        def block(number, world=world, ended=ended):
            connection = world.connection(number)
            with pytest.raises(OSError, match="Bad file") as caught:
                world.recv(connection)
            assert caught.value.errno == errno.EBADF
            ended.append(monotonic())

        tasks = [world.driver.spawn(block, number) for number in (1, 2, 3)]
        driver = world.driver
        world.wait_until(lambda driver=driver: len(driver.waiters) == 2 and driver.sleep_until)
        began = monotonic()
        world.driver.close(0.0)
        for task in tasks:
            task.join(5)
        worst.append(max(ended) - began)
    worst.sort()
    assert worst[len(worst) // 2] < 0.02


def test_task_that_nobody_joins_is_told_of_unless_the_close_cut_it_off(make_world, caplog):
    world = make_world()
    spawn = world.driver.spawn
    tasks = [spawn(int, "x"), spawn(world.recv, world.connection(1))]
    world.wait_until(lambda: world.driver.waiters or world.driver.leader)
    world.driver.close(0.0)
    world.wait_until(lambda: all(task.done for task in tasks))
    tasks.clear()
    gc.collect()
    assert [record.getMessage() for record in caplog.records] == [
        "task int failed, and nobody joined it"
    ]


def test_closed_driver_refuses_and_closing_again_is_fine(world):
    world.driver.close(0.0)
    world.driver.close(0.0)
    assert world.device.fileno() == -1
    with pytest.raises(OSError, match="Bad file"):
        world.driver.call(lambda now: None)
    with pytest.raises(OSError, match="Bad file"):
        world.driver.wait(None, lambda now: PENDING, 1.0)


def test_close_waits_for_what_is_queued(world):
    connection = world.connection(1)
    for _ in range(1000):
        world.send(connection, bytes(1000))
    drain = threading.Thread(target=lambda: [world.take() for _ in range(1000)])
    drain.start()
    world.driver.close(5.0)
    drain.join(10)
    assert not drain.is_alive()


def test_errand_of_a_finalizer_that_goes_with_the_driver_writes_to_no_descriptor(monkeypatch):
    class Forgotten:
        def __init__(self):
            self.driver = RealTimeDriver()
            self.driver.forgotten = self  # one cycle: the collector ends them together

        def __del__(self):
            self.driver.defer(lambda _now: None)

    failures = []
    monkeypatch.setattr(sys, "unraisablehook", failures.append)
    Forgotten().driver.close(0)
    gc.collect()
    assert failures == []


def test_thread_that_never_has_to_wait_reads_what_arrives_in_passing(world, monkeypatch):
    """What arrived is taken without the background's help, which would come after a tick."""
    monkeypatch.setattr(background, "MIN_TICK_S", 30.0)  # from its next wait on
    sender, other = world.connection(1), world.connection(2)
    world.wait_until(lambda: world.driver.leader is None)
    world.inject(2, b"acknowledged")
    end = monotonic() + 10.0
    terms = world.driver.pulse.beats
    while not other.inbox:
        assert monotonic() < end, "nobody read it"
        assert world.driver.wait(sender, lambda now: True, None) is True
    assert world.driver.pulse.beats > terms
    assert world.driver.leader is None


def _take_ten(world, monkeypatch, *contending: int) -> int:
    """Wait for ten frames, each sent once the last was seen; return how often that slept."""
    connection = world.connection(1)
    world.wait_until(lambda: world.driver.leader is None)
    sleeps = []
    wait = world.driver.poller.wait

    def watched_wait(*args):
        if world.driver.leader.endpoint is connection:
            sleeps.append(args)
        return wait(*args)

    monkeypatch.setattr(world.driver.poller, "wait", watched_wait)

    def condition(now):
        if len(connection.inbox) >= 10:
            return True
        world.inject(1, b"next")
        world.driver.contending.update(contending)
        return PENDING

    assert world.driver.wait(connection, condition, 20.0) is True
    return len(sleeps)


def test_call_that_finds_frames_at_once_takes_them_in_one_section(world, monkeypatch):
    assert _take_ten(world, monkeypatch) <= 2  # one to begin with, one if the machine slept


def test_call_leaves_its_section_between_steps_when_another_thread_contends(world, monkeypatch):
    assert _take_ten(world, monkeypatch, -1) >= 4  # each step asks twice, so brings two


def test_background_does_not_contend_for_a_section_that_is_another_each_tick(world, monkeypatch):
    """Whoever works inside sections all the time looks cut whenever one looks."""
    mended = []
    monkeypatch.setattr(world.driver, "mend", lambda: mended.append(1))
    end = monotonic() + 0.1

    def busy(now):
        until = monotonic() + 0.0005
        while monotonic() < until:
            pass

    while monotonic() < end:
        world.driver.call(busy)
    assert len(mended) <= 2  # a section as long as a tick, on a busy machine
