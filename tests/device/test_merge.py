"""Merging: the kernel against its readable twin. What may be merged is in ``test_offload.py``."""

from __future__ import annotations

import random
import struct
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack import _ext
from netstack.core.checksum import internet_checksum
from netstack.device import merge as module
from netstack.device.burst import SPAN
from netstack.device.merge import UNKNOWN, VERIFIED, WHOLE, merge_py, merge_spans_py

ACK, PSH, FIN = 16, 8, 1
TIMESTAMPS = bytes.fromhex("0101080a0000000100000002")
SACK = bytes.fromhex("0101050a0000001e00000028")
LATER = bytes.fromhex("0101080a0000000200000002")


def implementations():
    found = {"pure": merge_py}
    if _ext.COMPILED:
        from netstack._ext.coalesce import merge

        found["compiled"] = merge
    return found


@pytest.fixture(params=implementations().values(), ids=implementations().keys())
def merge(request):
    return request.param


SPANS = {merge_spans_py, module.merge_spans}


def laid_out(frames):
    """Return frames in one piece of memory with gaps, and where they lie."""
    memory, spans = bytearray(), array("q")
    for frame in frames:
        memory += b"\xa5" * 3
        spans.extend((len(memory), len(frame)))
        memory += frame
    return memory, spans


def assert_equal(octets, states=None, link=14):
    results = [function(octets, states, link) for function in implementations().values()]
    if states is None:
        memory, spans = laid_out(octets)
        results += [each(memory, spans, len(octets), link) for each in SPANS]
    assert all(result == results[0] for result in results)
    assert sum(count for _, count, *_ in results[0]) == len(octets)
    return results[0]


def counts(results):
    return [count for _, count, *_ in results]


def test_the_switch_selects_the_kernel_exactly_if_compiled():
    assert (module.merge is not merge_py) == _ext.COMPILED
    assert (module.merge_spans is not merge_spans_py) == _ext.COMPILED


@pytest.mark.parametrize("function", SPANS)
@pytest.mark.parametrize(
    ("span", "count"),
    [
        ((-1, 4), 1), ((0, -1), 1), ((60, 5), 1), ((65, 0), 1), ((2**62, 2**62), 1),
        ((0, 4), -1), ((0, 4), 2),
    ],
)  # fmt: skip
def test_frames_outside_of_their_memory_are_refused(function, span, count):
    memory, spans = bytearray(64), array("q", span)
    assert len(spans) == SPAN
    with pytest.raises(ValueError, match=r"frames? "):
        function(memory, spans, count, 14)
    with pytest.raises(ValueError, match="link header"):
        function(memory, array("q", (0, 4)), 1, 13)
    memory.append(1)  # raises BufferError while an export lives
    spans.append(1)


def test_nothing_of_nothing(merge):
    assert merge([], None, 14) == merge([], b"", 0) == []


@pytest.mark.parametrize("second", [ACK, ACK | PSH, 0])
@pytest.mark.parametrize("first", range(256))
def test_every_set_of_flags_is_the_twins(frames, first, second):
    octets = [
        frames.wire(b"a" * 10, seq=0, flags=ACK),
        frames.wire(b"b" * 10, seq=10, flags=first),
        frames.wire(b"c" * 10, seq=20, flags=second),
    ]
    results = counts(assert_equal(octets))
    if first & ~PSH == ACK:
        assert results == ([2, 1] if second == 0 else [3])
    elif first & ~(PSH | FIN) == ACK:
        assert results == [2, 1]
    else:
        assert results[0] == 1


@pytest.mark.parametrize("link", [0, 14])
@pytest.mark.parametrize("length", [1, 2, 3, 48, 1459, 1460])
def test_lengths_down_to_one_octet_are_the_twins(frames, length, link):
    octets = [
        frames.wire(random.Random(at).randbytes(length), seq=at * length)[14 - link :]
        for at in range(6)
    ]
    [(index, count, size, verified, whole)] = assert_equal(octets, link=link)
    assert (index, count, size, verified) == (0, 6, length, True)
    assert whole[link + 40 :] == b"".join(each[link + 40 :] for each in octets)


@pytest.mark.parametrize("seq", [2**32 - 1, 2**32 - 10, 2**32 - 15])
def test_sequence_numbers_wrap(frames, seq):
    octets = [frames.wire(bytes(10), seq=(seq + at * 10) & 0xFFFFFFFF) for at in range(4)]
    assert counts(assert_equal(octets)) == [4]


def test_frame_of_64_kib_is_left_alone_and_the_total_stays_below(frames):
    octets = [frames.wire(bytes(65_495), seq=0), frames.wire(b"x", seq=65_495)]
    assert counts(assert_equal(octets)) == [1, 1]
    octets = [
        frames.wire(bytes(65_494), seq=0),
        *(frames.wire(b"x", seq=65_494 + at) for at in (0, 1)),
    ]
    assert counts(assert_equal(octets)) == [2, 1]


def test_every_truncation_is_the_twins(frames):
    first, second = frames.wire(b"a" * 20, seq=0), frames.wire(b"b" * 20, seq=20)
    for length in range(len(second) + 1):
        whole = length == len(second)
        assert counts(assert_equal([first, second[:length]])) == ([2] if whole else [1, 1])
        assert_equal([first[:length], second])


def test_every_changed_bit_is_the_twins(frames):
    first = frames.wire(b"a" * 6, seq=0, options=TIMESTAMPS)
    second = frames.wire(b"b" * 6, seq=6, options=TIMESTAMPS)
    for bit in range(len(second) * 8):
        changed = bytearray(second)
        changed[bit >> 3] ^= 1 << (bit & 7)
        third = frames.wire(b"c" * 6, seq=12, options=TIMESTAMPS)
        for states in (None, bytes((UNKNOWN, VERIFIED, UNKNOWN)), bytes((0, 0, WHOLE))):
            assert_equal([first, bytes(changed), third], states)


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (b"", [3]), (TIMESTAMPS, [3]), (TIMESTAMPS + SACK, [3]),
        (SACK + SACK[2:4] * 2, [1, 1, 1]),
    ],
)  # fmt: skip
def test_every_changed_bit_of_an_ack_is_the_twins(frames, options, left):
    first, second, third = (frames.wire(ack=ack, options=options) for ack in (5, 6, 7))
    assert counts(assert_equal([first, second, third])) == left
    for bit in range(len(second) * 8):
        changed = bytearray(second)
        changed[bit >> 3] ^= 1 << (bit & 7)
        for states in (None, bytes((UNKNOWN, VERIFIED, UNKNOWN)), bytes((0, 0, WHOLE))):
            assert_equal([first, bytes(changed), third], states)
            assert_equal([bytes(changed), first, third], states)


def test_every_truncation_of_an_ack_is_the_twins(frames):
    first, second = (frames.wire(ack=ack, options=TIMESTAMPS + SACK) for ack in (5, 6))
    for length in range(len(second) + 1):
        assert_equal([first, second[:length]])
        assert_equal([first[:length], second])


def test_ack_passes_no_other_frame_but_what_is_merged_to_an_earlier_one(frames):
    first, last = frames.wire(ack=5, ports=(3, 4)), frames.wire(ack=6, ports=(3, 4))
    data = [frames.wire(b"a" * 10, seq=at * 10) for at in range(3)]
    assert [each[:2] for each in assert_equal([first, data[0], last])] == [(0, 1), (1, 1), (2, 1)]
    merged = assert_equal([data[0], first, data[1], last])
    assert [each[:2] for each in merged] == [(0, 2), (3, 2)]
    own = frames.wire(seq=10, ack=7)  # ends the run of its flow
    assert counts(assert_equal([data[0], own, data[1], data[2]])) == [1, 1, 2]


def test_states_say_what_is_verified(frames):
    octets = [bytearray(frames.wire(b"a" * 10, seq=at * 10)) for at in range(3)]
    octets[1][-1] ^= 1
    assert counts(assert_equal(octets)) == [1, 1, 1]
    assert [each[3] for each in assert_equal(octets)] == [True, False, True]
    assert counts(assert_equal(octets, bytes((UNKNOWN, VERIFIED, UNKNOWN)))) == [3]
    assert counts(assert_equal(octets, bytes((UNKNOWN, WHOLE, UNKNOWN)))) == [1, 1, 1]


def test_many_flows_side_by_side_are_the_twins(frames):
    flows = [(random.Random(at).randrange(65_536), at) for at in range(150)]
    octets = [frames.wire(b"x" * 8, seq=at * 8, ports=flow) for at in range(3) for flow in flows]
    assert counts(assert_equal(octets)) == [3] * 150


def acknowledgment(draw):
    """Return the fields of what may be a pure ACK, most often one that tells more."""
    lead = draw(st.sampled_from([b"", TIMESTAMPS, TIMESTAMPS, LATER]))
    edges = draw(st.sampled_from([(), (30, 40), (30, 50), (30, 60, 20, 25), (30, 40, 10, 70)]))
    option = b"".join(edge.to_bytes(4, "big") for edge in edges)
    if option:
        option = b"\x01\x01\x05" + bytes([2 + len(option)]) + option
    return {
        "seq": draw(st.sampled_from([0, 0, 0, 8])),
        "ack": draw(st.sampled_from([2, 3, 4, 5, 2**32 - 1])),
        "flags": draw(st.sampled_from([ACK, ACK, ACK, ACK | PSH, 0])),
        "window": draw(st.integers(0, 65535)),
        "options": lead + option,
    }


def frame_of_a_burst(frames, draw):
    """Return one of the frames that may stand in a burst, or what chance made of it."""
    flow = draw(st.sampled_from([(1, 2), (3, 4)]))
    kind = draw(st.integers(0, 9))
    fields = {
        "seq": draw(st.sampled_from([0, 8, 16, 24, 32])),
        "ports": flow,
        "options": draw(st.sampled_from([b"", TIMESTAMPS, TIMESTAMPS, LATER])),
        "flags": draw(st.sampled_from([ACK, ACK, ACK, ACK | PSH, ACK | FIN, 0xD0])),
        "tos": draw(st.sampled_from([0, 0, 0, 3])),
        "identification": draw(st.integers(0, 65535)),
    }
    if kind == 0:
        fields["ip_options"] = b"\x01\x01\x01\0"
    elif kind == 1:
        fields["fragment"] = draw(st.sampled_from([0, 0x2000, 1, 0x8000]))
    data = draw(st.binary(min_size=7, max_size=8))
    if kind in (4, 5, 6, 7):
        data = b""
        fields |= acknowledgment(draw)
    octets = frames.wire(data, **fields)
    octets += draw(st.sampled_from([b"", b"", b"padding"]))
    if kind == 2:
        return octets[: draw(st.integers(0, len(octets)))]
    if kind == 3:
        changed = bytearray(octets)
        changed[draw(st.integers(0, len(octets) - 1))] ^= draw(st.integers(1, 255))
        return bytes(changed)
    return octets


@given(data=st.data(), link=st.sampled_from([0, 14]))
def test_kernel_equals_its_twin(frames_factory, data, link):
    count = data.draw(st.integers(0, 12))
    octets = [frame_of_a_burst(frames_factory, data.draw)[14 - link :] for _ in range(count)]
    states = data.draw(
        st.none() | st.lists(st.integers(0, 2), min_size=count, max_size=count).map(bytes)
    )
    assert_equal(octets, states, link)


@given(octets=st.lists(st.binary(max_size=80), max_size=8), link=st.sampled_from([0, 14]))
def test_random_octets_are_the_twins(octets, link):
    assert counts(assert_equal(octets, None, link)) == [1] * len(octets)


def test_merged_header_is_right(frames):
    octets = [frames.wire(b"ab", seq=0), frames.wire(b"c", seq=2, flags=ACK | PSH | FIN)]
    [(*_, whole)] = assert_equal(octets)
    assert struct.unpack("!H", whole[16:18]) == (40 + 3,)
    assert internet_checksum(whole[14:34]) == 0
    assert whole[14 + 33] == ACK | PSH | FIN
    assert whole[54:] == b"abc"


@pytest.mark.parametrize(
    ("octets", "states", "link"),
    [([b""], b"", 14), ([], b"\0", 14), ([b""], None, 4), ([b""], None, -1), ([b""], None, 18)],
)
def test_what_does_not_fit_is_refused(merge, octets, states, link):
    with pytest.raises(ValueError, match=r"states|link header"):
        merge(octets, states, link)


@pytest.mark.parametrize("octets", [[None], ["text"], [1, b""], None, 5])
def test_what_is_no_frame_is_refused(merge, octets):
    with pytest.raises(TypeError):
        merge(octets, None, 14)


def test_octets_in_several_pieces_are_refused(merge):
    with pytest.raises(BufferError):
        merge([memoryview(bytes(200))[::2]], None, 14)


def test_all_buffers_are_released(frames, merge):
    octets = [bytearray(frames.wire(b"ab", seq=at * 2)) for at in range(3)]
    merge(octets, None, 14)
    with pytest.raises(TypeError):
        merge([*octets, None], None, 14)
    for frame in octets:
        frame.append(1)  # raises BufferError while an export lives
