"""Receive buffers that are used again once nothing refers to them."""

from __future__ import annotations

import pytest

from netstack.device import pool as pool_module
from netstack.device.pool import MAX_LENT, SIZE, BufferPool


@pytest.fixture
def pool() -> BufferPool:
    return BufferPool()


def test_buffer_that_was_not_handed_out_is_used_again(pool):
    buffer = pool.take()
    assert len(buffer) == SIZE
    pool.keep(buffer)
    assert pool.take() is buffer


def test_buffer_comes_back_when_its_last_view_is_gone(pool):
    buffer = pool.take()
    pool.lend(buffer)
    number = id(buffer)
    view = memoryview(buffer)[10:]
    piece = view[5:20].toreadonly()
    del buffer, view
    assert id(pool.take()) != number
    del piece
    assert id(pool.take()) == number
    assert pool.made == 2


def test_buffer_that_is_kept_long_does_not_hide_the_rest(pool):
    kept = [memoryview(pool.take()) for _ in range(3)]
    for view in kept:
        pool.lend(view.obj)
    del view
    kept[1:] = []  # the oldest stays
    for _ in range(10):
        buffer = pool.take()
        held = memoryview(buffer)
        pool.lend(buffer)
        del buffer, held
    assert pool.made <= 4


def test_only_so_many_are_followed(pool):
    views = []
    for _ in range(MAX_LENT + 10):
        buffer = pool.take()
        views.append(memoryview(buffer))
        pool.lend(buffer)
    del buffer
    views.clear()
    for _ in range(2 * MAX_LENT):
        pool.keep(pool.take())
    assert pool.made == MAX_LENT + 10


def test_without_counts_each_frame_gets_a_fresh_buffer(pool, monkeypatch):
    monkeypatch.setattr(pool_module, "count_references", None)
    buffer = pool.take()
    pool.lend(buffer)
    number = id(buffer)
    del buffer
    fresh = pool.take()
    assert id(fresh) != number
