"""Reading and writing frames at a descriptor, one system call each, never blocking.

A TAP and a packet socket look alike here. The functions ending in ``vnet`` are for descriptors
where a virtio-net header stands in front of each frame; ``io`` reads and writes plain bursts.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from netstack.device.base import Checksum, Frame
from netstack.device.io import read_into, write_pieces
from netstack.device.pool import COPY_BELOW
from netstack.device.vnet import LENGTH, NOTHING, apply, fields, pack_into

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

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
        length = read_into(descriptor, buffer)
        if length < 0:
            if -length not in _LATER and not frames:
                pool.keep(buffer)
                raise OSError(-length, os.strerror(-length))
            break
        view = memoryview(buffer)
        large = length >= COPY_BELOW
        frame = Frame(view[LENGTH:length] if large else bytes(view[LENGTH:length]))
        reason = None
        if length < LENGTH:
            reason = "link.bad_offload"
        elif buffer[0] or buffer[1]:  # flags, type
            reason = apply(view, frame)
        if reason is None:
            frames.append(frame)
        else:
            drop(reason, 1)
        if large:
            pool.lend(buffer)
            octets += length
            if octets >= MAX_OCTETS:
                return frames
            buffer = pool.take()
    pool.keep(buffer)
    return frames


def write_plain(descriptor: int, frame: Frame) -> bool:
    """Write a frame; False while the kernel takes none. Raises: OSError."""
    octets: Buffer = frame.header
    if frame.start:
        octets = memoryview(octets)[frame.start :]
    return _write(descriptor, (octets,), frame)


def write_vnet(descriptor: int, frame: Frame) -> bool:
    """Write a frame behind its virtio-net header; False while the kernel takes none.

    Payload goes by reference. Raises: OSError.
    """
    start = frame.start
    if frame.checksum is not _PARTIAL and not frame.gso_size:
        octets: Buffer = memoryview(frame.header)[start:] if start else frame.header
        return _write(descriptor, (NOTHING, octets), frame)
    numbers = fields(frame)
    header = frame.header
    if start >= LENGTH and isinstance(header, bytearray):
        start -= LENGTH  # headroom is there to be used
        pack_into(header, start, *numbers)
        return _write(descriptor, (memoryview(header)[start:],), frame)
    vnet = bytearray(LENGTH)
    pack_into(vnet, 0, *numbers)
    return _write(descriptor, (vnet, memoryview(header)[start:]), frame)


def _write(descriptor: int, pieces: tuple[Buffer, ...], frame: Frame) -> bool:
    payload = frame.payload
    if payload:
        if len(payload) > _MAX_PIECES:
            payload = (b"".join(payload),)
        pieces = (*pieces, *payload)
    code = write_pieces(descriptor, pieces)
    if code and code not in BUSY:
        raise OSError(code, os.strerror(code))
    return not code
