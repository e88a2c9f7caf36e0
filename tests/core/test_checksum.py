"""The Internet checksum: RFC 1071's examples, and the kernel against its readable twin."""

import random
import sys
from array import array
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack import _ext
from netstack.core import checksum as module
from netstack.core.checksum import (
    copy_and_sum_py,
    fold,
    internet_checksum,
    internet_sum_py,
    pseudo_header_sum,
    sum_pieces_py,
)


def naive_sum(data, initial=0):
    """RFC 1071 section 4.1, word by word: independent of both implementations."""
    octets = bytes(data) + b"\0" * (len(data) & 1)
    total = initial
    for index in range(0, len(octets), 2):
        total += octets[index] << 8 | octets[index + 1]
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def implementations():
    found = {"pure": internet_sum_py}
    if _ext.COMPILED:
        from netstack._ext.checksum import internet_sum

        found["compiled"] = internet_sum
    return found


@pytest.fixture(params=implementations().values(), ids=implementations().keys())
def internet_sum(request):
    return request.param


def test_the_switch_selects_the_kernels_exactly_if_compiled():
    for name in ("internet_sum", "sum_pieces", "copy_and_sum"):
        chosen, twin = getattr(module, name), getattr(module, f"{name}_py")
        assert (chosen is not twin) == _ext.COMPILED


@pytest.mark.needs("kernels")
def test_kernels_are_compiled():
    assert _ext.COMPILED, _ext.REASON


def test_example_of_rfc_1071_section_3(internet_sum):
    assert internet_sum(bytes.fromhex("0001f203f4f5f6f7")) == 0xDDF2


def test_sum_of_zeros_is_zero_and_only_that(internet_sum):
    assert internet_sum(b"") == 0
    assert internet_sum(bytes(1501)) == 0
    assert internet_sum(b"\xff\xff") == 0xFFFF
    assert internet_sum(b"\xff\xfe\x00\x01") == 0xFFFF
    assert internet_sum(b"", 0xFFFF) == 0xFFFF
    assert internet_sum(b"", 0x1FFFE) == 0xFFFF


def test_odd_last_octet_is_the_high_half_of_a_word(internet_sum):
    assert internet_sum(b"\x12") == 0x1200
    assert internet_sum(b"\x12\x34\x56") == 0x1234 + 0x5600


@pytest.mark.parametrize("length", [*range(40), 255, 1459, 1460, 65_535])
def test_every_tail_length_equals_the_naive_loop(internet_sum, length):
    data = random.Random(length).randbytes(length)
    assert internet_sum(data) == naive_sum(data)


@pytest.mark.parametrize("offset", range(9))
def test_any_alignment_gives_the_same_sum(internet_sum, offset):
    data = random.Random(7).randbytes(1460)
    buffer = bytearray(offset) + data
    assert internet_sum(memoryview(buffer)[offset:]) == naive_sum(data)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_every_buffer_type_is_taken(internet_sum, kind):
    assert internet_sum(kind(b"\x01\x02\x03")) == 0x0102 + 0x0300


def test_items_wider_than_an_octet_count_as_their_octets(internet_sum):
    words = array("H", [1, 2, 0xFFFF])
    assert internet_sum(words) == naive_sum(words.tobytes())


@pytest.mark.parametrize("step", [2, -1])
def test_octets_in_several_pieces_are_refused(internet_sum, step):
    with pytest.raises(BufferError):
        internet_sum(memoryview(b"abcdef")[::step])


def test_what_is_no_buffer_is_refused(internet_sum):
    with pytest.raises(TypeError):
        internet_sum("text")


def test_carries_of_all_ones_survive(internet_sum):
    data = b"\xff" * 1_000_000
    assert internet_sum(data) == 0xFFFF
    assert internet_sum(data, (1 << 64) - 1) == 0xFFFF


@given(st.binary(max_size=3000), st.integers(0, (1 << 64) - 1))
def test_kernel_equals_its_twin(data, initial):
    expected = naive_sum(data, initial)
    for function in implementations().values():
        assert function(data, initial) == expected


def test_kernel_releases_the_buffer(internet_sum):
    data = bytearray(b"abcd")
    internet_sum(data)
    data.append(1)  # raises BufferError while an export lives
    before = sys.getrefcount(data)
    internet_sum(data)
    assert sys.getrefcount(data) == before


@given(st.binary(max_size=200))
def test_data_with_its_checksum_sums_to_all_ones(data):
    even = data + b"\0" * (len(data) & 1)
    checksum = internet_checksum(even)
    assert module.internet_sum(even + checksum.to_bytes(2, "big")) == 0xFFFF


def fused():
    """Return the implementations of sum_pieces and copy_and_sum."""
    found = {"pure": (sum_pieces_py, copy_and_sum_py)}
    if _ext.COMPILED:
        from netstack._ext.checksum import copy_and_sum, sum_pieces

        found["compiled"] = (sum_pieces, copy_and_sum)
    return found


@pytest.fixture(params=fused().values(), ids=fused().keys())
def sum_pieces(request):
    return request.param[0]


@pytest.fixture(params=fused().values(), ids=fused().keys())
def copy_and_sum(request):
    return request.param[1]


@given(
    st.binary(max_size=300),
    st.lists(st.integers(0, 300), max_size=5),
    st.integers(0, (1 << 64) - 1),
)
def test_sum_of_pieces_equals_sum_of_the_whole(data, cuts, initial):
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[a:b] for a, b in pairwise(edges)]
    for function, _ in fused().values():
        assert function(pieces) == naive_sum(data)
        assert function(iter(pieces), initial) == naive_sum(data, initial)


def test_every_place_of_two_cuts_gives_the_same_sum(sum_pieces):
    data = random.Random(3).randbytes(67)
    for first in range(len(data) + 1):
        for second in range(first, len(data) + 1):
            assert sum_pieces([data[:first], data[first:second], data[second:]]) == naive_sum(data)


def test_pieces_that_are_none_are_refused(sum_pieces):
    assert sum_pieces([]) == 0
    with pytest.raises(TypeError):
        sum_pieces([b"a", "text"])
    with pytest.raises(TypeError):
        sum_pieces(5)
    with pytest.raises(BufferError):
        sum_pieces([b"a", memoryview(b"abcd")[::2]])


@pytest.mark.parametrize("offset", range(9))
def test_copying_sums_what_it_copies_and_touches_nothing_else(copy_and_sum, offset):
    for length in [*range(70), 1459, 1460, 65_535]:
        data = random.Random(length).randbytes(length)
        target = bytearray(b"\xa5" * (offset + length + 9))
        assert copy_and_sum(target, offset, data) == naive_sum(data)
        assert target == b"\xa5" * offset + data + b"\xa5" * 9


@pytest.mark.parametrize("alignment", range(9))
def test_copying_takes_octets_at_any_alignment(copy_and_sum, alignment):
    data = memoryview(random.Random(8).randbytes(300))[alignment:]
    target = bytearray(300)
    assert copy_and_sum(target, 0, data) == naive_sum(data)
    assert target[: len(data)] == data


@pytest.mark.parametrize("shift", [-40, -3, -1, 0, 1, 3, 40])
def test_copying_within_one_buffer_sums_what_was_there(copy_and_sum, shift):
    octets = bytearray(random.Random(5).randbytes(300))
    before = bytes(octets)
    assert copy_and_sum(octets, 100 + shift, memoryview(octets)[100:200]) == naive_sum(
        before[100:200]
    )
    assert octets[100 + shift : 200 + shift] == before[100:200]


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, 11), (10, 1), (11, 0), (2**60, 1)])
def test_copy_that_does_not_fit_is_refused(copy_and_sum, offset, length):
    target = bytearray(10)
    with pytest.raises(ValueError, match="fit"):
        copy_and_sum(target, offset, b"x" * length)
    assert target == bytes(10)
    target.append(1)  # raises BufferError while an export lives


@pytest.mark.parametrize(
    ("target", "data", "error"),
    [
        (b"read-only", b"x", BufferError), (memoryview(bytearray(9))[::2], b"x", BufferError),
        (bytearray(9), memoryview(b"abcd")[::2], BufferError), (bytearray(9), "text", TypeError),
        ("text", b"x", TypeError), (None, b"x", TypeError),
    ],
)  # fmt: skip
def test_copy_of_what_is_no_octets_is_refused(copy_and_sum, target, data, error):
    with pytest.raises(error):
        copy_and_sum(target, 0, data)


@given(st.integers(0, 1 << 40))
def test_fold_keeps_the_value_modulo_65535(total):
    assert 0 <= fold(total) <= 0xFFFF
    assert fold(total) % 0xFFFF == total % 0xFFFF


@pytest.mark.parametrize("octets", [4, 16])
def test_pseudo_header_sum_equals_the_header_written_out(octets):
    source, destination = b"\xfe" * octets, b"\x81" * octets
    length = 0x12345
    written = source + destination + length.to_bytes(4, "big") + (6).to_bytes(4, "big")
    assert pseudo_header_sum(source, destination, 6, length) == naive_sum(written)
