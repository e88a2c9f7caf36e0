"""Initial sequence numbers: by clock and keyed hash (RFC 9293 3.4.1, RFC 6528)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.core.rng import Rng
from netstack.core.seqnum import MASK, diff
from netstack.transport.tcp.isn import TICKS_PER_SECOND, IsnGenerator

TUPLE = bytes(range(12))


def make(seed=1):
    return IsnGenerator(Rng(seed, "isn"))


@given(st.floats(0, 1e7), st.floats(0, 5_000))
def test_clock_moves_the_number_250_000_times_a_second(now, later):
    generator = make()
    ticks = int((now + later) * TICKS_PER_SECOND) - int(now * TICKS_PER_SECOND)
    moved = generator.isn(TUPLE, now + later) - generator.isn(TUPLE, now)
    assert moved & MASK == ticks & MASK


def test_each_four_tuple_has_its_own_space():
    generator = make()
    numbers = {generator.isn(bytes([n]) + TUPLE[1:], 0.0) for n in range(256)}
    assert len(numbers) == 256
    gaps = {abs(diff(a, b)) for a in numbers for b in numbers if a != b}
    assert max(gaps) > 1 << 28


def test_tcp_09_each_secret_gives_other_numbers():
    assert len({make(seed).isn(TUPLE, 0.0) for seed in range(100)}) == 100
    assert IsnGenerator(Rng(None, "isn")).isn(TUPLE, 0.0) != IsnGenerator(Rng(None, "isn")).isn(
        TUPLE, 0.0
    )


def test_same_seed_gives_the_same_numbers():
    assert make().isn(TUPLE, 3.0) == make().isn(TUPLE, 3.0)


def test_timestamp_offset_is_one_a_pair_of_hosts():
    generator = make()
    offsets = {generator.timestamp_offset(b"\x0a\0\0\x01", bytes([10, 0, 0, n])) for n in range(9)}
    assert len(offsets) == 9
    assert generator.timestamp_offset(b"a", b"b") == generator.timestamp_offset(b"a", b"b")
    assert generator.timestamp_offset(b"a", b"b") != generator.isn(b"ab", 0.0)


@given(st.integers(0, MASK), st.floats(0, 1e6))
def test_number_stays_above_that_of_the_connection_before(last, now):
    generator = make()
    generator.stay_above(TUPLE, last)
    plain = make().isn(TUPLE, now)
    number = generator.isn(TUPLE, now)
    assert diff(number, last) > 0
    assert number == plain or diff(number, last) == 65_538
    assert generator.isn(TUPLE[::-1], now) == make().isn(TUPLE[::-1], now)
    generator.stay_above(TUPLE, None)
    assert generator.isn(TUPLE, now) == plain


@pytest.mark.parametrize("sent", [10, 3_000_000])
def test_reopened_connection_starts_above_what_the_old_one_sent(make_peer, sent):
    peer = make_peer(send_buffer=sent + 1_000_000).established()
    peer.connection.send(bytes(sent), peer.now)
    peer.poll()
    while (acknowledged := peer.connection.sender.snd_nxt - peer.connection.sender.iss) < sent + 1:
        peer.device.sent.clear()
        peer.inject("A", seq=1, ack=acknowledged)
    peer.inject("A", seq=1, ack=sent + 1)
    peer.connection.close(peer.now)
    peer.poll()
    peer.device.sent.clear()
    peer.inject("FA", seq=1, ack=sent + 2)
    assert peer.state == "TIME_WAIT"
    peer.segments()
    old = peer.iss
    peer.inject("S", seq=100_000)
    peer.expect("SA")
    assert diff(peer.iss, old + sent + 1) > 0
