"""Rows of the list of attacks that are about what strangers can do to connections and ports."""

import random

import pytest

from netstack.core.address import parse_address
from netstack.core.seqnum import MASK
from netstack.transport.tcp.limits import MAX_SOURCES, ResetLimit
from netstack.wire.ipv4 import IPv4Header
from netstack.wire.tcp import TcpHeader

OURS = parse_address("10.0.0.1")


def test_tcp_10_reset_within_the_window_is_challenged_and_outside_ignored(make_peer):
    peer = make_peer(challenge_ack_interval=0.0).established()
    rng = random.Random(10)
    window = peer.connection.receiver.rcv_adv - peer.connection.receiver.rcv_nxt
    for _ in range(500):
        peer.inject("R", seq=1 + rng.randrange(1, window))
        peer.expect("A", seq=1, ack=1)
        outside = 1 + rng.choice([-1, 1]) * rng.randrange(window + 1, 1 << 30)
        peer.inject("R", seq=outside)
        peer.expect_nothing()
    assert peer.state == "ESTABLISHED"
    peer.inject("R", seq=1)
    assert peer.state == "CLOSED"


@pytest.mark.parametrize("ack", [2, 100, 1 << 30, -70_000, -(1 << 30)])
def test_tcp_12_text_with_an_impossible_ack_never_arrives(peer, ack):
    peer.established()
    peer.inject("PA", seq=1, ack=1 + ack, data=b"forged")
    peer.expect("A", seq=1, ack=1)
    assert peer.connection.receive(100, peer.now) is None
    peer.inject("PA", seq=1, ack=1, data=b"true")
    assert peer.connection.receive(100, peer.now) == b"true"


def test_tcp_13_challenges_tell_nothing_about_other_connections(peer):
    """The attacker counts answers on his own connection, after guesses at the victim's.

    With a limit that all share, a right guess (challenged) takes from what his own may have.
    """
    rng = random.Random(13)
    peer.listen()
    peer.inject("S", seq=0)
    peer.expect("SA")
    victim = peer.iss
    peer.inject("A", seq=1, ack=1)
    peer.port = 40_001
    peer.inject("S", seq=0)
    peer.expect("SA")
    own = peer.iss
    peer.inject("A", seq=1, ack=1)
    right = 0
    counts = []
    for _ in range(200):
        inside = rng.random() < 0.5
        peer.port, peer.iss = 40_000, victim
        for _ in range(5):
            peer.inject("R", seq=500 if inside else 1 << 30)
        peer.device.sent.clear()  # these go to the victim's peer
        peer.port, peer.iss = 40_001, own
        for _ in range(100):
            peer.inject("R", seq=500)
        counts.append(len(peer.segments()))
        guess = counts[-1] < max(counts)
        right += guess == inside
        peer.advance(1.0)
        peer.segments()
    assert set(counts) == {1}
    assert right <= 200 * 0.6


def test_tcp_15_desynchronised_pair_does_not_answer_itself_for_ever(make_peer):
    """Each side takes the other's ACK for one of what was never sent."""
    one, two = make_peer(seed=1).established(), make_peer(seed=2).established()
    one.inject("A", seq=1, ack=1_000_000)  # the blow that starts it
    frames = 0
    for _ in range(1_000):
        for here, there in ((one, two), (two, one)):
            for seen in here.segments():
                frames += 1
                there.inject("A", seq=seen.seq + 5_000_000, ack=seen.ack + 1_000_000)
        one.advance(0.01)
        two.advance(0.01)
    assert frames <= 4 * 10  # in ten seconds
    assert one.state == two.state == "ESTABLISHED"


@pytest.mark.parametrize("state", ["fin_wait_1", "fin_wait_2", "closing", "last_ack"])
def test_tcp_46_peer_that_never_finishes_is_given_up(make_peer, state):
    peer = getattr(make_peer(), state)()
    peer.connection.close(peer.now)
    peer.poll()
    peer.advance(200)
    assert peer.state == "CLOSED"
    assert not peer.stack.connections()
    assert len(peer.stack.tcp.orphans) == 0
    assert peer.stack.next_deadline() is None


def test_tcp_46_orphans_are_counted_and_what_is_too_many_is_reset(make_peer):
    peer = make_peer(max_orphans=10).listen()
    for port in range(1001, 1021):
        peer.port = port
        peer.inject("S", seq=0)
        peer.expect("SA")
        peer.inject("A", seq=1, ack=1)
        peer.listener.accept().close(peer.now)
        peer.poll()
        peer.expect("FA" if port <= 1010 else "RA")
    assert len(peer.stack.tcp.connections) == 10
    assert peer.counter("tcp.orphans_reset") == 10
    peer.advance(200)
    assert not peer.stack.connections()


def test_tcp_48_peer_that_stops_acknowledging_is_given_up_after_r2(peer):
    peer.established()
    peer.connection.send(b"x" * 1000, peer.now)
    peer.poll()
    peer.advance(100)
    assert peer.state == "ESTABLISHED"  # R2 is 100 s at least
    assert peer.counter("tcp.r1_reached") == 1
    peer.advance(1_000)
    assert peer.state == "CLOSED"
    assert type(peer.connection.error).__name__ == "TimedOut"
    assert peer.connection.sender.buffer is None
    assert not peer.stack.connections()


def test_tcp_48_syn_is_given_up_after_three_minutes_at_least(peer):
    peer.syn_sent()
    peer.advance(179)
    assert peer.state == "SYN_SENT"
    peer.advance(100)
    assert peer.state == "CLOSED"


def test_tcp_49_acknowledgments_late_or_early_keep_the_timeout_within_bounds(make_peer):
    peer = make_peer(timestamps=True).established()
    rng = random.Random(49)
    sent = 1
    for _ in range(100):
        peer.connection.send(b"x", peer.now)
        peer.poll()
        sent += 1
        peer.advance(rng.choice([0.0, 0.001, 0.19, 30.0]))
        peer.segments()
        peer.inject("A", seq=1, ack=sent)
        assert 0.2 <= peer.connection.sender.rtt.timeout() <= 60.0
    before = peer.now
    peer.connection.send(b"x", before - 50)  # a clock that jumps back moves nothing
    assert peer.stack.context.now == before


def test_tcp_51_resets_are_limited_for_each_source_by_itself(peer):
    ports = random.Random(51)

    def syn(source):
        address = parse_address(source)
        header = TcpHeader(ports.randrange(1024, 65_536), 81, 7, 0, 2, 1000)
        segment = header.with_checksum(address.packed, OURS.packed).build()
        packet = IPv4Header(
            source=address, destination=OURS, protocol=6, total_length=20 + len(segment)
        ).with_checksum()
        octets = packet.build() + segment
        peer.stack.receive(peer.device, [octets], peer.now)
        peer.poll()
        return len(octets)

    asked = answered = resets = 0
    for _ in range(5_000):
        asked += syn("10.0.0.2")
        resets += len(peer.device.sent)
        answered += sum(map(len, peer.device.sent))
        peer.device.sent.clear()
        peer.now += 0.0001
    assert 1_000 <= resets <= 1_000 + 500 + 1
    assert answered <= asked
    assert peer.counter("tcp.resets_limited") == 5_000 - resets
    syn("10.0.0.3")
    assert len(peer.device.sent) == 1  # nobody else pays for it


def test_tcp_51_sources_are_bounded_and_tokens_come_back(peer):
    limit = ResetLimit(peer.config)
    for number in range(3 * MAX_SOURCES):
        assert limit.allows(number.to_bytes(4, "big"), 0.0)
    assert len(limit._buckets) == MAX_SOURCES
    asked = [limit.allows(b"abcd", 1.0) for _ in range(1_500)]
    assert sum(asked) == 1_000
    assert not limit.allows(b"abcd", 1.0)
    assert limit.allows(b"abcd", 1.002)


def test_tcp_51_reset_carries_no_state_of_ours(peer):
    peer.inject("A", seq=100, ack=12_345)
    seen = peer.expect("R")
    assert seen.header.seq == (peer.iss + 12_345) & MASK
    assert seen.header.window == 0
