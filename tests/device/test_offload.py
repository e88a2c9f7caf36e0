from __future__ import annotations

import dpkt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether

from netstack.core.checksum import internet_sum, pseudo_header_sum
from netstack.core.errors import LocalProtocolError
from netstack.device.base import Checksum, Frame, GsoType, Medium
from netstack.device.offload import coalesce, complete_checksum, segment, wire_octets

MEDIA = [Medium.ETHERNET, Medium.IP]
TIMESTAMPS = bytes.fromhex("0101080a0000000100000002")
FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = 1, 2, 4, 8, 16, 32, 64, 128


def as_read(frame: Frame) -> Frame:
    """Return the frame as the device at the other end of a wire reads it."""
    return Frame(frame.octets())


def link_length(medium: Medium) -> int:
    return 14 if medium is Medium.ETHERNET else 0


def checksums_hold(octets: bytes, medium: Medium) -> bool:
    ip = octets[link_length(medium) :]
    head = (ip[0] & 15) * 4
    total = int.from_bytes(ip[2:4], "big")
    pseudo = pseudo_header_sum(ip[12:16], ip[16:20], 6, total - head)
    return internet_sum(ip[:head]) == 0xFFFF and internet_sum(ip[head:total], pseudo) == 0xFFFF


supers = st.fixed_dictionaries(
    {
        "data": st.binary(min_size=1, max_size=6000),
        "gso_size": st.integers(200, 1460),
        "pieces": st.integers(1, 16),
        "options": st.sampled_from([b"", TIMESTAMPS, TIMESTAMPS + b"\x01" * 28]),
        "medium": st.sampled_from(MEDIA),
        "seq": st.sampled_from([0, 1, 0x7FFFFFFF, 0xFFFFFFFF]) | st.integers(0, 2**32 - 1),
        "ack": st.integers(0, 2**32 - 1),
        "flags": st.sampled_from([ACK, ACK | PSH, ACK | PSH | FIN, ACK | FIN]),
        "window": st.integers(0, 65535),
        "identification": st.integers(0, 65535),
        "tos": st.integers(0, 255),
        "ttl": st.integers(1, 255),
        "ports": st.tuples(st.integers(1, 65535), st.integers(1, 65535)),
    }
)


@given(fields=supers)
@settings(max_examples=200)
def test_merging_what_was_cut_gives_the_content_back(frames_factory, fields):
    original = frames_factory.going_down(**fields)
    medium = fields["medium"]
    merged = coalesce([as_read(cut) for cut in segment(original)], medium)
    assert len(merged) == 1
    frame = merged[0]
    head = link_length(medium) + 40 + len(fields["options"])
    complete_checksum(original)
    want, have = bytearray(original.octets()), bytearray(frame.octets())
    tcp = head - 20 - len(fields["options"])
    want[tcp + 16 : tcp + 18] = have[tcp + 16 : tcp + 18] = b"\0\0"  # VALID: not recomputed
    assert have == want
    assert frame.segments == original.segments
    if frame.segments > 1:
        assert frame.gso_size == fields["gso_size"]
        assert frame.gso_type is GsoType.TCPV4
        assert frame.checksum is Checksum.VALID
        assert segment(frame)[0].octets() == segment(original)[0].octets()


@given(fields=supers)
@settings(max_examples=100)
def test_every_cut_is_a_right_frame_to_scapy_and_dpkt(frames_factory, fields):
    medium = fields["medium"]
    stream = b""
    cuts = wire_octets(frames_factory.going_down(**fields))
    for number, octets in enumerate(cuts):
        assert checksums_hold(octets, medium)
        ip = octets[link_length(medium) :]
        theirs = dpkt.ip.IP(ip)
        assert bytes(theirs) == ip
        assert theirs.id == (fields["identification"] + number) & 0xFFFF
        assert theirs.data.seq == (fields["seq"] + len(stream)) & 0xFFFFFFFF
        parsed = (Ether if medium is Medium.ETHERNET else IP)(octets)
        have = parsed[IP].chksum, parsed[TCP].chksum
        del parsed[IP].chksum, parsed[TCP].chksum
        again = IP(bytes(parsed[IP]))
        assert have == (again.chksum, again[TCP].chksum)
        stream += bytes(theirs.data.data)
    assert stream == fields["data"]


@pytest.mark.parametrize("medium", MEDIA)
def test_fin_and_psh_stay_on_the_last_cut_and_cwr_on_the_first(frames, medium):
    flags = ACK | PSH | FIN | CWR | ECE
    cuts = segment(frames.going_down(b"x" * 250, gso_size=100, flags=flags, medium=medium))
    at = link_length(medium) + 33
    assert [cut.octets()[at] for cut in cuts] == [
        ACK | ECE | CWR, ACK | ECE, ACK | ECE | PSH | FIN,
    ]  # fmt: skip
    assert [len(cut.octets()) - at - 7 for cut in cuts] == [100, 100, 50]


def test_cuts_for_a_device_with_checksums_hold_the_pseudo_header_sum(frames):
    cuts = segment(frames.going_down(b"abc" * 100, gso_size=128, pieces=3), partial=True)
    for cut in cuts:
        assert cut.checksum is Checksum.PARTIAL
        complete_checksum(cut)
        assert cut.checksum is Checksum.VALID
        assert checksums_hold(cut.octets(), Medium.ETHERNET)


def test_cuts_lie_in_one_buffer(frames):
    cuts = segment(frames.going_down(b"x" * 3000, gso_size=1000))
    assert len(cuts) == 3
    assert len({id(cut.header.obj) for cut in cuts}) == 1


def test_super_segment_with_data_behind_its_headers_is_cut(frames):
    frame = frames.going_down(b"0123456789" * 30, gso_size=100)
    whole = Frame(frame.octets())
    for name in ("checksum", "checksum_offset", "gso_size", "gso_type", "segments"):
        setattr(whole, name, getattr(frame, name))
    whole.checksum_start = frame.checksum_start - frame.start
    assert wire_octets(whole) == wire_octets(frame)


def test_super_segment_with_ip_options_and_vlan_tag_is_cut(frames):
    frame = frames.going_down(b"x" * 300, gso_size=100, ip_options=b"\x94\x04\0\0")
    assert all(checksums_hold(octets, Medium.ETHERNET) for octets in wire_octets(frame))
    octets = frame.octets()
    tagged = Frame(octets[:12] + b"\x81\0\0\x05" + octets[12:])
    tagged.checksum_start, tagged.checksum_offset = 14 + 4 + 24, 16
    tagged.gso_size, tagged.gso_type = 100, GsoType.TCPV4
    cuts = wire_octets(tagged)
    assert len(cuts) == 3
    assert all(checksums_hold(octets[4:], Medium.ETHERNET) for octets in cuts)


def test_what_is_not_tcp_over_ipv4_is_not_cut(frames):
    frame = frames.going_down(b"x" * 300, gso_size=100)
    frame.gso_type = GsoType.TCPV6
    with pytest.raises(LocalProtocolError):
        segment(frame)


@pytest.mark.parametrize("pieces", [1, 2, 3, 7])
@pytest.mark.parametrize("size", [0, 1, 2, 1459, 1460])
def test_partial_checksum_is_completed_in_place(frames, size, pieces):
    frame = frames.going_down(b"\xfe" * size, pieces=pieces)
    assert segment(frame) == [frame]
    assert frame.checksum is Checksum.VALID
    assert checksums_hold(frame.octets(), Medium.ETHERNET)


def test_wire_octets_leave_the_frame_as_it_is(frames):
    frame = frames.going_down(b"data!")
    before = frame.octets()
    octets = wire_octets(frame)
    assert checksums_hold(octets[0], Medium.ETHERNET)
    assert frame.octets() == before
    assert frame.checksum is Checksum.PARTIAL


def test_udp_checksum_of_zero_is_sent_as_all_ones():
    frame = Frame(bytearray(8) + bytearray(b"\xff\xfe"))
    frame.header[7:8] = b"\x01"  # all words together: 0xFFFF
    frame.checksum, frame.checksum_offset = Checksum.PARTIAL, 6
    complete_checksum(frame)
    assert frame.octets()[6:8] == b"\xff\xff"


# ---- merging: each rule ----------------------------------------------------------------------


def merge(frames, second: dict, first: dict | None = None, medium=Medium.ETHERNET) -> list[Frame]:
    """Return what becomes of 100 octets at seq 1000 and a second frame."""
    a = {"data": b"a" * 100, "seq": 1000, "medium": medium} | (first or {})
    b = {"data": b"b" * 100, "seq": 1100, "identification": 9, "medium": medium} | second
    given = [frames.arriving(**a), frames.arriving(**b)]
    result = coalesce(given, medium)
    if len(result) == 2:
        assert [f.octets() for f in result] == [f.octets() for f in given]
    return result


@pytest.mark.parametrize("medium", MEDIA)
@pytest.mark.parametrize(
    "second",
    [{}, {"data": b"b"}, {"flags": ACK | PSH}, {"flags": ACK | FIN}, {"flags": ACK | PSH | FIN}],
)
def test_next_segment_of_the_flow_is_merged(frames, second, medium):
    (frame,) = merge(frames, second, medium=medium)
    head = link_length(medium) + 40
    assert frame.segments == 2
    assert frame.octets()[head:] == b"a" * 100 + second.get("data", b"b" * 100)
    assert frame.octets()[head - 7] == second.get("flags", ACK)
    total = int.from_bytes(frame.octets()[head - 38 : head - 36], "big")
    assert total == len(frame) - link_length(medium)
    assert internet_sum(frame.octets()[head - 40 : head - 20]) == 0xFFFF


@pytest.mark.parametrize(
    "second",
    [
        {"seq": 1101}, {"seq": 1099}, {"seq": 1000}, {"data": b""}, {"data": b"b" * 101},
        {"ack": 5001}, {"window": 4001}, {"tos": 2}, {"tos": 4}, {"ttl": 63}, {"fragment": 0},
        {"fragment": 0x2000}, {"fragment": 0x4001}, {"fragment": 0xC000},
        {"ip_options": b"\x01\x01\x01\0"}, {"options": TIMESTAMPS}, {"ports": (40001, 80)},
        {"flags": ACK | URG}, {"flags": ACK | SYN}, {"flags": ACK | RST}, {"flags": ACK | ECE},
        {"flags": ACK | CWR}, {"flags": 0}, {"flags": PSH},
    ],
)  # fmt: skip
def test_segment_that_differs_is_not_merged(frames, second):
    assert len(merge(frames, second)) == 2


@pytest.mark.parametrize("first", [{"flags": ACK | FIN}, {"flags": ACK | CWR}, {"data": b""}])
def test_nothing_is_merged_to_a_first_segment_with(frames, first):
    assert len(merge(frames, {"seq": 1000 + len(first.get("data", b"a" * 100))}, first)) == 2


def test_timestamps_that_differ_are_not_merged(frames):
    first, second = {"options": TIMESTAMPS}, {"options": TIMESTAMPS[:-1] + b"\x03"}
    assert len(merge(frames, second, first)) == 2
    assert len(merge(frames, first, first)) == 1


def test_psh_does_not_end_the_run_and_stays(frames):
    for pushed in range(3):
        given = [
            frames.arriving(b"a" * 100, seq=1000 + at * 100, flags=ACK | PSH * (at == pushed))
            for at in range(3)
        ]
        (frame,) = coalesce(given, Medium.ETHERNET)
        assert frame.segments == 3
        assert frame.octets()[47] == ACK | PSH


@pytest.mark.parametrize("psh", [0, PSH])
def test_short_piece_ends_the_run(frames, psh):
    b = {"data": b"b" * 99, "seq": 1100, "flags": ACK | psh}
    given = [
        frames.arriving(b"a" * 100, seq=1000),
        frames.arriving(**b),
        frames.arriving(b"c" * 99, seq=1100 + len(b["data"])),
        frames.arriving(b"d" * 99, seq=1199 + len(b["data"])),
    ]
    result = coalesce(given, Medium.ETHERNET)
    assert [frame.segments for frame in result] == [2, 2]


@pytest.mark.parametrize("at", [14 + 8, 14 + 12, 14 + 24, 14 + 40, -1])
def test_segment_with_a_bad_checksum_passes_alone_and_untouched(frames, at):
    bad = bytearray(frames.wire(b"b" * 100, seq=1100))
    bad[at] ^= 0x10
    given = [
        frames.arriving(b"a" * 100, seq=1000),
        Frame(bytes(bad)),
        frames.arriving(b"c" * 100, seq=1200),
    ]
    result = coalesce(given, Medium.ETHERNET)
    assert [frame.octets() for frame in result] == [frame.octets() for frame in given]
    assert result[1].checksum is Checksum.UNKNOWN


def test_checksum_verified_by_the_device_is_not_verified_again(frames):
    frame = frames.arriving(b"b" * 100, seq=1100)
    octets = bytearray(frame.octets())
    octets[-1] ^= 1
    frame = Frame(bytes(octets))
    frame.checksum = Checksum.VALID
    assert len(coalesce([frames.arriving(b"a" * 100, seq=1000), frame], Medium.ETHERNET)) == 1


def test_padding_does_not_get_into_the_payload(frames):
    given = [Frame(frames.wire(b"a", seq=1) + bytes(5)), Frame(frames.wire(b"b", seq=2) + b"XXX")]
    (frame,) = coalesce(given, Medium.ETHERNET)
    assert frame.octets()[54:] == b"ab"


def test_merged_packet_stays_below_64_kib(frames):
    given = [
        frames.arriving(b"x" * 9000, seq=1000 + at * 9000, identification=at) for at in range(9)
    ]
    result = coalesce(given, Medium.ETHERNET)
    assert [frame.segments for frame in result] == [7, 2]
    assert all(len(frame) <= 65535 + 14 for frame in result)


def test_merged_frame_holds_no_octet_that_is_not_its_own(frames):
    given = [frames.arriving(b"x" * 10, seq=1000 + at * 10) for at in range(100)]
    [frame] = coalesce(given, Medium.ETHERNET)
    assert (frame.segments, frame.payload) == (100, ())
    assert isinstance(frame.header, bytes)
    assert len(frame.header) == 54 + 1000


def test_flows_are_merged_side_by_side_and_keep_their_order(frames):
    given = []
    for at in range(4):
        given.append(frames.arriving(b"a" * 10, seq=at * 10, ports=(1, 2)))
        given.append(frames.arriving(b"b" * 10, seq=at * 10, ports=(2, 1)))
    given.insert(3, Frame(b"\xff" * 12 + b"\x08\x06" + bytes(46)))  # ARP disturbs nobody
    result = coalesce(given, Medium.ETHERNET)
    assert [frame.segments for frame in result] == [4, 4, 1]


def test_pure_ack_between_data_keeps_its_place(frames):
    given = [
        frames.arriving(b"a" * 10, seq=0),
        frames.arriving(b"", seq=10, ack=6000),
        frames.arriving(b"b" * 10, seq=10),
        frames.arriving(b"c" * 10, seq=20),
    ]
    result = coalesce(given, Medium.ETHERNET)
    assert [frame.segments for frame in result] == [1, 1, 2]


@pytest.mark.parametrize(
    "unread",
    [
        {"ip_options": b"\x01\x01\x01\0"},
        {"ip_options": b"\x01\x01\x01\0", "ack": 0x50000000},  # looks like a data offset
        {"fragment": 0x0001, "ports": (7, 7)},
    ],
)
def test_segment_of_unknown_flow_keeps_its_place(frames, unread):
    given = [
        frames.arriving(b"a" * 10, seq=0),
        frames.arriving(b"b" * 10, seq=10, **unread),
        frames.arriving(b"c" * 10, seq=10),
    ]
    assert coalesce(given, Medium.ETHERNET) == given


def test_wire_frames_with_payload_buffers_are_merged(frames):
    cuts = segment(frames.going_down(b"x" * 300, gso_size=100, pieces=2))
    (frame,) = coalesce(cuts, Medium.ETHERNET)
    assert frame.segments == 3


def test_super_segment_from_the_device_passes(frames):
    given = segment(frames.going_down(b"x" * 300, gso_size=100))
    (merged,) = coalesce(given, Medium.ETHERNET)
    assert coalesce([merged, given[0]], Medium.ETHERNET) == [merged, given[0]]


@given(st.lists(st.binary(max_size=80), max_size=6))
def test_random_octets_pass_as_they_are(octets):
    for medium in MEDIA:
        given = [Frame(piece) for piece in octets]
        assert [frame.octets() for frame in coalesce(given, medium)] == octets


@given(cut=st.integers(0, 153), data=st.data())
def test_truncated_or_changed_frames_never_crash_nor_merge_wrongly(frames_factory, cut, data):
    second = bytearray(frames_factory.wire(b"b" * 100, seq=1100))
    at = data.draw(st.integers(14, len(second) - 1))
    change = data.draw(st.integers(1, 255))
    second[at] ^= change
    given = [frames_factory.arriving(b"a" * 100), Frame(bytes(second[:cut])), Frame(bytes(second))]
    result = coalesce(given, Medium.ETHERNET)
    assert [frame.octets() for frame in result] == [frame.octets() for frame in given]
