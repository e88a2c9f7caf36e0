"""Bursts through a descriptor: the kernel and its readable twin, on pairs of sockets."""

from __future__ import annotations

import errno
import os
import signal
import socket
from array import array

import pytest

from netstack import _ext
from netstack.device import burst as bursts
from netstack.device import io as module
from netstack.device.burst import SPAN, span_octets_py
from netstack.device.io import (
    read_frame_py,
    read_frames_py,
    write_burst_py,
    write_frame_py,
    write_pieces_py,
)

FRAMES = [b"a" * 1514, b"b" * 1514, b"c" * 1514, b"d" * 61]
OCTETS = bytearray(b"".join(FRAMES))
STEP = 1514


def implementations():
    found = {"pure": (read_frames_py, span_octets_py, write_burst_py, write_pieces_py)}
    if _ext.COMPILED:
        from netstack._ext.coalesce import span_octets
        from netstack._ext.io import read_frames, write_burst, write_pieces

        found["compiled"] = (read_frames, span_octets, write_burst, write_pieces)
    return found


@pytest.fixture(params=implementations().values(), ids=implementations().keys())
def both(request):
    return request.param


@pytest.fixture
def read_frames(both):
    return both[0]


@pytest.fixture
def span_octets(both):
    return both[1]


@pytest.fixture
def read(read_frames, span_octets):
    """Read up to ``limit`` frames of up to ``largest`` octets; return copies."""

    def read(fd, largest, limit, room=100_000):
        octets, spans = bytearray(room), array("q", bytes(8 * SPAN * 64))
        count, total = read_frames(fd, octets, spans, largest, limit)
        if count < 0:
            raise OSError(-count, os.strerror(-count))
        frames = [span_octets(octets, spans, SPAN * number) for number in range(count)]
        assert total == sum(map(len, frames))
        assert not any(spans[SPAN * count :])
        return frames

    return read


@pytest.fixture
def write(both):
    return both[2]


@pytest.fixture
def write_pieces(both):
    return both[3]


def waiting(end):
    found = []
    while True:
        try:
            found.append(end.recv(4096))
        except BlockingIOError:
            return found


def test_the_switch_selects_the_kernels_exactly_if_compiled():
    assert (module.read_frames is not read_frames_py) == _ext.COMPILED
    assert (bursts.span_octets is not span_octets_py) == _ext.COMPILED
    assert (module.write_burst is not write_burst_py) == _ext.COMPILED
    assert (module.write_pieces is not write_pieces_py) == _ext.COMPILED


def test_frames_arrive_as_they_were_written(pair, read, write):
    near, far = pair
    assert write(near.fileno(), OCTETS, STEP, 0, 4) == (4, 0)
    assert read(far.fileno(), 2048, 64) == FRAMES
    assert read(far.fileno(), 2048, 64) == []


@pytest.mark.parametrize("first", range(5))
@pytest.mark.parametrize("last", range(5))
def test_a_part_of_the_frames_is_written(pair, write, first, last):
    near, far = pair
    if first > last:
        with pytest.raises(ValueError, match="frames"):
            write(near.fileno(), OCTETS, STEP, first, last)
        return
    assert write(near.fileno(), OCTETS, STEP, first, last) == (last - first, 0)
    assert waiting(far) == FRAMES[first:last]


def test_each_frame_gets_a_virtio_net_header_of_zeros(pair, write):
    near, far = pair
    assert write(near.fileno(), OCTETS, STEP, 1, 3, 10) == (2, 0)
    assert waiting(far) == [bytes(10) + frame for frame in FRAMES[1:3]]


def test_limit_bounds_what_is_read_at_once(pair, read):
    near, far = pair
    for number in range(5):
        near.send(bytes((number,)))
    assert read(far.fileno(), 8, 0) == []
    assert read(far.fileno(), 8, -1) == []
    assert read(far.fileno(), 8, 3) == [b"\0", b"\1", b"\2"]
    assert read(far.fileno(), 8, 3) == [b"\3", b"\4"]


def test_frame_larger_than_the_largest_is_cut_off_and_nothing_else_is_written(pair, read_frames):
    near, far = pair
    near.send(bytes(range(1, 21)))
    near.send(b"next")
    octets, spans = bytearray(100), array("q", bytes(8 * SPAN * 3))
    assert read_frames(far.fileno(), octets, spans, 10, 5) == (2, 14)
    assert octets == bytes(range(1, 11)) + bytes(54) + b"next" + bytes(32)
    assert list(spans) == [0, 10, 64, 4, 0, 0]


def test_burst_ends_where_another_frame_may_find_no_room(pair, read, read_frames):
    near, far = pair
    for _ in range(5):
        near.send(bytes(65))
    assert len(read(far.fileno(), 100, 64, room=3 * 128 + 99)) == 3
    octets = bytearray(1000)
    assert read_frames(far.fileno(), octets, array("q", (7, 7, 7)), 100, 64) == (1, 65)
    assert read_frames(far.fileno(), bytearray(99), array("q", (0, 0)), 100, 64) == (0, 0)
    assert read(far.fileno(), 100, 64) == [bytes(65)]


def test_frames_are_copied_out_of_their_memory_alone(span_octets):
    octets, spans = bytearray(b"0123456789"), array("q", (2, 3, 9, 1, 10, 0))
    assert [span_octets(octets, spans, at) for at in (0, 2, 4)] == [b"234", b"9", b""]
    for wrong in ((-1, 1), (0, 11), (10, 1), (0, -1), (2**62, 2**62), (-(2**62), 2**62)):
        with pytest.raises(ValueError, match="outside"):
            span_octets(octets, array("q", wrong), 0)
    with pytest.raises(IndexError):
        span_octets(octets, spans, 5)
    octets.append(1)  # raises BufferError while an export lives
    spans.append(1)


def test_busy_ends_a_burst_and_says_how_far_it_came(pair, write):
    near, far = pair
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    octets = bytearray(1000 * 100)
    number, total = 0, 0
    while number < 100:
        written, code = write(near.fileno(), octets, 1000, number, 100)
        assert code in (0, errno.EAGAIN, errno.ENOBUFS)
        assert code == 0 or written < 100 - number
        number += written
        total += len(waiting(far))
    assert total == 100


def test_refused_frame_ends_a_burst_with_its_error(pair, write):
    near, far = pair
    far.close()
    written, code = write(near.fileno(), OCTETS, STEP, 0, 4)
    assert (written, code) == (0, errno.ECONNREFUSED)


def test_frame_written_in_part_is_an_error(write):
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    near.setblocking(False)
    with near, far:
        size = 1 << 24
        assert write(near.fileno(), bytes(size), size, 0, 1) == (0, errno.EIO)


def test_end_of_file_ends_a_burst(read):
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.write(writer, b"last")
    os.close(writer)
    assert read(reader, 16, 64) == [b"last"]
    assert read(reader, 16, 64) == []
    os.close(reader)


def test_error_is_raised_only_if_nothing_was_read(read):
    with pytest.raises(OSError, match="descriptor") as caught:
        read(-1, 16, 64)
    assert caught.value.errno == errno.EBADF


@pytest.mark.needs("kernels")
def test_interrupted_read_of_a_blocking_descriptor_returns_to_the_interpreter():
    from netstack._ext.io import read_frames

    class Alarm(Exception):
        pass

    def ring(number, frame):
        raise Alarm

    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    before = signal.signal(signal.SIGALRM, ring)
    try:
        with near, far:
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            with pytest.raises(Alarm):
                read_frames(far.fileno(), bytearray(16), array("q", (0, 0)), 16, 64)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(
    ("octets", "step", "first", "last", "vnet"),
    [
        (b"abc", 0, 0, 1, 0), (b"abc", -1, 0, 1, 0), (b"abc", -(2**62), 0, 0, 0),
        (b"abc", 3, 0, 2, 0), (b"abc", 3, -1, 1, 0), (b"abc", 3, 1, 0, 0),
        (b"abc", 3, 0, 1, -1), (b"abc", 3, 0, 1, 65), (b"", 1, 0, 1, 0),
        (b"abc", 2, 2, 3, 0), (b"abc", 2**62, 1, 2, 0),
    ],
)  # fmt: skip
def test_frames_outside_of_the_octets_are_refused(pair, write, octets, step, first, last, vnet):
    with pytest.raises(ValueError, match=r"frame|header"):
        write(pair[0].fileno(), octets, step, first, last, vnet)


def test_what_nothing_can_be_read_into_is_refused(pair, read_frames):
    descriptor, spans = pair[0].fileno(), array("q", (0, 0))
    for largest in (0, -1):
        with pytest.raises(ValueError, match="frames of"):
            read_frames(descriptor, bytearray(9), spans, largest, 1)
    for octets in (b"read-only", memoryview(b"read-only"), memoryview(bytearray(9))[::2]):
        with pytest.raises(BufferError):
            read_frames(descriptor, octets, spans, 1, 1)
    for octets in (None, "text", 5):
        with pytest.raises(TypeError):
            read_frames(descriptor, octets, spans, 1, 1)


@pytest.mark.parametrize("octets", [None, "text", 5])
def test_what_holds_no_octets_is_refused(pair, write, octets):
    with pytest.raises(TypeError):
        write(pair[0].fileno(), octets, 1, 0, 1)


@pytest.mark.parametrize("step", [None, [1], "1", 1.0])
def test_a_length_that_is_no_number_is_refused(pair, write, step):
    with pytest.raises(TypeError):
        write(pair[0].fileno(), b"abc", step, 0, 1)


def test_all_buffers_are_released(pair, read_frames, write, write_pieces):
    pool, octets, spans = bytearray(16), bytearray(b"abc"), array("q", (0, 0))
    write(pair[0].fileno(), octets, 3, 0, 1)
    assert read_frames(pair[1].fileno(), pool, spans, 16, 1) == (1, 3)
    with pytest.raises(ValueError, match="frame"):
        write(pair[0].fileno(), octets, 4, 0, 2)
    assert read_frames(-1, pool, spans, 16, 1) == (-errno.EBADF, 0)
    assert write_pieces(pair[0].fileno(), (octets, pool)) == 0
    with pytest.raises(TypeError):
        write_pieces(pair[0].fileno(), (octets, 3))
    octets.append(1)  # raises BufferError while an export lives
    pool.append(1)
    spans.append(1)


@pytest.mark.parametrize(
    "pieces",
    [
        (b"one",), (b"header", memoryview(b"0payload")[1:]), (bytearray(b"a"), b"", b"b"),
        tuple(b"%d" % number for number in range(1024)),
    ],
    ids=["one", "views", "empty", "many"],
)  # fmt: skip
def test_pieces_arrive_as_one_frame(pair, write_pieces, pieces):
    near, far = pair
    assert write_pieces(near.fileno(), pieces) == 0
    assert waiting(far) == [b"".join(pieces)]


def test_pieces_that_find_no_room_say_so(pair, write_pieces):
    near, _ = pair
    while not (code := write_pieces(near.fileno(), (bytes(2000), bytes(2000)))):
        pass
    assert code in (errno.EAGAIN, errno.ENOBUFS)


def test_a_frame_taken_in_part_is_an_input_output_error(write_pieces):
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        assert write_pieces(writer, (bytes(200_000),)) == errno.EIO
    finally:
        os.close(reader)
        os.close(writer)


def test_errors_of_single_frames_are_numbers(write_pieces):
    assert write_pieces(-1, (b"a",)) == errno.EBADF


def test_unusable_buffers_are_refused(pair, write_pieces):
    near, far = pair
    with pytest.raises(TypeError):
        write_pieces(near.fileno(), (b"a", 3))
    with pytest.raises(ValueError, match="1025 pieces"):
        write_pieces(near.fileno(), (b"",) * 1025)
    assert waiting(far) == []


# ---- a frame behind a virtio-net header ---------------------------------------------------------

SINGLE = {"pure": (read_frame_py, write_frame_py)}
if _ext.COMPILED:
    SINGLE["compiled"] = (module.read_frame, module.write_frame)


@pytest.fixture(params=sorted(SINGLE))
def single(request):
    return SINGLE[request.param]


def test_a_small_frame_comes_as_octets_and_its_header_stays_in_the_buffer(pair, single):
    read_frame, write_frame = single
    near, far = pair
    buffer = bytearray(4096)
    assert write_frame(near.fileno(), b"front", b"..head", 2, (b"pay", memoryview(b"load"))) == 0
    assert read_frame(far.fileno(), buffer, 5, 100) == b"headpayload"
    assert buffer[:5] == b"front"
    assert read_frame(far.fileno(), buffer, 5, 100) == -errno.EAGAIN


def test_a_large_frame_and_one_shorter_than_its_header_are_told_by_length(pair, single):
    read_frame, write_frame = single
    near, far = pair
    buffer = bytearray(4096)
    assert write_frame(near.fileno(), b"", bytearray(200), 0, ()) == 0
    assert write_frame(near.fileno(), b"abc", b"", 0, ()) == 0
    assert read_frame(far.fileno(), buffer, 10, 100) == 200
    assert read_frame(far.fileno(), buffer, 10, 100) == 3


@pytest.mark.parametrize("count", [0, 1, 19, 20, 500])
def test_all_pieces_of_a_frame_are_written_in_order(pair, single, count):
    read_frame, write_frame = single
    near, far = pair
    payload = [b"%d," % number for number in range(count)]
    assert write_frame(near.fileno(), b"<", b"h", 0, payload) == 0
    assert read_frame(far.fileno(), bytearray(8192), 1, 8192) == b"h" + b"".join(payload)


@pytest.mark.parametrize("start", [-1, 5])
def test_a_frame_cannot_begin_beyond_its_header(pair, single, start):
    with pytest.raises(ValueError, match="frame"):
        single[1](pair[0].fileno(), b"", b"head", start, ())


def test_descriptors_that_are_none_are_error_numbers(single):
    read_frame, write_frame = single
    assert read_frame(-1, bytearray(4), 0, 4) == -errno.EBADF
    assert write_frame(-1, b"", b"a", 0, ()) == errno.EBADF
