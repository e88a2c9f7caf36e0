"""Every scenario of TCP with super-segments on and off: a pytest plugin.

Whatever uses ``both_ways`` runs twice: ``[supers]`` and ``[singles]``, where each transmission is
one wire segment. It moves the default of ``TcpConfig``, so that a scenario need not know of it;
a test that has its own parameter ``super_segments`` keeps it. ``either_way`` is for what takes
long: one of the two, drawn by the test's name, belongs to the soak.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import fields
from typing import TYPE_CHECKING

import pytest

from netstack.core.config import TcpConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

WAYS = ("supers", "singles")


@pytest.fixture(params=[True, False], ids=WAYS)
def super_segments(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def both_ways(super_segments: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = {each.name: each.default for each in fields(TcpConfig)}
    defaults["super_segments"] = super_segments
    monkeypatch.setattr(TcpConfig.__init__, "__defaults__", tuple(defaults.values()))


@pytest.fixture
def either_way(both_ways: None) -> None:
    """Both ways, one of them in the soak only."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    for item in items:
        _, _, parameters = item.nodeid.partition("[")
        ways = [way for way in WAYS if way in re.split(r"[\[\]-]", parameters)]
        if not ways or "either_way" not in item.fixturenames:
            continue
        drawn = zlib.crc32(item.nodeid.replace(ways[0], "").encode()) % len(WAYS)
        if WAYS.index(ways[0]) != drawn:
            item.add_marker(pytest.mark.soak)
