"""Cutting: the kernel against its readable twin, over all that a super-segment may be."""

from __future__ import annotations

import random
from array import array
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack import _ext
from netstack.core.checksum import fold, internet_sum_py, pseudo_header_sum
from netstack.device import cut as module
from netstack.device.base import Medium
from netstack.device.cut import cut_py

TIMESTAMPS = bytes.fromhex("0101080a0000000100000002")
FIN, PSH, ACK, CWR = 1, 8, 16, 128


def implementations():
    found = {"pure": cut_py}
    if _ext.COMPILED:
        from netstack._ext.segment import cut

        found["compiled"] = cut
    return found


@pytest.fixture(params=implementations().values(), ids=implementations().keys())
def cut(request):
    return request.param


def pieces_of(data, edges):
    """Return ``data`` in pieces, empty ones too."""
    at = [0, *sorted(min(edge, len(data)) for edge in edges), len(data)]
    return [data[first:last] for first, last in pairwise(at)]


def arguments(frames, data, size, *, edges=(), medium=Medium.ETHERNET, inline=0, **fields):
    """Return what ``cut`` takes: ``inline`` octets of the payload lie behind the headers."""
    frame = frames.going_down(data, gso_size=size, medium=medium, **fields)
    link = 14 if medium is Medium.ETHERNET else 0
    header = frame.header + data[:inline]
    payload = pieces_of(data[inline:], edges)
    return header, frame.start, frame.start + link, frame.checksum_start, payload, size


def split(octets, step):
    return [bytes(octets[at : at + step]) for at in range(0, len(octets), step)]


def assert_equal(arguments):
    results = [function(*arguments) for function in implementations().values()]
    assert all(result == results[0] for result in results)
    assert all(type(each[0]) is bytearray for each in results)
    return results[0]


def test_the_switch_selects_the_kernel_exactly_if_compiled():
    assert (module.cut is not cut_py) == _ext.COMPILED


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("medium", list(Medium))
@pytest.mark.parametrize("size", [1, 2, 3, 7, 48])
def test_every_length_up_to_some_cuts_is_the_twins(frames, size, medium, partial):
    for length in range(3 * size + 2):
        data = random.Random(length).randbytes(length)
        given = arguments(frames, data, size, medium=medium, edges=(length // 3, length // 2))
        octets, step = assert_equal((*given, partial))
        head = given[3] - given[1] + 20
        assert b"".join(each[head:] for each in split(octets, step)) == data
        assert len(split(octets, step)) == max(1, -(-length // size))
        assert step == head + size


@pytest.mark.parametrize("flags", range(256))
def test_every_set_of_flags_is_the_twins(frames, flags):
    data = random.Random(flags).randbytes(25)
    octets, step = assert_equal(arguments(frames, data, 10, flags=flags))
    first, middle, last = (each[14 + 33] for each in split(octets, step))
    assert first == flags & ~(FIN | PSH)
    assert middle == flags & ~(FIN | PSH | CWR)
    assert last == flags & ~CWR


@pytest.mark.parametrize("edge", range(12))
@pytest.mark.parametrize("inline", range(4))
def test_pieces_at_odd_offsets_are_the_twins(frames, edge, inline):
    data = random.Random(edge).randbytes(31)
    for second in range(edge, 31):
        assert_equal(arguments(frames, data, 9, edges=(edge, second), inline=inline))


@pytest.mark.parametrize("identification", [0, 65_533, 65_535])
@pytest.mark.parametrize("seq", [0, 2**32 - 1, 2**32 - 10])
def test_identification_and_sequence_number_wrap(frames, identification, seq):
    given = arguments(frames, bytes(40), 10, identification=identification, seq=seq)
    octets, step = assert_equal(given)
    for number, frame in enumerate(split(octets, step)):
        assert int.from_bytes(frame[18:20], "big") == (identification + number) & 0xFFFF
        assert int.from_bytes(frame[38:42], "big") == (seq + 10 * number) & 0xFFFFFFFF


def test_largest_packet_is_cut_and_one_octet_more_refused(frames, cut):
    data = random.Random(1).randbytes(65_495)
    given = arguments(frames, data, 65_495)
    assert_equal(given)
    with pytest.raises(ValueError, match="no packet has that"):
        cut(*given[:5], 65_496)


@given(
    data=st.binary(max_size=5000),
    size=st.integers(1, 1460) | st.just(48),
    edges=st.lists(st.integers(0, 5000), max_size=18),
    inline=st.integers(0, 60),
    partial=st.booleans(),
    fields=st.fixed_dictionaries(
        {
            "medium": st.sampled_from(list(Medium)),
            "options": st.sampled_from([b"", TIMESTAMPS, TIMESTAMPS + bytes(28)]),
            "ip_options": st.sampled_from([b"", b"\x94\x04\0\0", bytes(40)]),
            "seq": st.integers(0, 2**32 - 1),
            "ack": st.integers(0, 2**32 - 1),
            "flags": st.integers(0, 255),
            "window": st.integers(0, 65535),
            "identification": st.integers(0, 65535),
            "tos": st.integers(0, 255),
            "ports": st.tuples(st.integers(0, 65535), st.integers(0, 65535)),
        }
    ),
)
def test_kernel_equals_its_twin(frames_factory, data, size, edges, inline, partial, fields):
    given = arguments(frames_factory, data, size, edges=edges, inline=inline, **fields)
    octets, step = assert_equal((*given, partial))
    _, start, ip, tcp, _, _ = given
    for frame in split(octets, step):
        packet = frame[ip - start :]
        segment = packet[tcp - ip :]
        pseudo = pseudo_header_sum(packet[12:16], packet[16:20], 6, len(segment))
        assert internet_sum_py(packet[: tcp - ip]) == 0xFFFF
        if partial:
            assert int.from_bytes(segment[16:18], "big") == fold(pseudo)
        else:
            assert internet_sum_py(segment, pseudo) == 0xFFFF


@pytest.mark.parametrize(
    "changes",
    [
        {"start": -1}, {"start": 10**6}, {"ip": 0}, {"ip": 10**6}, {"tcp": 0}, {"tcp": 10**6},
        {"tcp": 80 + 14 + 21}, {"ip": 80 + 13}, {"ip": 80 + 15}, {"size": 0}, {"size": -1},
        {"size": 65_536}, {"size": 2**40}, {"start": -(2**60)}, {"header": b""},
        {"header": bytes(200)},
    ],
)  # fmt: skip
def test_headers_that_are_none_are_refused(frames, cut, changes):
    names = ("header", "start", "ip", "tcp", "payload", "size")
    given = dict(zip(names, arguments(frames, bytes(30), 10), strict=True)) | changes
    with pytest.raises(ValueError, match=r"header|octets|IPv4"):
        cut(*given.values())


def test_truncated_headers_are_refused(frames, cut):
    header, *rest = arguments(frames, b"", 10, options=TIMESTAMPS)
    for length in range(len(header)):
        with pytest.raises(ValueError, match=r"header|octets"):
            cut(header[:length], *rest)


@pytest.mark.parametrize("offset", range(16))
def test_data_offset_that_lies_is_refused(frames, cut, offset):
    header, start, ip, tcp, _, size = arguments(frames, b"", 10)
    header[tcp + 12] = offset << 4
    if offset == 5:
        cut(header, start, ip, tcp, [bytes(30)], size)
        return
    with pytest.raises(ValueError, match="TCP header"):
        cut(header, start, ip, tcp, [bytes(30)], size)


@pytest.mark.parametrize("payload", [[None], ["text"], [1], 5, None])
def test_payload_that_is_none_is_refused(frames, cut, payload):
    header, start, ip, tcp, _, size = arguments(frames, b"", 10)
    with pytest.raises(TypeError):
        cut(header, start, ip, tcp, payload, size)


@pytest.mark.parametrize("bad", ["header", "payload"])
def test_octets_in_several_pieces_are_refused(frames, cut, bad):
    header, start, ip, tcp, _, size = arguments(frames, b"", 10)
    payload = [memoryview(bytes(30))[::2]] if bad == "payload" else [bytes(15)]
    if bad == "header":
        header = memoryview(header + header)[::2]
    with pytest.raises(BufferError):
        cut(header, start, ip, tcp, payload, size)


def test_items_wider_than_an_octet_count_as_their_octets(frames):
    header, start, ip, tcp, _, size = arguments(frames, b"", 10)
    assert_equal((header, start, ip, tcp, [array("H", range(33)), memoryview(b"x")], size))


def test_all_buffers_are_released(frames, cut):
    header, start, ip, tcp, _, size = arguments(frames, b"", 10)
    pieces = [bytearray(b"abc"), bytearray(), bytearray(b"de")]
    cut(header, start, ip, tcp, pieces, size)
    with pytest.raises(TypeError):
        cut(header, start, ip, tcp, [*pieces, None], size)
    for piece in (header, *pieces):
        piece.append(1)  # raises BufferError while an export lives
