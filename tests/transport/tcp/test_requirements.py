"""Requirements of RFC 9293 that no other test shows, by their ids (docs/rfc.md names the rest)."""

import pytest

from netstack.core.address import parse_address
from netstack.core.config import TcpConfig
from netstack.core.errors import Reset, TimedOut, Unreachable
from netstack.wire.ipv4 import IPv4Header
from netstack.wire.tcp import (
    TcpFlag,
    TcpHeader,
    build_syn_options,
    parse_segment,
)

OURS, THEIRS = parse_address("10.0.0.1"), parse_address("10.0.0.2")
UNREACHABLE = 3


def send(peer, data):
    taken = peer.connection.send(data, peer.now)
    peer.poll()
    return taken


def soft_errors(peer):
    """Take the events; return what the soft ones among them say."""
    told = []
    while (event := peer.stack.next_event()) is not None:
        if type(event).__name__ == "SoftError":
            told.append(event.error)
    return told


def inject_packet(peer, flags, source, destination, *, seq=0):
    """Send a segment from anybody to anybody."""
    header = TcpHeader(
        peer.port, peer.stack_port, peer.irs + seq, 0, flags, 65_535
    ).with_checksum(source.packed, destination.packed, b"")  # fmt: skip
    packet = IPv4Header(
        source=source, destination=destination, protocol=6, total_length=40
    ).with_checksum()
    peer.stack.receive(peer.device, [packet.build() + header.build()], peer.now)
    peer.poll()


# ---- PUSH ---------------------------------------------------------------------------------------


def test_shld_27_consecutive_sends_are_merged_under_one_push(peer):
    peer.established()
    for piece in (b"one", b"two", b"three"):
        peer.connection.send(piece, peer.now)
    peer.poll()
    peer.expect("PA", data=b"onetwothree")
    peer.expect_nothing()


def test_shld_28_segments_are_filled(peer):
    peer.established()
    for _ in range(100):
        peer.connection.send(b"x" * 73, peer.now)
    peer.poll()
    assert [len(seen.data) for seen in peer.segments()] == [1460] * 5


def test_must_60_data_never_waits_for_ever(peer):
    peer.established()
    send(peer, b"x")
    send(peer, b"y")  # Nagle holds it
    peer.expect("PA", data=b"x")
    peer.expect_nothing()
    peer.inject("A", seq=1, ack=2)
    peer.expect("PA", data=b"y")


# ---- window -------------------------------------------------------------------------------------


def test_must_1_a_large_window_is_no_negative_number(make_peer):
    """REC-1 too: windows are wider than their field."""
    peer = make_peer().listen()
    peer.inject("S", seq=0, options=build_syn_options(1460, 14, None, sack=False))
    peer.segments()
    peer.inject("A", seq=1, ack=1, window=0xFFFF)
    (connection,) = peer.stack.tcp.connections.values()
    assert connection.sender.snd_wnd == 0xFFFF << 14
    assert connection.info().send_window == 0xFFFF << 14


def test_shld_16_what_a_shrunk_window_still_covers_is_repeated(peer):
    """MUST-34, SHLD-15, SHLD-17, MAY-7 too: nothing new, no end, first octets again."""
    peer.established()
    send(peer, b"x" * 4_380)
    peer.segments()
    peer.inject("A", seq=1, ack=1, window=1460)
    send(peer, b"new")
    peer.expect_nothing()
    peer.advance(1.5)
    again = peer.segments()
    assert again[0].seq == 1
    assert all(seen.seq + len(seen.data) <= 4_381 for seen in again)
    assert peer.state == "ESTABLISHED"


def test_may_8_a_window_stays_closed_while_nobody_reads(make_peer):
    peer = make_peer(receive_buffer=1_000).established()
    peer.inject("PA", seq=1, ack=1, data=b"x" * 1_000)
    peer.advance(3_600)
    assert peer.segments()[-1].window == 0
    peer.inject("A", seq=1_000, ack=1)  # a probe, an hour later
    peer.expect("A", window=0, ack=1_001)
    assert peer.state == "ESTABLISHED"


def test_must_35_a_window_shrunk_to_zero_is_probed(peer):
    peer.established()
    send(peer, b"x" * 100)
    peer.segments()
    peer.inject("A", seq=1, ack=101, window=0)
    send(peer, b"y" * 100)
    peer.expect_nothing()
    peer.advance(5)
    assert peer.segments()[0].data == b"y"


# ---- options ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [b"\x01\x01\x01\x00", b"\xfe\x04\x12\x34", b"\x01\xfd\x02\x01"]
)
@pytest.mark.parametrize("flags", ["A", "PA", "FA", "R"])
def test_must_5_options_are_taken_on_any_segment(peer, flags, options):
    peer.established()
    data = b"data" if flags == "PA" else b""
    peer.inject(flags, seq=1, ack=None if flags == "R" else 1, data=data, options=options)
    assert peer.state == {"FA": "CLOSE_WAIT", "R": "CLOSED"}.get(flags, "ESTABLISHED")
    if data:
        assert peer.connection.receive(10, peer.now) == b"data"


def test_must_65_the_mss_option_stands_on_syns_only(make_peer):
    peer = make_peer(timestamps=True).established()
    send(peer, b"x" * 3_000)
    peer.connection.close(peer.now)
    peer.poll()
    seen = peer.segments()
    assert len(seen) > 2
    for each in seen:
        raw = each.header.build() + each.data
        assert parse_segment(raw, 0, len(raw), []).mss is None


@pytest.mark.parametrize(("mtu", "mss"), [(1500, 1460), (1000, 960), (576, 536)])
def test_must_14_every_syn_says_what_fits_the_interface(make_peer, mtu, mss):
    """SHLD-5, MAY-3, SHLD-6 and MUST-67 too."""
    for passive in (True, False):
        peer = make_peer(mtu=mtu)
        if passive:
            peer.listen()
            peer.inject("S", seq=0)
        else:
            peer.stack_port = peer.stack.connect((str(THEIRS), 40_000), 0.0).local[1]
            peer.poll()
        (seen,) = peer.segments()
        raw = seen.header.build()
        assert parse_segment(raw, 0, len(raw), []).mss == mss


def test_must_69_options_need_no_padding_but_nops_inside(make_peer):
    """Every header that leaves is whole words, filled by no-operations in front."""
    peer = make_peer(timestamps=True).established()
    send(peer, b"x")
    peer.inject("PA", seq=5, ack=1, data=b"out of order")
    for seen in peer.segments():
        assert len(seen.header.options) % 4 == 0
        assert seen.header.options[:4] == b"\x01\x01\x08\x0a"


# ---- open ---------------------------------------------------------------------------------------


def test_must_11_a_reset_in_syn_received_ends_an_active_open_only(make_peer):
    passive = make_peer().syn_received()
    passive.inject("R", seq=1)
    assert passive.counter("tcp.resets_received") == 1
    assert passive.listener.accept() is None
    assert "Closed" not in passive.events()  # the listener goes on as if nothing had been
    active = make_peer().syn_sent()
    active.inject("S", seq=0)
    active.expect("SA", seq=0, ack=1)
    assert active.state == "SYN_RECEIVED"
    active.inject("R", seq=1)
    assert "Closed" in active.events()
    with pytest.raises(ConnectionRefusedError):
        active.connection.receive(1, active.now)


def test_must_41_a_listener_leaves_connections_on_its_port_alone(peer):
    """MUST-42 too: one more LISTEN on a port that connections use."""
    peer.established()
    peer.listener.close(peer.now)
    again = peer.stack.listen(("", 80))
    peer.inject("PA", seq=1, ack=1, data=b"still here")
    assert peer.state == "ESTABLISHED"
    assert peer.connection.receive(100, peer.now) == b"still here"
    peer.port += 1
    peer.inject("S", seq=0)
    assert peer.segments()[-1].flags == "SA"
    assert again.local[1] == 80


def test_must_44_the_source_comes_from_the_route_and_stays(make_peer):
    """MUST-45 too: every segment has the address of the SYN."""
    peer = make_peer().connected()
    assert peer.connection.local[0] == "10.0.0.1"
    send(peer, b"x" * 5_000)
    peer.connection.close(peer.now)
    peer.poll()
    sources = set()
    while peer.device.sent:
        sources.add(peer.device.sent.popleft()[12:16])
    assert sources == {OURS.packed}


def test_must_43_the_local_address_can_be_given(peer):
    connection = peer.stack.connect((str(THEIRS), 40_000), 0.0, local=("10.0.0.1", 1234))
    assert connection.local == ("10.0.0.1", 1234)
    with pytest.raises(Unreachable):
        peer.stack.connect((str(THEIRS), 40_000), 0.0, local=("10.9.9.9", 0))


@pytest.mark.parametrize("address", ["224.0.0.1", "255.255.255.255", "10.0.0.255"])
def test_must_46_no_open_towards_a_group(peer, address):
    with pytest.raises(Unreachable):
        peer.stack.connect((address, 80), 0.0)
    peer.expect_nothing()


@pytest.mark.parametrize("address", ["224.0.0.1", "255.255.255.255", "10.0.0.255"])
def test_must_57_segments_to_a_group_are_dropped_silently(peer, address):
    peer.listen()
    for flags in (TcpFlag.SYN, TcpFlag.ACK, TcpFlag.SYN | TcpFlag.ACK, TcpFlag.RST):
        inject_packet(peer, flags, THEIRS, parse_address(address))
    peer.expect_nothing()
    assert not peer.stack.connections()


@pytest.mark.parametrize(
    "address", ["224.0.0.1", "255.255.255.255", "10.0.0.255", "0.0.0.0", "127.0.0.1"]
)
def test_must_63_a_syn_from_an_invalid_source_is_ignored(peer, address):
    peer.listen()
    inject_packet(peer, TcpFlag.SYN, parse_address(address), OURS)
    peer.expect_nothing()
    assert not peer.stack.connections()


# ---- close --------------------------------------------------------------------------------------


def test_shld_2_a_reset_may_hold_data(peer):
    peer.established()
    peer.inject("RA", seq=1, ack=1, data=b"why it was reset")
    assert peer.state == "CLOSED"
    with pytest.raises(Reset):
        peer.connection.receive(100, peer.now)


def test_must_12_a_normal_close_and_an_abort_are_told_apart(make_peer):
    normal = make_peer().close_wait()
    assert normal.connection.receive(1, normal.now) == b""
    aborted = make_peer().established()
    aborted.inject("R", seq=1)
    with pytest.raises(Reset):
        aborted.connection.receive(1, aborted.now)


@pytest.mark.parametrize(("ts_val", "reopened"), [(2_000, True), (500, False)])
def test_shld_4_timestamps_decide_whether_time_wait_gives_way(make_peer, ts_val, reopened):
    peer = make_peer(timestamps=True).time_wait()
    options = build_syn_options(1460, None, (ts_val, 0))
    # A lower sequence number: by that alone it would be refused.
    peer.inject("S", seq=-50_000 & 0xFFFFFFFF, options=options)
    flags = [seen.flags for seen in peer.segments()]
    assert ("SA" in flags) is reopened


# ---- retransmission, failure --------------------------------------------------------------------


def test_may_4_a_retransmission_has_an_identification_of_its_own(peer):
    peer.established()
    send(peer, b"x")
    peer.segments()
    first = peer.last_packet[4:6]
    peer.advance(1.5)
    peer.segments()
    assert peer.last_packet[4:6] != first


def test_shld_9_the_user_is_told_when_r1_is_passed(peer):
    """MUST-20, MUST-47: long before R2 ends the connection."""
    peer.established()
    send(peer, b"x")
    peer.advance(0.5)
    assert not soft_errors(peer)
    peer.advance(30)
    (error,) = soft_errors(peer)
    assert isinstance(error, TimedOut)
    assert peer.state == "ESTABLISHED"
    assert peer.counter("tcp.r1_reached") == 1


def test_shld_10_and_11_r1_r2_and_their_syn_bounds_by_default():
    """MUST-23 and MUST-28 too."""
    config = TcpConfig()
    assert config.r1_retransmissions >= 3
    assert config.r2_timeout >= 100
    assert config.syn_timeout >= 180
    assert config.keepalive_idle >= 7_200
    assert not config.keepalive  # MUST-25


def test_must_22_a_lost_syn_passes_r1_as_data_does(peer):
    peer.syn_sent()
    peer.advance(60)
    assert peer.counter("tcp.r1_reached") == 1
    assert [type(error) for error in soft_errors(peer)] == [TimedOut]
    assert peer.state == "SYN_SENT"


def test_must_24_each_connection_switches_keepalives_for_itself(make_peer):
    on = make_peer(keepalive_idle=50.0).established()
    on.connection.set_option("keepalive", True)
    on.advance(51)
    on.expect("A", seq=0)
    off = make_peer(keepalive=True, keepalive_idle=50.0).established()
    off.connection.set_option("keepalive", False)
    off.advance(10_000)
    off.expect_nothing()


def test_must_27_the_keepalive_interval_is_a_setting(peer):
    peer.established()
    for name, value in (("keepalive", True), ("keepalive_idle", 10), ("keepalive_interval", 3)):
        peer.connection.set_option(name, value)
    peer.advance(9)
    peer.expect_nothing()
    peer.advance(2)
    peer.expect("A", seq=0, data=b"")
    peer.advance(3)
    peer.expect("A", seq=0, data=b"")
    assert peer.state == "ESTABLISHED"  # MUST-29: one unanswered probe is no end


# ---- acknowledgments ----------------------------------------------------------------------------


def test_must_58_what_arrives_together_is_acknowledged_once(peer):
    """MUST-59 too: all of it is processed before."""
    peer.established()
    for index in range(8):
        peer.inject(
            "A", seq=1 + 1460 * index, ack=1, data=b"x" * 1460, poll=False
        )  # fmt: skip
    peer.poll()
    peer.expect("A", ack=1 + 1460 * 8)
    peer.expect_nothing()


# ---- what goes to IP ----------------------------------------------------------------------------


def test_must_48_and_49_ttl_and_diffserv_go_to_ip_as_they_were_set(peer):
    """SHLD-21, SHLD-22: unchanged, and while the connection lives."""
    peer.established()
    for ttl, value in ((64, 0), (5, 0xB8), (255, 0x28)):
        if value:
            peer.connection.set_option("ttl", ttl)
            peer.connection.set_option("traffic_class", value)
        send(peer, b"x")
        seen = peer.segments()[-1]
        header, _ = IPv4Header.parse(peer.last_packet)
        assert (header.ttl, header.traffic_class & 0xFC) == (ttl, value)
        peer.inject("A", seq=1, ack=seen.seq + len(seen.data))


# ---- soft errors --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type", "code"), [(UNREACHABLE, 0), (UNREACHABLE, 1), (UNREACHABLE, 5), (11, 0), (12, 0)]
)
def test_shld_25_soft_errors_are_told_and_are_no_end(peer, type, code):
    """MUST-47, MUST-54, MUST-56."""
    peer.established()
    send(peer, b"x")
    peer.segments()
    peer.inject_icmp(type, code, peer.last_packet)
    (error,) = soft_errors(peer)
    assert isinstance(error, Unreachable)
    assert peer.state == "ESTABLISHED"
    assert peer.connection.take_soft_error() is error
    assert peer.connection.take_soft_error() is None  # told once


def test_shld_20_soft_errors_can_be_switched_off(peer):
    peer.established()
    peer.connection.set_option("report_errors", False)
    assert peer.connection.get_option("report_errors") is False
    send(peer, b"x")
    peer.segments()
    peer.inject_icmp(UNREACHABLE, 1, peer.last_packet)
    peer.advance(30)
    assert not soft_errors(peer)
    assert peer.connection.take_soft_error() is None


@pytest.mark.parametrize("state", ["established", "fin_wait_1", "close_wait"])
def test_shld_26_hard_errors_are_soft_once_synchronized(make_peer, state):
    peer = getattr(make_peer(), state)()
    if state != "fin_wait_1":
        send(peer, b"x")
    peer.segments()
    peer.inject_icmp(UNREACHABLE, 3, peer.last_packet)
    assert peer.state == state.upper()
