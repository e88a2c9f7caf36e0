"""What an import may bring with it: the sans-IO rule, portability, and its cost."""

import importlib.util
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import netstack

SANS_IO = ("core", "wire", "capture", "link", "internet", "transport", "stack", "naming")
SANS_IO_APPS = (
    "app.dns.server", "app.dns.zone", "app.http.client", "app.http.connection", "app.http.content",
    "app.http.headers", "app.http.messages", "app.http.reader", "app.http.server",
    "app.http.writer",
)  # fmt: skip
SANS_IO_DEVICES = (
    "device.base", "device.offload", "device.cut", "device.merge", "device.cable",
    "device.impair", "device.queue", "device.loopback",
)  # fmt: skip
FORBIDDEN = (
    "socket", "select", "selectors", "ssl", "signal", "threading", "asyncio", "time", "random",
    "secrets", "os", "subprocess", "tempfile", "concurrent.futures",
)  # fmt: skip
LINUX_ONLY = {"netstack.device.tap", "netstack.device.packet_socket"}

# Loads every module named on the command line and says which forbidden ones its own imports ask
# for. Looking at the importer's name leaves out what the standard library imports for itself.
SPY = """
import builtins, importlib, sys
forbidden, names = sys.argv[1].split(","), sys.argv[2:]
# The one source of randomness, and the one switch read from the environment.
EXEMPT = ("netstack.core.rng", "netstack._ext", "netstack._ext.choose")
original, found = builtins.__import__, []
def spy(name, globals=None, locals=None, fromlist=(), level=0):
    importer = (globals or {}).get("__name__", "")
    if level == 0 and importer.startswith("netstack.") and importer not in EXEMPT:
        files = {"os"} if importer.startswith("netstack.capture") else set()
        asked = {name, *(f"{name}.{piece}" for piece in fromlist or ())}
        found.extend(f"{importer} imports {bad}" for bad in forbidden
                     if bad in asked - files)
    return original(name, globals, locals, fromlist, level)
builtins.__import__ = spy
for name in names:
    importlib.import_module(name)
for bad in forbidden:
    # A module that only this package could have brought in.
    if bad in sys.modules and bad in ("asyncio", "concurrent.futures", "secrets", "ssl",
                                      "subprocess", "tempfile", "socket", "selectors"):
        found.append(f"{bad} is loaded")
print("\\n".join(dict.fromkeys(found)))
"""

BLOCK_FCNTL = """
import importlib, sys
for name in ("fcntl", "termios", "resource", "pwd", "grp"):
    sys.modules[name] = None
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def modules():
    walked = pkgutil.walk_packages(netstack.__path__, "netstack.", onerror=lambda name: None)
    return sorted(found.name for found in walked if not found.name.endswith("__main__"))


def run(program, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(Path(netstack.__path__[0]).parent)}
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True, check=False, text=True, env=environment, timeout=60,
    )  # fmt: skip


def test_sans_io_layers_import_no_clock_socket_thread_or_randomness():
    names = [
        name
        for name in modules()
        if name.split(".")[1] in SANS_IO
        or name.removeprefix("netstack.") in (*SANS_IO_DEVICES, *SANS_IO_APPS)
    ]
    done = run(SPY, ",".join(FORBIDDEN), *names)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


def test_everything_but_tap_and_packet_socket_imports_without_fcntl():
    done = run(BLOCK_FCNTL, *(name for name in modules() if name not in LINUX_ONLY))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", sorted(netstack._PUBLIC))
def test_public_name_resolves(name):
    assert getattr(netstack, name) is not None


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = netstack.nonsense


def test_import_loads_none_of_the_layers():
    program = """
import netstack, sys
loaded = [name for name in sys.modules if "netstack." in name]
print([name for name in loaded if not name.startswith("netstack._ext")])
"""
    assert run(program).stdout.strip() == "['netstack._version']"


def test_import_costs_less_than_60_ms():
    # Of the processor, and the least of seven: what others run at the same time doesn't count.
    def seconds(program):
        before = os.times()
        assert run(program).returncode == 0
        after = os.times()
        spent = after.children_user + after.children_system
        return spent - before.children_user - before.children_system

    def least(program):
        return min(seconds(program) for _ in range(7))

    assert least("import netstack") - least("") < 0.060


def test_version_stands_in_one_place():
    assert netstack.__version__ == importlib.import_module("netstack._version").__version__
    root = Path(netstack.__path__[0])
    holders = [
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if f'"{netstack.__version__}"' in path.read_text("utf-8")
    ]
    assert holders == ["_version.py"]


MUTABLE = (list, dict, set, bytearray)


def module_state(name):
    """Yield the module-level names bound to something mutable that are not written in capitals."""
    module = importlib.import_module(name)
    for key, value in vars(module).items():
        constant = key.strip("_").isupper() or (key.startswith("__") and key.endswith("__"))
        if isinstance(value, MUTABLE) and not constant:
            yield f"{name}.{key}"


def test_no_module_holds_mutable_state():
    names = [name for name in modules() if name not in LINUX_ONLY]
    assert [found for name in names for found in module_state(name)] == []
