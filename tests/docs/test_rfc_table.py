"""docs/rfc.md names modules and tests that exist, and forgets no requirement of RFC 9293."""

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "rfc.md"
IDS = Path(__file__).with_name("rfc9293_ids.txt")  # appendix B; some ids hold several rules
STATES = {"met", "not taken", "deviation", "application", "not yet"}
NAMED = re.compile(r"`([^`\s]+\.(?:py|script)(?:::\w+)?)`")
RFCS = {
    1191, 1337, 2018, 2883, 3042, 3168, 3465, 3708, 4821, 4987, 5482, 5681, 5682, 5927, 5961,
    6056, 6093, 6191, 6298, 6528, 6582, 6675, 6928, 7323, 7413, 7661, 8985, 9293, 9406, 9438,
    9937,
}  # fmt: skip


class Row(NamedTuple):
    rfc: int
    id: str
    section: str
    text: str
    state: str
    modules: list[str]
    tests: list[str]
    reason: str


def rows():
    rfc = 0
    for line in PAGE.read_text("utf-8").splitlines():
        if line.startswith("## RFC "):
            rfc = int(re.findall(r"\d+", line)[0])
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if not cells or cells[0] in ("Id", "Section") or set(cells[0]) <= {"-"}:
            continue
        if rfc != 9293:
            cells.insert(0, "")
        name, section, text, state, modules, last = cells
        reason = re.sub(r"[\s,.]+", " ", NAMED.sub("", last)).strip()
        yield Row(
            rfc, name, section, text, state, NAMED.findall(modules), NAMED.findall(last), reason
        )


ROWS = list(rows())
EACH = pytest.mark.parametrize(
    "row", [pytest.param(row, id=f"{row.rfc}-{row.id or row.section}") for row in ROWS]
)


@cache
def functions_of(path):
    tree = ast.parse(path.read_text("utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@EACH
def test_modules_and_tests_that_are_named_exist(row):
    for module in row.modules:
        assert (ROOT / "netstack" / module).is_file(), module
    for name in row.tests:
        file, _, function = name.partition("::")
        path = ROOT / "tests" / file
        assert path.is_file(), name
        if path.suffix == ".py":
            assert function.startswith("test_"), name
            assert function in functions_of(path), name


@EACH
def test_state_has_what_it_needs(row):
    assert row.state in STATES
    assert row.text
    assert row.section
    if row.state == "met":
        assert row.modules, "which module?"
        assert row.tests, "shown by which test?"
    else:
        assert row.reason, "for what reason?"
    if row.state in ("not taken", "application"):
        assert not row.id.startswith("MUST"), "a MUST is met or deviated from"


def test_every_requirement_has_its_row():
    wanted = Counter(IDS.read_text("ascii").split())
    assert Counter(row.id for row in ROWS if row.rfc == 9293) == wanted


def test_every_rfc_has_its_rows():
    assert {row.rfc for row in ROWS} == RFCS
