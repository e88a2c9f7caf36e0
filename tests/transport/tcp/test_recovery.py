"""Loss recovery and windows as a peer sees them: RFC 2018, 2883, 5682, 6928, 8985 and more."""

import pytest

from netstack.core.seqnum import MASK
from netstack.wire.tcp import (
    build_sack,
    build_syn_options,
    build_timestamps,
    parse_segment,
)

MSS = 1460
ROUND_TRIP = 0.05


def sack_peer(make_peer, **options):
    """An established connection with SACK whose round trips take 50 ms."""
    peer = make_peer(**options).listen()
    stamps = (peer.ts_val, 0) if peer.timestamps else None
    peer.inject("S", seq=0, options=build_syn_options(MSS, 7, stamps, sack=True))
    peer.segments()
    peer.advance(ROUND_TRIP)
    peer.inject("A", seq=1, ack=1)
    peer.connection = peer.listener.accept()
    return peer


def send(peer, octets):
    peer.connection.send(b"x" * octets, peer.now)
    peer.poll()
    return peer.segments()


def answer(peer, ack, *blocks, stamp=None):
    """Acknowledge ``ack``, and selectively ``blocks``; return what the stack sends then."""
    options = b""
    if stamp is not None:
        peer.ts_val += 1
        options = build_timestamps(peer.ts_val, stamp)
    if blocks:
        pairs = [((peer.iss + left) & MASK, (peer.iss + right) & MASK) for left, right in blocks]
        options += build_sack(pairs)
    peer.inject("A", seq=1, ack=ack, options=options)
    return peer.segments()


def window(peer):
    return peer.connection.info().cwnd


def parsed(seen):
    raw = seen.header.build() + seen.data
    return parse_segment(raw, 0, len(raw), [])


# ---- windows ------------------------------------------------------------------------------------


def test_ten_segments_go_at_first(make_peer):
    peer = sack_peer(make_peer)
    assert [seen.seq for seen in send(peer, 100_000)] == [1 + MSS * n for n in range(10)]


def test_slow_start_doubles_by_octets_acknowledged(make_peer):
    peer = sack_peer(make_peer)
    send(peer, 200_000)
    peer.advance(ROUND_TRIP)
    assert len(answer(peer, 1 + MSS * 10)) == 20
    assert window(peer) == MSS * 20


def test_window_that_is_not_used_does_not_grow(make_peer):
    peer = sack_peer(make_peer)
    acknowledged = 1
    for _ in range(40):
        send(peer, MSS)
        peer.advance(ROUND_TRIP)
        acknowledged += MSS
        answer(peer, acknowledged)
    assert window(peer) == MSS * 10


def test_restart_after_idle_begins_with_ten_segments(make_peer):
    peer = sack_peer(make_peer)
    send(peer, MSS * 30)
    peer.advance(ROUND_TRIP)
    answer(peer, 1 + MSS * 10)
    peer.advance(ROUND_TRIP)
    answer(peer, 1 + MSS * 30)
    assert window(peer) > MSS * 10
    peer.advance(10)
    assert len(send(peer, MSS * 60)) == 10


@pytest.mark.parametrize("congestion", ["newreno", "cubic"])
def test_two_duplicates_let_new_segments_go(make_peer, congestion):
    peer = make_peer(congestion=congestion).established()
    send(peer, MSS * 20)
    peer.inject("A", seq=1, ack=1)
    (new,) = peer.segments()
    assert new.seq == 1 + MSS * 10
    peer.inject("A", seq=1, ack=1)
    (new,) = peer.segments()
    assert new.seq == 1 + MSS * 11


@pytest.mark.parametrize("blocks", [((7, 9), (3, 5)), ((9, 10), (7, 8), (3, 5), (1, 2))])
def test_blocks_told_latest_first_are_no_reordering(make_peer, blocks):
    """A receiver that acknowledges once for several holes: what it tells of came in order."""
    peer = sack_peer(make_peer)
    send(peer, MSS * 10)
    peer.advance(ROUND_TRIP)
    told = [(1 + MSS * left, 1 + MSS * right) for left, right in blocks]
    sent = answer(peer, 1, *told)
    assert sent[0].seq == 1  # at once: nothing was seen to overtake
    info = peer.connection.info()
    assert (info.reordering_seen, info.reordering) == (False, 3)
    assert peer.stack.counters().get("tcp.reorder_timer", 0) == 0


# ---- SACK, from us ------------------------------------------------------------------------------


def test_gap_is_told_in_blocks_the_latest_first(make_peer):
    peer = sack_peer(make_peer)
    for seq in (101, 301, 501):
        peer.inject("PA", seq=seq, ack=1, data=b"x" * 100)
    blocks = parsed(peer.segments()[-1]).sack_blocks
    starts = [(left - peer.irs) & MASK for left, _ in blocks]
    assert starts == [501, 301, 101]


def test_duplicate_is_told_as_dsack(make_peer):
    peer = sack_peer(make_peer)
    peer.inject("PA", seq=1, ack=1, data=b"x" * 100)
    peer.inject("PA", seq=1, ack=1, data=b"x" * 100)
    (block,) = parsed(peer.segments()[-1]).sack_blocks
    assert tuple((edge - peer.irs) & MASK for edge in block) == (1, 101)


def test_duplicate_above_a_gap_is_followed_by_the_block_that_holds_it(make_peer):
    peer = sack_peer(make_peer)
    peer.inject("PA", seq=101, ack=1, data=b"x" * 200)
    peer.inject("PA", seq=151, ack=1, data=b"x" * 50)
    blocks = parsed(peer.segments()[-1]).sack_blocks
    told = [tuple((edge - peer.irs) & MASK for edge in block) for block in blocks]
    assert told == [(151, 201), (101, 301)]


def test_sack_is_used_only_if_both_offered_it(make_peer):
    peer = make_peer().established()
    peer.inject("PA", seq=101, ack=1, data=b"x" * 100)
    assert parsed(peer.segments()[-1]).sack_blocks == ()


# ---- what was only late -------------------------------------------------------------------------


def test_early_retransmission_that_dsack_shows_needless_is_undone(make_peer):
    peer = sack_peer(make_peer, super_segments=False)
    send(peer, MSS * 10)
    before = window(peer)
    peer.advance(ROUND_TRIP)
    again = answer(peer, 1, (1 + MSS, 1 + MSS * 5))
    assert again[0].seq == 1  # taken for lost
    assert window(peer) < before
    peer.advance(0.001)
    answer(peer, 1 + MSS * 10, (1, 1 + MSS))
    assert window(peer) >= before


def test_timeout_that_a_timestamp_shows_needless_is_undone(make_peer):
    peer = sack_peer(make_peer, timestamps=True)
    first = send(peer, MSS * 5)
    before = window(peer)
    stamp = parsed(first[0]).ts_val
    peer.advance(2)
    assert peer.counter("tcp.retransmission_timer") >= 1
    assert window(peer) < before
    answer(peer, 1 + (MSS - 12), stamp=stamp)
    assert window(peer) >= before


def test_timeout_that_new_data_shows_needless_is_undone(make_peer):
    """F-RTO, without timestamps: what was never sent again turns up."""
    peer = sack_peer(make_peer)
    send(peer, MSS * 5)
    before = window(peer)
    peer.advance(0.6)
    assert peer.counter("tcp.retransmission_timer") >= 1
    peer.segments()
    peer.connection.send(b"y" * MSS * 4, peer.now)
    first = answer(peer, 1 + MSS)
    assert all(seen.seq >= 1 + MSS * 5 for seen in first)  # new octets, to see what comes back
    answer(peer, 1 + MSS * 2)
    assert window(peer) >= before
    assert peer.connection.info().lost == 0


# ---- the tail -----------------------------------------------------------------------------------


def test_tail_is_probed_before_the_timeout(make_peer):
    peer = sack_peer(make_peer)
    send(peer, MSS * 3)
    peer.advance(ROUND_TRIP * 2 + 0.02)
    (probe,) = peer.segments()
    assert probe.seq == 1 + MSS * 2  # the last again
    assert peer.counter("tcp.tail_loss_probes") == 1
    assert peer.counter("tcp.retransmission_timer") == 0
    peer.advance(ROUND_TRIP)
    again = answer(peer, 1, (1 + MSS * 2, 1 + MSS * 3))
    peer.advance(ROUND_TRIP)
    again += answer(peer, 1 + MSS, (1 + MSS * 2, 1 + MSS * 3))
    assert [seen.seq for seen in again] == [1, 1 + MSS]  # found without a timeout
    assert peer.counter("tcp.retransmission_timer") == 0


def test_recovery_keeps_sending_at_half_the_rate(make_peer):
    """PRR: no silence of half a round trip, no burst."""
    peer = sack_peer(make_peer, super_segments=False)
    send(peer, MSS * 40)
    peer.advance(ROUND_TRIP)
    answer(peer, 1 + MSS * 10)
    peer.advance(ROUND_TRIP)
    sent = [
        len(answer(peer, 1 + MSS * 10, (1 + MSS * 11, 1 + MSS * index))) for index in range(12, 30)
    ]
    assert max(sent) <= 2
    assert 9 <= sum(sent) <= 18


def test_reneging_peer_gets_everything_again(make_peer):
    peer = sack_peer(make_peer)
    send(peer, MSS * 5)
    answer(peer, 1, (1 + MSS, 1 + MSS * 5))
    peer.advance(ROUND_TRIP)
    again = answer(peer, 1 + MSS)  # and it forgot what it had
    acknowledged = 1 + MSS
    for _ in range(10):
        peer.advance(3)
        for seen in sorted([*again, *peer.segments()], key=lambda seen: seen.seq):
            if seen.seq <= acknowledged:
                acknowledged = max(acknowledged, seen.seq + len(seen.data))
        again = answer(peer, acknowledged)
    assert acknowledged == 1 + MSS * 5
    assert peer.connection.info().send_queue == 0


def test_a_window_whose_only_ack_got_lost_is_probed_after_two_milliseconds(make_peer):
    peer = make_peer().listen()
    peer.inject("S", seq=0, options=build_syn_options(MSS, 7, None, sack=True))
    peer.segments()
    peer.advance(0.0001)
    peer.inject("A", seq=1, ack=1)
    peer.connection = peer.listener.accept()
    send(peer, MSS * 20)
    peer.advance(0.0019)
    assert peer.segments() == []
    peer.advance(0.0002)
    (probe,) = peer.segments()
    assert probe.seq == 1 + MSS * 10
