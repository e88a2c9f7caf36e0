"""The scripts' own rules: what matches, what doesn't, and what a failure prints."""

import pytest
from tcp_script import Script, ScriptError

OPEN = """\
use sack
+0    + send 10
"""


def failure(text):
    with pytest.raises(pytest.fail.Exception) as info:
        Script(text, "test").run()
    return str(info.value).splitlines()


def test_script_in_a_docstring_is_played(play):
    """
    use plain
    +0    + send "hello"
    +0    > PA 1:6 ack 1 "hello"
    +0.1  < PA 1:6 ack 6 "there"
    +0    + read 100 = "there"
    +0.04 > A 6:6 ack 6
    """
    play()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("+0    > A 1:11 ack 1", "flags: expected A, got PA"),
        ("+0    > PA 2:12 ack 1", "seq: expected 2, got 1"),
        ("+0    > PA 1:12 ack 1", "end: expected 12, got 11"),
        ("+0    > PA 1:11 ack 2", "ack: expected 2, got 1"),
        ("+0    > PA 1:11 win ~1..9", "win: expected ~1..9, got 131072"),
        ("+0    > PA 1:11 <nop,sack 1:2>", "option: expected sack 1:2, it is missing"),
        ('+0    > PA 1:11 "0123456789"', "data: expected b'0123456789'"),
        ("+0.1  > PA 1:11", "time: expected 0.2000..0.2000, left at 0.1000"),
        ("+0    < A 1:1 ack 11", "no line expects what left at 0.1000"),
        ("+0    % cwnd == 7", "does not hold: cwnd == 7, with {'cwnd': 10000}"),
        ("+0    > [ce] PA 1:11", "ecn: expected 3, got 0"),
    ],
)
def test_a_failure_names_the_field_that_differs(line, message):
    assert message in failure(OPEN + line)[0]


def test_a_failure_prints_the_script_so_far_and_what_was_seen():
    lines = failure(OPEN + "+0    > PA 1:12 ack 1")
    assert lines[0] == "test:3: end: expected 12, got 11"
    assert lines[1] == "     0.0000  0.000 + listen 80"
    assert lines[-3] == ">    0.1000  +0    > PA 1:12 ack 1"
    assert lines[-1].split(maxsplit=1)[1] == "> PA 1:11 ack 1 win 131072 <>"


@pytest.mark.parametrize(
    "line", ["> P?A 1:11 ack *", "> * 1:11", "> *", "> PA 1:11 ack ~1..2 win * <...>", "> AP"]
)
def test_what_is_left_open_matches(line):
    Script(f"{OPEN}* {line}\n", "test").run()


def test_what_no_line_expects_is_a_failure_at_the_end():
    assert "something left that no line expects" in failure(OPEN)[0]


def test_silence_where_something_must_leave_is_a_failure():
    assert "nothing left until 0.1000" in failure("use sack\n+0    > A 1:1\n")[0]


@pytest.mark.parametrize("line", ["hello", "+0 ! x", "+0 + frobnicate", "+0 < 1:1 A", "0..1 < A"])
def test_what_is_no_line_is_an_error(line):
    with pytest.raises(ScriptError):
        Script(f"use sack\n{line}", "test").run()
