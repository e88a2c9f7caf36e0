"""What all tests share: which of them run here, and that none is skipped in silence.

``@pytest.mark.needs("tap", "tshark")`` deselects a test where something is missing and says so in
one line (``not run: tap (no CAP_NET_ADMIN)``). ``NETSTACK_TEST_REQUIRE=all``, or names separated
by spaces, turns a missing thing into an error; ``NETSTACK_TEST_WITHOUT=tap`` pretends that it is
missing. ``sources`` are missing where compiled modules run in their place; the pure run has those
tests, so that nothing requires them. ``soak`` and ``bench`` tests run only if ``-m`` names them.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import struct
import subprocess
from functools import cache

import pytest
from hypothesis import settings

from netstack import _ext
from netstack._ext import choose

pytest_plugins = ["both_ways", "tcp_peer"]

# One example set for everybody: main is green or it is not. `make soak` looks for new examples.
settings.register_profile("fixed", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=2000, print_blob=True)

_ASKED_ONLY = ("soak", "bench")
_PACKAGES = frozenset({"scapy", "dpkt", "h11", "dns", "rich", "shtab", "build", "Cython"})
_SBIN = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))


def _without_kernels() -> str | None:
    return None if _ext.COMPILED else _ext.REASON


def _without_tap() -> str | None:
    """Say why no TAP device can be made; tried, since containers differ in what they allow."""
    try:
        import fcntl
    except ImportError:
        return "not Linux"
    request = struct.pack("16sH22x", b"", 0x0002 | 0x1000)  # IFF_TAP | IFF_NO_PI
    try:
        descriptor = os.open("/dev/net/tun", os.O_RDWR)
    except OSError as error:
        return f"/dev/net/tun: {error.strerror}"
    try:
        fcntl.ioctl(descriptor, 0x400454CA, request)  # TUNSETIFF
    except PermissionError:
        return "no CAP_NET_ADMIN"
    except OSError as error:
        return f"/dev/net/tun: {error.strerror}"
    finally:
        os.close(descriptor)
    return None


def _without_netns() -> str | None:
    if shutil.which("ip", path=_SBIN) is None:
        return "no ip command"
    try:
        done = subprocess.run(
            ["unshare", "--net", "true"], check=False, capture_output=True, timeout=30
        )
    except OSError as error:
        return str(error)
    return None if done.returncode == 0 else "no CAP_SYS_ADMIN"


def _without_sources() -> str | None:
    return "compiled modules run" if choose.COMPILED else None


_CHECKS = {
    "kernels": _without_kernels,
    "modules": lambda: None if choose.COMPILED else choose.REASON,
    "sources": _without_sources,
    "tap": _without_tap,
    "netns": _without_netns,
}


@cache
def missing(name: str) -> str | None:
    """Return why ``name`` is not here, or None if it is."""
    if name in os.environ.get("NETSTACK_TEST_WITHOUT", "").split():
        return "NETSTACK_TEST_WITHOUT"
    if name in _CHECKS:
        return _CHECKS[name]()
    if name in _PACKAGES:
        return None if importlib.util.find_spec(name) else "no such package"
    return None if shutil.which(name, path=_SBIN) else "no such command"


def _missing_of(item: pytest.Item) -> dict[str, str]:
    names = [name for mark in item.iter_markers("needs") for name in mark.args]
    return {name: reason for name in names if (reason := missing(name)) is not None}


def _not_asked_for(item: pytest.Item, expression: str) -> bool:
    return any(
        item.get_closest_marker(name) is not None and name not in expression
        for name in _ASKED_ONLY
    )


class _Selection:
    """What was left out of this run, and what was skipped although nothing may be."""

    def __init__(self) -> None:
        self.left_out: dict[str, list[str]] = {}  # name -> reason, then the tests
        self.skipped: list[str] = []

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        expression = config.option.markexpr
        kept, dropped = [], []
        for item in items:
            lacking = {} if _not_asked_for(item, expression) else _missing_of(item)
            for name, reason in lacking.items():
                self.left_out.setdefault(f"{name} ({reason})", []).append(item.nodeid)
            out = lacking or _not_asked_for(item, expression)
            (dropped if out else kept).append(item)
        if dropped:
            config.hook.pytest_deselected(items=dropped)
            items[:] = kept
        self._require(os.environ.get("NETSTACK_TEST_REQUIRE", "").split())

    def _require(self, required: list[str]) -> None:
        lacking = [
            what
            for what in self.left_out
            if ("all" in required and what.split()[0] != "sources") or what.split()[0] in required
        ]
        if lacking:
            raise pytest.UsageError(f"required by NETSTACK_TEST_REQUIRE: {', '.join(lacking)}")

    def pytest_report_collectionfinish(self) -> list[str]:
        return [f"not run: {what}" for what in sorted(self.left_out)]

    def _note(self, report: pytest.CollectReport | pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self.skipped.append(report.nodeid)

    pytest_runtest_logreport = _note
    pytest_collectreport = _note

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for nodeid in self.skipped:
            terminalreporter.write_line(f"skipped, and nothing may be: {nodeid}", red=True)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.skipped and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("search" if "soak" in (config.option.markexpr or "") else "fixed")
    config.pluginmanager.register(_Selection(), "netstack-selection")
