"""What users say about time: cork, quick ACKs, lingering, user timeouts (RFC 5482)."""

import pytest

from netstack.core.errors import TimedOut
from netstack.wire.tcp import build_syn_options, build_user_timeout


def send(peer, data):
    peer.connection.send(data, peer.now)
    peer.poll()


# ---- TCP_CORK -----------------------------------------------------------------------------------


def test_cork_holds_what_fills_no_segment(peer):
    peer.established()
    peer.connection.set_option("cork", True)
    send(peer, b"head")
    peer.expect_nothing()
    send(peer, b"x" * 1460)
    peer.expect("A", seq=1, length=1460)
    peer.expect_nothing()
    peer.connection.set_option("cork", False)
    peer.inject("A", seq=1, ack=1461)
    peer.expect("PA", seq=1461, length=4)


def test_cork_holds_for_200_ms_at_most(peer):
    peer.established()
    peer.connection.set_option("cork", True)
    send(peer, b"head")
    peer.advance(0.19)
    peer.expect_nothing()
    peer.advance(0.02)
    peer.expect("PA", data=b"head")
    peer.inject("A", seq=1, ack=5)
    send(peer, b"next")
    peer.advance(0.1)
    peer.expect_nothing()
    peer.advance(0.1)
    peer.expect("PA", data=b"next")


def test_nodelay_lets_out_what_a_cork_holds(peer):
    peer.established()
    peer.connection.set_option("cork", True)
    send(peer, b"head")
    peer.connection.set_option("nodelay", True)
    peer.poll()
    peer.expect("PA", data=b"head")
    send(peer, b"more")
    peer.expect_nothing()
    assert peer.connection.get_option("cork")


def test_close_pulls_the_cork(peer):
    peer.established()
    peer.connection.set_option("cork", True)
    send(peer, b"head")
    peer.connection.close(peer.now)
    peer.poll()
    peer.expect("FPA", data=b"head")


# ---- TCP_QUICKACK -------------------------------------------------------------------------------


def test_quickack_acknowledges_at_once(peer):
    peer.established()
    peer.inject("PA", seq=1, ack=1, data=b"a")
    peer.expect_nothing()
    peer.connection.set_option("quickack", True)
    peer.poll()
    peer.expect("A", ack=2)
    peer.inject("PA", seq=2, ack=1, data=b"b")
    peer.expect("A", ack=3)
    assert peer.connection.get_option("quickack")
    peer.connection.set_option("quickack", False)
    peer.inject("PA", seq=3, ack=1, data=b"c")
    peer.expect_nothing()


def test_quickack_ends_after_sixteen_acks(peer):
    peer.established()
    peer.connection.set_option("quickack", True)
    for index in range(16):
        peer.inject("PA", seq=1 + index, ack=1, data=b"a")
        peer.expect("A", ack=2 + index)
    assert not peer.connection.get_option("quickack")
    peer.inject("PA", seq=17, ack=1, data=b"a")
    peer.expect_nothing()
    peer.advance(0.05)
    peer.expect("A", ack=18)
    peer.connection.set_option("quickack", True)  # once more
    peer.inject("PA", seq=18, ack=1, data=b"a")
    peer.expect("A", ack=19)


def test_quickack_ends_when_the_application_answers(peer):
    peer.established()
    peer.connection.set_option("quickack", True)
    peer.inject("PA", seq=1, ack=1, data=b"question")
    peer.expect("A", ack=9)
    peer.advance(0.01)
    send(peer, b"answer")
    peer.expect("PA", data=b"answer")
    assert not peer.connection.get_option("quickack")
    peer.inject("PA", seq=9, ack=7, data=b"question")
    peer.expect_nothing()  # the ACK waits for the answer
    send(peer, b"answer")
    peer.expect("PA", ack=17)


def test_sending_long_after_what_arrived_is_no_answer(peer):
    peer.established()
    peer.connection.set_option("quickack", True)
    send(peer, b"unasked")
    peer.inject("PA", seq=1, ack=8, data=b"news")
    peer.advance(0.05)
    send(peer, b"unasked")
    peer.segments()
    assert peer.connection.get_option("quickack")
    peer.inject("PA", seq=5, ack=15, data=b"news")
    peer.expect("A", ack=9)


# ---- keep-alive and user timeout ----------------------------------------------------------------


def silent(peer, **options):
    """Let nothing be heard from now on; return when the connection ended."""
    peer.established()
    for name, value in {"keepalive": True, **options}.items():
        peer.connection.set_option(name, value)
    began = peer.now
    for _ in range(2_000):
        peer.advance(1.0)
        if peer.state == "CLOSED":
            break
    assert isinstance(peer.connection.error, TimedOut)
    return peer.now - began


PROBES = {"keepalive_idle": 60.0, "keepalive_interval": 10.0, "keepalive_probes": 3}


def test_user_timeout_counts_instead_of_keepalive_probes(peer):
    assert silent(peer, user_timeout=200.0, **PROBES) == pytest.approx(200.0, abs=2)
    flags = [each.flags for each in peer.segments()]
    assert flags == ["A"] * 14 + ["RA"]  # at 60, 70 ... 190


def test_shorter_user_timeout_ends_earlier_than_probes_would(peer):
    assert silent(peer, user_timeout=75.0, **PROBES) == pytest.approx(80.0, abs=2)


def test_user_timeout_below_the_idle_time_waits_for_one_probe(peer):
    assert silent(peer, user_timeout=5.0, **PROBES) == pytest.approx(70.0, abs=2)
    assert [each.flags for each in peer.segments()] == ["A", "RA"]


def test_answers_to_probes_start_the_user_timeout_anew(peer):
    peer.established()
    for name, value in {"keepalive": True, "user_timeout": 75.0, **PROBES}.items():
        peer.connection.set_option(name, value)
    for _ in range(10):
        peer.advance(65)
        peer.expect("A", seq=0)
        peer.inject("A", seq=1, ack=1)
    assert peer.state == "ESTABLISHED"


def test_peers_user_timeout_outlasts_keepalive(make_peer):
    peer = make_peer(user_timeout_option=True)
    peer.established()
    peer.inject("A", seq=1, ack=1, options=build_user_timeout(1_800.0))
    assert silent_from_here(peer) == pytest.approx(1_800.0, abs=12)


def silent_from_here(peer):
    peer.established = lambda: None
    return silent(peer, **PROBES)


# ---- SO_LINGER ----------------------------------------------------------------------------------


def test_close_without_linger_goes_on_in_the_background(peer):
    peer.established()
    send(peer, b"last words")
    peer.connection.close(peer.now)
    peer.advance(60)
    assert "R" not in "".join(seen.flags for seen in peer.segments())
    assert peer.state == "FIN_WAIT_1"


def test_linger_zero_resets(peer):
    peer.established()
    peer.connection.set_option("linger", 0)
    send(peer, b"last words")
    peer.segments()
    peer.connection.close(peer.now)
    peer.poll()
    peer.expect("RA")
    assert peer.state == "CLOSED"


def test_linger_resets_when_its_time_is_up(peer):
    peer.established()
    peer.connection.set_option("linger", 3.0)
    peer.connection.set_option("keepalive", True)
    send(peer, b"last words")
    peer.connection.close(peer.now)
    peer.poll()
    peer.advance(2.9)
    peer.inject("A", seq=1, ack=5)  # some of it
    assert peer.state == "FIN_WAIT_1"
    peer.segments()
    peer.advance(0.2)
    assert peer.state == "CLOSED"
    assert peer.segments()[-1].flags == "RA"
    assert peer.counter("tcp.linger_aborts") == 1


def test_linger_ends_with_the_acknowledgment(peer):
    peer.established()
    peer.connection.set_option("linger", 3.0)
    send(peer, b"last words")
    peer.connection.close(peer.now)
    peer.poll()
    peer.inject("A", seq=1, ack=12)
    assert peer.state == "FIN_WAIT_2"
    peer.segments()
    peer.advance(10)
    peer.expect_nothing()
    assert peer.state == "FIN_WAIT_2"


# ---- user timeout -------------------------------------------------------------------------------


def test_user_timeout_is_told_in_syn_and_ack(make_peer):
    peer = make_peer(user_timeout_option=True)
    peer.connection = peer.stack.connect(("10.0.0.2", peer.port), peer.now)
    peer.connection.set_option("user_timeout", 30.0)
    peer.stack_port = peer.connection.local[1]
    peer.poll()
    assert bytes((28, 4, 0, 30)) in peer.expect("S").header.options
    peer.inject("SA", seq=0, ack=1)
    assert peer.expect("A").header.options == bytes((28, 4, 0, 30))
    peer.connection.set_option("user_timeout", 40_000.0)
    peer.poll()
    assert peer.expect("A").header.options == bytes((28, 4, 0x82, 0x9B))  # 667 minutes


def test_user_timeout_is_not_told_by_default(peer):
    peer.syn_sent()
    peer.inject("SA", seq=0, ack=1)
    assert peer.expect("A").header.options == b""
    peer.connection.set_option("user_timeout", 30.0)
    peer.poll()
    peer.expect_nothing()


@pytest.mark.parametrize(("told", "waited"), [(500.0, 500), (1.0, 200), (100_000.0, 3600)])
def test_peers_user_timeout_is_heeded_within_bounds(make_peer, told, waited):
    peer = make_peer(user_timeout_option=True, r2_timeout=200.0).listen()
    options = build_syn_options(1460, None, None) + build_user_timeout(told)
    peer.inject("S", seq=0, options=options)
    peer.expect("SA")
    peer.inject("A", seq=1, ack=1)
    peer.connection = peer.listener.accept()
    send(peer, b"x")
    peer.advance(waited - 5)
    assert peer.state == "ESTABLISHED"
    peer.advance(130)
    assert peer.state == "CLOSED"


def test_users_own_timeout_stands_against_the_peers(make_peer):
    peer = make_peer(user_timeout_option=True).established()
    peer.connection.set_option("user_timeout", 5.0)
    peer.poll()
    peer.segments()
    peer.inject("A", seq=1, ack=1, options=build_user_timeout(600.0))
    send(peer, b"x")
    peer.advance(20)
    with pytest.raises(TimedOut):
        peer.connection.receive(1, peer.now)


def test_peers_user_timeout_is_ignored_by_default(peer):
    peer.established()
    peer.inject("A", seq=1, ack=1, options=build_user_timeout(600.0))
    assert peer.connection.peer_timeout is None
