"""Virtual time, tasks and the two messages about worlds that stand still."""

import os
import signal
import threading
from types import SimpleNamespace

import pytest

from netstack.core.context import Context
from netstack.core.errors import Deadlock, Livelock, TimedOut
from netstack.core.timers import Timer
from netstack.driver import world as world_module
from netstack.driver.base import PENDING, Waiting
from netstack.driver.simulation import Simulation
from netstack.transport.events import Readable


class Box:
    """An endpoint: what was put in can be taken out."""

    def __init__(self, stack):
        self.stack = stack
        self.items = []
        self.state = SimpleNamespace(name="ESTABLISHED")

    def put(self, item):
        self.items.append(item)
        self.stack.events.append(Readable(self))

    def take(self, _now=0.0):
        return self.items.pop(0) if self.items else PENDING


class Wire:
    """A device without descriptor that hands over what arrived."""

    def __init__(self):
        self.on_pending = None
        self.inbox = []

    def pending(self):
        return bool(self.inbox)

    def arrive(self, box, item):
        self.inbox.append((box, item))
        if self.on_pending is not None:
            self.on_pending()


class FakeStack:
    """As much of a stack as a driver sees."""

    def __init__(self, name="fake"):
        self.context = Context(name, seed=1)
        self.wire = Wire()
        self.devices = [self.wire]
        self.events = []
        self.polls = []
        self.last_error = None

    def connections(self):
        return [SimpleNamespace(local=("a", 1), remote=("b", 2), send_queue=17, receive_queue=0)]

    def next_deadline(self):
        if self.wire.inbox:
            return 0.0
        return self.context.timers.next_deadline()

    def poll(self, now):
        self.polls.append(now)
        self.context.now = now
        for box, item in self.wire.inbox:
            box.put(item)
        self.wire.inbox.clear()
        self.context.timers.run_due(now)

    def next_event(self):
        return self.events.pop(0) if self.events else None


@pytest.fixture
def simulation():
    threads = threading.active_count()
    simulation = Simulation()
    yield simulation
    simulation.close()
    assert threading.active_count() == threads


@pytest.fixture
def stack(simulation):
    stack = FakeStack()
    simulation.add_stack(stack)
    return stack


@pytest.fixture
def box(stack):
    return Box(stack)


def test_sleep_moves_the_clock_and_nothing_else(simulation):
    simulation.sleep(3.5)
    assert simulation.now == 3.5


def test_run_until_ends_exactly_then(simulation):
    simulation.run(until=0.3)
    assert simulation.now == 0.3
    simulation.run(until=0.7)
    assert simulation.now == 0.7
    with pytest.raises(ValueError, match="already"):
        simulation.run(until=0.1)


def test_run_until_includes_what_is_due_at_that_time(simulation):
    done = []
    simulation.spawn(lambda: (simulation.sleep(1.0), simulation.sleep(0.0), done.append(1)))
    simulation.run(until=1.0)
    assert done == [1]


def test_run_ends_when_all_tasks_have(simulation):
    simulation.spawn(simulation.sleep, 2.0)
    simulation.spawn(simulation.sleep, 5.0)
    simulation.run()
    assert simulation.now == 5.0
    simulation.run()
    assert simulation.now == 5.0


def test_run_does_not_wait_for_services(simulation):
    simulation.spawn_service(lambda: simulation.sleep(1000.0))
    simulation.spawn(simulation.sleep, 1.0)
    simulation.run()
    assert simulation.now == 1.0


def test_wait_runs_the_world_until_its_condition_holds(simulation, stack, box):
    simulation.events.schedule(2.0, stack.wire.arrive, box, "frame")
    assert simulation.wait(box, box.take, None) == "frame"
    assert simulation.now == 2.0


def test_wait_times_out_in_virtual_time(simulation, stack, box):
    with pytest.raises(TimedOut):
        simulation.wait(box, box.take, 1.5)
    assert simulation.now == 1.5
    with pytest.raises(TimedOut):
        simulation.wait(box, box.take, 0.0)


def test_wait_asks_once_more_when_its_time_is_up(simulation, stack):
    assert simulation.wait(object(), lambda now: now if now >= 1.0 else PENDING, 1.0) == 1.0


def test_wait_without_endpoint_is_asked_after_every_step(simulation, stack, box):
    simulation.events.schedule(1.0, stack.wire.arrive, box, "x")
    simulation.wait(None, lambda now: True if box.items else PENDING, 10.0)
    assert simulation.now == 1.0


def test_condition_raising_ends_the_wait_with_that_error(simulation, stack, box):
    simulation.events.schedule(1.0, stack.wire.arrive, box, "x")

    def condition(now):
        if box.items:
            raise ConnectionResetError
        return PENDING

    with pytest.raises(ConnectionResetError):
        simulation.wait(box, condition, None)


def test_wake_has_the_conditions_asked_again(simulation, stack, box):
    closed = []

    def condition(now):
        return "closed" if closed else PENDING

    def close(now):
        closed.append(now)
        simulation.wake(box)

    task = simulation.spawn(simulation.wait, box, condition, None)
    simulation.sleep(1.0)
    assert not task.done
    simulation.call(close)
    assert task.join() == "closed"


def test_frames_of_one_instant_are_polled_as_one_burst(simulation, stack, box):
    before = len(stack.polls)
    for n in range(5):
        simulation.events.schedule(1.0, stack.wire.arrive, box, n)
    simulation.run(until=1.0)
    assert box.items == [0, 1, 2, 3, 4]
    assert len(stack.polls) == before + 1


def test_devices_may_come_and_go(simulation, stack, box):
    late, old = Wire(), stack.wire
    stack.devices = [late]
    simulation.call(lambda now: None)
    assert late.on_pending is not None
    assert old.on_pending is None


def test_handler_is_called_in_the_stacks_turn(simulation, stack, box):
    seen = []
    simulation.set_handler(box, lambda event, now: seen.append((box.take(), now)))
    simulation.events.schedule(1.0, stack.wire.arrive, box, "a")
    simulation.run(until=2.0)
    simulation.set_handler(box, None)
    simulation.events.schedule(2.5, stack.wire.arrive, box, "b")
    simulation.run(until=3.0)
    assert seen == [("a", 1.0)]


def test_stack_timer_is_polled_at_its_deadline(simulation, stack):
    fired = []
    stack.context.timers.arm(Timer(fired.append), 4.0)
    simulation.call(lambda now: None)
    simulation.run(until=10.0)
    assert fired == [4.0]


def test_tasks_run_one_at_a_time_in_order_of_becoming_ready(simulation):
    log = []

    def task(name, seconds):
        for n in range(3):
            log.append((name, n, simulation.now))
            simulation.sleep(seconds)

    simulation.spawn(task, "a", 1.0)
    simulation.spawn(task, "b", 1.0)
    log.append("main")
    simulation.run()
    assert log == ["main"] + [(name, n, float(n)) for n in range(3) for name in "ab"]


def test_join_returns_the_result_and_raises_the_exception(simulation):
    assert simulation.spawn(lambda: (simulation.sleep(1.0), 42)[1]).join() == 42

    def bad():
        simulation.sleep(1.0)
        raise LookupError("bad")

    task = simulation.spawn(bad)
    with pytest.raises(LookupError, match="bad"):
        task.join()
    with pytest.raises(TimedOut):
        simulation.spawn(simulation.sleep, 9.0).join(timeout=1.0)


def test_exception_of_a_task_that_nobody_joins_is_raised_by_the_driving_call(simulation):
    def bad():
        simulation.sleep(1.0)
        raise LookupError("bad")

    simulation.spawn(bad)
    simulation.spawn(simulation.sleep, 5.0)
    with pytest.raises(LookupError, match="bad") as caught:
        simulation.run()
    assert "bad-1" in caught.value.__notes__[0]
    assert simulation.now == 1.0


def test_exit_exception_of_a_task_reaches_its_joiner(simulation):
    def leave():
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        simulation.spawn(leave).join()


def test_exception_of_a_handler_is_raised_by_the_main_call(simulation, stack, box):
    def handler(event, now):
        raise LookupError("handler")

    simulation.set_handler(box, handler)
    simulation.events.schedule(1.0, stack.wire.arrive, box, "x")
    simulation.spawn(simulation.sleep, 2.0)
    with pytest.raises(LookupError, match="handler"):
        simulation.run()


def test_foreign_threads_are_refused(simulation):
    errors = []

    def foreign():
        try:
            simulation.sleep(1.0)
        except RuntimeError as error:
            errors.append(str(error))

    thread = threading.Thread(target=foreign, name="stranger")
    thread.start()
    thread.join()
    assert "'stranger'" in errors[0]


def test_calls_from_inside_a_section_are_refused(simulation, stack):
    with pytest.raises(RuntimeError, match="inside a section"):
        simulation.call(lambda now: simulation.call(lambda now: None))


def test_deadlock_names_task_host_call_state_and_since(simulation, stack, box):
    box.local, box.remote = ("a", 1), ("b", 2)

    def reader():
        simulation.sleep(1.0)
        simulation.wait(box, box.take, None, Waiting("web", "recv"))

    simulation.spawn(reader)
    with pytest.raises(Deadlock) as caught:
        simulation.run()
    lines = str(caught.value).splitlines()
    assert "every task waits" in lines[0]
    assert lines[1].split("  ")[1].strip() == "task"
    assert "main" in lines[2]
    assert "run" in lines[2]
    for word in (
        "reader-1",
        "web",
        "recv",
        "a:1 > b:2",
        "ESTABLISHED",
        "17 out, 0 in",
        "t=1.000000",
    ):
        assert word in lines[3]


def test_deadlock_ignores_housekeeping_timers(simulation, stack, box):
    stack.context.timers.arm(Timer(lambda now: None, housekeeping=True), 60.0)
    with pytest.raises(Deadlock):
        simulation.wait(box, box.take, None)
    assert simulation.now == 0.0


def test_no_deadlock_while_a_timer_may_end_the_wait(simulation, stack, box):
    stack.context.timers.arm(Timer(lambda now: box.put("timer")), 60.0)
    assert simulation.wait(box, box.take, None) == "timer"


def test_no_deadlock_while_somebody_has_a_timeout(simulation, stack, box):
    simulation.spawn(lambda: (simulation.sleep(9.0), simulation.call(lambda now: box.put("x"))))
    assert simulation.wait(box, box.take, None) == "x"


def test_world_goes_on_after_a_deadlock(simulation, stack, box):
    task = simulation.spawn(simulation.wait, box, box.take, None)
    with pytest.raises(Deadlock):
        simulation.run()
    simulation.call(lambda now: box.put("late"))
    assert task.join() == "late"


def test_max_time_ends_a_world_that_only_ticks():
    simulation = Simulation(max_time=100.0)
    stack = FakeStack()
    simulation.add_stack(stack)

    def again(now):
        stack.context.timers.arm(timer, now + 1.0)

    timer = Timer(again)
    again(0.0)
    with pytest.raises(Deadlock, match="max_time"):
        simulation.wait(object(), lambda now: PENDING, None)
    assert simulation.now <= 100.0
    simulation.close()


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(world_module, "MAX_EVENTS_AT_ONE_INSTANT", 1000)


def test_livelock_of_events_at_one_instant(simulation, impatient):
    def again():
        simulation.events.schedule(simulation.now, again)

    again()
    with pytest.raises(Livelock, match="without the clock moving"):
        simulation.sleep(1.0)


def test_livelock_of_tasks_that_only_yield(simulation, impatient):
    def spin():
        while True:
            simulation.sleep(0.0)

    simulation.spawn(spin)
    with pytest.raises(Livelock):
        simulation.run()


def test_livelock_of_a_loop_that_polls(simulation, impatient):
    def nothing(now):
        raise BlockingIOError

    def poll():
        while True:
            try:
                simulation.call(nothing)
            except BlockingIOError:
                continue

    with pytest.raises(Livelock):
        poll()


def test_close_cancels_what_still_runs_and_leaves_no_thread():
    threads = threading.active_count()
    log = []

    def task(simulation):
        try:
            simulation.sleep(10.0)
        finally:
            log.append("unwound")
            simulation.sleep(1.0)
            log.append("never")

    simulation = Simulation()
    simulation.spawn(task, simulation)
    simulation.spawn_service(lambda: task(simulation))
    simulation.sleep(1.0)
    simulation.spawn(log.append, "not started")
    simulation.close()
    simulation.close()
    assert log == ["unwound", "unwound"]
    assert threading.active_count() == threads
    assert simulation.now == 1.0
    with pytest.raises(RuntimeError, match="closed"):
        simulation.sleep(1.0)


def test_tasks_may_spawn_and_join_tasks(simulation):
    def fib(n):
        if n < 2:
            simulation.sleep(0.5)
            return n
        left, right = simulation.spawn(fib, n - 1), simulation.spawn(fib, n - 2)
        return left.join() + right.join()

    assert simulation.spawn(fib, 6).join() == 8
    assert simulation.now == 0.5


def test_two_runs_take_the_same_course():
    def course():
        simulation = Simulation()
        stack = FakeStack()
        box = Box(stack)
        simulation.add_stack(stack)
        log = []

        def producer(n):
            for k in range(20):
                simulation.sleep(0.1 * ((n * 7 + k) % 3))
                simulation.call(lambda now: stack.wire.arrive(box, (n, k)))  # noqa: B023 - called at once

        def consumer(n):
            while True:
                log.append((n, simulation.wait(box, box.take, None), simulation.now))

        producers = [simulation.spawn(producer, n) for n in range(4)]
        for n in range(3):
            simulation.spawn(consumer, n)
        for task in producers:
            task.join()
        simulation.run(until=simulation.now + 1)
        simulation.close()
        return log

    first = course()
    assert len(first) == 80
    assert course() == first


def test_signal_handler_that_raises_while_a_task_runs_ends_the_main_call():
    threads = threading.active_count()
    simulation = Simulation()

    def task():
        while True:
            simulation.sleep(1.0)
            if simulation.now == 5.0:
                os.kill(os.getpid(), signal.SIGINT)

    simulation.spawn(task)
    with pytest.raises(KeyboardInterrupt):
        simulation.run()
    simulation.close()
    assert threading.active_count() == threads


def test_internal_error_that_a_stack_contained_is_raised_by_the_driving_call(simulation, stack):
    def break_down(now):
        stack.last_error = LookupError("a bug")

    stack.context.timers.arm(Timer(break_down), 1.0)
    simulation.spawn(simulation.sleep, 5.0)
    with pytest.raises(LookupError, match="a bug"):
        simulation.run()
    simulation.run()
    assert simulation.now == 5.0
