"""SYN cookies: what they remember, for how long, and that nobody else can make one."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.core.rng import Rng
from netstack.core.seqnum import MASK, diff
from netstack.transport.tcp.syn_cookies import (
    MSS_TABLE,
    KeptOptions,
    SynCookies,
    pack_options,
    unpack_options,
)
from netstack.wire.tcp import Segment, build_syn_options, build_timestamps, parse_segment

KEY = bytes(range(12))


def options_of(seen):
    """Return the options of a segment that was sent, as a Segment's attributes."""
    octets = seen.header.build()
    return parse_segment(octets, 0, len(octets))


@pytest.fixture
def cookies():
    return SynCookies(Rng(1))


@pytest.fixture
def flooded(make_peer):
    """A listener that holds all the half-open connections it may: one."""

    def make(**settings):
        peer = make_peer(max_syn_received=1, **settings).listen()
        peer.port = 39_999
        peer.inject("S", seq=0)
        peer.expect("SA")
        peer.port = 40_000
        return peer

    return make


# ---- the cookie --------------------------------------------------------------------------------


@given(
    st.integers(0, MASK), st.integers(0, 65_535), st.floats(0, 1e9), st.booleans(),
    st.floats(0, 64),
)  # fmt: skip
def test_cookie_is_good_until_the_counter_has_moved_twice(irs, mss, now, timestamps, later):
    cookies = SynCookies(Rng(1))
    cookie = cookies.make(KEY, irs, mss, now, timestamps=timestamps)
    remembered = cookies.check(KEY, irs, cookie, now + later, timestamps=timestamps)
    assert remembered == max([size for size in MSS_TABLE if size <= mss], default=48)
    assert cookies.check(KEY, irs, cookie, now + 128, timestamps=timestamps) is None
    assert cookies.check(KEY, irs, cookie, now + later, timestamps=not timestamps) is None


def test_cookie_fits_nobody_else(cookies):
    cookie = cookies.make(KEY, 7, 1460, 0.0, timestamps=False)
    assert cookies.check(KEY, 7, cookie, 0.0, timestamps=False) == 1460
    assert cookies.check(KEY[::-1], 7, cookie, 0.0, timestamps=False) is None
    assert cookies.check(KEY, 8, cookie, 0.0, timestamps=False) is None
    assert SynCookies(Rng(2)).check(KEY, 7, cookie, 0.0, timestamps=False) is None
    for bit in range(32):
        assert cookies.check(KEY, 7, cookie ^ 1 << bit, 0.0, timestamps=False) is None


def test_tcp_33_no_guessed_cookie_is_good(cookies):
    rng = random.Random(33)
    guesses = (rng.getrandbits(64) for _ in range(100_000))
    assert not any(
        cookies.check(KEY, guess >> 32, guess & MASK, 1000.0, timestamps=False)
        for guess in guesses
    )


@pytest.mark.soak
def test_tcp_33_none_of_a_million_forged_cookies_is_good(cookies):
    rng = random.Random(34)
    guesses = (rng.getrandbits(64) for _ in range(1_000_000))
    assert not any(
        cookies.check(KEY, guess >> 32, guess & MASK, 1000.0, timestamps=False)
        for guess in guesses
    )


@given(st.integers(64, MASK), st.none() | st.integers(0, 14), st.booleans(), st.booleans())
def test_timestamp_keeps_options_and_is_not_ahead_of_the_clock(clock, scale, sack, ecn):
    options = KeptOptions(scale, sack, ecn)
    stamp = pack_options(clock, options)
    assert unpack_options(stamp) == options
    assert 0 <= diff(clock, stamp) < 128


def test_timestamp_that_wraps_still_is_not_ahead():
    stamp = pack_options(3, KeptOptions(14, True, True))
    assert diff(3, stamp) > 0
    assert unpack_options(stamp) == KeptOptions(14, True, True)


# ---- the handshake -----------------------------------------------------------------------------


def test_handshake_by_cookie_makes_a_connection_at_the_last_ack_only(flooded):
    peer = flooded()
    peer.inject("S", seq=0)
    seen = peer.expect("SA", seq=0, ack=1, window=65_535)
    assert options_of(seen).mss == 1460
    assert len(peer.stack.tcp.connections) == 1  # the half-open one
    peer.inject("PA", seq=1, ack=1, data=b"hello", window=5_000)
    connection = peer.listener.accept()
    assert connection.state.name == "ESTABLISHED"
    assert connection.receive(10, peer.now) == b"hello"
    assert connection.sender.snd_wnd == 5_000
    connection.send(b"answer", peer.now)
    peer.poll()
    peer.expect("PA", seq=1, ack=6, data=b"answer")
    peer.inject("FA", seq=6, ack=7)
    peer.expect("A", ack=7)
    connection.close(peer.now)
    peer.poll()
    peer.expect("FA", seq=7, ack=7)
    peer.inject("A", seq=7, ack=8)
    assert connection.state.name == "CLOSED"


def test_options_survive_in_the_timestamp(flooded):
    peer = flooded(timestamps=True)
    options = build_syn_options(1300, 7, (peer.ts_val, 0), sack=True)
    peer.inject("S", seq=0, options=options)
    said = options_of(peer.expect("SA"))
    assert said.sack_permitted
    assert said.window_scale == 7  # what a buffer of 6 MiB needs
    assert said.ts_ecr == peer.ts_val
    peer.advance(0.05)
    peer.inject("A", seq=1, ack=1, window=100)
    connection = peer.listener.accept()
    assert connection.ts_on
    assert connection.sender.sack_on
    assert connection.sender.snd_wnd == 100 << 7
    assert connection.sender.mss == 1300 - 12
    connection.send(b"x", peer.now)
    peer.poll()
    later = options_of(peer.expect("PA", seq=1, ack=1))
    assert diff(later.ts_val, said.ts_val) >= 0


def test_without_timestamps_scale_and_sack_are_not_promised(flooded):
    peer = flooded()
    peer.inject("S", seq=0, options=build_syn_options(1460, 7, None, sack=True))
    said = options_of(peer.expect("SA"))
    assert said.window_scale is None
    assert not said.sack_permitted
    assert said.ts_val is None
    peer.inject("A", seq=1, ack=1, window=100)
    connection = peer.listener.accept()
    assert connection.sender.snd_wnd == 100
    assert connection.receiver.shift == 0


def test_lost_last_ack_is_made_good_by_the_data(flooded):
    peer = flooded()
    peer.inject("S", seq=0)
    cookie = peer.expect("SA").header.seq
    peer.advance(3)
    peer.segments()  # the half-open one's SYN,ACKs
    peer.iss = cookie
    peer.inject("PA", seq=1, ack=1, data=b"late")
    assert peer.listener.accept().receive(10, peer.now) == b"late"


def test_cookie_ack_at_a_full_accept_queue_is_forgotten_and_taken_later(make_peer):
    peer = make_peer(max_syn_received=1).listen(backlog=1)
    seen = {}
    for port in (1001, 1002, 1003):
        peer.port = port
        peer.inject("S", seq=0)
        seen[port] = peer.expect("SA").header.seq
    for port in (1002, 1003):
        peer.port, peer.iss = port, seen[port]
        peer.inject("PA", seq=1, ack=1, data=b"early")
    peer.expect_nothing()
    assert peer.counter("tcp.accept_queue_full") == 1
    assert peer.listener.accept().remote[1] == 1002
    peer.inject("PA", seq=1, ack=1, data=b"early")
    accepted = peer.listener.accept()
    assert accepted.remote[1] == 1003
    assert accepted.receive(10, peer.now) == b"early"


def test_tcp_33_forged_ack_gets_a_reset_and_costs_nothing(flooded):
    peer = flooded()
    peer.inject("S", seq=0)
    peer.expect("SA")
    rng = random.Random(1)
    for _ in range(100):
        seq, ack = rng.getrandbits(32), rng.getrandbits(32)
        peer.inject("A", seq=seq, ack=ack)
        seen = peer.expect("R")
        assert seen.header.seq == (peer.iss + ack) & MASK
    assert len(peer.stack.tcp.connections) == 1
    assert peer.counter("tcp.syn_cookies_failed") == 100
    assert peer.listener.accept() is None


def test_tcp_33_expired_cookie_is_reset(flooded):
    peer = flooded()
    peer.inject("S", seq=0)
    peer.expect("SA")
    peer.advance(127)
    peer.segments()
    peer.port = 41_000  # the flood goes on
    cookie, peer.iss = peer.iss, 0
    peer.inject("S", seq=0)
    peer.segments()
    peer.port, peer.iss = 40_000, cookie
    peer.advance(2)
    peer.segments()
    peer.iss = cookie
    peer.inject("A", seq=1, ack=1)
    peer.expect("R")
    assert peer.listener.accept() is None


def test_cookies_count_only_while_the_listener_overflowed_lately(make_peer):
    peer = make_peer().listen()
    iss = peer.stack.tcp.cookies.make(
        b"\x0a\0\0\x02\x0a\0\0\x01" + (40_000).to_bytes(2, "big") + (80).to_bytes(2, "big"),
        peer.irs, 1460, 0.0, timestamps=False,
    )  # fmt: skip
    peer.iss = iss
    peer.inject("A", seq=1, ack=1)
    peer.expect("R")
    peer.listener.overflowed_at = 0.0
    peer.inject("A", seq=1, ack=1)
    assert peer.listener.accept() is not None


def test_echoed_timestamp_that_was_made_up_is_no_cookie(flooded):
    peer = flooded(timestamps=True)
    peer.inject("S", seq=0)
    peer.expect("SA")
    for wrong in (1_000, -300_000):
        options = build_timestamps(peer.ts_val, (peer.ts_ecr + wrong) & MASK)
        peer.inject("A", seq=1, ack=1, options=options)
        peer.expect("R")
    peer.inject("A", seq=1, ack=1)
    assert peer.listener.accept() is not None


def test_repeated_syn_gets_a_cookie_again(flooded):
    peer = flooded()
    peer.inject("S", seq=0)
    first = peer.expect("SA").header.seq
    peer.inject("S", seq=0)
    assert peer.expect("SA").header.seq == first


def test_room_in_the_queue_ends_the_cookies(flooded):
    peer = flooded()
    peer.port = 39_999
    peer.inject("R", seq=1)
    peer.port = 40_000
    peer.inject("S", seq=0)
    peer.expect("SA")
    assert peer.counter("tcp.syn_cookies_sent") == 0
    assert len(peer.stack.tcp.connections) == 1


def test_segment_class_is_complete():
    """A Segment made by hand, as the cookie's memory is, has what a parsed one has."""
    made = Segment(1, 0, 2, 3, 0)
    assert all(hasattr(made, name) for name in Segment.__slots__)
