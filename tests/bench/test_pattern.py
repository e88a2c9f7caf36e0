"""The content of bulk transfers: any change, shift or loss is noticed."""

import pytest

from netstack.bench.pattern import BLOCK, READ_SIZE, Check


def check(data, size=READ_SIZE):
    checked = Check()
    buffer = bytearray(READ_SIZE)
    for start in range(0, len(data), size):
        piece = data[start : start + size]
        buffer[: len(piece)] = piece
        checked.take(buffer, len(piece))
    return checked


@pytest.mark.parametrize("size", [1009, 65_536, READ_SIZE])
def test_right_content_in_reads_of_any_size(size):
    checked = check(BLOCK * 3, size)
    assert checked.octets == 3 * len(BLOCK)
    assert checked.wrong == 0


@pytest.mark.parametrize("place", [0, 100_000, len(BLOCK), 2 * len(BLOCK) - 1])
def test_one_wrong_octet_is_noticed(place):
    data = bytearray(BLOCK * 2)
    data[place] ^= 1
    assert check(bytes(data)).wrong == 1


@pytest.mark.parametrize("lost", [1, 1448, 65_160, READ_SIZE])
def test_missing_octets_are_noticed(lost):
    data = BLOCK * 2
    assert check(data[:50_000] + data[50_000 + lost :]).wrong


def test_repeated_octets_are_noticed():
    assert check(BLOCK[:2896] + BLOCK[1448:]).wrong
