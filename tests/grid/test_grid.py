"""The simulation grid against its snapshot: a cell that fell by more than 5 % fails.

After a change that moves figures on purpose, ``make grid`` writes the snapshot anew; its
difference and the reason belong into the commit.
"""

from pathlib import Path

import pytest

from netstack.bench.grid import CELLS, SEEDS, Cell, goodput, line, load, mean

SNAPSHOTS = {
    True: Path(__file__).with_name("snapshot.txt"),
    False: Path(__file__).with_name("snapshot_singles.txt"),
}
SOME = [CELLS[each * len(CELLS) // 40] for each in range(40)]


@pytest.fixture
def snapshot(super_segments):
    return load(SNAPSHOTS[super_segments])


def test_snapshot_has_every_cell_once(snapshot):
    assert list(snapshot) == [cell.name for cell in CELLS]
    assert len(CELLS) == len(snapshot) == 180


def test_some_cells_have_every_value():
    for column in range(len(Cell._fields)):
        assert {cell[column] for cell in SOME} == {cell[column] for cell in CELLS}


def test_line_reads_back(tmp_path):
    cell = Cell("cubic", 0.01, 0.1, None, True)
    path = tmp_path / "snapshot.txt"
    path.write_text(line(cell, [1000.0, 4000.0]) + "\n", encoding="utf-8")
    assert load(path) == {"cubic loss=1% rtt=100ms buffer=auto reordered": [2.0, 1.0, 4.0]}


@pytest.mark.parametrize("cell", SOME, ids=lambda cell: cell.name.replace(" ", "-"))
def test_cell_is_not_slower(cell, snapshot, super_segments):
    figure = goodput(cell, SEEDS[0], super_segments=super_segments) / 1000
    assert figure >= 0.95 * snapshot[cell.name][1]


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_no_cell_of_all_is_slower_in_the_mean(snapshot, super_segments):
    slower = {}
    for cell in CELLS:
        each = [goodput(cell, seed, super_segments=super_segments) for seed in SEEDS]
        figure = mean(each) / 1000
        if figure < 0.95 * snapshot[cell.name][0]:
            slower[cell.name] = (snapshot[cell.name][0], round(figure, 1))
    assert not slower
