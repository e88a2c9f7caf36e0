"""Whether compiled modules or their sources run: decided once, for all of them together."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import SimpleNamespace

import pytest

import netstack
from netstack._ext import choose

ROOT = Path(netstack.__path__[0]).parent
SUFFIX = EXTENSION_SUFFIXES[0]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Two modules of a package, built from the sources that are there."""
    root, folder = tmp_path, tmp_path / "compiled"
    names = ("some.one", "some.two")
    sources = {}
    for name in names:
        path = (root / Path(*name.split("."))).with_suffix(".py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"# {name}\n")
        sources[name] = choose.fingerprint(path.read_bytes())
        built = folder / (name.split(".")[1] + SUFFIX)
        built.parent.mkdir(exist_ok=True)
        built.touch()
    manifest = SimpleNamespace(SOURCES=sources, CIRCLE="", FIRST="")
    monkeypatch.setattr(choose, "import_module", lambda name: manifest)
    monkeypatch.delenv("NETSTACK_PURE", raising=False)
    return SimpleNamespace(
        root=root, folder=folder, decide=lambda: choose.decide(str(folder), str(root))
    )


def run(program, **environment):
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return done.stdout.strip()


def test_compiled_modules_that_fit_their_sources_are_found(package):
    finder, reason = package.decide()
    assert reason == ""
    found = finder.find_spec("some.one")
    assert found.origin == str(package.folder / f"one{SUFFIX}")
    assert finder.find_spec("some") is None
    assert finder.find_spec("some.three") is None


def test_one_edited_source_makes_all_sources_run(package):
    (package.root / "some" / "two.py").write_text("# some.twO\n")
    assert package.decide() == (None, "stale: some.two was edited since it was compiled")


def test_one_missing_module_makes_all_sources_run(package):
    (package.folder / f"two{SUFFIX}").unlink()
    assert package.decide() == (None, "some.two was not built")


def test_missing_source_makes_all_sources_run(package):
    (package.root / "some" / "two.py").unlink()
    assert package.decide() == (None, "some.two: No such file or directory")


@pytest.mark.parametrize("value", ["1", "stack", "yes"])
def test_environment_asks_for_sources(package, monkeypatch, value):
    monkeypatch.setenv("NETSTACK_PURE", value)
    assert package.decide() == (None, "NETSTACK_PURE is set")


def test_without_a_build_sources_run(package, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(choose, "import_module", missing)
    assert package.decide() == (None, "not built")


WHERE = "import netstack.wire.tcp as module; print(module.__file__)"


def test_sources_run_when_asked_for():
    assert run(WHERE, NETSTACK_PURE="1").endswith("tcp.py")
    assert run(WHERE, NETSTACK_PURE="stack").endswith("tcp.py")


def test_kernels_stay_when_only_the_modules_are_to_be_sources():
    program = "from netstack import _ext; print(_ext.REASON)"
    assert run(program, NETSTACK_PURE="stack") != "NETSTACK_PURE is set"


FIRST = sorted(
    f"netstack.transport.tcp.{path.stem}"
    for path in (ROOT / "netstack" / "transport" / "tcp").glob("*.py")
)


@pytest.mark.needs("modules")
@pytest.mark.parametrize("first", [*FIRST, "netstack.stack", "netstack.link.ethernet"])
def test_any_module_can_be_the_first_to_be_loaded(first):
    first = first.removesuffix(".__init__")
    program = f"""
import sys, netstack, {first}, netstack.stack
from netstack._ext.compiled import manifest
print({first}.__spec__.name)
print([name for name in manifest.SOURCES
       if name in sys.modules and not sys.modules[name].__file__.endswith({SUFFIX!r})])
"""
    assert run(program).split("\n") == [first, "[]"]


@pytest.mark.needs("modules")
def test_classes_of_compiled_modules_are_extension_types():
    from netstack.transport.tcp.connection import Connection

    assert type(Connection.sender).__name__ == "getset_descriptor"
    assert Connection.__module__ == "netstack.transport.tcp.connection"
