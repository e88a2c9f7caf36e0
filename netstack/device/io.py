"""Bursts of frames through a non-blocking descriptor: the definition, and the switch.

One frame a system call: that is what a TAP gives and takes.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from netstack import _ext
from netstack.device.burst import SPAN

if TYPE_CHECKING:
    from array import array
    from collections.abc import Sequence

    from typing_extensions import Buffer

_MAX_PIECES: Final = 1024  # IOV_MAX
_MAX_VNET: Final = 64  # octets of a virtio-net header: 10, 12 or 20 are in use
_ALIGNED: Final = 64  # octets: each frame begins a line of the cache


def read_frames_py(
    fd: int, octets: Buffer, spans: array[int], largest: int, limit: int
) -> tuple[int, int]:
    """Read what waits, up to ``limit`` frames, one behind the other into ``octets``.

    ``spans`` takes the start and the length of each. A frame of more than ``largest`` octets is
    cut off. It ends early if another would find no room in either.

    Return how many there are, and how many octets all have. An error of the first read is
    returned as its number, negative; any later one is left for the next call to find, and so is
    an interruption.

    Raises: BufferError for what can't be written to; ValueError for a ``largest`` below 1.
    """
    view = memoryview(octets)
    if view.readonly or not view.c_contiguous:
        raise BufferError("what frames are read into must lie in one piece, and be writable")
    if largest < 1:
        raise ValueError(f"frames of {largest} octets")
    count = total = at = 0
    limit = min(limit, len(spans) // SPAN)
    while count < limit and at + largest <= len(view):
        try:
            length = os.readv(fd, (view[at : at + largest],))
        except OSError as error:
            if not count and error.errno not in (errno.EAGAIN, errno.EINTR):
                count = -(error.errno or errno.EIO)
            break
        if not length:
            break
        spans[SPAN * count], spans[SPAN * count + 1] = at, length
        count += 1
        total += length
        at += -(-length // _ALIGNED) * _ALIGNED
    return count, total


def write_burst_py(
    fd: int, octets: Buffer, step: int, first: int, last: int, vnet: int = 0
) -> tuple[int, int]:
    """Write the frames ``first`` to ``last`` (excluded) of those that lie end to end in
    ``octets``: each ``step`` octets long, the last what is left.

    ``vnet``: octets of a virtio-net header, zero throughout, to put in front of each.
    Return how many were written, and the error number that ended it: 0 if all were. EIO stands
    for a frame that was taken in part.

    Raises: ValueError for frames that there are not.
    """
    view = memoryview(octets).cast("B")
    if step < 1:
        raise ValueError(f"frames of {step} octets")
    count = -(-len(view) // step)
    if not 0 <= first <= last <= count:
        raise ValueError(f"frames {first} to {last} of {count}")
    if not 0 <= vnet <= _MAX_VNET:
        raise ValueError(f"a virtio-net header of {vnet} octets")
    header = bytes(vnet)
    for number in range(first, last):
        frame = view[number * step : (number + 1) * step]
        try:
            written = os.writev(fd, (header, frame)) if vnet else os.write(fd, frame)
        except OSError as error:
            return number - first, error.errno or errno.EIO
        if written != len(frame) + vnet:
            return number - first, errno.EIO
    return last - first, 0


def read_into_py(fd: int, buffer: Buffer) -> int:
    """Read one frame into ``buffer``; return its length in octets, or an error number, negative.

    Raises: BufferError or TypeError for a buffer that can't be written to.
    """
    try:
        return os.readv(fd, (buffer,))
    except OSError as error:
        return -(error.errno or errno.EIO)


def write_pieces_py(fd: int, pieces: Sequence[Buffer]) -> int:
    """Write one frame that lies in ``pieces``, at most 1,024; return 0 or an error number.

    EIO stands for a frame that was taken in part.

    Raises: ValueError for too many pieces.
    """
    if len(pieces) > _MAX_PIECES:
        raise ValueError(f"{len(pieces)} pieces")
    try:
        written = os.writev(fd, pieces)
    except OSError as error:
        return error.errno or errno.EIO
    return 0 if written == sum(memoryview(piece).nbytes for piece in pieces) else errno.EIO


def read_frame_py(fd: int, buffer: bytearray, front: int, small: int) -> bytes | int:
    """Read one frame into ``buffer``, with ``front`` octets of a header of the kernel's before it.

    Of less than ``small`` octets in all a copy is returned, without the header, which stays in
    ``buffer``; of others, and of one shorter than its header, the length, or an error number,
    negative.

    Raises: BufferError or TypeError for a buffer that can't be written to.
    """
    length = read_into_py(fd, buffer)
    if front <= length < small:
        return bytes(memoryview(buffer)[front:length])
    return length


def write_frame_py(
    fd: int, front: bytes, header: Buffer, start: int, payload: Sequence[Buffer]
) -> int:
    """Write one frame: ``front``, ``header[start:]`` and ``payload``, 1,022 pieces at most.

    Return 0 or an error number; EIO stands for a frame that was taken in part.

    Raises: ValueError for too many pieces, or a ``start`` beyond the header's end.
    """
    view = memoryview(header)
    if not 0 <= start <= len(view):
        raise ValueError(f"a frame from {start} of {len(view)} octets")
    return write_pieces_py(fd, (front, view[start:], *payload))


if _ext.COMPILED:
    from netstack._ext.io import read_frame as read_frame
    from netstack._ext.io import read_frames as read_frames
    from netstack._ext.io import write_burst as write_burst
    from netstack._ext.io import write_frame as write_frame
    from netstack._ext.io import write_pieces as write_pieces
else:
    read_frame = read_frame_py
    read_frames = read_frames_py
    write_burst = write_burst_py
    write_frame = write_frame_py
    write_pieces = write_pieces_py
