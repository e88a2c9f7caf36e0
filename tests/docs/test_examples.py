"""Every code block of README and docs runs.

``python`` blocks run as they stand; a ``text`` block right behind one is its output. In
``console`` blocks, lines that begin with ``$`` or ``#`` are commands, the others their output,
compared up to numbers (``...`` stands for any lines). ``make fetch`` is run by what it runs;
other make targets must exist. What needs a TAP runs in a network namespace, benchmarks excepted:
they take minutes, and have their arguments checked.
"""

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from netstack.cli.main import build_parser

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OUTPUT = re.compile(r"\s*```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LANGUAGES = {"python", "console", "text", ""}


class Block(NamedTuple):
    place: str
    language: str
    code: str
    output: str | None


def blocks():
    for page in PAGES:
        text = page.read_text("utf-8")
        for match in BLOCK.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            output = OUTPUT.match(text, match.end())
            place = f"{page.relative_to(ROOT).as_posix()}:{line}"
            yield Block(place, match[1], match[2], output[1] if output else None)


BLOCKS = list(blocks())


def selected(language):
    return [pytest.param(block, id=block.place) for block in BLOCKS if block.language == language]


def run(command):
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, check=False, text=True, timeout=60,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


def normal(line):
    """Return ``line`` with every number alike and without alignment."""
    return re.sub(r"\s+", " ", re.sub(r"\d+(\.\d+)?", "N", line)).strip()


def matches(shown, real):
    """Return whether the lines ``shown`` are ``real``; ``...`` stands for any number of lines."""
    pattern = "".join(
        r"(?:.*\n)*" if line.strip() == "..." else re.escape(normal(line)) + r"\n"
        for line in shown
    )
    return re.fullmatch(pattern, "".join(normal(line) + "\n" for line in real)) is not None


def test_every_block_says_a_language_that_is_run():
    assert {block.language for block in BLOCKS} <= LANGUAGES


@pytest.mark.parametrize("block", selected("python"))
def test_python_block_runs(block):
    done = run([sys.executable, "-W", "error", "-c", block.code])
    assert done.returncode == 0, done.stderr
    if block.output is not None:
        assert matches(block.output.splitlines(), done.stdout.splitlines()), done.stdout


def steps(code):
    """Yield each command of a console block, and the lines shown below it."""
    command, shown = None, []
    for line in code.splitlines():
        if line.startswith(("$ ", "# ")):
            if command is not None:
                yield command, shown
            command, shown = line[2:], []
        elif command is not None and command.endswith("\\"):
            command = command[:-1] + line.strip()
        else:
            shown.append(line)
    if command is not None:
        yield command, shown


def check_command(command, shown):
    words = shlex.split(command, comments=True)
    while words and "=" in words[0]:
        words.pop(0)
    if words[:2] == ["make", "fetch"]:
        words = ["netstack", "fetch"]
    if words[0] == "make":
        done = run(["make", "--dry-run", *words[1:]])
    elif words[0] == "netstack" and ("--tap" in words or words[1] == "bench"):
        build_parser().parse_args(words[1:])
        return
    elif words[0] == "netstack":
        done = run([sys.executable, "-m", *words])
        real = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        wanted = [line for line in shown if line.strip()]
        assert not wanted or matches(wanted, real), done.stderr + done.stdout
    elif words[0] in ("pip", "curl", "nginx", "python3", "sleep"):
        return
    else:
        raise AssertionError(f"don't know how to try {command!r}")
    assert done.returncode == 0, done.stderr


def over_tap():
    return [each for each in selected("console") if "fetch" in each.values[0].code
            and "--tap" in each.values[0].code]  # fmt: skip


@pytest.mark.needs("tap", "netns", "unshare")
@pytest.mark.parametrize("block", over_tap())
def test_console_block_over_tap_runs(block):
    commands = [command for command, _ in steps(block.code)]
    script = "\n".join(["set -e", "ip link set lo up", *commands])
    script = script.replace("netstack fetch", f"{shlex.quote(sys.executable)} -m netstack fetch")
    inside = ["unshare", "--net", "--pid", "--fork", "--kill-child", "bash", "-c", script]
    done = run(inside)
    assert done.returncode == 0, done.stderr
    assert "HTTP/1.0 200 OK" in done.stderr


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.name)
def test_example_runs(path):
    done = run([sys.executable, "-W", "error", str(path)])
    assert done.returncode == 0, done.stderr
    assert "content verified" in done.stdout
    assert len(path.read_text("utf-8").splitlines()) <= 60


@pytest.mark.parametrize("block", selected("console"))
def test_console_block_runs(block):
    for command, shown in steps(block.code):
        check_command(command, shown)


def test_relative_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


NAMED = re.compile(r"`((?:core|wire|device|link|internet|transport|stack|socket|driver)\.[\w.]+)`")


def resolve(dotted):
    """Return the object that a dotted name below ``netstack`` means."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(["netstack", *parts[:end]]))
        except ModuleNotFoundError:
            continue
        for name in parts[end:]:
            found = getattr(found, name)
        return found
    raise LookupError(dotted)


@pytest.mark.parametrize(
    "name", sorted(set(NAMED.findall((ROOT / "docs" / "journey.md").read_text("utf-8"))))
)
def test_journey_names_what_exists(name):
    assert resolve(name) is not None
