"""What C is told in other words: the same program, line by line."""

from __future__ import annotations

import ast

import declare
import pytest

OTHER = """
from enum import Enum

LIMIT = 4 * 1024
TWICE = 1
TWICE = 2


class Kind(Enum):
    ONE = 1


class Box:
    __slots__ = ("size",)

    def __init__(self, size: int, *, spare: int = 0) -> None:
        self.size: int = size + spare

    @property
    def half(self) -> int:
        return self.size // 2

    def grow(self, by: int, *, twice: bool = False) -> None:
        self.size += by


def make(number: int = 1, more: int = 2) -> int:
    return number + more
"""

NAMES = "LIMIT, TWICE, Box, Kind, make"


@pytest.fixture
def reworded(tmp_path, monkeypatch):
    """Return a function: how a module that imports ``package.other`` is worded for C."""
    package = tmp_path / "package"
    package.mkdir()
    monkeypatch.chdir(tmp_path)

    def reword(source, circle="none."):
        (package / "other.py").write_text(OTHER)
        (package / "one.py").write_text(source)
        names = ("package.one", "package.other")
        sources = {name: name.replace(".", "/") + ".py" for name in names}
        found = declare.write(sources, "declared", (), circle)
        text = (tmp_path / found["package.one"][0]).read_text()
        ast.parse(text)
        original = source.split("\n")
        assert len(text.split("\n")) >= len(original)  # lines keep their numbers
        return text.split("\n")[: len(original)]

    return reword


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("return LIMIT + 1", "return 4096 + 1"),
        ("return TWICE", "return TWICE"),  # named more than once: no constant
        ("return Kind.ONE", "return _Kind_ONE"),
        ("return f'{LIMIT}'", "return f'{LIMIT}'"),  # its columns can't be trusted
        ("return box.half", "return _get_Box_half(box)"),
        ("return Box(3).half", "return _get_Box_half(_make_Box(3))"),
        ("return Box(size=LIMIT)", "return _make_Box(size=4096)"),
        ("return box.size", "return box.size"),
        ("return box.grow", 'return getattr(box, "grow")'),
        ("return box.grow(2)", "return box.grow(2)"),
        ("return make", 'return globals()["make"]'),
        ("return make(more=5)", "return make(more=5, number=1)"),
        ("return unknown.half", "return unknown.half"),
        ("return box.size & 0xFFFFFFFF", "return box.size & _large_4294967295"),
        ("return -0x80000000", "return -_large_2147483648"),
        ("return 0x7FFFFFFF", "return 0x7FFFFFFF"),
        ("return 1 << 63, 0x8000000000000000", "return 1 << 63, 0x8000000000000000"),
    ],
)
def test_a_line_is_reworded(reworded, line, expected):
    source = f"from package.other import {NAMES}\ndef f(box: Box):\n    {line}"
    assert reworded(source)[2].strip() == expected


def test_a_local_name_is_no_constant(reworded):
    source = "from package.other import LIMIT\ndef f(LIMIT: int) -> int:\n    return LIMIT"
    assert reworded(source)[2] == "    return LIMIT"


def test_keyword_only_arguments_may_be_passed_by_position(reworded):
    source = "def f(a: int, *, b: int = 1) -> int:\n    return a + b"
    assert reworded(source)[0].replace("  ", " ") == "def f(a: int, b: int = 1) -> int:"


def test_a_needed_keyword_only_argument_behind_an_optional_one_stays_so(reworded):
    source = "def f(a: int = 1, *, b: int) -> int:\n    return a + b"
    assert reworded(source)[0] == source.split("\n")[0]


def test_within_the_circle_imports_leave_out_what_c_links(reworded):
    source = "from package.other import (\n    LIMIT,\n    Box,\n    Kind,\n)\nvalue = LIMIT"
    lines = reworded(source, circle="package.")
    assert lines[0] == "LIMIT = 4096; from package.other import Kind"
    assert lines[1:5] == ["", "", "", ""]
    assert lines[5] == "value = LIMIT"


def test_class_variables_of_extension_types_lose_their_annotation(reworded):
    source = "class A:\n    __slots__ = ()\n    kind: ClassVar[int]\n    other: ClassVar[int] = 3"
    assert reworded(source)[2:] == ["    pass", "    other = 3"]


def test_slots_are_declared_as_fields_and_methods_for_c(reworded, tmp_path):
    reworded("from package.other import Box\ndef f(box: Box) -> None: ...")
    text = (tmp_path / "declared/common/package/other.pxd").read_text()
    assert "cdef class Box:\n    cdef public long long size\n" in text
    assert "cpdef object grow(self, long long by, bint twice=*)" in text
    assert "cpdef Box _make_Box(long long size, long long spare=*)" in text
    assert "cpdef long long _get_Box_half(Box self) except? -1" in text


def test_a_large_number_is_declared_with_its_type(reworded, tmp_path):
    """C would take it for an object, and so all that is computed with it."""
    reworded("def f(seq: int) -> int:\n    return seq & 0xFFFFFFFF")
    text = (tmp_path / "declared/of/package.one/package/one.pxd").read_text()
    assert 'const long long _large_4294967295 "4294967295LL"' in text
