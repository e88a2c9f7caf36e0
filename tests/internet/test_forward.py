"""What a router does with packets for others."""

import pytest

from netstack.core.address import parse_address, parse_prefix
from netstack.core.checksum import internet_checksum
from netstack.core.trace import Reason
from netstack.device.base import HEADROOM, Checksum, Frame, GsoType
from netstack.wire.ipv4 import IPv4Header

FAR = "198.51.100.7"  # a neighbour on the router's second link


def test_packet_goes_on_with_one_hop_less(router, packet, udp):
    data = packet(udp(), destination=FAR, ttl=9, identification=7, traffic_class=3)
    router.inject(data, padding=b"\xaa" * 9)
    assert router.eth1.next_hops == [FAR]
    assert router.eth1.sent[0].reason is Reason.FORWARDED
    assert router.eth1.sent[0].start >= HEADROOM
    (sent,) = router.eth1.take()
    assert internet_checksum(sent[:20]) == 0
    before, _ = IPv4Header.parse(data)
    after, content = IPv4Header.parse(sent)
    assert after == before._replace(ttl=8, checksum=after.checksum)
    assert bytes(content) == udp()
    assert router.counters == {
        "ipv4.packets_received": 1,
        "ipv4.packets_forwarded": 1,
        "ipv4.packets_sent": 1,
    }


def test_checksum_is_right_for_every_ttl_and_identification(router, packet):
    for ttl in range(2, 256):
        for identification in (0, 0xFF00, 0xFFFF, ttl * 257):
            router.inject(packet(destination=FAR, ttl=ttl, identification=identification))
    assert all(internet_checksum(data) == 0 for data in router.eth1.take())


def test_gateway_of_the_route_is_the_next_hop(router, packet, udp):
    router.internet.add_route(parse_prefix("203.0.113.0/24"), parse_address(FAR))
    router.inject(packet(udp(), destination="203.0.113.5"))
    assert router.eth1.next_hops == [FAR]


@pytest.mark.parametrize("ttl", [0, 1])
def test_ip4_28_expired_packet_is_dropped_with_time_exceeded(router, packet, udp, parsed, ttl):
    data = packet(udp(), destination=FAR, ttl=ttl)
    router.inject(data)
    assert router.eth1.sent == []
    header, icmp, quoted = parsed(router.eth.take()[0])
    assert (icmp.type, icmp.code) == (11, 0)
    assert str(header.source) == "192.0.2.1"
    assert quoted == data
    assert router.counters["ipv4.ttl_expired"] == 1


def test_ip4_28_time_exceeded_is_rate_limited(router, packet, udp):
    for _ in range(1000):
        router.inject(packet(udp(), destination=FAR, ttl=1))
    assert len(router.eth.take()) < 50
    assert router.counters["ipv4.ttl_expired"] == 1000


def test_ip4_30_two_routers_that_point_at_each_other_end_by_ttl(make_world, packet, udp):
    a, b = make_world(router=True), make_world(router=True, seed=2)
    # The same link: a's address is 198.51.100.1, b gets one of its own on it.
    b.internet.remove_interface(b.eth1)
    b.eth1 = b.add("eth1", "198.51.100.2/24")
    loop = parse_prefix("203.0.113.0/24")
    a.internet.add_route(loop, parse_address("198.51.100.2"))
    b.internet.add_route(loop, parse_address("198.51.100.1"))
    a.inject(packet(udp(), destination="203.0.113.5", ttl=255))
    hops = 0
    while a.eth1.sent or b.eth1.sent:
        for data in a.eth1.take():
            hops += 1
            b.inject(data, b.eth1)
        for data in b.eth1.take():
            hops += 1
            a.inject(data, a.eth1)
        assert hops < 600
    assert hops <= 255
    expired = a.counters.get("ipv4.ttl_expired", 0) + b.counters.get("ipv4.ttl_expired", 0)
    assert expired == 1


def test_no_route_is_answered_with_network_unreachable(router, packet, udp, parsed):
    router.inject(packet(udp(), destination="203.0.113.5"))
    _, icmp, _ = parsed(router.eth.take()[0])
    assert (icmp.type, icmp.code) == (3, 0)
    assert router.counters["ipv4.no_route"] == 1


def test_too_big_with_dont_fragment_is_answered_with_the_mtu(router, packet, parsed):
    router.eth1.mtu = 1000
    router.inject(packet(bytes(981), destination=FAR, dont_fragment=True))
    assert router.eth1.sent == []
    _, icmp, _ = parsed(router.eth.take()[0])
    assert (icmp.type, icmp.code, icmp.mtu) == (3, 4, 1000)
    assert router.counters["ipv4.exceeds_mtu"] == 1
    router.inject(packet(bytes(980), destination=FAR, dont_fragment=True))
    assert len(router.eth1.sent) == 1


def test_too_big_without_dont_fragment_is_fragmented(router, packet):
    router.eth1.mtu = 1000
    payload = bytes(n % 256 for n in range(1400))
    router.inject(packet(payload, destination=FAR, ttl=5, identification=3))
    pieces = [IPv4Header.parse(data) for data in router.eth1.take()]
    assert [len(content) for _, content in pieces] == [976, 424]
    assert b"".join(bytes(content) for _, content in pieces) == payload
    assert all((header.ttl, header.identification) == (4, 3) for header, _ in pieces)


def test_fragments_pass_without_being_reassembled(router, packet):
    first = packet(bytes(16), destination=FAR, more_fragments=True)
    second = packet(bytes(16), destination=FAR, fragment_offset=16)
    router.inject(first)
    router.inject(second)
    headers = [IPv4Header.parse(data)[0] for data in router.eth1.take()]
    assert [header.fragment_offset for header in headers] == [0, 16]


def test_options_go_on_as_they_are(router, packet, udp):
    options = bytes((7, 7, 4, 0, 0, 0, 0, 148, 4, 0, 0, 0))
    router.inject(packet(udp(), destination=FAR, options=options))
    header, content = IPv4Header.parse(router.eth1.take()[0])
    assert header.options == options
    assert bytes(content) == udp()


@pytest.mark.parametrize(
    "destination", ["127.0.0.1", "0.0.0.1", "240.0.0.1", "224.0.0.5", "255.255.255.255"]
)
def test_special_destinations_are_never_forwarded(router, packet, udp, destination):
    router.internet.add_route(parse_prefix("0.0.0.0/0"), parse_address(FAR))
    router.inject(packet(udp(), destination=destination))
    assert router.eth1.sent == []


def test_directed_broadcast_ends_at_the_router(router, packet, udp):
    router.inject(packet(udp(), destination="198.51.100.255"))
    assert router.eth1.sent == []
    assert router.received[0].group


def test_link_broadcast_is_never_forwarded(router, packet, udp):
    router.inject(packet(udp(), destination=FAR), group=True)
    assert router.eth1.sent == []
    assert router.counters["ipv4.unicast_in_broadcast"] == 1


def _super_segment(packet, *, gso_size, segments, dont_fragment=True):
    tcp = bytes(12) + b"\x50\x10" + bytes(6)
    data = packet(
        tcp + bytes(n % 256 for n in range(gso_size * segments)),
        destination=FAR,
        protocol=6,
        dont_fragment=dont_fragment,
    )
    frame = Frame(bytes(14) + data[:500], [data[500:]])
    frame.gso_size = gso_size
    frame.gso_type = GsoType.TCPV4
    frame.segments = segments
    frame.checksum = Checksum.PARTIAL
    frame.checksum_start = 34
    frame.checksum_offset = 16
    return frame


def test_super_segment_is_forwarded_whole_if_its_cuts_fit(router, packet):
    frame = _super_segment(packet, gso_size=1460, segments=10)
    router.inject_frame(frame, 14)
    (sent,) = router.eth1.sent
    assert (sent.gso_size, sent.segments, sent.gso_type) == (1460, 10, GsoType.TCPV4)
    assert (sent.checksum, sent.checksum_offset) == (Checksum.PARTIAL, 16)
    assert sent.checksum_start - sent.start == 20
    assert sent.octets()[20:] == frame.octets()[34:]
    assert router.counters["ipv4.packets_forwarded"] == 10


def test_super_segment_whose_cuts_do_not_fit_is_answered_once(router, packet, parsed):
    router.eth1.mtu = 1400
    router.inject_frame(_super_segment(packet, gso_size=1460, segments=10), 14)
    assert router.eth1.sent == []
    (answer,) = router.eth.take()
    _, icmp, quoted = parsed(answer)
    assert icmp.mtu == 1400
    assert IPv4Header.parse(quoted, truncated=True)[0].total_length == 1500
    assert router.counters["ipv4.exceeds_mtu"] == 10


def test_super_segment_without_df_is_cut_and_fragmented(router, packet):
    router.eth1.mtu = 1000
    frame = _super_segment(packet, gso_size=1460, segments=3, dont_fragment=False)
    router.inject_frame(frame, 14)
    pieces = [IPv4Header.parse(data) for data in router.eth1.take()]
    assert len(pieces) == 6
    assert len({header.identification for header, _ in pieces}) == 3
    assert all(header.total_length <= 1000 for header, _ in pieces)


def test_neighbour_that_does_not_answer_is_reported_to_the_source(router, packet, udp, parsed):
    data = packet(udp(), destination=FAR)
    router.inject(data)
    (frame,) = router.eth1.sent
    router.eth1.on_unresolved(parse_address(FAR), frame, frame.start)
    header, icmp, quoted = parsed(router.eth.take()[0])
    assert (icmp.type, icmp.code) == (3, 1)
    assert str(header.destination) == "192.0.2.9"
    assert quoted[12:] == data[12:]
    assert router.counters["ipv4.neighbour_unreachable"] == 1


def test_own_packet_to_a_silent_neighbour_is_reported_to_its_transport(world, udp):
    world.send("192.0.2.9", udp(b"", 4000, 53))
    (frame,) = world.eth.sent
    world.eth.take()
    world.eth.on_unresolved(parse_address("192.0.2.9"), frame, frame.start)
    (error,) = world.errors
    assert error.kind.name == "HOST_UNREACHABLE"
    assert (error.local_port, error.remote_port, error.reporter) == (4000, 53, None)
    assert world.eth.sent == []


def test_unreadable_packet_that_was_given_up_is_counted(world):
    world.eth.on_unresolved(parse_address("192.0.2.9"), Frame(b"junk"), 0)
    assert world.counters == {"ipv4.undeliverable": 1}


def test_each_pair_of_hosts_is_a_flow_of_the_output_queue(router, packet, udp):
    for source in ("192.0.2.8", "192.0.2.9", "192.0.2.8"):
        router.inject(packet(udp(), source=source, destination=FAR))
    first, second, third = router.eth1.flows
    assert first == third != second
