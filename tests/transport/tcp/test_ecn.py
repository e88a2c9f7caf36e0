"""Explicit congestion notification (RFC 3168): what is asked, marked, echoed and reduced."""

import pytest

ECT_0, CE = 2, 3
DATA = b"x" * 1460


def ecn_of(peer):
    """Return the two bits of the packet taken last."""
    return peer.last_packet[1] & 3


def server(make_peer, **options):
    """A connection whose peer asked for ECN."""
    peer = make_peer(**options).listen()
    peer.inject("SEC", seq=0)
    peer.expect("SAE", seq=0, ack=1)
    assert ecn_of(peer) == 0
    peer.connection = next(iter(peer.stack.tcp.connections.values()))
    peer.inject("A", seq=1, ack=1)
    peer.events()
    return peer


def send(peer, data):
    peer.connection.send(data, peer.now)
    peer.poll()


# ---- negotiation --------------------------------------------------------------------------------


def test_a_stack_that_is_on_asks_and_uses_it_if_agreed(make_peer):
    peer = make_peer(ecn="on")
    peer.connection = peer.stack.connect(("10.0.0.2", peer.port), peer.now)
    peer.stack_port = peer.connection.local[1]
    peer.poll()
    peer.expect("SEC", seq=0)
    peer.inject("SAE", seq=0, ack=1)
    peer.expect("A", seq=1, ack=1)
    assert ecn_of(peer) == 0
    send(peer, DATA)
    peer.expect("PA", seq=1)
    assert ecn_of(peer) == ECT_0


@pytest.mark.parametrize("answer", ["SA", "SAEC"], ids=["none", "reflected"])
def test_without_agreement_nothing_is_marked(make_peer, answer):
    peer = make_peer(ecn="on")
    peer.connection = peer.stack.connect(("10.0.0.2", peer.port), peer.now)
    peer.stack_port = peer.connection.local[1]
    peer.poll()
    peer.expect("SEC")
    peer.inject(answer, seq=0, ack=1)
    peer.expect("A")
    send(peer, DATA)
    peer.expect("PA")
    assert ecn_of(peer) == 0


def test_a_lost_syn_goes_again_without_asking(make_peer):
    peer = make_peer(ecn="on")
    peer.connection = peer.stack.connect(("10.0.0.2", peer.port), peer.now)
    peer.stack_port = peer.connection.local[1]
    peer.poll()
    peer.expect("SEC")
    peer.advance(1.1)
    peer.expect("S")
    peer.inject("SAE", seq=0, ack=1)  # of the first, late
    peer.expect("A")
    assert peer.connection.ecn is None


def test_passive_answers_and_does_not_ask(peer, make_peer):
    peer.syn_sent()
    assert server(make_peer).connection.ecn is not None


def test_off_ignores_the_question(make_peer):
    peer = make_peer(ecn="off").listen()
    peer.inject("SEC", seq=0)
    peer.expect("SA")


@pytest.mark.parametrize("flags", ["SE", "SC"])
def test_half_a_question_is_none(make_peer, flags):
    peer = make_peer().listen()
    peer.inject(flags, seq=0)
    peer.expect("SA")


def test_a_syn_that_comes_again_without_asking_takes_it_back(make_peer):
    peer = make_peer().listen()
    peer.inject("SEC", seq=0)
    peer.expect("SAE")
    peer.inject("S", seq=0)
    peer.expect("SA")


def test_a_cookie_remembers_the_question(make_peer):
    peer = make_peer(max_syn_received=1, timestamps=True).listen()
    peer.inject("S", seq=0)
    peer.segments()
    peer.port += 1
    peer.inject("SEC", seq=0)
    peer.expect("SAE")
    peer.ts_val += 1
    peer.inject("A", seq=1, ack=1)
    assert peer.listener.accept().ecn is not None


# ---- receiving marks ----------------------------------------------------------------------------


def test_ce_is_echoed_until_cwr(make_peer):
    peer = server(make_peer)
    peer.traffic_class = CE
    peer.inject("A", seq=1, ack=1, data=b"a")
    peer.expect("AE", ack=2)
    peer.traffic_class = ECT_0
    peer.inject("PA", seq=2, ack=1, data=b"b")
    peer.advance(0.1)
    peer.expect("AE", ack=3)
    peer.inject("PAC", seq=3, ack=1, data=b"c")
    peer.advance(0.1)
    peer.expect("A", ack=4)


def test_ce_on_the_segment_with_cwr_is_echoed_again(make_peer):
    peer = server(make_peer)
    peer.traffic_class = CE
    peer.inject("A", seq=1, ack=1, data=b"a")
    peer.expect("AE")
    peer.inject("AC", seq=2, ack=1, data=b"b")
    peer.advance(0.1)
    peer.expect("AE")


def test_ce_outside_the_window_is_not_believed(make_peer):
    peer = server(make_peer)
    peer.traffic_class = CE
    peer.inject("A", seq=9_000_000, ack=1, data=b"a")
    peer.expect("A")


def test_marks_without_agreement_are_ignored(peer):
    peer.established()
    peer.traffic_class = CE
    peer.inject("A", seq=1, ack=1, data=b"a")
    peer.advance(0.1)
    peer.expect("A", ack=2)


# ---- being told of marks ------------------------------------------------------------------------


@pytest.mark.parametrize("congestion", ["newreno", "cubic"])
def test_echo_reduces_once_a_round_trip_and_is_answered_on_new_data(make_peer, congestion):
    peer = server(make_peer, congestion=congestion)
    send(peer, DATA * 40)
    assert len(peer.segments()) == 10
    peer.advance(0.05)
    before = peer.connection.sender.congestion.cwnd
    peer.inject("AE", seq=1, ack=1461)
    reduced = peer.connection.sender.congestion.cwnd
    assert before // 2 <= reduced <= before * 4 // 5
    for number in range(2, 11):
        peer.inject("AE", seq=1, ack=1 + 1460 * number)
        assert peer.connection.sender.congestion.cwnd <= reduced
    seen = peer.segments()
    assert [each.flags.count("C") for each in seen] == [1] + [0] * (len(seen) - 1)
    peer.inject("AE", seq=1, ack=seen[0].seq + 1460)  # the next window was marked too
    assert peer.connection.sender.congestion.cwnd < reduced
    assert peer.counter("tcp.ecn_reductions") == 2


def test_cwr_stands_on_the_first_cut_of_a_super_segment(make_peer):
    peer = server(make_peer)
    send(peer, DATA * 10)
    peer.segments()
    peer.advance(0.05)
    peer.inject("AE", seq=1, ack=1 + 14_600)
    send(peer, DATA * 4)
    assert ["C" in each.flags for each in peer.segments()] == [True, False, False, False]


def test_what_goes_again_is_not_ect(make_peer):
    peer = server(make_peer)
    send(peer, DATA)
    peer.expect("PA")
    assert ecn_of(peer) == ECT_0
    peer.advance(2)
    peer.expect("PA", seq=1)
    assert ecn_of(peer) == 0


def test_window_probes_and_keepalives_are_not_ect(make_peer):
    peer = server(make_peer)
    peer.inject("A", seq=1, ack=1, window=0)
    send(peer, DATA)
    peer.advance(1)
    peer.expect("A", length=1)
    assert ecn_of(peer) == 0


def test_echo_without_agreement_reduces_nothing(peer):
    peer.established()
    send(peer, DATA * 40)
    peer.segments()
    before = peer.connection.sender.congestion.cwnd
    peer.inject("AE", seq=1, ack=1461)
    assert peer.connection.sender.congestion.cwnd >= before


def test_the_two_bits_of_a_traffic_class_are_not_the_users(peer):
    peer.established()
    peer.connection.set_option("traffic_class", 0xFF)
    assert peer.connection.get_option("traffic_class") == 0xFC
