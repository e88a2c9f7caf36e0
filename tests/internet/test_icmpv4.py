"""ICMP in both directions: echo, errors, path MTU, and what is never answered."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.core.address import parse_address
from netstack.core.checksum import fold, internet_checksum, internet_sum, pseudo_header_sum
from netstack.core.errors import ParseError
from netstack.device.base import Checksum, Frame, GsoType
from netstack.internet.errors import ErrorKind
from netstack.internet.icmpv4 import parse_quote
from netstack.wire.icmpv4 import ICMPv4Header
from netstack.wire.ipv4 import IPv4Header


@pytest.fixture(scope="session")
def quoted_tcp(packet):
    """Return what an error quotes of a TCP segment that 192.0.2.1 sent."""

    def make(length=1500, *, source="192.0.2.1", destination="198.51.100.7", seq=1000, **fields):
        tcp = struct.pack("!HHIIBBHHH", 4000, 80, seq, 0, 0x50, 0x10, 100, 0, 0)
        fields.setdefault("protocol", 6)
        return packet(tcp, source=source, destination=destination, total_length=length, **fields)

    return make


@pytest.fixture(scope="session")
def error(packet, icmp):
    """Return a packet with an ICMP error."""

    def make(type_, code, quoted, rest=0, *, source="192.0.2.254", **fields):
        return packet(icmp(type_, code, rest, quoted), protocol=1, source=source, **fields)

    return make


# Echo


@pytest.mark.parametrize("size", [0, 1, 56, 1472])
def test_echo_is_answered_with_the_same_payload(world, packet, icmp, size):
    payload = bytes(n % 251 for n in range(size))
    data = packet(icmp(8, 0, 0xBEEF0007, payload), protocol=1, traffic_class=0x20)
    world.inject(data, padding=b"\xaa" * 20)
    (reply,) = world.eth.take()
    header, message = IPv4Header.parse(reply)
    icmp_header, content = ICMPv4Header.parse(message)
    assert (str(header.source), str(header.destination)) == ("192.0.2.1", "192.0.2.9")
    assert header.traffic_class == 0x20
    assert header.ttl == 64
    assert (icmp_header.type, icmp_header.code, icmp_header.rest) == (0, 0, 0xBEEF0007)
    assert internet_checksum(message) == 0
    assert bytes(content) == payload


def test_icm_13_largest_echo_in_fragments_is_answered_once(world, packet, icmp):
    payload = bytes(n % 253 for n in range(65_507))
    message = icmp(8, 0, 0x10001, payload)
    for start in range(0, len(message), 1480):
        piece = message[start : start + 1480]
        world.inject(
            packet(
                piece,
                protocol=1,
                identification=5,
                fragment_offset=start,
                more_fragments=start + 1480 < len(message),
            )
        )
    pieces = [IPv4Header.parse(data) for data in world.eth.take()]
    reply = b"".join(bytes(content) for _, content in pieces)
    assert len(pieces) == 45
    assert reply[8:] == payload
    assert internet_checksum(reply) == 0
    assert sum(not header.more_fragments for header, _ in pieces) == 1


@pytest.mark.needs("scapy")
def test_scapy_accepts_our_echo_reply(world):
    from scapy.layers.inet import ICMP, IP
    from scapy.packet import Raw

    request = IP(src="192.0.2.9", dst="192.0.2.1") / ICMP(id=7, seq=3) / Raw(b"scapy!")
    world.inject(bytes(request))
    reply = IP(world.eth.take()[0])
    assert reply.answers(IP(bytes(request)))
    again = reply.copy()
    del again.chksum, again[ICMP].chksum
    assert bytes(again) == bytes(reply)


def test_icm_01_messages_shorter_than_a_header_are_dropped(world, packet, icmp):
    message = icmp(8, 0, 0x10001)
    for length in range(8):
        world.inject(packet(message[:length], protocol=1))
    assert world.counters["icmpv4.short_header"] == 8
    assert world.eth.sent == []


def test_bad_checksum_is_dropped(world, packet, icmp):
    message = bytearray(icmp(8, 0, 0x10001, b"data"))
    message[9] ^= 1
    world.inject(packet(bytes(message), protocol=1))
    assert world.counters["icmpv4.bad_checksum"] == 1
    assert world.eth.sent == []


def test_icm_12_no_type_or_code_crashes_and_only_echo_is_answered(world, packet, icmp):
    for kind in range(256):
        for code in range(16):
            before = dict(world.counters)
            world.inject(packet(icmp(kind, code, 0x10001, bytes(12)), protocol=1))
            answers = world.eth.take()
            if kind == 8:
                assert len(answers) == 1
            else:
                assert answers == []
                changed = world.changed(before)
                changed.pop("ipv4.packets_received")
                changed.pop("icmpv4.messages_received")
                assert sum(changed.values()) == 1
    assert world.counters["icmpv4.query_ignored"] == 16 * 8
    assert world.counters["icmpv4.no_endpoint"] == 16


# Errors that arrive


@pytest.mark.parametrize(
    ("type_", "code", "kind"),
    [
        (3, 0, ErrorKind.NETWORK_UNREACHABLE),
        (3, 1, ErrorKind.HOST_UNREACHABLE),
        (3, 2, ErrorKind.PROTOCOL_UNREACHABLE),
        (3, 3, ErrorKind.PORT_UNREACHABLE),
        (3, 5, ErrorKind.SOURCE_ROUTE_FAILED),
        (3, 6, ErrorKind.NETWORK_UNREACHABLE),
        (3, 7, ErrorKind.HOST_UNREACHABLE),
        (3, 8, ErrorKind.HOST_UNREACHABLE),
        (3, 9, ErrorKind.PROHIBITED),
        (3, 10, ErrorKind.PROHIBITED),
        (3, 11, ErrorKind.NETWORK_UNREACHABLE),
        (3, 12, ErrorKind.HOST_UNREACHABLE),
        (3, 13, ErrorKind.PROHIBITED),
        (3, 14, ErrorKind.PROHIBITED),
        (3, 15, ErrorKind.PROHIBITED),
        (11, 0, ErrorKind.TIME_EXCEEDED),
        (11, 1, ErrorKind.TIME_EXCEEDED),
        (12, 0, ErrorKind.PARAMETER_PROBLEM),
    ],
)
def test_error_climbs_to_the_transport_it_is_about(world, error, quoted_tcp, type_, code, kind):
    world.inject(error(type_, code, quoted_tcp()))
    (climbed,) = world.errors
    assert climbed.kind is kind
    assert climbed.local == bytes((192, 0, 2, 1))
    assert climbed.remote == bytes((198, 51, 100, 7))
    assert (climbed.local_port, climbed.remote_port, climbed.seq) == (4000, 80, 1000)
    assert (climbed.mtu, climbed.reporter) == (0, bytes((192, 0, 2, 254)))


def test_only_protocol_and_port_unreachable_are_hard():
    assert {kind for kind in ErrorKind if kind.hard} == {
        ErrorKind.PROTOCOL_UNREACHABLE,
        ErrorKind.PORT_UNREACHABLE,
    }


def test_error_about_udp_has_no_sequence_number(world, error, packet, udp):
    quoted = packet(udp(), source="192.0.2.1", destination="198.51.100.7")
    world.inject(error(3, 3, quoted))
    assert world.errors[0].seq is None


def test_eight_octets_of_the_transport_header_are_enough(world, error, quoted_tcp):
    world.inject(error(3, 1, quoted_tcp()[:28]))
    assert len(world.errors) == 1


def test_icm_01_cut_quotations_are_dropped_at_every_length(world, error, quoted_tcp):
    quoted = quoted_tcp()
    for length in range(28):
        world.inject(error(3, 1, quoted[:length]))
    assert world.errors == []
    assert world.counters["icmpv4.bad_quote"] == 28


def test_icm_01_quotation_that_lies_about_its_header_length(world, error, quoted_tcp):
    for words in range(16):
        quoted = bytearray(quoted_tcp())
        quoted[0] = 0x40 | words
        world.inject(error(3, 1, bytes(quoted)))
    # Up to 8 words leave 8 octets of the 40 that are quoted; they are no ports of ours then.
    assert len(world.errors) == 4
    assert world.counters["icmpv4.bad_quote"] == 12


def test_quotation_of_somebody_elses_packet_is_dropped(world, error, quoted_tcp):
    world.inject(error(3, 1, quoted_tcp(source="192.0.2.77")))
    world.inject(error(3, 1, quoted_tcp(fragment_offset=8)))
    assert world.errors == []
    assert world.counters["icmpv4.bad_quote"] == 2


def test_error_to_a_group_is_dropped(world, error, quoted_tcp):
    world.inject(error(3, 1, quoted_tcp(), destination="192.0.2.255"), group=True)
    assert world.errors == []
    assert world.counters["icmpv4.error_to_group"] == 1


def test_error_about_a_protocol_nobody_has_is_counted(world, error, quoted_tcp):
    world.inject(error(3, 1, quoted_tcp(protocol=99)))
    assert world.counters["icmpv4.error_not_believed"] == 1


def test_icm_07_source_quench_and_redirect_are_ignored(world, error, quoted_tcp):
    world.inject(error(4, 0, quoted_tcp()))
    world.inject(error(5, 1, quoted_tcp(), 0xC00002FE))
    assert world.errors == []
    assert world.counters["icmpv4.error_ignored"] == 2
    assert str(world.internet.path(parse_address("192.0.2.9")).next_hop) == "192.0.2.9"


@given(st.binary(max_size=80))
def test_random_quotations_raise_nothing_but_parse_error(data):
    try:
        quote = parse_quote(memoryview(data))
    except ParseError:
        return
    assert 0 <= quote.local_port <= 0xFFFF


@given(st.integers(0, 255), st.integers(0, 255), st.binary(max_size=60))
def test_random_messages_raise_nothing(make_world, packet, icmp, kind, code, content):
    world = make_world()
    world.inject(packet(icmp(kind, code, 0, content), protocol=1))
    assert world.counters["icmpv4.messages_received"] == 1


# Path MTU


@pytest.fixture
def routed(make_world):
    world = make_world()
    from netstack.core.address import parse_prefix

    world.internet.add_route(parse_prefix("0.0.0.0/0"), parse_address("192.0.2.254"))
    return world


REMOTE = "198.51.100.7"


def _mtu(world):
    return world.internet.path(parse_address(REMOTE)).mtu


def test_believed_path_mtu_counts_from_then_on_and_bumps_the_generation(routed, error, quoted_tcp):
    before = routed.internet.generation
    routed.inject(error(3, 4, quoted_tcp(), 1400))
    assert routed.errors[0].kind is ErrorKind.PACKET_TOO_BIG
    assert routed.errors[0].mtu == 1400
    assert routed.internet.generation > before
    assert _mtu(routed) == 1400


def test_path_mtu_that_no_flow_recognises_is_not_stored(routed, error, quoted_tcp):
    routed.believe = False
    before = routed.internet.generation
    routed.inject(error(3, 4, quoted_tcp(), 1400))
    assert _mtu(routed) == 1500
    assert routed.internet.generation == before
    assert routed.counters["icmpv4.error_not_believed"] == 1


def test_path_mtu_only_shrinks_by_reports_and_grows_again_by_time(routed, error, quoted_tcp):
    routed.inject(error(3, 4, quoted_tcp(), 1300))
    routed.inject(error(3, 4, quoted_tcp(), 1400))
    assert _mtu(routed) == 1300
    generation = routed.internet.generation
    routed.advance(599)
    assert _mtu(routed) == 1300
    routed.advance(2)
    assert routed.internet.generation > generation
    assert _mtu(routed) == 1500


@pytest.mark.parametrize(("length", "expected"), [(1500, 1492), (1400, 1006), (800, 552)])
def test_report_without_mtu_takes_the_next_plateau(routed, error, quoted_tcp, length, expected):
    routed.inject(error(3, 4, quoted_tcp(length), 0))
    assert _mtu(routed) == expected


def test_path_mtu_below_the_floor_becomes_the_floor_without_df(routed, error, quoted_tcp):
    routed.inject(error(3, 4, quoted_tcp(), 296))
    path = routed.internet.path(parse_address(REMOTE))
    assert (path.mtu, path.fragment) == (552, True)
    assert routed.errors[0].mtu == 552
    assert routed.send(REMOTE, bytes(532), dont_fragment=True)
    assert not IPv4Header.parse(routed.eth.take()[0])[0].dont_fragment


@pytest.mark.parametrize(("length", "mtu"), [(1500, 1500), (1500, 9000), (1500, 67), (600, 700)])
def test_impossible_path_mtu_is_dropped(routed, error, quoted_tcp, length, mtu):
    routed.inject(error(3, 4, quoted_tcp(length), mtu))
    assert routed.errors == []
    assert routed.counters["icmpv4.bad_mtu"] == 1


def test_icm_09_path_mtu_cache_is_bounded_and_expires(make_world, error, quoted_tcp):
    world = make_world(pmtu_max_entries=100)
    cache = world.internet._paths.pmtu
    for number in range(3000):
        destination = f"203.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        world.inject(error(3, 4, quoted_tcp(destination=destination), 1400))
        assert cache.get(parse_address("203.0.0.0").packed)  # in use, so never the oldest
    assert len(cache) == 100
    world.advance(601)
    assert len(cache) == 0
    assert world.context.timers.next_deadline() is None


# Errors that are sent


def _send_error(world, data, kind=ErrorKind.PORT_UNREACHABLE, value=0, **options):
    world.received.clear()
    world.inject(data, **options)
    world.internet.send_error(world.received[0], kind, value)
    return world.eth.take()


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (ErrorKind.NO_ROUTE, 0, (3, 0, 0)),
        (ErrorKind.NETWORK_UNREACHABLE, 0, (3, 0, 0)),
        (ErrorKind.HOST_UNREACHABLE, 0, (3, 1, 0)),
        (ErrorKind.PROTOCOL_UNREACHABLE, 0, (3, 2, 0)),
        (ErrorKind.PORT_UNREACHABLE, 0, (3, 3, 0)),
        (ErrorKind.PACKET_TOO_BIG, 1400, (3, 4, 1400)),
        (ErrorKind.SOURCE_ROUTE_FAILED, 0, (3, 5, 0)),
        (ErrorKind.PROHIBITED, 0, (3, 13, 0)),
        (ErrorKind.TIME_EXCEEDED, 0, (11, 0, 0)),
        (ErrorKind.TIME_EXCEEDED, 1, (11, 1, 0)),
        (ErrorKind.PARAMETER_PROBLEM, 9, (12, 0, 9 << 24)),
    ],
)
def test_error_names_its_kind_and_quotes_the_packet(
    world, packet, udp, parsed, kind, value, expected
):
    data = packet(udp(), ttl=3)
    (answer,) = _send_error(world, data, kind, value, padding=b"\xaa" * 10)
    header, icmp_header, quoted = parsed(answer)
    assert (icmp_header.type, icmp_header.code, icmp_header.rest) == expected
    assert (str(header.source), str(header.destination)) == ("192.0.2.1", "192.0.2.9")
    assert header.traffic_class == 0xC0
    assert quoted == data


def test_error_quotes_as_much_as_fits_576_octets(world, packet, udp, parsed):
    data = packet(udp(bytes(1400)))
    (answer,) = _send_error(world, data)
    assert len(answer) == 576
    assert parsed(answer)[2] == data[:548]


def test_error_about_a_super_segment_quotes_its_first_wire_packet(world, packet, parsed):
    tcp = bytes(12) + b"\x50" + bytes(7)
    data = packet(tcp + bytes(4000), protocol=6)
    frame = Frame(data[:140], [data[140:]])
    frame.gso_size = 1000
    frame.gso_type = GsoType.TCPV4
    frame.segments = 4
    world.inject_frame(frame)
    world.internet.send_error(world.received[0], ErrorKind.HOST_UNREACHABLE)
    quoted = parsed(world.eth.take()[0])[2]
    header, _ = IPv4Header.parse(quoted, truncated=True)
    assert header.total_length == 1040
    assert internet_checksum(quoted[:20]) == 0
    assert quoted[20:] == data[20:548]


def test_error_quotes_a_checksum_that_was_left_to_the_receiver_complete(
    world, packet, udp, parsed
):
    data = packet(udp(b"abc"))
    partial = bytearray(data)
    partial[26:28] = fold(
        pseudo_header_sum(data[12:16], data[16:20], 17, len(data) - 20)
    ).to_bytes(2, "big")
    frame = Frame(bytes(partial))
    frame.checksum = Checksum.PARTIAL
    frame.checksum_start, frame.checksum_offset = 20, 6
    world.inject_frame(frame)
    world.internet.send_error(world.received[0], ErrorKind.PORT_UNREACHABLE)
    quoted = parsed(world.eth.take()[0])[2]
    pseudo = pseudo_header_sum(data[12:16], data[16:20], 17, len(data) - 20)
    assert internet_sum(quoted[20:], pseudo) == 0xFFFF


def test_icm_03_no_error_about_an_error_a_fragment_or_a_group(world, packet, icmp, udp):
    quoted = packet(udp(), source="192.0.2.1", destination="192.0.2.9")
    world.internet.register(1, world._receive, world._receive_error)
    triggers = [
        (packet(icmp(3, 1, 0, quoted), protocol=1), {}),
        (packet(icmp(11, 0, 0, quoted), protocol=1), {}),
        (packet(icmp(200, 0), protocol=1), {}),
        (packet(b"", protocol=1), {}),
        (packet(udp(), destination="192.0.2.255"), {"group": True}),
        (packet(udp(), destination="255.255.255.255"), {"group": True}),
        (packet(udp(), destination="224.0.0.1"), {"group": True}),
    ]
    for data, options in triggers:
        assert _send_error(world, data, **options) == []
    assert world.counters["icmpv4.no_error_about_error"] == 4
    assert world.counters["icmpv4.no_error_about_group"] == 3
    assert len(_send_error(world, packet(icmp(8, 0, 1), protocol=1))) == 1


def test_icm_03_no_error_about_a_later_fragment_or_to_a_martian(router, packet, udp):
    later = packet(bytes(8), destination="203.0.113.1", fragment_offset=80)
    router.inject(later)
    assert router.counters["icmpv4.no_error_about_fragment"] == 1
    for source in ("0.0.0.0", "255.255.255.255", "192.0.2.255", "224.1.1.1", "127.0.0.1"):
        router.inject(packet(udp(), source=source, destination="203.0.113.1"))
    assert router.counters["ipv4.martian_source"] == 5
    assert router.eth.sent == router.eth1.sent == router.lo.sent == []


def test_no_route_back_is_counted(make_world, packet):
    world = make_world()
    world.inject(packet(b"?", source="203.0.113.5", protocol=99))
    assert world.counters["icmpv4.no_route"] == 1


# Rate


def test_icm_04_errors_are_limited_to_rate_and_burst(world, packet, udp):
    sent = 0
    for number in range(10_000):
        world.advance(0.0001)
        source = f"192.0.2.{2 + number % 200}"
        sent += len(_send_error(world, packet(udp(), source=source)))
    # A thousand a second and the burst of 50; the random part evens out.
    assert 900 < sent < 1200
    assert world.counters["icmpv4.rate_limited"] == 10_000 - sent


def test_icm_04_one_destination_gets_a_fifth(world, packet, udp):
    sent = 0
    for _ in range(10_000):
        world.advance(0.0001)
        sent += len(_send_error(world, packet(udp())))
    assert 150 < sent < 270


def test_unused_buckets_are_forgotten(world, packet, udp):
    from netstack.internet.rate_limit import MAX_DESTINATIONS

    limiter = world.internet._icmpv4._limiter
    for number in range(MAX_DESTINATIONS + 50):
        limiter.allow(number.to_bytes(4, "big"))
    assert len(limiter._buckets) == MAX_DESTINATIONS


@pytest.mark.parametrize("spoofed_sources", [1, 50])
def test_icm_15_verification_probe_tells_nothing_about_open_ports(
    make_world, packet, udp, spoofed_sources
):
    # SAD DNS: 50 probes with forged sources, one of which may hit an open port and so cause no
    # error; then one probe of the attacker's own, answered only if a token is left.
    world = make_world(seed=5)
    rng = world.context.rng.child("attacker")
    right = 0
    for _ in range(200):
        world.advance(1.0)
        port_is_open = rng.random() < 0.5
        for number in range(50 - port_is_open):
            source = f"192.0.2.{100 + number % spoofed_sources}"
            _send_error(world, packet(udp(), source=source))
        answered = bool(_send_error(world, packet(udp(), source="192.0.2.66")))
        right += answered == port_is_open
    assert right <= 120
