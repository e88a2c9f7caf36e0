"""Each row of ``attack_rows.txt`` has a test that names it, by ``tcp_07`` or ``TCP-07``."""

import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROWS = [
    line.split()[0]
    for line in (HERE / "attack_rows.txt").read_text().splitlines()
    if line and line[0] not in "#["
]
PREFIXES = "|".join({row.split("-")[0] for row in ROWS})
ID = re.compile(rf"(?:\btest_|\b)({PREFIXES})[-_](\d\d)(?!\d)", re.IGNORECASE)


@pytest.fixture(scope="module")
def named():
    """The ids that the functions, docstrings and comments of tests name."""
    found: set[str] = set()
    for path in HERE.rglob("test_*.py"):
        found.update(
            f"{prefix}-{number}".upper() for prefix, number in ID.findall(path.read_text())
        )
    return found


@pytest.mark.parametrize("row", ROWS)
def test_the_attack_has_a_test(named, row):
    assert row in named


def test_no_row_stands_twice():
    assert len(ROWS) == len(set(ROWS)) > 80
