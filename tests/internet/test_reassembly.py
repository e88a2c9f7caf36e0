"""Reassembly, and the attacks on it."""

import random
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.core.checksum import internet_checksum
from netstack.internet.reassembly import DUPLICATE_MEMORY_S
from netstack.wire.ipv4 import IPv4Header


@pytest.fixture(scope="session")
def piece(packet):
    """Return a fragment ``[start, start + len(data))`` of datagram ``identification``."""

    def make(start, data, *, more=True, identification=1, **fields):
        return packet(
            bytes(data),
            fragment_offset=start,
            more_fragments=more,
            identification=identification,
            **fields,
        )

    return make


def _pieces(piece, payload, size, **fields):
    return [
        piece(at, payload[at : at + size], more=at + size < len(payload), **fields)
        for at in range(0, len(payload), size)
    ]


@given(st.permutations(range(6)), st.integers(41, 48))
def test_fragments_in_any_order_become_the_datagram(make_world, piece, order, length):
    world = make_world()
    payload = bytes(range(length))
    pieces = _pieces(piece, payload, 8, ttl=9, traffic_class=0x28)
    for number in order:
        assert world.received == []
        world.inject(pieces[number])
    (received,) = world.received
    assert received.octets() == payload
    assert (received.hop_limit, received.traffic_class, received.protocol) == (9, 0x28, 17)
    header, content = IPv4Header.parse(received.frame.octets())
    assert internet_checksum(received.frame.octets()[:20]) == 0
    assert not header.more_fragments
    assert header.fragment_offset == 0
    assert bytes(content) == payload
    assert world.counters["ipv4.packets_reassembled"] == 1
    assert world.counters["ipv4.fragments_reassembled"] == 6


def test_options_of_the_first_fragment_stay(world, piece):
    world.inject(piece(8, b"b" * 8, more=False))
    world.inject(piece(0, b"a" * 8, options=bytes((148, 4, 0, 0))))
    (received,) = world.received
    assert received.start == 24
    assert received.octets() == b"a" * 8 + b"b" * 8


def test_padding_of_short_fragments_is_cut(world, piece):
    world.inject(piece(0, b"a" * 8), padding=b"\xaa" * 18)
    world.inject(piece(8, b"b", more=False), padding=b"\xaa" * 25)
    assert world.received[0].octets() == b"a" * 8 + b"b"


def test_a_fragment_pins_no_receive_buffer(world, piece):
    buffer = bytearray(65536)
    data = piece(0, b"a" * 8)
    buffer[: len(data)] = data
    from netstack.device.base import Frame

    world.inject_frame(Frame(memoryview(buffer)[: len(data)]))
    buffer[:] = bytes(65536)
    buffer.extend(b"free")  # raises BufferError while a view exists
    world.inject(piece(8, b"b", more=False))
    assert world.received[0].octets() == b"a" * 8 + b"b"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((0, 36 + 4), (24, 8)),  # teardrop: the second lies inside the first
        ((0, 40), (32, 16)),
        ((8, 16), (0, 16)),
        ((8, 16), (0, 40)),
    ],
)
def test_ip4_10_teardrop_gives_up_the_whole_datagram(world, piece, first, second):
    world.inject(piece(first[0], bytes(first[1])))
    world.inject(piece(second[0], b"\xff" * second[1]))
    assert world.counters["ipv4.fragment_overlap"] == 2
    for start in range(0, 48, 8):
        world.inject(piece(start, bytes(8), more=start < 40))
    assert world.received == []
    assert world.counters["ipv4.fragment_ignored"] == 6


def test_ip4_12_later_fragment_never_rewrites_a_port(world, piece, udp):
    datagram = udp(bytes(24), 1000, 53)
    world.inject(piece(0, datagram[:16]))
    forged = bytearray(datagram)
    forged[2:4] = (23).to_bytes(2, "big")
    world.inject(piece(0, forged[:8]))
    world.inject(piece(8, forged[8:], more=False))
    world.inject(piece(16, datagram[16:], more=False))
    assert world.received == []
    assert world.counters["ipv4.fragment_overlap"] == 2
    assert world.counters["ipv4.fragment_ignored"] == 2


@pytest.mark.parametrize("then", [(32, 8, True), (16, 8, False), (48, 8, False)])
def test_ip4_12_two_different_ends_give_up_the_datagram(world, piece, then):
    world.inject(piece(24, bytes(8), more=False))
    world.inject(piece(then[0], bytes(then[1]), more=then[2]))
    assert world.counters["ipv4.fragment_overlap"] == 2


def test_an_end_before_what_arrived_gives_up_the_datagram(world, piece):
    world.inject(piece(24, bytes(8)))
    world.inject(piece(8, bytes(8), more=False))
    assert world.counters["ipv4.fragment_overlap"] == 2


def test_ip4_13_ping_of_death_is_dropped_with_its_datagram(world, piece):
    world.inject(piece(0, bytes(1480), protocol=1))
    world.inject(piece(8189 * 8, bytes(1480), more=False, protocol=1))
    assert world.counters["ipv4.fragment_too_long"] == 2
    world.inject(piece(1480, bytes(8), more=False, protocol=1))
    assert world.counters["ipv4.fragment_ignored"] == 1
    assert world.received == []


def test_ip4_13_options_count_towards_the_longest_packet(world, piece):
    start = 65535 - 20 - 7 - (65535 - 20 - 7) % 8
    world.inject(piece(start, bytes(7), more=False, options=bytes((1,) * 8)))
    assert world.counters["ipv4.fragment_too_long"] == 1


def test_ip4_15_empty_and_uneven_fragments_are_dropped_alone(world, piece):
    world.inject(piece(0, b""))
    world.inject(piece(8, b"", more=False))
    world.inject(piece(0, bytes(9)))
    assert world.counters["ipv4.bad_fragment"] == 3
    world.inject(piece(0, b"a" * 8))
    world.inject(piece(8, b"b", more=False))
    assert len(world.received) == 1


def test_ip4_16_duplicates_in_random_order_are_delivered_once(make_world, piece):
    payload = bytes(range(30))
    pieces = _pieces(piece, payload, 8)
    for seed in range(1000):
        world = make_world()
        order = pieces * 2
        random.Random(seed).shuffle(order)
        for data in order:
            world.inject(data)
        assert [received.octets() for received in world.received] == [payload]
        assert world.counters["ipv4.duplicate_fragment"] == 4


def test_identification_used_again_after_delivery_is_a_new_datagram(world, piece):
    for content in (b"old", b"new"):
        for data in _pieces(piece, content * 8, 16):
            world.inject(data)
    assert [received.octets()[:3] for received in world.received] == [b"old", b"new"]
    world.advance(DUPLICATE_MEMORY_S)
    for data in _pieces(piece, b"new" * 8, 16):
        world.inject(data)
    assert len(world.received) == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    "flood",
    [
        10_000,
        pytest.param(1_000_000, marks=[pytest.mark.soak, pytest.mark.timeout(900)]),
    ],
)
def test_ip4_18_memory_is_bounded_and_an_honest_datagram_completes(make_world, piece, flood):
    world = make_world()
    bound = world.context.config.ipv4.reassembly_max_octets
    reassembler = world.internet._ipv4._reassembler
    filler = bytes(1480)
    honest = _pieces(piece, bytes(range(200)), 104, identification=7, source="192.0.2.77")
    tracemalloc.start()
    completed = 0
    for number in range(flood):
        source = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        world.inject(piece(0, filler, identification=number & 0xFFFF, source=source))
        if number % 1000 == 500:
            world.inject(honest[0])
        if number % 1000 == 600:
            world.inject(honest[1])
            completed += len(world.received)
            world.received.clear()
            world.advance(DUPLICATE_MEMORY_S)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert reassembler.size <= bound
    assert peak < 2 * bound
    assert completed >= 0.9 * flood / 1000
    lost = world.counters["ipv4.reassembly_evicted"] + world.counters.get(
        "ipv4.reassembly_timeout", 0
    )
    assert lost + len(reassembler) == flood


def test_ip4_18_one_flooding_source_costs_nobody_else_a_datagram(make_world, piece):
    world = make_world(reassembly_max_octets=200_000)
    honest = _pieces(piece, bytes(3000), 1480, source="192.0.2.77")
    world.inject(honest[0])
    for number in range(3000):
        world.inject(piece(0, bytes(1480), identification=number, source="192.0.2.66"))
    for data in honest[1:]:
        world.inject(data)
    assert len(world.received) == 1
    assert world.internet._ipv4._reassembler.size <= 200_000


@pytest.mark.parametrize("order", ["ascending", "descending", "even-odd"])
@pytest.mark.parametrize("limit", [128, 10_000])
def test_ip4_19_thousands_of_tiny_fragments_cost_little(make_world, piece, order, limit):
    world = make_world(reassembly_max_fragments=limit)
    pieces = _pieces(piece, bytes(8185 * 8), 8)
    if order == "descending":
        pieces.reverse()
    elif order == "even-odd":
        pieces = pieces[::2] + pieces[1::2]
    started = time.process_time()
    for data in pieces:
        world.inject(data)
    assert time.process_time() - started < 1
    if limit == 128:
        assert world.received == []
        assert world.counters["ipv4.too_many_fragments"] == 129
        assert world.counters["ipv4.fragment_ignored"] == 8185 - 129
    else:
        assert len(world.received) == 1


@pytest.mark.parametrize(
    "fields",
    [{"protocol": 6}, {"source": "192.0.2.8"}, {"destination": "192.0.2.2"}, {"number": 2}],
)
def test_ip4_21_fragments_of_different_datagrams_never_mix(world, piece, fields):
    from netstack.core.address import parse_cidr

    world.internet.add_address(world.eth, parse_cidr("192.0.2.2/24"))
    number = fields.pop("number", 1)
    world.inject(piece(0, b"a" * 8))
    world.inject(piece(8, b"b" * 8, more=False, identification=number, **fields))
    assert world.received == []
    world.inject(piece(8, b"c" * 8, more=False))
    assert world.received[0].octets() == b"a" * 8 + b"c" * 8


def test_ip4_22_dont_fragment_and_reserved_flag_on_fragments_are_ignored(world, piece):
    world.inject(piece(0, b"a" * 8, dont_fragment=True, reserved=True))
    world.inject(piece(8, b"b" * 8, more=False, dont_fragment=True))
    assert len(world.received) == 1
    world.inject(piece(0, b"whole", more=False, reserved=True, identification=2))
    assert len(world.received) == 2


def test_timeout_drops_and_reports_if_the_first_fragment_came(world, piece, parsed):
    first = piece(0, b"a" * 8)
    world.inject(first)
    world.inject(piece(16, b"a" * 8))
    world.inject(piece(8, b"x" * 8, identification=2))
    world.advance(29.9)
    assert world.eth.sent == []
    world.advance(0.2)
    assert world.counters["ipv4.reassembly_timeout"] == 3
    (error,) = world.eth.take()
    _, icmp, quoted = parsed(error)
    assert (icmp.type, icmp.code) == (11, 1)
    assert quoted == first
    assert world.context.timers.next_deadline() is None


def test_timeout_says_nothing_about_a_broadcast(world, piece):
    world.inject(piece(0, b"a" * 8, destination="192.0.2.255"), group=True)
    world.advance(31)
    assert world.counters["icmpv4.no_error_about_group"] == 1
    assert world.eth.sent == []


def test_each_datagram_has_its_own_thirty_seconds(world, piece):
    world.inject(piece(8, bytes(8)))
    world.advance(20)
    world.inject(piece(8, bytes(8), identification=2))
    world.advance(11)
    assert len(world.internet._ipv4._reassembler) == 1
    world.advance(20)
    assert len(world.internet._ipv4._reassembler) == 0
    assert world.internet._ipv4._reassembler.size == 0


def test_congestion_mark_of_one_fragment_marks_the_datagram(world, piece):
    world.inject(piece(0, b"a" * 8, traffic_class=2))
    world.inject(piece(8, b"b", more=False, traffic_class=3))
    assert world.received[0].traffic_class == 3


def test_congestion_mark_beside_a_fragment_without_ecn_drops_the_datagram(world, piece):
    world.inject(piece(0, b"a" * 8, traffic_class=0))
    world.inject(piece(8, b"b", more=False, traffic_class=3))
    assert world.received == []
    assert world.counters["ipv4.fragment_ecn_mixed"] == 2


@given(
    st.lists(
        st.tuples(st.integers(0, 6), st.integers(1, 4), st.booleans(), st.integers(0, 1)),
        max_size=25,
    )
)
def test_any_fragments_are_held_delivered_or_counted(make_world, piece, fragments):
    world = make_world(reassembly_max_datagrams=1)
    for start, length, more, content in fragments:
        world.inject(piece(start * 8, bytes((content,)) * length * 8, more=more))
    world.advance(60)
    lost = sum(
        count
        for name, count in world.counters.items()
        if name.startswith("ipv4.")
        and name not in ("ipv4.packets_received", "ipv4.packets_sent")
        and "reassembled" not in name
    )
    whole = sum(not more and start == 0 for start, _, more, _ in fragments)
    arrived = world.counters.get("ipv4.packets_received", 0)
    delivered = world.counters.get("ipv4.fragments_reassembled", 0)
    assert arrived == len(fragments)
    assert lost + delivered + whole == len(fragments)
    assert world.internet._ipv4._reassembler.size == 0
