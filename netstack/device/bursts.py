"""Reading and writing frames at a descriptor, one system call each, never blocking.

A TAP and a packet socket look alike here. The functions ending in ``vnet`` are for descriptors
where a virtio-net header stands in front of each frame; ``io`` reads and writes plain bursts.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from netstack.device.base import Checksum, Frame
from netstack.device.burst import Burst
from netstack.device.io import read_frame, read_frames, write_frame
from netstack.device.pool import COPY_BELOW, count_references
from netstack.device.vnet import LENGTH, NOTHING, apply, pack, pack_into

if TYPE_CHECKING:
    from collections.abc import Callable

    from netstack.device.pool import BufferPool

MAX_OCTETS: Final = 512 * 1024
"""A burst ends when it has more: what was read is to be used while the cache has it."""

BUSY: Final = (errno.EAGAIN, errno.ENOBUFS)
_MAX_PIECES: Final = 1000  # of a frame; IOV_MAX is 1024
_LATER: Final = (errno.EAGAIN, errno.EINTR)
_PARTIAL: Final = Checksum.PARTIAL


def read_vnet(
    descriptor: int, pool: BufferPool, limit: int, drop: Callable[[str, int], None]
) -> list[Frame]:
    """Return up to ``limit`` frames that wait: small ones as copies, large in ``pool``'s buffers.

    A frame that contradicts its header goes to ``drop(reason, 1)``. An error after the first
    frame is left for the next call to find.
    Raises: OSError if the first read fails.
    """
    frames: list[Frame] = []
    octets = 0
    buffer = pool.take()
    for _ in range(limit):
        got = read_frame(descriptor, buffer, LENGTH, COPY_BELOW)
        if isinstance(got, bytes):
            frame = Frame(got)
        elif got >= COPY_BELOW:
            frame = Frame(memoryview(buffer)[LENGTH:got])
        elif got >= 0:
            drop("link.bad_offload", 1)
            continue
        else:
            if -got not in _LATER and not frames:
                pool.keep(buffer)
                raise OSError(-got, os.strerror(-got))
            break
        reason = apply(buffer, frame) if buffer[0] or buffer[1] else None  # flags, type
        if reason is None:
            frames.append(frame)
        else:
            drop(reason, 1)
        if not isinstance(got, bytes):
            pool.lend(buffer)
            octets += got
            if octets >= MAX_OCTETS:
                return frames
            buffer = pool.take()
    pool.keep(buffer)
    return frames


def write_plain(descriptor: int, frame: Frame) -> bool:
    """Write a frame; False while the kernel takes none. Raises: OSError."""
    return _write(descriptor, b"", frame, frame.start)


def write_vnet(descriptor: int, frame: Frame) -> bool:
    """Write a frame behind its virtio-net header; False while the kernel takes none.

    Payload goes by reference. Raises: OSError.
    """
    start, header = frame.start, frame.header
    if frame.checksum is not _PARTIAL and not frame.gso_size:
        return _write(descriptor, NOTHING, frame, start)
    if start >= LENGTH and isinstance(header, bytearray):
        start -= LENGTH  # headroom is there to be used
        pack_into(header, start, frame)
        return _write(descriptor, b"", frame, start)
    return _write(descriptor, pack(frame), frame, start)


def _write(descriptor: int, front: bytes, frame: Frame, start: int) -> bool:
    payload = frame.payload
    if len(payload) > _MAX_PIECES:
        payload = (b"".join(payload),)
    code = write_frame(descriptor, front, frame.header, start, payload)
    if code and code not in BUSY:
        raise OSError(code, os.strerror(code))
    return not code


# ---- wire frames in numbers ------------------------------------------------------------------


class BurstReader:
    """Reads bursts of frames of up to ``largest`` octets.

    A burst that nobody holds any more is filled again: memory that was just used is warm.
    """

    __slots__ = ("_burst", "_largest")

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._burst: Burst | None = None

    def read(self, descriptor: int, limit: int) -> Burst:
        """Return what waits, up to ``limit`` frames; 64 at most.

        Raises: OSError if the first read fails.
        """
        if self._burst is None or _references(self) != _ALONE:
            self._burst = Burst(self._largest)
        burst = self._burst
        count, total = read_frames(descriptor, burst.octets, burst.spans, self._largest, limit)
        if count < 0:
            burst.hold(0, 0)
            raise OSError(-count, os.strerror(-count))
        burst.hold(count, total)
        return burst


def _references(reader: BurstReader) -> int:
    """Return how many references to its burst are counted, 0 where nothing counts."""
    return 0 if count_references is None else int(count_references(reader._burst))


def _alone() -> int:
    """Return how many those are while nobody else has one; never 0."""
    reader = BurstReader(1)
    reader._burst = Burst(1)
    return _references(reader) or -1


_ALONE = _alone()
