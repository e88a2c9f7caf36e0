"""Which pure ACKs of a burst may go (``device.acks``), and that the kernel says the same."""

from __future__ import annotations

import pytest

from netstack.device.base import Checksum, Frame, Medium
from netstack.device.merge import UNKNOWN, VERIFIED, merge, merge_py
from netstack.device.offload import coalesce

FIN, RST, ACK, ECE = 1, 4, 16, 64
MEDIA = [Medium.ETHERNET, Medium.IP]
TIMESTAMPS = b"\x01\x01\x08\x0a\0\0\0\x01\0\0\0\x02"


def leave_out_superseded(burst, medium):
    octets = [frame.octets() for frame in burst]
    states = bytes(UNKNOWN if frame.checksum is Checksum.UNKNOWN else VERIFIED for frame in burst)
    link = 14 if medium is Medium.ETHERNET else 0
    assert merge(octets, states, link) == merge_py(octets, states, link)
    return coalesce(burst, medium)


def acks(frames, *fields, medium=Medium.ETHERNET):
    """Return what becomes of pure ACKs of one flow in one burst."""
    return leave_out_superseded(
        [frames.arriving(b"", medium=medium, **{"options": TIMESTAMPS} | each) for each in fields],
        medium,
    )


@pytest.mark.parametrize("medium", MEDIA)
def test_pure_ack_goes_where_the_next_acknowledges_more(frames, medium):
    fields = [{"ack": 0xFFFFFFF0}, {"ack": 10}, {"ack": 20, "window": 3000}]
    (frame,) = acks(frames, *fields, medium=medium)
    last = frames.arriving(b"", options=TIMESTAMPS, medium=medium, **fields[-1])
    assert frame.octets() == last.octets()
    assert frame.segments == 3
    assert frame.checksum is Checksum.VALID


def test_ack_with_a_checksum_left_open_is_as_good_as_verified(frames):
    burst = [frames.going_down(b"", options=TIMESTAMPS, ack=number) for number in (5000, 6000)]
    for frame in burst:
        frame.header, frame.start, frame.checksum_start = bytes(frame.octets()), 0, 34
    assert leave_out_superseded(burst, Medium.ETHERNET) == burst[1:]
    assert burst[1].checksum is Checksum.PARTIAL


@pytest.mark.parametrize(
    "second",
    [
        {"seq": 1001}, {"flags": ACK | ECE}, {"tos": 1}, {"ttl": 63},
        {"flags": ACK | FIN}, {"flags": ACK | RST}, {"ports": (40001, 80)}, {"options": b""},
        {"options": TIMESTAMPS[:-1] + b"\x03"}, {"ip_options": b"\x01\x01\x01\0"},
        {"options": TIMESTAMPS + b"\x01\x01\x05\x0a" + bytes(8)}, {"options": TIMESTAMPS[:8]},
    ],
)  # fmt: skip
def test_pure_ack_stays_before_one_that_differs(frames, second):
    assert len(acks(frames, {}, {"ack": 5001} | second)) == 2
    assert len(acks(frames, {"ack": 4999} | second, {})) == 2


@pytest.mark.parametrize("number", [5000, 4999, 5000 + (1 << 31)])
def test_pure_ack_stays_before_one_that_acknowledges_no_more(frames, number):
    assert len(acks(frames, {}, {"ack": number})) == 2


def test_flows_do_not_disturb_each_other(frames):
    fields = [{"ports": (1, 2), "ack": 5}, {"ports": (2, 1), "ack": 5}]
    result = acks(frames, *fields, *({**each, "ack": 6} for each in fields), fields[0])
    assert [frame.segments for frame in result] == [2, 2, 1]


def test_pure_ack_stays_before_data_and_behind_it(frames):
    given = [
        frames.arriving(b"", ack=5000),
        frames.arriving(b"a" * 10, ack=5001),
        frames.arriving(b"", seq=1010, ack=5002),
        frames.arriving(b"", seq=1010, ack=5003),
    ]
    assert [frame.segments for frame in leave_out_superseded(given, Medium.ETHERNET)] == [1, 1, 2]


@pytest.mark.parametrize("at", [14 + 8, 14 + 12, 14 + 24, 14 + 30, -1])
def test_pure_ack_with_a_bad_checksum_neither_goes_nor_supersedes(frames, at):
    bad = bytearray(frames.wire(b"", ack=5001, options=TIMESTAMPS))
    bad[at] ^= 0x10
    given = [frames.arriving(b"", ack=ack, options=TIMESTAMPS) for ack in (5000, 5002)]
    given.insert(1, Frame(bytes(bad)))
    result = leave_out_superseded(given, Medium.ETHERNET)
    assert bytes(bad) in [frame.octets() for frame in result]
    assert result[-1].octets() == given[-1].octets()


def test_padding_of_the_link_does_not_matter(frames):
    given = [Frame(frames.wire(b"", ack=ack) + bytes(6)) for ack in (5000, 5001)]
    assert len(leave_out_superseded(given, Medium.ETHERNET)) == 1


def test_octets_too_few_for_a_header_stay(frames):
    whole = frames.wire(b"", ack=5001, options=TIMESTAMPS)
    for length in range(len(whole)):
        given = [frames.arriving(b"", options=TIMESTAMPS), Frame(whole[:length])]
        assert leave_out_superseded(given, Medium.ETHERNET) == given


def sack(*blocks, lead=TIMESTAMPS):
    edges = b"".join(edge.to_bytes(4, "big") for block in blocks for edge in block)
    return {"options": lead + b"\x01\x01\x05" + bytes((2 + len(edges),)) + edges}


@pytest.mark.parametrize("lead", [TIMESTAMPS, b""])
def test_ack_goes_where_the_first_block_of_the_next_reaches_further(frames, lead):
    older = [(6000, 6100)]
    (frame,) = acks(
        frames,
        sack((7000, 7100), *older, lead=lead),
        sack((7000, 7200), *older, lead=lead),
        {**sack((7000, 7200), *older, lead=lead), "ack": 5500},
        {**sack((7000, 7300), *older, lead=lead), "ack": 5600, "window": 3000},
    )
    assert frame.segments == 4


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([(7000, 7100)], [(7000, 7100)]),  # tells nothing new, so it may tell of a loss
        ([(7000, 7200)], [(7000, 7100)]),  # overtaken by what was sent later
        ([(7000, 7100)], [(6900, 7100)]),  # something came late
        ([(7000, 7100)], [(8000, 8100), (7000, 7100)]),  # a new gap
        ([(8000, 8100), (7000, 7100)], [(7000, 7200), (8000, 8100)]),
        ([(8000, 8100), (7000, 7100)], [(8000, 8100)]),
        ([(4000, 4100)], [(4000, 4200)]),  # D-SACK
        ([(7000, 7100), (6900, 7500)], [(7000, 7200), (6900, 7500)]),  # D-SACK
    ],
)
def test_ack_stays_before_one_with_other_blocks(frames, first, second):
    assert len(acks(frames, sack(*first), sack(*second))) == 2


def test_ack_with_blocks_and_one_without_stay(frames):
    assert len(acks(frames, sack((7000, 7100)), {"ack": 7100})) == 2
    assert len(acks(frames, {}, sack((7000, 7100)))) == 2
