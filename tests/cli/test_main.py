"""The command line's contract: exit statuses, one line an error, quiet pipes."""

import gc
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from netstack import _ext
from netstack._ext import choose
from netstack.cli.main import main
from netstack.cli.serve import frozen_survivors
from netstack.core.errors import DeviceError


def netstack(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "netstack", *arguments],
        capture_output=True, check=False, text=True, timeout=60, stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )  # fmt: skip


def one_line(text):
    return text.count("\n") == 1 and text.startswith("netstack: ") and "Traceback" not in text


def test_version_says_which_kernels(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    said = "kernels: compiled" if _ext.COMPILED else f"pure ({_ext.REASON})"
    modules = "compiled" if choose.COMPILED else f"sources ({choose.REASON})"
    assert capsys.readouterr().out == f"0.1.0, {said}, modules: {modules}\n"


def test_pure_version_gives_the_reason():
    done = netstack("--version", NETSTACK_PURE="1")
    reason = "(NETSTACK_PURE is set)"
    assert done.stdout == f"0.1.0, pure {reason}, modules: sources {reason}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["fetch", "--time"],
        ["fetch", "--max-redir", "3"],  # no abbreviations
        ["fetch", "--tap", "tap0"],
        ["fetch", "--pcap-raw", "file"],
        ["ping", "--tap", "t", "--address", "192.0.2.1/24", "--pcap", "f", "--pcap-raw", "f", "a"],
        ["fetch", "--tap", "tap0", "--address", "192.0.2.1/24"],
        ["fetch", "--address", "192.0.2.1/24"],
        ["fetch", "--tap", "tap0", "--address", "192.0.2.1"],
        ["fetch", "-H", "nonsense"],
        ["fetch", "http://"],
        ["fetch", "--resolve", "x:y"],
        ["dig"],
        ["dig", "a.test", "NONSENSE"],
        ["dig", "@nowhere", "a.test"],
        ["ping", "web.test", "-s", "65508"],
        ["ping", "web.test", "-c", "0"],
        ["fetch", "--max-redirects", "-1"],
        ["fetch", "-m", "nan"],
        [
            "fetch",
            "http://192.0.2.1/",
            "--tap",
            "tap0",
            "--address",
            "192.0.2.2/24",
            "--mtu",
            "67",
        ],
        ["serve", "--echo", "7"],
        ["serve", "--tap", "tap0", "--address", "192.0.2.1/24"],
        ["serve", "--tap", "tap0", "--address", "192.0.2.1/24", "--http", "80"],
    ],
    ids=" ".join,
)
def test_usage_error_is_one_line_and_status_2(arguments, capsys):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert one_line(captured.err), captured.err


@pytest.mark.parametrize(
    "arguments",
    [["fetch", "http://example.com/"], ["dig", "example.com"], ["ping", "example.com"]],
    ids=" ".join,
)
def test_name_outside_the_built_in_internet_says_what_to_add(arguments, capsys):
    assert main(arguments) == 1
    assert capsys.readouterr().err == (
        "netstack: example.com is not in the built-in internet; "
        "for the real network add --tap NAME --address CIDR\n"
    )


def test_no_command_shows_the_help(capsys):
    assert main([]) == 2
    assert "fetch" in capsys.readouterr().out


def test_file_that_cannot_be_written_is_one_line(capsys, tmp_path):
    assert main(["fetch", "-q", "-o", str(tmp_path / "no" / "file")]) == 1
    assert one_line(capsys.readouterr().err)


@pytest.mark.needs("shtab")
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_is_printed(shell, capsys):
    assert main(["completion", shell]) == 0
    assert "netstack" in capsys.readouterr().out


def test_closed_pipe_ends_quietly():
    process = subprocess.Popen(
        [sys.executable, "-m", "netstack", "fetch", "-q", "-i"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    process.stdout.close()
    error = process.stderr.read()
    process.stderr.close()
    assert process.wait(30) == 0
    assert error == b""


@pytest.mark.parametrize(
    ("closed", "status"),
    [("<&-", 0), ("2>&-", 0), (">&-", 1), ("<&- >&- 2>&-", 1)],
)
def test_streams_closed_at_the_start_bring_no_traceback(closed, status):
    done = subprocess.run(
        ["sh", "-c", f'"$0" -m netstack fetch {closed}', sys.executable],
        capture_output=True, check=False, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == status
    assert "Traceback" not in done.stderr
    if status == 0:
        assert done.stdout.endswith("</html>\n")
    elif done.stderr:
        assert done.stderr.endswith("netstack: standard output is closed\n")


def test_bad_argument_is_told_in_the_words_of_its_type(capsys):
    assert main(["fetch", "--tap", "tap0", "--address", "banana"]) == 2
    told = capsys.readouterr().err
    assert "banana" in told
    assert "invalid" not in told


def test_interrupt_ends_within_a_second_with_130():
    process = subprocess.Popen(
        [sys.executable, "-c",
         "import sys, time\n"
         "import netstack.cli.fetch as fetch\n"
         "from netstack.cli.main import main\n"
         "fetch.parse_url = lambda text: (print('here', flush=True), time.sleep(60))\n"
         "sys.exit(main(['fetch']))"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "here\n"
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert error == ""
    assert time.monotonic() - started < 1.0


def test_json_is_one_document_with_its_schema(capsys):
    assert main(["fetch", "-q", "--json"]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert captured.out.count("\n") == 1
    assert captured.err == ""
    assert document["schema"] == "netstack.fetch/1"
    assert document["status"] == 200


def test_pcap_raw_reaches_the_device(monkeypatch, capsys):
    given = {}

    def refuse(name, **options):
        given.update(options)
        raise DeviceError("enough seen")

    monkeypatch.setattr("netstack.cli.common.tap", refuse)
    real = ["--tap", "tap0", "--address", "192.0.2.2/24", "--pcap", "w", "--pcap-raw", "r"]
    assert main(["ping", *real, "192.0.2.1"]) == 1
    assert (given["pcap"], given["pcap_raw"]) == ("w", "r")
    assert capsys.readouterr().err == "netstack: enough seen\n"


def test_what_a_full_collection_of_the_server_left_is_not_visited_again():
    before = gc.get_freeze_count()
    with frozen_survivors():
        gc.collect(1)
        assert gc.get_freeze_count() == before
        gc.collect()
        assert gc.get_freeze_count() > before
    assert gc.get_freeze_count() == 0
