"""Receiving and sending IPv4 packets; every drop has its counter."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.core.checksum import internet_checksum
from netstack.device.base import HEADROOM, Checksum, Frame, GsoType
from netstack.wire.ipv4 import IPv4Header


def test_packet_for_us_is_handed_up_without_its_padding(world, packet, udp):
    data = packet(udp(b"hi"), ttl=7, traffic_class=0x2E)
    world.inject(data, padding=b"\xaa" * 16)
    (received,) = world.received
    assert received.octets() == udp(b"hi")
    assert (received.header_start, received.start, received.length) == (14, 34, 10)
    assert (received.version, received.protocol) == (4, 17)
    assert (received.hop_limit, received.traffic_class) == (7, 0x2E)
    assert received.source == bytes((192, 0, 2, 9))
    assert received.destination == bytes((192, 0, 2, 1))
    assert received.interface is world.eth
    assert not received.group
    assert world.counters == {"ipv4.packets_received": 1}


def test_ip4_01_short_packets_at_every_length(world, packet):
    data = packet()
    for length in range(20):
        world.inject(data[:length])
    assert world.counters == {"ipv4.short_header": 20}


def test_packet_cut_off_at_every_length_is_dropped_and_counted(world, packet, udp):
    data = packet(udp(), options=bytes((1, 1, 1, 0)))
    for length in range(len(data)):
        world.inject(data[:length])
    assert world.received == []
    assert sum(world.counters.values()) == len(data)
    assert set(world.counters) == {
        "ipv4.short_header",
        "ipv4.bad_header_length",
        "ipv4.bad_total_length",
    }


@pytest.mark.parametrize("total", [*range(20), 29, 1500, 65535])
def test_ip4_03_impossible_total_length_is_dropped(world, packet, total):
    world.inject(packet(bytes(8), total_length=total))
    assert world.received == []
    assert world.counters == {"ipv4.bad_total_length": 1}


def test_ip4_03_total_length_sweep_never_reads_beyond_the_packet(world, packet):
    for total in range(0, 65536, 97):
        world.inject(packet(bytes(100), total_length=total))
    assert all(received.length <= 100 for received in world.received)
    assert len(world.received) == sum(20 <= total <= 120 for total in range(0, 65536, 97))
    assert world.received
    dropped = world.counters["ipv4.bad_total_length"]
    assert dropped + len(world.received) == len(range(0, 65536, 97))


@pytest.mark.parametrize("version", [n for n in range(16) if n != 4])
def test_ip4_04_other_versions_are_dropped_silently(world, packet, checksummed, version):
    data = bytearray(packet(bytes(8)))
    data[0] = version << 4 | 5
    world.inject(checksummed(data))
    assert world.counters == {"ipv4.bad_version": 1}
    assert world.eth.sent == []


@pytest.mark.parametrize("words", range(16))
def test_header_length_at_its_extremes(world, packet, checksummed, words):
    data = bytearray(packet(bytes(20)))
    data[0] = 0x40 | words
    world.inject(checksummed(data))
    if words < 5 or words > 10:
        assert world.counters == {"ipv4.bad_header_length": 1}
    else:
        assert len(world.received) == 1  # zeros are the end of the options


@pytest.mark.parametrize("bit", range(160))
def test_any_flipped_bit_of_the_header_is_noticed(world, packet, bit):
    data = bytearray(packet(bytes(8)))
    data[bit // 8] ^= 0x80 >> bit % 8
    world.inject(data)
    assert world.received == []
    assert sum(world.counters.values()) == 1


@pytest.mark.parametrize("options", ["82000000", "07010000", "44000000", "0101ff01"])
def test_ip4_06_option_without_length_is_dropped_with_parameter_problem(
    world, packet, udp, parsed, options
):
    world.inject(packet(udp(), options=bytes.fromhex(options)))
    assert world.received == []
    assert world.counters["ipv4.bad_option"] == 1
    _, icmp, _ = parsed(world.eth.take()[0])
    assert (icmp.type, icmp.code) == (12, 0)
    assert icmp.pointer in (21, 23)


@pytest.mark.parametrize("kind", [7, 68, 131, 137])
def test_ip4_07_every_pointer_and_length_is_taken_or_counted(world, packet, kind):
    for length in range(41):
        for pointer in range(0, 256, 5):
            options = (bytes((kind, length, pointer)) + bytes(37))[:40]
            before = dict(world.counters)
            world.received.clear()
            world.inject(packet(bytes(8), options=options))
            changed = world.changed(before)
            dropped = changed.get("ipv4.bad_option", 0) + changed.get("ipv4.source_route", 0)
            assert len(world.received) + dropped == 1
            if kind in (131, 137):
                assert not world.received


@pytest.mark.parametrize("kind", [131, 137])
def test_source_routes_are_dropped_silently(world, packet, udp, kind):
    route = bytes((kind, 7, 8, 192, 0, 2, 1, 0))
    world.inject(packet(udp(), options=route))
    assert world.counters == {"ipv4.source_route": 1}
    assert world.eth.sent == []


def test_unknown_and_harmless_options_are_ignored(world, packet, udp):
    options = bytes((1, 148, 4, 0, 0, 222, 3, 9)) + bytes((7, 7, 4, 0, 0, 0, 0, 0))
    world.inject(packet(udp(), options=options))
    (received,) = world.received
    assert received.octets() == udp()
    assert received.start - received.header_start == 36


def test_ip4_09_error_about_bad_options_has_a_plain_header(world, packet, udp, parsed):
    data = packet(udp(), options=bytes((130, 40, 0, 0)))
    world.inject(data)
    header, icmp, quoted = parsed(world.eth.take()[0])
    assert header.options == b""
    assert icmp.pointer == 21
    assert quoted == data


def test_ip4_24_land_packet_is_a_martian(world, packet, udp):
    land = packet(udp(b"", 7, 7), source="192.0.2.1", destination="192.0.2.1")
    world.inject(land)
    world.inject(packet(bytes(20), source="192.0.2.1", protocol=6))
    assert world.received == []
    assert world.counters == {"ipv4.martian_source": 2}
    world.advance(5)
    assert world.eth.sent == world.lo.sent == []


@pytest.mark.parametrize(
    "source",
    [
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "192.0.2.1",
        "192.0.2.255",
    ],
)
@pytest.mark.parametrize("kind", ["echo", "udp", "tcp", "unknown"])
def test_ip4_25_martian_source_is_never_answered(world, packet, udp, icmp, source, kind):
    protocol, payload = {
        "echo": (1, icmp(8, 0, 0x10001, b"ping")),
        "udp": (17, udp()),
        "tcp": (6, bytes(20)),
        "unknown": (99, b"?"),
    }[kind]
    world.inject(packet(payload, source=source, protocol=protocol))
    assert world.counters == {"ipv4.martian_source": 1}
    assert world.received == []
    assert world.eth.sent == world.lo.sent == []


@pytest.mark.parametrize("destination", ["127.0.0.1", "0.0.0.0", "240.0.0.1", "127.1.2.3"])
def test_martian_destination_from_outside_is_dropped(world, packet, udp, destination):
    world.inject(packet(udp(), destination=destination))
    assert world.counters == {"ipv4.martian_destination": 1}


def test_loopback_takes_our_addresses_and_nothing_else(world, packet, udp):
    for address in ("127.0.0.1", "127.9.9.9", "192.0.2.1"):
        world.inject(packet(udp(), source=address, destination=address), world.lo)
    assert len(world.received) == 3
    world.inject(packet(udp(), source="192.0.2.9", destination="127.0.0.1"), world.lo)
    assert world.counters["ipv4.martian_source"] == 1
    assert len(world.received) == 3


@pytest.mark.parametrize("destination", ["192.0.2.255", "255.255.255.255", "224.0.0.1"])
def test_broadcast_and_all_hosts_are_taken_as_group(world, packet, udp, destination):
    world.inject(packet(udp(), destination=destination), group=True)
    (received,) = world.received
    assert received.group


@pytest.mark.parametrize("destination", ["192.0.2.255", "255.255.255.255", "224.0.0.1"])
def test_ip4_27_broadcast_gets_no_echo_and_no_error(world, packet, udp, icmp, destination):
    world.inject(packet(icmp(8, 0, 0x10001), destination=destination, protocol=1), group=True)
    assert world.counters["icmpv4.broadcast_echo"] == 1
    world.inject(packet(b"x", destination=destination, protocol=99), group=True)
    assert world.counters["ipv4.unknown_protocol"] == 1
    world.inject(packet(udp(), destination=destination), group=True)
    world.internet.send_error(world.received[0], _port_unreachable())
    assert world.eth.sent == world.lo.sent == []
    assert world.counters["icmpv4.no_error_about_group"] == 2


def _port_unreachable():
    from netstack.internet.errors import ErrorKind

    return ErrorKind.PORT_UNREACHABLE


def test_broadcast_echo_is_answered_from_a_unicast_address_if_configured(make_world, packet, icmp):
    world = make_world(reply_to_broadcast_echo=True)
    echo = packet(icmp(8, 0, 0x10001, b"all"), destination="192.0.2.255", protocol=1)
    world.inject(echo, group=True)
    header, payload = IPv4Header.parse(world.eth.take()[0])
    assert str(header.source) == "192.0.2.1"
    assert bytes(payload)[8:] == b"all"


def test_unicast_packet_in_a_link_broadcast_is_dropped(world, packet, udp):
    world.inject(packet(udp()), group=True)
    assert world.counters == {"ipv4.unicast_in_broadcast": 1}


@pytest.mark.parametrize("destination", ["192.0.2.7", "203.0.113.1", "224.0.0.5"])
def test_packet_for_somebody_else_is_dropped_by_a_host(world, packet, udp, destination):
    world.inject(packet(udp(), destination=destination))
    assert world.changed({"ipv4.packets_received": 0}).get("ipv4.not_for_us") == 1
    assert world.received == []
    assert world.eth.sent == []


@pytest.mark.parametrize("ttl", [0, 1])
def test_ip4_28_time_to_live_does_not_matter_at_the_destination(world, packet, udp, ttl):
    world.inject(packet(udp(), ttl=ttl))
    assert len(world.received) == 1


def test_unknown_protocol_is_answered_with_protocol_unreachable(world, packet, parsed):
    data = packet(b"whatever", protocol=99)
    world.inject(data)
    header, icmp, quoted = parsed(world.eth.take()[0])
    assert (icmp.type, icmp.code) == (3, 2)
    assert str(header.source) == "192.0.2.1"
    assert str(header.destination) == "192.0.2.9"
    assert quoted == data
    assert world.counters["ipv4.unknown_protocol"] == 1


def test_intercepted_protocol_is_taken_for_any_destination(world, packet):
    world.internet.intercept(6)
    world.inject(packet(bytes(20), destination="203.0.113.1", protocol=6))
    assert len(world.received) == 1
    world.inject(packet(bytes(8), destination="203.0.113.1", protocol=17))
    assert world.counters["ipv4.not_for_us"] == 1
    assert world.send("192.0.2.9", bytes(20), 6, source="203.0.113.1")


def _merged(packet, *, valid, count=3):
    """Return three TCP segments of 100 octets as a burst's merge hands them up."""
    tcp = bytes(12) + b"\x50" + bytes(7)
    whole = packet(tcp + bytes(100 * count), protocol=6)
    frame = Frame(whole[:40], [bytes(100)] * count)
    frame.gso_size = 100
    frame.segments = count
    frame.checksum = Checksum.VALID if valid else Checksum.UNKNOWN
    return frame


def test_merged_frame_is_one_packet_and_counts_as_its_segments(world, packet):
    world.inject_frame(_merged(packet, valid=True))
    (received,) = world.received
    assert received.length == 320
    assert received.octets()[20:] == bytes(300)
    assert world.counters == {"ipv4.packets_received": 3}


def test_merged_frame_marked_valid_is_not_summed_again(world, packet):
    frame = _merged(packet, valid=True)
    header = bytearray(frame.header)
    header[10:12] = b"\0\0"
    frame.header = bytes(header)
    world.inject_frame(frame)
    assert len(world.received) == 1
    frame.checksum = Checksum.UNKNOWN
    world.inject_frame(frame)
    assert world.counters["ipv4.bad_checksum"] == 3


def test_merged_frame_with_too_few_octets_is_dropped(world, packet):
    frame = _merged(packet, valid=True)
    frame.payload = frame.payload[:2]
    world.inject_frame(frame)
    assert world.counters == {"ipv4.bad_total_length": 3}


@given(
    first=st.sampled_from([0x45, 0x46, 0x44, 0x65, 0x4F]),
    total=st.sampled_from([0, 19, 20, 27, 28, 29, 40]),
    flags=st.sampled_from([0, 0x4000, 0x8000, 0x2000, 1]),
    protocol=st.sampled_from([1, 6, 17, 99]),
    source=st.sampled_from(["192.0.2.9", "192.0.2.1", "0.0.0.0", "127.0.0.1", "8.8.8.8"]),
    destination=st.sampled_from(
        ["192.0.2.1", "192.0.2.255", "127.0.0.1", "203.0.113.1", "224.0.0.1"]
    ),
    right=st.booleans(),
    group=st.booleans(),
)
def test_fast_and_slow_path_agree(
    make_world, packet, checksummed, first, total, flags, protocol, source, destination, right,
    group,
):  # fmt: skip
    data = bytearray(packet(bytes(20), source=source, destination=destination, protocol=protocol))
    struct.pack_into("!BBHHH", data, 0, first, 0, total, 5, flags)
    if right:
        data = checksummed(data)
    outcomes = []
    for slow in (False, True):
        world = make_world()
        frame = Frame(bytes(data))
        frame.group = group
        if slow:
            world.internet._ipv4._receive_slowly(frame, 0, len(data), world.eth)
        else:
            world.inject_frame(frame)
        octets = [received.octets() for received in world.received]
        outcomes.append((octets, world.counters, world.eth.take()))
    assert outcomes[0] == outcomes[1]


@given(st.binary(min_size=0, max_size=100), st.booleans())
def test_random_octets_are_taken_or_counted(make_world, checksummed, data, aligned):
    world = make_world()
    if aligned and len(data) >= 60:
        data = b"\x4f\0" + len(data).to_bytes(2, "big") + data[4:12] + data[12:]
        data = checksummed(data)
    world.inject(data)
    assert world.received or sum(world.counters.values()) >= 1


# Sending


def test_sent_packet_is_what_rfc_791_asks_for(world, udp):
    assert world.send("192.0.2.9", udp(), hop_limit=9, traffic_class=0x28)
    (frame,) = world.eth.sent
    assert frame.start == HEADROOM - 20
    data = frame.octets()
    header, payload = IPv4Header.parse(data)
    assert internet_checksum(data[:20]) == 0
    assert (str(header.source), str(header.destination)) == ("192.0.2.1", "192.0.2.9")
    assert (header.ttl, header.traffic_class, header.protocol) == (9, 0x28, 17)
    assert not header.dont_fragment
    assert bytes(payload) == udp()
    assert world.eth.next_hops == ["192.0.2.9"]
    assert world.counters == {"ipv4.packets_sent": 1}


def test_dont_fragment_and_default_time_to_live(world, udp):
    world.send("192.0.2.9", udp(), dont_fragment=True)
    header, _ = IPv4Header.parse(world.eth.take()[0])
    assert header.dont_fragment
    assert header.ttl == 64


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255), st.integers(0, 1400))
def test_header_checksum_is_right_for_all_fields(make_world, ttl, tos, protocol, length):
    world = make_world(seed=length)
    world.send("192.0.2.9", bytes(length), protocol, hop_limit=ttl, traffic_class=tos)
    assert internet_checksum(world.eth.take()[0][:20]) == 0


def _identification(data):
    return IPv4Header.parse(data)[0].identification


def test_identification_counts_for_each_destination_alone(world, udp):
    for remote in ("192.0.2.9", "192.0.2.10", "192.0.2.9", "192.0.2.9", "192.0.2.10"):
        world.send(remote, udp())
    a, b, a1, a2, b1 = map(_identification, world.eth.take())
    assert (a1, a2) == ((a + 1) & 0xFFFF, (a + 2) & 0xFFFF)
    assert b1 == (b + 1) & 0xFFFF
    assert a != b


def test_identifications_start_at_random_and_depend_on_the_seed(make_world, udp):
    starts = []
    for seed in (1, 1, 2):
        world = make_world(seed=seed)
        world.send("192.0.2.9", udp())
        starts.append(_identification(world.eth.take()[0]))
    assert starts[0] == starts[1] != starts[2]


def _super_segment(gso_size, segments):
    frame = Frame(bytearray(HEADROOM + 20), [bytes(gso_size * segments)], start=HEADROOM)
    frame.header[HEADROOM + 12] = 0x50
    frame.gso_size = gso_size
    frame.gso_type = GsoType.TCPV4
    frame.segments = segments
    return frame


def test_identification_advances_by_the_segments_of_a_super_segment(world, udp):
    path = world.internet.path(world.eth.addresses[0].address._replace(packed=b"\xc0\0\2\x09"))
    assert world.internet.send(path, 6, _super_segment(1460, 10), dont_fragment=True)
    world.send("192.0.2.9", udp())
    first, second = world.eth.take()
    assert (_identification(second) - _identification(first)) & 0xFFFF == 10
    assert world.counters["ipv4.packets_sent"] == 11


def test_super_segment_is_judged_by_its_wire_length(world):
    path = world.internet.path(world.eth.addresses[0].address._replace(packed=b"\xc0\0\2\x09"))
    assert not world.internet.send(path, 6, _super_segment(1461, 2), dont_fragment=True)
    assert world.counters == {"ipv4.exceeds_path_mtu": 2}


def test_dont_fragment_packet_beyond_the_mtu_is_refused(world):
    assert world.send("192.0.2.9", bytes(1480), dont_fragment=True)
    assert not world.send("192.0.2.9", bytes(1481), dont_fragment=True)
    assert world.counters["ipv4.exceeds_path_mtu"] == 1


def test_packet_beyond_65535_octets_is_refused(world):
    assert not world.send("192.0.2.9", bytes(65516))
    assert world.counters == {"ipv4.too_long": 1}


def test_refused_fragment_stops_the_rest_and_is_counted(world):
    world.eth.refuse_after = 1
    assert not world.send("192.0.2.9", bytes(4000))
    assert world.counters["ipv4.fragment_refused"] == 2


def test_packets_to_our_own_address_loop_back(world, udp):
    world.send("192.0.2.1", udp())
    world.send("127.0.0.1", udp())
    assert world.eth.sent == []
    for data in world.lo.take():
        world.inject(data, world.lo)
    addresses = [(p.source, p.destination) for p in world.received]
    assert addresses == [(b"\xc0\0\2\1",) * 2, (b"\x7f\0\0\1",) * 2]


def test_sent_packets_are_traced_with_their_reason(world, packet, icmp):
    events = []
    world.context.listen(events.append)
    world.inject(packet(icmp(8, 0, 0x10001, b"x"), protocol=1))
    world.context.deliver_trace()
    (event,) = events
    assert (event.layer, event.source, event.destination) == ("ipv4", "192.0.2.1", "192.0.2.9")
    assert (event.protocol, event.length) == (1, 29)
    assert "echo" in event.reason.value
    assert event.frame_id == world.eth.sent[0].id == 1


def test_ip4_31_mtu_below_68_is_an_error_at_set_up(make_world):
    for mtu in range(68):
        with pytest.raises(ValueError, match="68"):
            make_world(mtu=mtu)
    world = make_world(mtu=68)
    assert world.send("192.0.2.9", bytes(1000))
    assert all(len(data) <= 68 for data in world.eth.take())
