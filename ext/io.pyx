# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Bursts of frames through a descriptor; ``netstack.device.io`` is the definition.

The descriptor must be non-blocking: the interpreter's lock is kept during the calls, since giving
it up and getting it back costs more than a call that never waits.
"""

from cpython.buffer cimport (
    PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_SetFromErrno
from libc.errno cimport EAGAIN, EINTR, EIO, errno
from libc.stdlib cimport free, malloc
from libc.string cimport memset
from posix.unistd cimport read, write

cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len
    ssize_t writev(int fd, const iovec *parts, int count)

cdef enum:
    MAX_VNET = 64  # octets of a virtio-net header: 10, 12 or 20 are in use
    MAX_PIECES = 1024  # IOV_MAX


def read_burst(int fd, pool, Py_ssize_t limit):
    """Return what waits to be read, up to ``limit`` frames; see ``read_burst_py``.

    Raises: OSError if the first read fails, ValueError for a pool without room.
    """
    cdef Py_buffer view
    cdef ssize_t length
    cdef list frames = []
    PyObject_GetBuffer(pool, &view, PyBUF_WRITABLE)
    try:
        if view.len == 0:
            raise ValueError("a pool of no octets")
        while limit > 0:
            length = read(fd, view.buf, view.len)
            if length > 0:
                frames.append(PyBytes_FromStringAndSize(<char *>view.buf, length))
                limit -= 1
            elif length == 0 or frames or errno == EAGAIN or errno == EINTR:
                break  # what else is wrong, the next call finds again
            else:
                PyErr_SetFromErrno(OSError)
        return frames
    finally:
        PyBuffer_Release(&view)


def write_burst(int fd, octets, ends, Py_ssize_t first, Py_ssize_t last, Py_ssize_t vnet=0):
    """Write the frames ``first`` to ``last`` of those in ``octets``; see ``write_burst_py``.

    Raises: ValueError for frames that don't lie one after the other in ``octets``.
    """
    cdef Py_buffer view
    cdef list edges = list(ends)
    cdef Py_ssize_t start, end, number = first
    cdef ssize_t written
    cdef int code = 0
    cdef char header[MAX_VNET]
    if not 0 <= first <= last <= len(edges):
        raise ValueError(f"frames {first} to {last} of {len(edges)}")
    if not 0 <= vnet <= MAX_VNET:
        raise ValueError(f"a virtio-net header of {vnet} octets")
    memset(header, 0, vnet)
    PyObject_GetBuffer(octets, &view, PyBUF_SIMPLE)
    try:
        start = edges[first - 1] if first else 0
        while number < last:
            end = edges[number]
            if not 0 <= start <= end <= view.len:
                raise ValueError(f"a frame from {start} to {end} of {view.len} octets")
            written = write_frame(fd, header, vnet, <char *>view.buf + start, end - start)
            if written != end - start + vnet:
                code = errno if written < 0 else EIO  # part of a frame is no frame
                break
            start = end
            number += 1
        return number - first, code
    finally:
        PyBuffer_Release(&view)


def read_into(int fd, buffer):
    """Read one frame into ``buffer``; return its length, see ``read_into_py``."""
    cdef Py_buffer view
    cdef ssize_t length
    PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
    try:
        length = read(fd, view.buf, view.len)
        return length if length >= 0 else -errno
    finally:
        PyBuffer_Release(&view)


def write_pieces(int fd, pieces):
    """Write one frame that lies in ``pieces``; return 0 or an error number.

    See ``write_pieces_py``. Raises: ValueError for more than 1,024 pieces.
    """
    cdef tuple parts = tuple(pieces)
    cdef Py_ssize_t count = len(parts), got = 0, total = 0
    cdef Py_buffer *views
    cdef iovec *vectors
    cdef ssize_t written
    if count > MAX_PIECES:
        raise ValueError(f"{count} pieces")
    views = <Py_buffer *>malloc((count + 1) * sizeof(Py_buffer))
    vectors = <iovec *>malloc((count + 1) * sizeof(iovec))
    try:
        if views == NULL or vectors == NULL:
            raise MemoryError
        while got < count:
            PyObject_GetBuffer(parts[got], &views[got], PyBUF_SIMPLE)
            vectors[got].iov_base = views[got].buf
            vectors[got].iov_len = views[got].len
            total += views[got].len
            got += 1
        while True:
            written = writev(fd, vectors, <int>count)
            if written == total:
                return 0
            if written >= 0:
                return EIO
            if errno != EINTR:
                return errno
    finally:
        while got > 0:
            got -= 1
            PyBuffer_Release(&views[got])
        free(views)
        free(vectors)


cdef inline ssize_t write_frame(
    int fd, char *header, Py_ssize_t header_length, char *frame, Py_ssize_t length
) noexcept:
    cdef iovec parts[2]
    if header_length == 0:
        return write(fd, frame, length)
    parts[0].iov_base = header
    parts[0].iov_len = header_length
    parts[1].iov_base = frame
    parts[1].iov_len = length
    return writev(fd, parts, 2)
