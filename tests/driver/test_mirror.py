"""Descriptors that mirror an endpoint, for select, poll and epoll."""

from __future__ import annotations

import select
import threading
from time import monotonic

import pytest

from netstack.driver.mirror import Mirror


class Endpoint:
    readable = False
    writable = True


@pytest.fixture
def endpoint():
    return Endpoint()


@pytest.fixture
def mirror(endpoint):
    mirror = Mirror(lambda: (endpoint.readable, endpoint.writable))
    yield mirror
    mirror.close()


def _ready(mirror):
    readable, writable, _ = select.select([mirror], [mirror], [], 0)
    return bool(readable), bool(writable)


def test_mirror_follows_every_transition(mirror, endpoint):
    assert _ready(mirror) == (False, True)
    for readable in (True, False, True, True):
        for writable in (False, True, False, False):
            endpoint.readable, endpoint.writable = readable, writable
            for post in (False, True):
                mirror.update(post=post)
                assert _ready(mirror) == (readable, writable)


def test_edge_triggered_waiter_sees_each_post(mirror, endpoint):
    epoll = select.epoll()
    epoll.register(mirror.fileno(), select.EPOLLIN | select.EPOLLET)
    endpoint.readable = True
    for _ in range(3):
        mirror.update(post=True)
        assert epoll.poll(0) == [(mirror.fileno(), select.EPOLLIN)]
        assert epoll.poll(0) == []
    mirror.update(post=False)
    assert epoll.poll(0) == []
    epoll.close()


def test_update_after_close_does_nothing(mirror, endpoint):
    mirror.close()
    endpoint.readable = True
    mirror.update(post=True)
    assert mirror.fileno() == -1


def test_mirror_of_a_connection_follows_arrival_and_reading(world):
    connection = world.connection(1)
    mirror = world.driver.mirror(connection, lambda: (connection.readable, connection.writable))
    assert mirror is world.driver.mirror(connection, lambda: (False, False))
    assert _ready(mirror) == (False, True)
    world.inject(1, b"x")
    assert select.select([mirror], [], [], 5)[0]
    assert world.recv(connection) == b"x"
    assert _ready(mirror) == (False, True)
    world.driver.drop_mirror(connection)
    assert mirror.fileno() == -1


def test_select_loop_is_served_by_the_background(world, soak):
    connection = world.connection(1)
    driver = world.driver
    mirror = driver.mirror(connection, lambda: (connection.readable, True))
    world.wait_until(lambda: driver.leader is driver.background.waiter and driver.sleep_until)
    taken = []
    arrived = threading.Event()
    epoll = select.epoll()
    epoll.register(mirror.fileno(), select.EPOLLIN)

    def read(now):
        data = connection.receive(65536, now)
        driver.wake(connection)
        return data

    def serve():
        for _ in range(len(plan)):
            assert epoll.poll(5)
            taken.append(monotonic())
            assert driver.call(read) == b"x"
            arrived.set()

    plan = range(2000 if soak else 200)
    task = driver.spawn(serve)
    sent = []
    for _ in plan:
        arrived.clear()
        sent.append(monotonic())
        world.inject(1, b"x")
        assert arrived.wait(5)
    task.join(5)
    epoll.close()
    late = sorted(b - a for a, b in zip(sent, taken, strict=True))
    assert late[len(late) // 2] < 0.001
    if soak:
        assert late[len(late) * 99 // 100] < 0.001
