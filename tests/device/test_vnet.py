"""The virtio-net header, both ways, and what contradicts its frame."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netstack.core.checksum import internet_sum, pseudo_header_sum
from netstack.device import vnet
from netstack.device.base import Checksum, Frame, GsoType
from netstack.device.offload import complete_checksum, segment, wire_octets

HEADER = struct.Struct("=BBHHHH")
TCP = 34  # where the transport header of these frames begins
CWR, PSH, ACK, FIN = 0x80, 0x08, 0x10, 0x01


def given_up(frame: Frame) -> tuple[bytes, bytes]:
    """Return the header and the octets with which ``frame`` would come up again."""
    return vnet.pack(frame), frame.octets()


def come_up(header: bytes, octets: bytes) -> tuple[Frame, str | None]:
    frame = Frame(octets)
    return frame, vnet.apply(header, frame)


def test_frame_without_offloads_has_an_empty_header(frames):
    assert vnet.pack(frames.arriving(b"abc")) == bytes(10)


def test_checksum_is_left_to_the_kernel(frames):
    frame = frames.going_down(b"abc")
    assert HEADER.unpack(vnet.pack(frame)) == (1, 0, 0, 0, TCP, 16)


@pytest.mark.parametrize(("flags", "kind"), [(ACK, 1), (ACK | CWR, 0x81)])
def test_super_segment_says_how_it_is_cut(frames, flags, kind):
    frame = frames.going_down(bytes(4000), gso_size=1448, options=bytes(12), flags=flags)
    assert HEADER.unpack(vnet.pack(frame)) == (1, kind, TCP + 32, 1448, TCP, 16)


def test_complete_super_segment_becomes_partial_for_the_kernel(frames):
    frame = frames.going_down(b"ab" * 2000, gso_size=1448)
    wanted = [cut.octets() for cut in segment(frames.going_down(b"ab" * 2000, gso_size=1448))]
    frame.header = bytearray(frame.octets())  # as it was read, in one piece
    frame.start, frame.payload, frame.checksum_start = 0, (), TCP
    complete_checksum(frame)
    frame.header = bytes(frame.header)
    assert HEADER.unpack(vnet.pack(frame))[0] == 1
    assert frame.checksum is Checksum.PARTIAL
    assert [cut.octets() for cut in segment(frame)] == wanted


def test_unfinished_checksum_counts_as_verified_and_can_be_completed(frames):
    data = b"some octets"
    frame, reason = come_up(*given_up(frames.going_down(data)))
    assert reason is None
    assert frame.checksum is Checksum.PARTIAL
    assert wire_octets(frame) == [frames.wire(data)]


def test_offsets_count_from_the_frame_and_not_from_its_buffer(frames):
    header, octets = given_up(frames.going_down(b"abc"))
    frame = Frame(bytes(7) + octets, start=7)
    assert vnet.apply(header, frame) is None
    assert frame.checksum_start == 7 + TCP
    complete_checksum(frame)
    assert frame.octets() == frames.wire(b"abc")


def test_valid_data_needs_no_second_look(frames):
    frame, reason = come_up(HEADER.pack(2, 0, 0, 0, 0, 0), frames.wire(b"abc"))
    assert (reason, frame.checksum) == (None, Checksum.VALID)


def test_checksum_inside_a_packet_says_nothing_about_its_own(frames):
    octets = bytearray(frames.wire(bytes(100)))
    frame, reason = come_up(HEADER.pack(1, 0, 0, 0, TCP + 40, 6), bytes(octets))
    assert (reason, frame.checksum) == (None, Checksum.UNKNOWN)
    assert internet_sum(frame.octets()[TCP + 40 :]) == 0xFFFF


@pytest.mark.parametrize("complete", [False, True])
def test_super_segment_comes_up_as_it_went_down(frames, complete):
    down = frames.going_down(bytes(range(250)) * 16, gso_size=1448, flags=ACK | PSH | FIN)
    wanted = [cut.octets() for cut in segment(down)]
    header, octets = given_up(down)
    if complete:  # as a network card that merges hands it over
        pseudo = pseudo_header_sum(octets[26:30], octets[30:34], 6, len(octets) - TCP)
        body = octets[: TCP + 16] + b"\0\0" + octets[TCP + 18 :]
        value = ~internet_sum(body[TCP:], pseudo) & 0xFFFF
        octets = octets[: TCP + 16] + value.to_bytes(2, "big") + octets[TCP + 18 :]
        header = HEADER.pack(2, 1, 0, 1448, 0, 0)
    frame, reason = come_up(header, octets)
    assert reason is None
    assert (frame.gso_size, frame.segments, frame.gso_type) == (1448, 3, GsoType.TCPV4)
    assert wire_octets(frame) == wanted


def test_super_segment_of_one_is_a_wire_frame(frames):
    frame, reason = come_up(HEADER.pack(1, 1, 54, 1448, TCP, 16), frames.headers(9) + bytes(9))
    assert (reason, frame.gso_size, frame.segments) == (None, 0, 1)


def _super(frames):
    return frames.headers(4000) + bytes(4000)


@pytest.mark.parametrize(
    ("fields", "change", "reason"),
    [
        ((1, 0, 0, 0, 5000, 16), None, "link.bad_offload"),  # beyond the frame
        ((1, 0, 0, 0, 4053, 0), None, "link.bad_offload"),  # its field half beyond
        ((1, 0, 0, 0, TCP, 65535), None, "link.bad_offload"),
        ((1, 0, 0, 0, 0, 16), None, "link.bad_offload"),
        ((1, 1, 0, 0, TCP, 16), None, "link.bad_offload"),  # pieces of nothing
        ((0, 1, 0, 1448, 0, 0), None, "link.bad_offload"),  # unverified
        ((1, 1, 0, 1448, TCP + 4, 16), None, "link.bad_offload"),
        ((1, 1, 0, 1448, TCP, 6), None, "link.bad_offload"),
        ((1, 1, 0, 1448, TCP, 16), (14, b"\x44"), "link.bad_offload"),  # IP header too short
        ((1, 1, 0, 1448, TCP, 16), (16, b"\xff\xff"), "link.bad_offload"),  # total length
        ((1, 1, 0, 1448, TCP, 16), (TCP + 12, b"\x40"), "link.bad_offload"),  # TCP header
        ((1, 1, 0, 1448, TCP, 16), (23, b"\x11"), "link.unknown_offload"),  # UDP
        ((1, 1, 0, 1448, TCP, 16), (12, b"\x86\xdd"), "link.unknown_offload"),
        ((1, 3, 0, 1448, TCP, 16), None, "link.unknown_offload"),
        ((1, 4, 0, 1448, TCP, 16), None, "link.unknown_offload"),
        ((1, 5, 0, 1448, TCP, 16), None, "link.unknown_offload"),
    ],
)
def test_header_that_contradicts_its_frame_costs_the_frame(frames, fields, change, reason):
    octets = bytearray(_super(frames))
    if change is not None:
        octets[change[0] : change[0] + len(change[1])] = change[1]
    assert come_up(HEADER.pack(*fields), bytes(octets))[1] == reason


@given(
    header=st.tuples(
        st.sampled_from([0, 1, 2, 3, 255]), st.sampled_from([0, 1, 4, 0x81, 255]),
        st.integers(0, 100), st.sampled_from([0, 1, 100, 1448, 65535]),
        st.sampled_from([0, 1, 14, TCP, TCP + 20, 65535]), st.sampled_from([0, 6, 16, 65535]),
    ),
    damage=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), max_size=3),
    size=st.integers(0, 3000),
)  # fmt: skip
@settings(max_examples=500)
def test_no_header_crashes_what_counts_cuts_or_records(frames_factory, header, damage, size):
    octets = bytearray(_super(frames_factory)[:size] if size < 60 else _super(frames_factory))
    for at, value in damage:
        if at < len(octets):
            octets[at] = value
    frame, reason = come_up(HEADER.pack(*header), bytes(octets))
    if reason is None:
        assert len(wire_octets(frame)) == frame.segments
