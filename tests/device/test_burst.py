"""Bursts: frames in one piece of memory, which is used again when nobody looks."""

from __future__ import annotations

import errno
import socket

import pytest

from netstack.core.rng import Rng
from netstack.device.base import Capabilities, Device, Medium
from netstack.device.burst import MAX_FRAMES, SPAN, Burst
from netstack.device.bursts import BurstReader
from netstack.device.impair import ImpairDevice
from netstack.device.offload import coalesce
from netstack.stack import Stack


@pytest.fixture
def burst(pair):
    """Return a burst of the given frames."""

    def burst(frames, largest=2048):
        for frame in frames:
            pair[0].send(frame)
        return BurstReader(largest).read(pair[1].fileno(), MAX_FRAMES)

    return burst


def test_burst_is_a_sequence_of_octets(burst):
    made = burst([b"one", b"three", b"x"])
    assert list(made) == [b"one", b"three", b"x"]
    assert (len(made), made.total, made[1], made[-1], b"three" in made) == (
        3,
        9,
        b"three",
        b"x",
        True,
    )
    for index in (3, -4):
        with pytest.raises(IndexError):
            made[index]
    assert not burst([])


def test_frames_left_out_are_gone_and_the_others_stay_as_they_were(burst):
    made = burst([b"%d" % number for number in range(9)])
    made.leave_out([1, 2, 5, 6, 7])
    assert (list(made), made.total) == ([b"0", b"3", b"4", b"8"], 4)
    made.leave_out([0, 1, 2, 3])
    assert (list(made), made.total) == ([], 0)
    assert len(made.spans) == SPAN * MAX_FRAMES


def test_failed_read_is_an_error_and_leaves_no_frames(pair):
    near, far = pair
    reader = BurstReader(2048)
    near.send(b"one")
    assert list(reader.read(far.fileno(), 64)) == [b"one"]
    with pytest.raises(OSError, match="descriptor") as caught:
        reader.read(-1, 64)
    assert caught.value.errno == errno.EBADF
    assert list(reader.read(far.fileno(), 64)) == []


def test_burst_that_somebody_holds_stays_as_it_is(pair):
    near, far = pair
    reader = BurstReader(2048)
    near.send(b"first")
    first = reader.read(far.fileno(), 64)
    near.send(b"other")
    other = reader.read(far.fileno(), 64)
    assert (list(first), list(other)) == ([b"first"], [b"other"])
    number = id(other)
    del other
    assert id(reader.read(far.fileno(), 64)) == number


def test_largest_frames_find_room_for_some(pair):
    near, far = pair
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    for _ in range(3):
        near.send(bytes(65_535))
    assert [len(each) for each in BurstReader(65_553).read(far.fileno(), 64)] == [65_535] * 3


def test_merging_where_frames_lie_gives_what_merging_octets_gives(burst, frames):
    sent = [frames.wire(bytes((at,)) * 100, seq=100 * at) for at in range(5)]
    sent += [b"none of ours", frames.wire(b"tail", seq=500), frames.wire(b"", seq=504, ack=7)]
    merged, expected = coalesce(burst(sent), Medium.ETHERNET), coalesce(sent, Medium.ETHERNET)
    assert [(each.octets(), each.segments, each.gso_size, each.checksum) for each in merged] == [
        (each.octets(), each.segments, each.gso_size, each.checksum) for each in expected
    ]
    assert [each.segments for each in merged] == [6, 1, 1]


class Source(Device):
    """Returns one burst."""

    def __init__(self, burst: Burst) -> None:
        super().__init__("source", Capabilities(Medium.ETHERNET))
        self._burst = burst

    def receive_burst(self, limit: int = 64) -> Burst:
        return self._burst


def test_losses_leave_a_burst_one(burst, frames):
    sent = [frames.wire(b"data", seq=at) for at in range(64)]
    made = burst(sent)
    impaired = ImpairDevice(Source(made), Rng(5), loss=0.5)
    received = impaired.receive_burst()
    assert received is made
    kept = list(received)
    assert kept == [each for each in sent if each in kept]
    counters = impaired.incoming.counters
    assert (counters.sent, counters.delivered) == (64, len(kept))
    assert 16 < counters.lost < 48


@pytest.mark.parametrize("count", [0, 1, 2, 64])
@pytest.mark.parametrize("traced", [False, True])
def test_interface_counts_the_frames_and_octets_of_a_burst(burst, frames, count, traced):
    sent = [frames.wire(b"data", seq=at) for at in range(count)]
    device, stack = Source(burst(sent)), Stack("host", seed=1)
    stack.attach(device, "192.0.2.1/24")
    seen = []
    stop = stack.context.listen(seen.append) if traced else lambda: None
    stack.receive(device, device.receive_burst(), 0.0)
    stack.poll(0.0)
    stop()
    counters = stack.counters()
    assert counters.get("link.frames_received", 0) == count
    assert counters.get("link.octets_received", 0) == sum(map(len, sent))
    assert len([each for each in seen if type(each).__name__ == "FrameReceived"]) == count * traced
