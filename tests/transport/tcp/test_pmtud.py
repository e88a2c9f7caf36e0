"""Black holes, probes of the path's MTU, and doubtful reports (RFC 4821, RFC 5927 7.2)."""

import pytest

UNREACHABLE, TOO_BIG = 3, 4
DATA = bytes(range(256)) * 2000


class Path:
    """Acknowledges, after a round trip, what a path of ``mtu`` lets through."""

    def __init__(self, peer, mtu):
        self.peer = peer
        self.mtu = mtu
        self.got = 1
        self.waiting = {}
        self.largest = 0
        self.sizes = []

    def round(self, seconds=0.05):
        peer = self.peer
        seen = peer.segments()
        peer.advance(seconds)
        for each in seen:
            size = len(each.data)
            if not size:
                continue
            self.sizes.append(size)
            if size + 40 > self.mtu:
                continue
            self.largest = max(self.largest, size)
            self.waiting[each.seq] = size
            while self.got in self.waiting:
                self.got += self.waiting.pop(self.got)
            peer.inject("A", seq=1, ack=self.got)

    def drain(self):
        while self.peer.connection.sender.queue:
            self.round()

    def run(self, rounds):
        for _ in range(rounds):
            self.round()


def fed(peer, path, rounds):
    """Let the application always have something to send."""
    for _ in range(rounds):
        peer.connection.send(DATA[:20_000], peer.now)
        peer.poll()
        path.round()


@pytest.fixture
def peer(make_peer):
    return make_peer().established()


def test_icm_10_segments_shrink_when_large_ones_vanish(peer):
    path = Path(peer, 1400)
    peer.connection.send(DATA[:50_000], peer.now)
    peer.poll()
    path.run(150)
    assert path.got == 50_001
    assert path.largest == 1024
    assert peer.counter("tcp.black_holes") == 1


def test_a_narrow_black_hole_takes_two_steps(peer):
    path = Path(peer, 600)
    peer.connection.send(DATA[:5_000], peer.now)
    peer.poll()
    path.run(150)
    assert path.got == 5_001
    assert path.largest == 512


def test_segment_size_is_searched_up_to_what_the_path_takes(peer):
    path = Path(peer, 1400)
    fed(peer, path, 300)
    assert 1400 - 16 <= peer.connection.sender.mss + 40 <= 1400
    assert peer.counter("tcp.pmtu_probes_delivered") >= 1


def test_after_an_outage_the_first_probe_ends_the_search(peer):
    path = Path(peer, 500)
    peer.connection.send(DATA[:100_000], peer.now)
    peer.poll()
    path.run(40)
    assert peer.connection.sender.mss == 1024
    path.mtu = 1500
    path.run(300)
    assert path.got == 100_001
    assert peer.connection.sender.mss == 1460
    assert peer.connection.path_search is None
    assert peer.counter("tcp.pmtu_probes") == 1


def test_a_lost_probe_does_not_shrink_the_window(peer):
    path = Path(peer, 1400)
    fed(peer, path, 60)
    smallest = []
    for _ in range(40):
        fed(peer, path, 1)
        smallest.append(peer.connection.sender.congestion.cwnd)
    assert peer.counter("tcp.pmtu_probes_lost") >= 3
    assert smallest == sorted(smallest)
    assert peer.counter("tcp.retransmission_timer") == 3


def test_the_search_begins_again_after_ten_minutes(peer):
    path = Path(peer, 1400)
    fed(peer, path, 300)
    path.mtu = 1500
    fed(peer, path, 20)
    assert peer.connection.sender.mss <= 1360
    path.drain()
    peer.advance(601)
    fed(peer, path, 60)
    assert peer.connection.sender.mss == 1460


def test_small_segments_that_vanish_change_no_size(peer):
    peer.connection.send(b"x" * 100, peer.now)
    peer.poll()
    peer.advance(30)
    assert peer.connection.path_search is None
    assert peer.connection.sender.mss == 1460


# ---- RFC 5927 7.2 -------------------------------------------------------------------------------


def acknowledged(peer):
    """A full-size segment got through; another three are in flight."""
    peer.connection.send(DATA[:1460], peer.now)
    peer.poll()
    peer.expect("PA", seq=1, length=1460)
    peer.advance(0.01)
    peer.inject("A", seq=1, ack=1461)
    peer.connection.send(DATA[: 3 * 1460], peer.now)
    peer.poll()
    peer.segments()


def test_a_report_smaller_than_what_got_through_waits_for_a_timeout(peer):
    acknowledged(peer)
    peer.inject_icmp(UNREACHABLE, TOO_BIG, peer.last_packet, mtu=576)
    peer.expect_nothing()
    assert peer.counter("tcp.pmtu_unconfirmed") == 1
    assert peer.connection.sender.mss == 1460


def test_progress_makes_the_report_void(peer):
    acknowledged(peer)
    peer.inject_icmp(UNREACHABLE, TOO_BIG, peer.last_packet, mtu=576)
    peer.inject("A", seq=1, ack=1461 + 3 * 1460)
    peer.connection.send(DATA[:1460], peer.now)
    peer.poll()
    peer.advance(0.5)  # that is lost, for another reason
    assert {len(each.data) for each in peer.segments()} == {1460}
    assert peer.connection.sender.mss == 1460


def test_a_timeout_confirms_the_report(peer):
    acknowledged(peer)
    peer.inject_icmp(UNREACHABLE, TOO_BIG, peer.last_packet, mtu=1000)
    peer.advance(0.4)
    assert peer.counter("tcp.pmtu_confirmed") == 1
    assert peer.expect("A", seq=1461).data == DATA[:960]
    assert peer.connection.sender.mss == 960


def test_a_report_about_the_first_segments_counts_at_once(peer):
    peer.connection.send(DATA[:2_920], peer.now)
    peer.poll()
    peer.segments()
    peer.inject_icmp(UNREACHABLE, TOO_BIG, peer.last_packet, mtu=1000)
    assert peer.expect("A", seq=1, length=960)
