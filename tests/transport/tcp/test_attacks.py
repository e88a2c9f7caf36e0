"""Rows of the list of attacks on TCP that need a whole exchange; others stand with their part.

``tests/attack_rows.txt`` lists the rows, ``tests/test_attack_rows.py`` sees to it that each has a
test.
"""

import hashlib
import itertools
import random

import pytest
from tcp_script import Script

from netstack.api import Network
from netstack.wire.tcp import TcpHeader, build_sack, build_timestamps


def send(peer, octets):
    taken = peer.connection.send(octets, peer.now)
    peer.poll()
    return taken


def still_serves(peer):
    """A new client is let in, whatever came before."""
    peer.segments()
    peer.iss = 0
    peer.inject("S", seq=0)
    peer.expect("SA", seq=0, ack=1)
    peer.inject("R", seq=1)


def advance_reading(peer, seconds, step=0.01):
    """Let time pass; return each segment with its time."""
    seen = []
    for _ in range(round(seconds / step)):
        peer.advance(step)
        seen.extend((peer.now, segment) for segment in peer.segments())
    return seen


# -- malformed segments ---------------------------------------------------------------------------


def test_tcp_01_short_segments_and_bad_offsets_are_dropped_and_counted(peer):
    peer.listen()
    header = TcpHeader(peer.port, 80, peer.irs, 0, 2, 1_000)
    whole = header.with_checksum(bytes((10, 0, 0, 2)), bytes((10, 0, 0, 1))).build()
    for length in range(20):
        peer.inject_octets(whole[:length])
    for offset in (0, 1, 4, 6, 15):
        bent = header._replace(reserved=0).build()
        bent = bent[:12] + bytes((offset << 4,)) + bent[13:16] + b"\0\0" + bent[18:]
        total = sum(int.from_bytes(bent[at : at + 2], "big") for at in range(0, 20, 2))
        total += 0x0A00 + 2 + 0x0A00 + 1 + 6 + 20
        checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
        peer.inject_octets(bent[:16] + checksum.to_bytes(2, "big") + bent[18:])
    peer.expect_nothing()
    assert not peer.stack.tcp.connections
    assert peer.counter("tcp.malformed") >= 5
    still_serves(peer)


@pytest.mark.slow
def test_tcp_03_options_without_length_end_the_options(peer):
    peer.listen()
    for kind, length in itertools.product(range(2, 256), (0, 1)):
        options = bytes((2, 4, 2, 0, kind, length, 1, 1))  # an MSS of 512 in front
        peer.inject("S", seq=0, options=options)
        peer.expect("SA", seq=0, ack=1)
        (connection,) = peer.stack.tcp.connections.values()
        assert connection.peer_mss == 512
        peer.inject("R", seq=1)
        peer.iss = 0


@pytest.mark.parametrize(
    "options",
    [
        b"\x01" * 40,
        bytes((2, 40, 5, 180)) + b"\x01" * 36,
        b"\x05\x22" + bytes(2),
        b"\x08\x0a\x00\x01",
        b"\x03\x03\xff\x08",
        b"\x02\x04\x05\xb4\xfe\xff\x01\x01",
    ],
)
def test_tcp_04_options_beyond_the_header_are_survived(peer, options):
    peer.listen()
    peer.inject("S", seq=0, options=options)
    peer.expect("SA", seq=0, ack=1)
    peer.inject("A", seq=1, ack=1)
    peer.connection = peer.listener.accept()
    send(peer, b"x" * 100)
    assert b"".join(seen.data for seen in peer.segments()) == b"x" * 100


@pytest.mark.parametrize("super_segments", [True, False])
@pytest.mark.parametrize("mss", [0, 1, 8, 48, 65_535])
def test_tcp_06_any_mss_makes_progress_in_few_segments(make_peer, mss, super_segments):
    peer = make_peer(super_segments=super_segments, gso_max_size=65_535 * super_segments)
    peer.listen()
    peer.inject("S", seq=0, options=bytes((2, 4, mss >> 8, mss & 255)))
    peer.segments()
    peer.inject("A", seq=1, ack=1)
    peer.connection = peer.listener.accept()
    assert send(peer, bytes(20_000)) == 20_000
    segments, acked = 0, 1
    while acked < 20_001:
        seen = peer.segments()
        assert seen
        segments += len(seen)
        acked = max(each.seq + len(each.data) for each in seen)
        peer.inject("A", seq=1, ack=acked)
    assert segments <= 20_000 // min(max(mss, 48), 1460) + 20


# -- dishonest acknowledgments --------------------------------------------------------------------


def test_tcp_16_optimistic_acknowledgments_free_and_earn_nothing(peer):
    peer.established()
    send(peer, bytes(100_000))
    sent = peer.segments()[-1]
    end = sent.seq + len(sent.data)
    sender = peer.connection.sender
    cwnd = sender.congestion.cwnd
    for beyond in (1, 1460, 50_000, 1 << 30):
        peer.inject("A", seq=1, ack=end + beyond)
        peer.advance(1 - 0.999)
    assert (sender.snd_una - sender.iss, sender.congestion.cwnd) == (1, cwnd)
    answers = peer.segments()
    assert [each.data for each in answers] == [b""]  # one, and no octet more
    assert peer.counter("tcp.ack_of_unsent") == 4


@pytest.mark.slow
def test_tcp_18_many_small_acknowledgments_grow_the_window_no_faster(make_peer):
    def window(pieces):
        peer = make_peer(send_buffer=4_000_000, window_scaling=True).established()
        peer.connection.sender.on_window(4_000_000, grew=True)
        acked = 1
        send(peer, bytes(3_000_000))
        for _ in range(5):
            peer.advance(0.1)
            seen = peer.segments()
            end = seen[-1].seq + len(seen[-1].data)
            while acked < end:
                acked = min(acked + 2920 // pieces, end)
                peer.inject("A", seq=1, ack=acked)
        return peer.connection.sender.congestion.cwnd

    assert window(40) <= 1.05 * window(1)


def test_tcp_19_duplicates_without_loss_cause_no_burst(peer):
    peer.established()
    for _ in range(1_000):
        peer.inject("A", seq=1, ack=1)
    peer.expect_nothing()
    send(peer, bytes(60_000))
    cwnd = peer.connection.sender.congestion.cwnd
    peer.segments()
    sent = 0
    for _ in range(1_000):
        peer.inject("A", seq=1, ack=1)
        sent += sum(len(seen.data) for seen in peer.segments())
    assert sent <= cwnd + 1460


BOGUS = (
    [(1_000, 1_000)], [(2_000, 1_000)], [(-5_000, -4_000)], [(1 << 20, 1 << 21)],
    [(1, 1 << 30)], [(-(1 << 31) + 1, 3_000)], [(5_000, 1 << 22)],
)  # fmt: skip


@pytest.mark.parametrize("blocks", BOGUS)
def test_tcp_21_impossible_sack_blocks_are_ignored(make_peer, blocks):
    peer = opened_with_sack(make_peer)
    send(peer, bytes(8_000))
    peer.segments()
    edges = [((peer.iss + a) & 0xFFFFFFFF, (peer.iss + b) & 0xFFFFFFFF) for a, b in blocks]
    for _ in range(5):
        peer.inject("A", seq=1, ack=1, options=build_sack(edges))
    sender = peer.connection.sender
    assert sender.queue.sacked_octets == sender.lost_octets == 0
    peer.expect_nothing()
    peer.inject("A", seq=1, ack=8_001)
    assert sender.snd_una - sender.iss == 8_001


def test_tcp_21_overlapping_cut_and_too_many_blocks_do_no_harm(make_peer):
    peer = opened_with_sack(make_peer)
    send(peer, bytes(14_600))
    peer.segments()
    chance = random.Random(1)
    for _ in range(300):
        edges = [
            ((peer.iss + chance.randrange(20_000)) & 0xFFFFFFFF,
             (peer.iss + chance.randrange(20_000)) & 0xFFFFFFFF) for _ in range(4)
        ]  # fmt: skip
        options = build_sack(edges)
        if chance.random() < 0.3:
            options = options[:3] + bytes((chance.randrange(40),)) + options[4:]
        peer.inject("A", seq=1, ack=1, options=options)
        sender = peer.connection.sender
        assert 0 <= sender.flight_size <= 14_600
        assert len(sender.queue) <= 20  # two entries a wire segment (CVE-2019-11478)
    assert peer.counter("stack.internal_error") == 0


def opened_with_sack(make_peer):
    peer = make_peer().listen()
    peer.inject("S", seq=0, options=bytes((2, 4, 5, 180, 1, 1, 4, 2)))
    peer.segments()
    peer.inject("A", seq=1, ack=1)
    peer.connection = peer.listener.accept()
    return peer


@pytest.mark.parametrize("whole", [True, False])
def test_tcp_22_what_was_sacked_and_given_up_is_sent_again(whole):
    Script(
        """
        use sack
        +0    + send 4000
        +0    > A 1:1001
        +0    > A 1001:2001
        +0    > A 2001:3001
        +0    > PA 3001:4001
        +0.1  < A 1:1 ack 1 <sack 1001:4001>
        +0    > A 1:1001
        +0.1  < A 1:1 ack 1001
        *     > * 1001:2001
        +0.1  < A 1:1 ack 2001
        *     > * 2001:3001
        *     > * 3001:4001
        +0.1  < A 1:1 ack 4001
        +0    % snd_una == 4001
        """,
        "renege",
    ).run(gso_max_size=65_535 if whole else 0, super_segments=whole)


# -- windows --------------------------------------------------------------------------------------


def test_tcp_25_octets_once_delivered_never_change(peer):
    peer.established()
    peer.inject("PA", seq=1, ack=1, data=b"abc")
    peer.inject("PA", seq=7, ack=1, data=b"ghi")
    assert peer.connection.receive(100, peer.now) == b"abc"
    peer.inject("PA", seq=1, ack=1, data=b"ABCDEFGHIJ")
    assert peer.connection.receive(100, peer.now) == b"DEFghiJ"


@pytest.mark.parametrize(
    ("window", "offset", "length", "taken"),
    [
        (1_000, 0, 0, 0), (1_000, 0, 1_000, 1_000), (1_000, 0, 1_500, 1_000),
        (1_000, -10, 1_500, 1_000), (1_000, 999, 5, 0), (1_000, 1_000, 5, 0), (1_000, -5, 5, 0),
        (0, 0, 0, 0), (0, 0, 1, 0), (0, -1, 2, 0),
    ],
)  # fmt: skip
def test_tcp_27_only_what_is_in_the_window_is_taken(make_peer, window, offset, length, taken):
    peer = make_peer(receive_buffer=2_000, window_scaling=False).established()
    base = 2_001 - window
    peer.inject("PA", seq=1, ack=1, data=bytes(base - 1))
    peer.advance(1)
    peer.segments()
    before = peer.connection.received
    peer.inject("PA", seq=base + offset, ack=1, data=b"x" * length)
    assert peer.connection.received - before == taken
    if length:
        peer.advance(peer.config.delayed_ack)
        assert peer.segments()[-1].ack == base + taken
    peer.inject("R", seq=base + taken)
    assert peer.state == "CLOSED"


@pytest.mark.parametrize("super_segments", [True, False])
def test_tcp_28_a_window_that_shrinks_under_the_flight_only_delays(make_peer, super_segments):
    peer = make_peer(super_segments=super_segments).established()
    send(peer, bytes(14_600))
    peer.segments()
    peer.inject("A", seq=1, ack=1, window=2_000)
    peer.inject("A", seq=1, ack=1, window=0)
    probes = advance_reading(peer, 5)
    assert probes
    assert all(seen.seq <= 14_601 for _, seen in probes)
    peer.inject("A", seq=1, ack=1, window=60_000)
    got = 1
    for _ in range(100):
        for seen in peer.segments():
            if seen.seq <= got:
                got = max(got, seen.seq + len(seen.data))
        peer.inject("A", seq=1, ack=got, window=60_000)
        peer.advance(0.5)
    assert peer.connection.sender.snd_una - peer.connection.sender.iss == 14_601


@pytest.mark.parametrize("window", [1, 3])
def test_tcp_30_tiny_windows_move_on(peer, window):
    peer.established()
    peer.inject("A", seq=1, ack=1, window=window)
    send(peer, b"0123456789" * 3)
    got, segments = bytearray(), 0
    for _ in range(3_000):
        peer.advance(0.05)
        for seen in peer.segments():
            segments += 1
            if seen.seq == len(got) + 1:
                got += seen.data[:window]
            peer.inject("A", seq=1, ack=len(got) + 1, window=window)
    assert got == b"0123456789" * 3
    assert segments <= 2 * 30


def test_tcp_30_reading_octet_by_octet_gives_no_silly_windows(make_peer):
    peer = make_peer(receive_buffer=4_000, window_scaling=False).established()
    peer.inject("A", seq=1, ack=1, data=bytes(1460))
    peer.inject("A", seq=1461, ack=1, data=bytes(1460))
    peer.inject("PA", seq=2921, ack=1, data=bytes(1080))
    peer.advance(1)
    assert peer.segments()[-1].window == 0
    windows = []
    for _ in range(4_000):
        assert peer.connection.receive(1, peer.now) == b"\0"
        peer.poll()
        windows.extend(seen.window for seen in peer.segments())
    assert len(windows) <= 3
    assert all(window >= 1_460 for window in windows)


@pytest.mark.slow
def test_tcp_31_probes_answered_at_line_rate_are_no_faster(peer):
    peer.established()
    peer.inject("A", seq=1, ack=1, window=0)
    send(peer, bytes(100))
    times = []
    for _ in range(3_000):
        peer.advance(0.01)
        times.extend(peer.now for seen in peer.segments() if seen.data)
        for _ in range(3):
            peer.inject("A", seq=1, ack=1, window=0)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert 4 <= len(times) <= 9
    assert all(later >= 1.5 * earlier for earlier, later in itertools.pairwise(gaps))


# -- opening and closing --------------------------------------------------------------------------


@pytest.mark.parametrize("irs", [5_000, 77])
def test_tcp_36_a_bare_syn_for_an_answer_is_a_simultaneous_open(make_peer, irs):
    peer = make_peer(irs=irs, iss=77).syn_sent()
    peer.inject("S", seq=0)
    peer.expect("SA", seq=0, ack=1)
    peer.inject("A", seq=1, ack=1)  # the third step of a split handshake
    assert peer.state == "ESTABLISHED"
    peer.inject("PA", seq=1, ack=1, data=b"hello")
    assert peer.connection.receive(10, peer.now) == b"hello"


def test_tcp_40_a_future_timestamp_of_a_blind_attacker_changes_nothing(make_peer):
    peer = make_peer(timestamps=True).established()
    ahead = build_timestamps(peer.ts_val + (1 << 30), 0)
    peer.inject("PA", seq=500, ack=1, data=b"evil", options=ahead)  # not the next octet
    peer.inject("PA", seq=1, ack=1 << 30, data=b"evil", options=ahead)  # a guessed ACK
    peer.inject("A", seq=-70_000 & 0xFFFFFFFF, ack=1, options=ahead)
    assert peer.connection.ts_recent == peer.ts_val
    peer.inject("PA", seq=1, ack=1, data=b"good")
    assert peer.connection.receive(4, peer.now) == b"good"


def test_tcp_42_a_segment_without_its_timestamp_counts_only_if_it_resets(make_peer):
    peer = make_peer(timestamps=True).established()
    send(peer, b"x")
    peer.segments()
    peer.inject("PA", seq=1, ack=2, data=b"evil", options=b"")
    assert peer.connection.receive(4, peer.now) is None
    assert peer.connection.sender.snd_una - peer.connection.sender.iss == 1
    rto = peer.connection.sender.rtt.rto
    peer.inject("A", seq=1, ack=2, options=build_timestamps(peer.ts_val, 12_345))
    assert 0.2 <= peer.connection.sender.rtt.rto <= max(rto, 60)
    peer.inject("R", seq=1, options=b"")
    assert peer.state == "CLOSED"


def test_tcp_45_one_fin_counts_and_what_follows_it_does_not(peer):
    peer.established()
    peer.inject("FA", seq=6, ack=1, data=b"fgh")
    peer.inject("PA", seq=9, ack=1, data=b"after")
    peer.inject("FA", seq=14, ack=1)
    assert peer.state == "ESTABLISHED"
    peer.inject("FA", seq=1, ack=1, data=b"abcdefgh")
    assert peer.state == "CLOSE_WAIT"
    assert peer.segments()[-1].ack == 10
    assert peer.connection.receive(100, peer.now) == b"abcdefgh"
    peer.inject("FA", seq=9, ack=1)
    peer.inject("PFA", seq=10, ack=1, data=b"more")
    assert peer.connection.receive(100, peer.now) == b""
    assert peer.events().count("PeerClosed") == 1


def test_tcp_45_a_fin_waits_for_a_closed_window_to_open(make_peer):
    peer = make_peer(receive_buffer=100, window_scaling=False).established()
    peer.inject("PA", seq=1, ack=1, data=bytes(100))
    peer.advance(1)
    peer.segments()
    peer.inject("FA", seq=101, ack=1)
    assert peer.state == "ESTABLISHED"
    assert peer.connection.receive(1_000, peer.now) == bytes(100)
    peer.poll()
    peer.inject("FA", seq=101, ack=1)
    assert peer.state == "CLOSE_WAIT"


@pytest.mark.parametrize("seed", range(20))
def test_tcp_45_any_order_of_pieces_and_fins_closes_once(make_peer, seed):
    peer = make_peer(irs=0xFFFFFFF0).established()
    chance = random.Random(seed)
    text = bytes(range(60))
    pieces = [(at, chance.randint(5, 25)) for at in range(0, 60, 5)] * 2
    chance.shuffle(pieces)
    for at, length in pieces:
        part = text[at : at + length]
        flags = "FA" if at + length >= 60 else "A"
        peer.inject(flags, seq=1 + at, ack=1, data=part)
    assert peer.connection.receive(100, peer.now) == text
    assert peer.state == "CLOSE_WAIT"
    assert peer.events().count("PeerClosed") == 1
    assert peer.segments()[-1].ack == 62


# -- known limits ---------------------------------------------------------------------------------


def test_tcp_54_write_write_read_waits_no_longer_than_a_delayed_ack():
    with Network(seed=1) as network:
        a, b = network.host("a", "10.0.0.1/24"), network.host("b", "10.0.0.2/24")
        network.link(a, b, delay=0.005)
        with b.create_server(("", 80)) as listener:
            client = a.create_connection(("10.0.0.2", 80))
            server, _ = listener.accept()
        with client, server:
            begun = network.now
            for _ in range(5):
                client.sendall(b"head")
                client.sendall(b"body")
                got = b""
                while len(got) < 8:
                    got += server.recv(100)
                server.sendall(b"answer")
                assert client.recv(100) == b"answer"
            assert network.now - begun <= 5 * 0.2


def test_tcp_55_swapped_words_pass_the_checksum_and_only_a_digest_tells(peer):
    """A known limit of the Internet checksum (docs/decisions.md): it is a sum, order is lost."""
    peer.established()
    text = bytes(range(100))
    header = TcpHeader(peer.port, 80, peer.irs + 1, peer.iss + 1, 0x18, 65_535)
    header = header.with_checksum(bytes((10, 0, 0, 2)), bytes((10, 0, 0, 1)), text)
    swapped = text[2:4] + text[0:2] + text[4:]
    peer.inject_octets(header.build() + swapped)
    got = peer.connection.receive(200, peer.now)
    assert got == swapped
    assert hashlib.sha256(got).digest() != hashlib.sha256(text).digest()
    peer.inject_octets(header.build() + b"?" + text[1:])  # what the sum sees is dropped
    assert peer.counter("tcp.bad_checksum") == 1
