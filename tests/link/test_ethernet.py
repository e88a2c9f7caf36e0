"""The Ethernet interface: what it takes in, what it lets out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.core.address import parse_address
from netstack.core.errors import DeviceError, LocalProtocolError
from netstack.core.trace import FrameReceived, FrameSent
from netstack.device.base import Frame
from netstack.wire.ethernet import EtherType


@pytest.mark.parametrize("length", range(15))
def test_arp_01_short_frame_is_counted_and_the_next_one_served(bench, length):
    bench.receive(bench.ethernet(b"")[:length])
    assert bench.counters["ethernet.malformed"] == 1
    assert bench.packets == []
    bench.receive(bench.arp())
    assert [arp.operation for _, arp in bench.sent_arp()] == [2]


@pytest.mark.parametrize("depth", [1, 2, 300])
@pytest.mark.parametrize("tag", [b"\x81\x00\0\x01", b"\x88\xa8\0\x01", b"\x91\x00\0\x01"])
def test_arp_03_nested_vlan_tags_are_dropped_without_looking_behind_them(bench, depth, tag):
    bench.receive(bench.mac + bench.peer_mac + tag * depth + b"\x08\0" + bytes(50))
    assert bench.counters["ethernet.vlan"] == 1
    assert bench.packets == []


@pytest.mark.parametrize("left", [0, 1])
def test_arp_03_tag_cut_after_its_type_is_dropped(bench, left):
    bench.receive(bench.mac + bench.peer_mac + b"\x81\x00" + bytes(left))
    assert bench.counters["ethernet.vlan" if left else "ethernet.malformed"] == 1


@pytest.mark.parametrize("payload", range(0, 60, 7))
def test_arp_04_outgoing_short_frames_are_padded_with_zeros_to_60(bench, payload):
    bench.resolve()
    bench.send(payload=b"\xff" * payload)
    bench.interface.flush()
    octets = bench.device.sent[0].octets()
    assert len(octets) == max(60, 34 + payload)
    assert octets[34:] == b"\xff" * payload + bytes(len(octets) - 34 - payload)


def test_arp_04_arp_frames_are_padded_with_zeros(bench):
    bench.receive(bench.arp())
    bench.interface.flush()
    octets = bench.device.sent[0].octets()
    assert len(octets) == 60
    assert octets[42:] == bytes(18)


def test_padding_reaches_the_internet_layer_which_knows_the_length(bench):
    bench.receive(bench.ethernet(b"packet" + bytes(40)))
    assert bench.packets[0][1] == b"packet" + bytes(40)


@pytest.mark.parametrize("to", ["ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01"])
def test_arp_06_packet_in_a_group_frame_is_marked(bench, to):
    bench.receive(bench.ethernet(b"packet", to=bytes.fromhex(to.replace(":", ""))))
    bench.receive(bench.ethernet(b"packet"))
    assert [frame.group for frame, _ in bench.packets] == [True, False]


def test_frame_for_another_station_is_dropped_and_counted(bench):
    bench.receive(bench.ethernet(b"packet", to=bench.evil_mac))
    assert bench.packets == []
    assert bench.counters["ethernet.not_for_us"] == 1


def test_frame_for_a_group_that_was_not_joined_is_dropped_and_counted(bench):
    bench.receive(bench.ethernet(b"packet", to=b"\x01\0\x5e\0\0\x02"))
    assert bench.packets == []
    assert bench.counters["ethernet.group_not_joined"] == 1


def test_frame_from_a_group_address_is_dropped_and_counted(bench):
    bench.receive(bench.ethernet(b"packet", source=b"\x03\0\0\0\0\x02"))
    assert bench.packets == []
    assert bench.counters["ethernet.bad_source"] == 1


@pytest.mark.parametrize(
    ("ethertype", "reason"),
    [
        (0, "length_field"),
        (0x05FF, "length_field"),
        (0x0600, "unknown_type"),
        (0xFFFF, "unknown_type"),
    ],
)
def test_frame_of_an_unknown_type_is_dropped_and_counted(bench, ethertype, reason):
    bench.receive(bench.ethernet(b"packet", ethertype))
    assert bench.counters[f"ethernet.{reason}"] == 1


@given(data=st.binary(max_size=80))
def test_random_frames_never_raise_and_are_handed_on_or_counted(make_bench, data):
    bench = make_bench()
    bench.receive(data)
    drops = sum(count for name, count in bench.counters.items() if name.startswith("ethernet."))
    assert drops + len(bench.packets) == 1


@given(data=st.binary(max_size=60))
def test_random_arp_packets_never_raise(make_bench, data):
    bench = make_bench()
    bench.receive(bench.ethernet(data, EtherType.ARP))
    bench.receive(bench.ethernet(bytes.fromhex("0001080006040001") + data, EtherType.ARP))
    bench.receive(bench.ethernet(bytes.fromhex("0001080006040002") + data, EtherType.ARP))


def test_frames_that_share_a_header_with_headroom_are_read_from_their_start(bench):
    frame = Frame(bytearray(b"\xee" * 66 + bench.ethernet(b"packet")), start=66)
    bench.interface.receive_burst([frame], False)
    assert bench.packets[0][1] == b"packet"


def test_packet_to_a_known_neighbour_gets_its_link_header(bench):
    bench.resolve()
    assert bench.send(payload=bytes(40))
    header, payload = bench.sent()[0]
    assert header == (bench.peer_mac, bench.mac, EtherType.IPV4)
    assert payload[16:20] == b"\x0a\0\0\x02"


@pytest.mark.parametrize(
    ("next_hop", "mac"),
    [
        ("255.255.255.255", "ff:ff:ff:ff:ff:ff"),
        ("10.0.0.255", "ff:ff:ff:ff:ff:ff"),
        ("224.0.0.251", "01:00:5e:00:00:fb"),
        ("239.255.1.2", "01:00:5e:7f:01:02"),  # RFC 1112 6.4: 23 bits only
    ],
)
def test_group_next_hop_is_mapped_not_resolved(bench, next_hop, mac):
    bench.send(next_hop)
    assert [header.destination.hex(":") for header, _ in bench.sent()] == [mac]


def test_ipv6_multicast_maps_to_its_last_four_octets(bench):
    frame = bench.packet()
    frame.header[frame.start] = 0x60
    bench.interface.send_packet(parse_address("ff02::1:ff00:7"), frame)
    header, _ = bench.sent()[0]
    assert header.destination.hex(":") == "33:33:ff:00:00:07"
    assert header.ethertype == EtherType.IPV6


def test_slash_31_has_no_broadcast_address(make_bench):
    bench = make_bench("10.0.0.0/31")
    bench.send("10.0.0.1")
    assert [arp.target_ip for _, arp in bench.sent_arp()] == [b"\x0a\0\0\x01"]


def test_packet_above_the_mtu_is_refused_and_counted(bench):
    bench.resolve()
    assert bench.send(payload=bytes(1480))
    assert not bench.send(payload=bytes(1481))
    assert bench.counters["link.too_big"] == 1


@pytest.mark.parametrize("mtu", [67, 1501])
def test_mtu_that_the_device_cannot_carry_is_an_error(bench, mtu):
    with pytest.raises(DeviceError):
        type(bench.interface)(bench.context, 1, bench.device, mtu=mtu)


@pytest.mark.parametrize("mac", [b"\x03\0\0\0\0\0", bytes(6), b"\x02"])
def test_mac_that_is_no_station_address_is_an_error(bench, mac):
    with pytest.raises(ValueError, match="not the address of one station"):
        type(bench.interface)(bench.context, 1, bench.device, mac=mac)


def test_default_mac_is_local_individual_and_repeats_with_the_seed(make_bench):
    first, second = make_bench(), make_bench()
    macs = [type(bench.interface)(bench.context, 1, bench.device).mac for bench in (first, second)]
    assert macs[0] == macs[1]
    assert macs[0][0] == 0x02


def test_frame_without_headroom_is_a_programming_error(bench):
    bench.resolve()
    frame = Frame(bytearray(b"\x45" + bytes(30)))
    with pytest.raises(LocalProtocolError):
        bench.interface.send_packet(bench.peer, frame)


def test_interface_that_is_down_neither_sends_nor_receives(bench):
    bench.resolve()
    bench.interface.up = False
    assert not bench.send()
    bench.receive(bench.ethernet(b"packet"))
    assert bench.sent() == []
    assert bench.packets == []
    assert bench.counters["link.down"] == 2


def test_counters_count_frames_and_octets(bench):
    bench.receive(bench.arp(), bench.ethernet(bytes(100)))
    bench.sent()
    assert bench.counters["link.frames_received"] == 2
    assert bench.counters["link.octets_received"] == 60 + 114
    assert bench.counters["link.frames_sent"] == 1
    assert bench.counters["link.octets_sent"] == 60


def test_frames_are_traced_with_their_octets_and_an_id(bench):
    bench.trace()
    request = bench.arp()
    bench.receive(request)
    bench.interface.flush()
    bench.context.deliver_trace()
    received = next(event for event in bench.events if isinstance(event, FrameReceived))
    sent = next(event for event in bench.events if isinstance(event, FrameSent))
    assert received.data == request
    assert sent.data == bench.device.sent[0].octets()
    assert received.frame_id
    assert sent.frame_id not in (0, received.frame_id)
    assert sent.reason is not None


def test_drop_of_a_traced_frame_names_its_id(bench):
    bench.trace()
    bench.receive(bench.ethernet(b"packet", to=bench.evil_mac))
    bench.context.deliver_trace()
    received, dropped = bench.events
    assert dropped.reason == "ethernet.not_for_us"
    assert dropped.frame_id == received.frame_id


def test_announce_says_each_address_once(make_bench):
    bench = make_bench("10.0.0.1/24", "192.0.2.7/24")
    bench.interface.announce()
    said = [(arp.sender_ip, arp.target_ip) for _, arp in bench.sent_arp()]
    assert said == [(b"\x0a\0\0\x01",) * 2, (b"\xc0\0\x02\x07",) * 2]
