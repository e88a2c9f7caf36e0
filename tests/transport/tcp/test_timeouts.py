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
