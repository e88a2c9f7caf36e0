"""``netstack bench``: the list, the report, the document and the check."""

import json

import pytest

from netstack.bench import catalogue
from netstack.bench.catalogue import Bench
from netstack.bench.result import BenchError, Result, Work
from netstack.cli.main import main


def measured(rounds, ratio):
    work = Work("speed", "speed", "MB/s", (ratio * 100.0,) * rounds, (100.0,) * rounds)
    return Result("some", rounds, "ours", "theirs", {"ours": {}, "theirs": {}}, [work])


@pytest.fixture(autouse=True)
def one_bench(monkeypatch):
    """A benchmark whose ratio can be chosen."""
    ratio = [0.5]

    def run(rounds, tell):
        tell("measuring")
        return measured(rounds, ratio[0])

    monkeypatch.setitem(catalogue.BENCHES, "some", Bench("a summary", lambda: run, 3))
    return ratio


def test_without_a_name_lists_what_there_is(capsys):
    assert main(["bench"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == list(catalogue.BENCHES)


def test_list_as_json(capsys):
    assert main(["bench", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "netstack.bench/1"
    assert document["benches"][-1] == {"name": "some", "summary": "a summary"}


def test_report_on_stdout_progress_on_stderr(capsys):
    assert main(["bench", "some"]) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines()[2].split("|")[1:5] == [
        " speed, MB/s ", " 50.0 ", " 100    ", " 0.500 ",
    ]  # fmt: skip
    assert shown.err == "measuring\n"


def test_json_says_schema_bench_and_rounds(capsys):
    assert main(["bench", "some", "--rounds", "2", "--json", "-q"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["bench"]) == ("netstack.bench/1", "some")
    assert document["works"][0]["ours"]["values"] == [50, 50]


@pytest.mark.parametrize(("ratio", "status"), [(0.5, 0), (0.125, 0), (0.12, 1)])
def test_check_fails_only_below_a_quarter_of_the_committed_ratio(
    capsys, tmp_path, one_bench, ratio, status
):
    path = str(tmp_path / "figures.json")
    assert main(["bench", "some", "--json", "-o", path]) == 0
    one_bench[0] = ratio
    assert main(["bench", "some", "--check", path, "-q"]) == status
    assert ("below 0.25 of the committed 0.5" in capsys.readouterr().err) == bool(status)


@pytest.mark.parametrize("content", ["", "[]", '{"schema": "netstack.bench/1", "bench": "tap"}'])
def test_check_against_something_else_is_one_line(capsys, tmp_path, content):
    path = tmp_path / "figures.json"
    path.write_text(content)
    assert main(["bench", "some", "--check", str(path)]) == 1
    assert capsys.readouterr().err == (
        f"netstack: {path}: no output of netstack bench some --json\n"
    )


def test_bench_that_cannot_run_here_is_one_line(capsys, monkeypatch):
    def run(rounds, tell):
        raise BenchError("needs root")

    monkeypatch.setitem(catalogue.BENCHES, "some", Bench("", lambda: run, 1))
    assert main(["bench", "some"]) == 1
    assert capsys.readouterr().err == "netstack: bench some: needs root\n"


@pytest.mark.parametrize(
    "arguments", [["nothing"], ["--rounds", "2"], ["some", "--rounds", "0"], ["--check", "x"]]
)
def test_usage_errors(arguments):
    assert main(["bench", *arguments]) == 2
