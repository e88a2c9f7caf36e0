"""ARP: who is answered, who is learned, and what a forger gets."""

from __future__ import annotations

import pytest

from netstack.core.address import BROADCAST_MAC, parse_address
from netstack.core.trace import FrameSent, Reason
from netstack.wire.arp import ArpHeader, ArpOperation
from netstack.wire.ethernet import EtherType

REPLY = ArpOperation.REPLY


def test_request_for_our_address_is_answered_to_the_asker(bench):
    bench.receive(bench.arp())
    [(ethernet, arp)] = bench.sent_arp()
    assert ethernet.destination == bench.peer_mac
    assert arp == (REPLY, bench.mac, b"\x0a\0\0\x01", bench.peer_mac, b"\x0a\0\0\x02")


def test_asker_is_learned_since_it_will_be_spoken_to(bench):
    bench.receive(bench.arp())
    assert bench.state() == "STALE"
    bench.send()
    assert [header.destination for header, _ in bench.sent()][-1] == bench.peer_mac
    assert bench.state() == "DELAY"


def test_request_for_another_host_is_not_answered_and_teaches_nothing(bench):
    bench.receive(bench.arp(target_ip="10.0.0.9"))
    assert bench.sent() == []
    assert len(bench.cache) == 0
    assert bench.counters["arp.for_others"] == 1


def test_reply_that_nobody_waits_for_teaches_nothing(bench):
    bench.answer()
    assert len(bench.cache) == 0


def test_asker_beyond_the_link_is_answered_but_not_learned(bench):
    bench.receive(bench.arp(sender_ip="192.0.2.1"))
    assert len(bench.sent_arp()) == 1
    assert len(bench.cache) == 0


def test_gratuitous_arp_updates_what_is_known_only(bench):
    bench.receive(bench.arp())  # known, STALE
    bench.receive(bench.arp(target_ip="10.0.0.2", sender_mac=bench.evil_mac))
    assert bench.cache.get(bench.peer).mac == bench.evil_mac
    assert bench.changes == 1
    bench.receive(bench.arp(sender_ip="10.0.0.3", target_ip="10.0.0.3"))
    assert len(bench.cache) == 1


def test_request_asks_everybody_from_the_address_of_that_link(make_bench):
    bench = make_bench("192.0.2.1/24", "10.0.0.1/24")
    bench.send("10.0.0.2")
    [(ethernet, arp)] = bench.sent_arp()
    assert ethernet.destination == BROADCAST_MAC
    assert arp == (ArpOperation.REQUEST, bench.mac, b"\x0a\0\0\x01", bytes(6), b"\x0a\0\0\x02")


def test_request_for_a_neighbour_of_no_prefix_has_the_first_address(bench):
    bench.send("203.0.113.1")
    assert bench.sent_arp()[0][1].sender_ip == b"\x0a\0\0\x01"


@pytest.mark.parametrize(
    ("offset", "values"),
    [
        (0, [0, 2, 0xFFFF]),  # hardware type
        (2, [0, 0x0806, 0x86DD, 0xFFFF]),  # protocol type
        (4, [0x0004, 0x0504, 0x0704, 0xFF04, 0x0600, 0x0603, 0x0605, 0x06FF]),  # lengths
        (6, [0, 3, 4, 0xFFFF]),  # operation
    ],
)
def test_arp_07_malformed_packet_is_counted_and_leaves_the_cache_alone(bench, offset, values):
    bench.resolve()
    for value in values:
        for frame in (bench.arp(), bench.arp(REPLY, sender_mac=bench.evil_mac, to=bench.mac)):
            data = bytearray(frame)
            data[14 + offset : 16 + offset] = value.to_bytes(2)
            bench.receive(bytes(data))
    reason = "arp.bad_operation" if offset == 6 else "arp.malformed"
    assert bench.counters[reason] == 2 * len(values)
    assert bench.sent() == []
    assert bench.cache.get(bench.peer).mac == bench.peer_mac
    assert len(bench.cache) == 1


@pytest.mark.parametrize("length", range(1, 28))
def test_arp_07_truncated_packet_is_counted(bench, length):
    bench.receive(bench.arp()[: 14 + length])
    assert bench.counters["arp.malformed"] == 1
    assert len(bench.cache) == 0
    assert bench.sent() == []


@pytest.mark.parametrize("operation", [ArpOperation.REQUEST, REPLY])
def test_arp_09_static_entry_never_changes(bench, operation):
    bench.cache.set_static(bench.peer, bench.peer_mac)
    for target in ("10.0.0.1", "10.0.0.2"):
        bench.receive(
            bench.arp(operation, target_ip=target, sender_mac=bench.evil_mac, target_mac=bench.mac)
        )
    assert bench.cache.get(bench.peer).mac == bench.peer_mac
    assert bench.state() == "PERMANENT"
    assert bench.counters["arp.contradicts_static"] == 2
    bench.advance(10_000)
    bench.cache.confirm(bench.peer)
    assert bench.state() == "PERMANENT"


@pytest.mark.parametrize("operation", [ArpOperation.REQUEST, REPLY])
def test_arp_09_live_entry_is_confirmed_by_unicast_and_not_overwritten(bench, operation):
    bench.resolve()
    bench.advance(2)
    forged = bench.arp(operation, sender_mac=bench.evil_mac, target_mac=bench.mac, to=bench.mac)
    bench.receive(forged)
    probes = [
        (ethernet.destination, arp.target_ip)
        for ethernet, arp in bench.sent_arp()
        if arp.operation == ArpOperation.REQUEST
    ]
    assert probes == [(bench.peer_mac, b"\x0a\0\0\x02")]
    bench.send()
    assert bench.sent()[-1][0].destination == bench.peer_mac  # packets keep going to the old one
    bench.answer()
    assert bench.state() == "REACHABLE"
    assert bench.cache.get(bench.peer).mac == bench.peer_mac
    assert bench.counters["arp.contradicts_live"] == 1


def test_arp_09_forged_flood_causes_at_most_one_probe_a_second(bench):
    bench.resolve()
    for _ in range(500):
        bench.advance(0.01)
        bench.answer(bench.evil_mac)
        if bench.sent_arp():
            bench.answer()
    assert bench.counters["arp.requests_sent"] <= 6
    assert bench.cache.get(bench.peer).mac == bench.peer_mac


def test_arp_09_silent_neighbour_is_resolved_anew_after_a_contradiction(bench):
    bench.resolve()
    bench.advance(2)
    bench.answer(bench.evil_mac)  # an honest move: the old station is gone
    bench.advance(4)
    assert bench.state() is None
    assert bench.changes == 1
    bench.send()
    bench.answer(bench.evil_mac)
    assert bench.sent()[-1][0].destination == bench.evil_mac


def test_arp_10_conflicts_are_counted_and_defended_once_in_ten_seconds(bench):
    conflict = bench.arp(sender_ip="10.0.0.1", target_ip="10.0.0.1", sender_mac=bench.evil_mac)
    announcements = []
    for _ in range(100):
        bench.receive(conflict)
        announcements += bench.sent_arp()
        bench.advance(0.01)
    assert bench.counters["arp.conflict"] == 100
    [(ethernet, arp)] = announcements
    assert ethernet.destination == BROADCAST_MAC
    assert arp.sender_ip == arp.target_ip == b"\x0a\0\0\x01"
    assert arp.sender_mac == bench.mac
    bench.advance(9.5)
    bench.receive(conflict)
    assert len(bench.sent_arp()) == 1
    assert len(bench.cache) == 0


def test_arp_10_probe_for_our_address_is_answered_as_its_defence(bench):
    bench.receive(bench.arp(sender_ip="0.0.0.0", sender_mac=bench.evil_mac))
    [(ethernet, arp)] = bench.sent_arp()
    assert ethernet.destination == bench.evil_mac
    assert (arp.operation, arp.sender_ip) == (REPLY, b"\x0a\0\0\x01")
    assert "arp.announcements_sent" not in bench.counters


@pytest.mark.parametrize(
    ("sender_ip", "sender_mac", "answered", "counter"),
    [
        ("10.0.0.1", "02:00:00:00:00:66", False, "arp.conflict"),
        ("0.0.0.0", "02:00:00:00:00:66", True, "arp.requests_received"),
        ("255.255.255.255", "02:00:00:00:00:66", False, "arp.bad_sender_address"),
        ("10.0.0.255", "02:00:00:00:00:66", False, "arp.bad_sender_address"),
        ("224.0.0.1", "02:00:00:00:00:66", False, "arp.bad_sender_address"),
        ("127.0.0.1", "02:00:00:00:00:66", False, "arp.bad_sender_address"),
        ("0.0.0.7", "02:00:00:00:00:66", False, "arp.bad_sender_address"),
        ("10.0.0.2", "01:00:5e:00:00:01", False, "arp.bad_sender_mac"),
        ("10.0.0.2", "ff:ff:ff:ff:ff:ff", False, "arp.bad_sender_mac"),
        ("10.0.0.2", "00:00:00:00:00:00", False, "arp.bad_sender_mac"),
        ("10.0.0.2", "02:00:00:00:00:01", False, "arp.own_packet"),
    ],
)
def test_arp_13_impossible_sender_is_not_learned(bench, sender_ip, sender_mac, answered, counter):
    mac = bytes.fromhex(sender_mac.replace(":", ""))
    bench.receive(bench.arp(sender_ip=sender_ip, sender_mac=mac))
    assert len(bench.cache) == 0
    assert bench.counters[counter] == 1
    replies = [arp for _, arp in bench.sent_arp() if arp.operation == REPLY]
    assert len(replies) == answered


def test_arp_frames_carry_the_reason_they_were_sent_for(bench):
    bench.trace()
    bench.receive(bench.arp())
    bench.interface.announce()
    bench.send("10.0.0.3")
    bench.send()
    bench.interface.flush()
    bench.advance(6)
    bench.context.deliver_trace()
    reasons = [
        event.reason
        for event in bench.events
        if isinstance(event, FrameSent) and event.data[12:14] == EtherType.ARP.to_bytes(2)
    ]
    assert set(reasons) == {
        Reason.ARP_REPLY,
        Reason.ARP_ANNOUNCEMENT,
        Reason.ARP_REQUEST,
        Reason.ARP_PROBE,
    }


def test_answer_addressed_to_another_station_confirms_nothing(bench):
    bench.send()
    packet = ArpHeader(
        REPLY, bench.peer_mac, b"\x0a\0\0\x02", bench.evil_mac, b"\x0a\0\0\x01"
    ).build()
    bench.receive(bench.ethernet(packet, EtherType.ARP))
    assert bench.state() == "DELAY"  # known, and in use by the packet that waited


def test_ipv6_addresses_are_left_to_ndp(make_bench):
    bench = make_bench("2001:db8::1/64", "10.0.0.1/24")
    bench.interface.announce()
    assert len(bench.sent_arp()) == 1
    assert bench.cache.get(parse_address("2001:db8::1")) is None
