"""The neighbour cache: states of RFC 4861 7.3.2, bounds, waiting packets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.core.address import IPAddress, parse_address
from netstack.core.config import Config, NeighbourConfig
from netstack.core.trace import CacheLookup, StateChanged
from netstack.link.neighbour import NEGATIVE_HOLD_S

OTHER = parse_address("10.0.0.3")


def config(**changes):
    return Config(arp=NeighbourConfig(**changes))


def destinations(bench):
    """Return what was sent, by destination: "ask" for a broadcast."""
    return [
        "ask" if header.destination[0] == 0xFF else header.destination.hex(":")
        for header, _ in bench.sent()
    ]


def test_packet_waits_for_the_answer_and_then_goes(bench):
    assert bench.send()
    assert destinations(bench) == ["ask"]
    assert bench.state() == "INCOMPLETE"
    bench.answer()
    assert bench.state() == "REACHABLE"
    assert destinations(bench) == [bench.peer_mac.hex(":")]
    assert bench.cache.waiting.segments == 0


def test_waiting_packets_go_in_order(bench):
    for number in range(5):
        bench.send(payload=bytes([number]) * 40)
    bench.answer()
    assert [payload[20] for _, payload in bench.sent()[1:]] == [0, 1, 2, 3, 4]


def test_unanswered_address_is_asked_three_times_a_second_apart_then_given_up(bench):
    bench.send(payload=b"first")
    times = []
    for _ in range(50):
        times += [bench.context.now] * len(bench.sent())
        bench.advance(0.1)
    assert times == pytest.approx([0.0, 1.0, 2.0], abs=0.11)
    [(next_hop, packet, at)] = bench.unresolved
    assert (next_hop, at) == ("10.0.0.2", 3.0)
    assert packet[0] == 0x45
    assert packet[16:20] == b"\x0a\0\0\x02"
    assert bench.counters["arp.handed_back"] == 1
    assert bench.state() == "FAILED"


def test_unresolved_packet_is_dropped_and_counted_if_nobody_takes_it_back(bench):
    bench.interface.on_unresolved = None
    bench.send()
    bench.advance(3)
    assert bench.counters["arp.unresolved"] == 1


def test_failed_address_fails_at_once_for_a_while_and_is_then_asked_again(bench):
    bench.send()
    bench.advance(3)
    bench.sent()
    bench.send()
    assert len(bench.unresolved) == 1  # handed back in a later step, never from within send
    bench.advance(0)
    assert len(bench.unresolved) == 2
    assert bench.sent() == []
    bench.advance(NEGATIVE_HOLD_S)
    bench.send()
    assert destinations(bench) == ["ask"]


def test_failed_address_that_shows_up_is_used(bench):
    bench.send()
    bench.advance(3)
    bench.receive(bench.arp())
    bench.sent()
    bench.send()
    assert destinations(bench) == [bench.peer_mac.hex(":")]


def test_reachable_lapses_to_delay_then_probes_by_unicast_and_recovers(bench):
    bench.trace()
    bench.resolve()
    bench.advance(60)
    bench.send()
    assert bench.state() == "DELAY"
    assert destinations(bench) == [bench.peer_mac.hex(":")]
    bench.advance(5)
    assert bench.state() == "PROBE"
    assert destinations(bench) == [bench.peer_mac.hex(":")]
    bench.answer()
    bench.context.deliver_trace()
    states = [event.new for event in bench.events if isinstance(event, StateChanged)]
    assert states == ["INCOMPLETE", "REACHABLE", "STALE", "DELAY", "PROBE", "REACHABLE"]


def test_neighbour_that_does_not_answer_probes_is_forgotten(bench):
    bench.resolve()
    bench.advance(60)
    bench.send()
    bench.sent()
    bench.advance(8)
    assert destinations(bench) == [bench.peer_mac.hex(":")] * 3
    assert bench.state() is None
    assert bench.changes == 1
    assert bench.counters["arp.lost"] == 1


def test_confirmation_from_above_makes_probes_needless(bench):
    bench.resolve()
    bench.advance(60)
    bench.send()
    bench.advance(4)
    bench.interface.confirm(bench.peer)
    assert bench.state() == "REACHABLE"
    bench.sent()
    for _ in range(20):
        bench.advance(10)
        bench.interface.confirm(bench.peer)
        bench.send()
    assert set(destinations(bench)) == {bench.peer_mac.hex(":")}
    assert bench.counters["arp.requests_sent"] == 1


def test_confirmation_of_an_unknown_address_does_nothing(bench):
    bench.interface.confirm(bench.peer)
    assert len(bench.cache) == 0


def test_reachable_time_lies_between_half_and_one_and_a_half_of_the_base(bench):
    bench.resolve()
    assert 15 <= bench.cache.get(bench.peer).expires <= 45


def test_unused_entry_is_forgotten_used_one_kept(bench):
    bench.resolve()
    bench.receive(bench.arp(sender_ip="10.0.0.3"))
    for _ in range(5):
        bench.advance(300)
        bench.interface.confirm(bench.peer)
        bench.send()
    assert bench.state() == "REACHABLE"
    assert bench.state(OTHER) is None


def test_only_resolution_is_more_than_housekeeping(bench):
    timers = bench.context.timers
    bench.send()
    assert not timers.only_housekeeping()
    bench.answer()
    assert timers.only_housekeeping()
    bench.advance(60)
    bench.send()
    assert bench.state() == "DELAY"
    assert timers.only_housekeeping()


def test_static_entry_sends_what_waited_and_remove_forgets_it(bench):
    bench.send()
    bench.sent()
    bench.cache.set_static(bench.peer, bench.peer_mac)
    assert destinations(bench) == [bench.peer_mac.hex(":")]
    bench.cache.remove(bench.peer)
    assert bench.state() is None
    assert bench.context.timers.next_deadline() is None


def test_removed_address_gives_up_what_waits(bench):
    bench.send()
    bench.cache.remove(bench.peer)
    bench.advance(0)
    assert len(bench.unresolved) == 1


def test_lookups_are_traced(bench):
    bench.resolve()
    bench.trace()
    bench.send()
    bench.send("10.0.0.3")
    bench.context.deliver_trace()
    lookups = [
        (event.cache, event.key, event.hit)
        for event in bench.events
        if isinstance(event, CacheLookup)
    ]
    assert lookups == [("neighbour", "10.0.0.2", True), ("neighbour", "10.0.0.3", False)]


def test_waiting_packets_are_bounded_for_each_neighbour_oldest_first_out(make_bench):
    bench = make_bench(config=config(max_waiting_packets=3))
    for number in range(5):
        bench.send(payload=bytes([number]) * 40)
    assert bench.counters["arp.queue_full"] == 2
    bench.answer()
    assert [payload[20] for _, payload in bench.sent()[1:]] == [2, 3, 4]


def test_waiting_packets_are_bounded_in_total_longest_waiting_first_out(make_bench):
    bench = make_bench(config=config(max_waiting_packets=3, max_waiting_total=4))
    for host in (2, 3, 4):
        bench.send(f"10.0.0.{host}")
        bench.send(f"10.0.0.{host}")
    assert bench.cache.waiting.segments == 4
    assert bench.cache.waiting.segments_of(bench.peer) == 0
    assert bench.counters["arp.queue_full"] == 2


def test_super_segments_wait_as_the_frames_they_stand_for(make_bench):
    bench = make_bench(config=config(max_waiting_packets=50, max_waiting_total=60))
    for _ in range(3):
        frame = bench.packet()
        frame.segments = 44
        bench.interface.send_packet(bench.peer, frame)
    assert bench.cache.waiting.segments == 44
    assert bench.counters["arp.queue_full"] == 88


def test_arp_12_flood_of_unresolvable_addresses_is_bounded_and_asks_once_a_second(bench):
    settings = bench.context.config.arp
    hosts = [f"10.0.{host >> 8}.{host & 255}" for host in range(256, 10_256)]
    asked = {}
    for second in range(4):
        for host in hosts:
            bench.send(host)
            assert bench.cache.waiting.segments <= settings.max_waiting_total
        assert len(bench.cache) <= settings.max_entries
        for _, arp in bench.sent_arp():
            asked.setdefault(arp.target_ip, []).append(second)
        bench.advance(1)
        for _, arp in bench.sent_arp():
            asked.setdefault(arp.target_ip, []).append(second + 1)
    assert all(len(seconds) == len(set(seconds)) for seconds in asked.values())
    assert bench.counters["arp.cache_full"] > 0
    bench.advance(10)
    assert {at for _, _, at in bench.unresolved} >= {3.0}
    assert bench.cache.waiting.segments == 0


def test_arp_12_scan_does_not_push_out_a_neighbour_in_use(bench):
    bench.resolve()
    for host in range(2000):
        bench.send(f"10.1.{host >> 8}.{host & 255}")
    assert bench.state() == "REACHABLE"


def test_arp_12_unanswered_address_makes_room_once_it_was_asked_a_second_ago(make_bench):
    bench = make_bench(config=config(max_entries=4))
    assert bench.send("10.0.0.2")
    assert bench.send("10.0.0.3")
    assert not bench.send("10.0.0.4")
    bench.advance(3.5)
    assert bench.send("10.0.0.4")
    assert bench.state() is None
    assert len(bench.cache) == 2


def test_flood_of_askers_is_bounded_and_spares_live_neighbours(bench):
    bench.resolve()
    for host in range(256, 256 + 3000):
        address = f"10.0.{host >> 8}.{host & 255}"
        bench.interface.addresses[0] = bench.interface.addresses[0]._replace(
            prefix=bench.interface.addresses[0].prefix._replace(
                network=parse_address("10.0.0.0"), length=8
            )
        )
        bench.receive(bench.arp(sender_ip=address))
    assert len(bench.cache) == bench.context.config.arp.max_entries
    assert bench.state() == "REACHABLE"
    assert bench.counters["arp.evicted"] == 3001 - 1024


def test_table_full_of_live_entries_learns_askers_no_more_but_still_resolves(make_bench):
    bench = make_bench(config=config(max_entries=4))
    for host in range(2, 6):
        bench.send(f"10.0.0.{host}")
        bench.answer(sender_ip=f"10.0.0.{host}")
        bench.advance(1)
    bench.receive(bench.arp(sender_ip="10.0.0.9"))
    assert bench.counters["arp.not_learned"] == 1
    bench.send("10.0.0.9")
    bench.answer(sender_ip="10.0.0.9")
    assert bench.state(parse_address("10.0.0.9")) == "REACHABLE"
    assert bench.state() is None  # the least recently used


def test_static_entries_are_never_evicted(make_bench):
    bench = make_bench(config=config(max_entries=2))
    for host in range(2, 6):
        bench.cache.set_static(parse_address(f"10.0.0.{host}"), bench.peer_mac)
    bench.send("10.0.0.9")
    bench.answer(sender_ip="10.0.0.9")
    assert [entry.state.name for entry in bench.cache] == ["PERMANENT"] * 4 + ["REACHABLE"]


ACTIONS = st.one_of(
    st.tuples(st.just("send"), st.integers(2, 9)),
    st.tuples(st.just("answer"), st.integers(2, 9), st.integers(2, 4)),
    st.tuples(st.just("ask"), st.integers(2, 9), st.integers(2, 4)),
    st.tuples(st.just("confirm"), st.integers(2, 9)),
    st.tuples(st.just("advance"), st.sampled_from([0.0, 0.3, 1.0, 5.0, 40.0, 1300.0])),
)


@given(actions=st.lists(ACTIONS, max_size=40))
def test_any_history_keeps_the_bounds_and_accounts_for_every_packet(make_bench, actions):
    bench = make_bench(config=config(max_entries=4, max_waiting_packets=2, max_waiting_total=3))
    bench.cache.set_static(parse_address("10.0.0.2"), bench.peer_mac)
    sent = 0
    for action, *arguments in actions:
        if action == "advance":
            bench.advance(arguments[0])
        elif action == "send":
            sent += 1
            bench.send(f"10.0.0.{arguments[0]}")
        elif action == "confirm":
            bench.interface.confirm(IPAddress(bytes([10, 0, 0, arguments[0]])))
        elif action == "answer":
            bench.answer(bytes([2, 0, 0, 0, 0, arguments[1]]), f"10.0.0.{arguments[0]}")
        else:
            mac = bytes([2, 0, 0, 0, 0, arguments[1]])
            bench.receive(bench.arp(sender_ip=f"10.0.0.{arguments[0]}", sender_mac=mac))
        assert len(bench.cache) <= 1 + 4 + 2
        assert bench.cache.waiting.segments <= 3
        assert bench.cache.get(parse_address("10.0.0.2")).mac == bench.peer_mac
    bench.advance(4)
    assert bench.cache.waiting.segments == 0
    dropped = sum(
        bench.counters.get(f"arp.{name}", 0)
        for name in ("queue_full", "cache_full", "handed_back")
    )
    packets = sum(header.ethertype == 0x0800 for header, _ in bench.sent())
    assert packets + dropped == sent
