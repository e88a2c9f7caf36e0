"""The one place that decides whether the compiled modules or their sources run.

``setup.py`` compiles the modules of the path that each segment takes from the very sources that
lie here, into ``_ext/compiled/``, apart from them: a binary beside its source would always win.
``install`` makes the import system load them under their usual names if all of these hold:
``NETSTACK_PURE`` is not set; every module of the set was built; and each source is, octet for
octet, the one that was compiled, so that an edit never runs as the old binary. Otherwise all
sources run. ``COMPILED`` and ``REASON`` say what was decided.

The set is one: compiled modules know each other's objects by their layout in memory. They also
load each other before their own first line runs; where that goes in circles (TCP), one of them
is always the first to be loaded, whichever was asked for.
"""

from __future__ import annotations

import os
import sys
from binascii import crc32
from importlib import import_module
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec

TYPE_CHECKING = False  # `typing` would be most of what `import netstack` costs
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from importlib.abc import Loader
    from types import ModuleType
else:
    Loader = object

COMPILED = False
REASON = ""
MANIFEST = "netstack._ext.compiled.manifest"

_HERE = os.path.dirname(os.path.abspath(__file__))
_ROOT = os.path.dirname(os.path.dirname(_HERE))


def fingerprint(source: bytes) -> tuple[int, int]:
    """Return what tells one source from another."""
    return len(source), crc32(source)


class Loaded(Loader):
    """Hands out a module that was loaded while the first of its circle was."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module that is there."""
        module = sys.modules[spec.name]
        if module.__spec__ is not None:
            spec.loader, spec.has_location = module.__spec__.loader, True  # its own stays
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: it was done."""


class Finder:
    """Finds the compiled modules; ``sys.meta_path`` asks it first."""

    def __init__(self, files: Mapping[str, str], circle: str = "", first: str = "") -> None:
        self._files = files
        self._circle = circle
        self._first = first

    def find_spec(
        self, name: str, path: object = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where the compiled module ``name`` is; None if it is not one of them."""
        if self._circle and name.startswith(self._circle) and self._first not in sys.modules:
            if name != self._first:
                import_module(self._first)
            if name in sys.modules:
                return ModuleSpec(name, Loaded(), origin=sys.modules[name].__file__)
        file = self._files.get(name)
        if file is None:
            return None
        spec = ModuleSpec(name, ExtensionFileLoader(name, file), origin=file)
        spec.has_location = True
        return spec


def why_not(sources: Mapping[str, tuple[int, int]], root: str) -> str:
    """Return why the compiled modules can't stand for the sources below ``root``, or nothing."""
    for name, built_from in sources.items():
        path = os.path.join(root, *name.split(".")) + ".py"
        try:
            with open(path, "rb") as file:
                same = fingerprint(file.read()) == tuple(built_from)
        except OSError as error:
            return f"{name}: {error.strerror}"
        if not same:
            return f"stale: {name} was edited since it was compiled"
    return ""


def compiled_files(names: Sequence[str], folder: str) -> dict[str, str]:
    """Return the compiled files of ``names`` that there are in ``folder``."""
    found = {}
    for name in names:
        path = os.path.join(folder, *name.split(".")[1:]) + EXTENSION_SUFFIXES[0]
        if os.path.exists(path):
            found[name] = path
    return found


def decide(folder: str, root: str) -> tuple[Finder | None, str]:
    """Return a finder of the compiled modules in ``folder``, or None and why not."""
    if os.environ.get("NETSTACK_PURE", "") not in ("", "0"):
        return None, "NETSTACK_PURE is set"
    try:
        manifest = import_module(MANIFEST)
    except ModuleNotFoundError:
        return None, "not built"
    except ImportError as error:
        return None, str(error)
    files = compiled_files(manifest.SOURCES, folder)
    for name in manifest.SOURCES:
        if name not in files:
            return None, f"{name} was not built"
    reason = why_not(manifest.SOURCES, root)
    return (None, reason) if reason else (Finder(files, manifest.CIRCLE, manifest.FIRST), "")


def install() -> None:
    """Decide, and let the import system know."""
    global COMPILED, REASON
    finder, REASON = decide(os.path.join(_HERE, "compiled"), _ROOT)
    if finder is not None:
        COMPILED = True
        sys.meta_path.insert(0, finder)
