"""Named streams: the same seed and name, the same numbers."""

import subprocess
import sys

from netstack.core.rng import Rng


def test_same_seed_and_name_give_the_same_stream():
    first, second = Rng(5, "host"), Rng(5, "host")
    assert [first.getrandbits(32) for _ in range(5)] == [second.getrandbits(32) for _ in range(5)]


def test_children_are_independent_of_each_other_and_of_order():
    root = Rng(5)
    a = root.child("a").octets(8)
    root.random()
    root.child("b").octets(8)
    assert root.child("a").octets(8) == a
    assert root.child("b").octets(8) != a
    assert root.child("a").child("b").octets(8) != root.child("b").child("a").octets(8)


def test_stream_is_the_same_in_every_process():
    program = "from netstack.core.rng import Rng; print(Rng(1, 'x').child('y').getrandbits(64))"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True, check=True, text=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert outputs == {f"{Rng(1, 'x').child('y').getrandbits(64)}\n"}


def test_below_stays_below_and_reaches_every_value():
    rng = Rng(3)
    assert {rng.below(5) for _ in range(200)} == set(range(5))
    assert rng.below(1) == 0


def test_octets_have_the_length_asked_for():
    assert [len(Rng(1).octets(n)) for n in (0, 1, 7, 1500)] == [0, 1, 7, 1500]


def test_without_a_seed_streams_differ():
    assert Rng().octets(16) != Rng().octets(16)
    assert Rng().child("a").octets(16) != Rng().child("a").octets(16)
