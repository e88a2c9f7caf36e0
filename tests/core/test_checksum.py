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
    fold,
    internet_checksum,
    internet_sum_py,
    pseudo_header_sum,
    sum_pieces,
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


def test_the_switch_selects_the_kernel_exactly_if_compiled():
    assert (module.internet_sum is not internet_sum_py) == _ext.COMPILED


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


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
def test_sum_of_pieces_equals_sum_of_the_whole(data, cuts):
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[a:b] for a, b in pairwise(edges)]
    assert sum_pieces(pieces) == naive_sum(data)


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
