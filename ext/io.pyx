# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Bursts of frames through a descriptor; ``netstack.device.io`` is the definition.

The descriptor must be non-blocking: the interpreter's lock is kept during the calls, since giving
it up and getting it back costs more than a call that never waits.
"""

from cpython.buffer cimport (
    PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.errno cimport EAGAIN, EINTR, EIO, errno
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset
from posix.unistd cimport read, write
from spans cimport SPAN

cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len
    ssize_t writev(int fd, const iovec *parts, int count)

cdef enum:
    MAX_VNET = 64  # octets of a virtio-net header: 10, 12 or 20 are in use
    MAX_PIECES = 1024  # IOV_MAX
    FEW = 20  # pieces of a frame that need no memory of their own
    ALIGNED = 64  # octets: each frame begins a line of the cache


def read_frames(int fd, octets, spans, Py_ssize_t largest, Py_ssize_t limit):
    """Read what waits into ``octets``; see ``read_frames_py``.

    Raises: BufferError for what can't be written to; ValueError for a ``largest`` below 1.
    """
    cdef Py_buffer memory, numbers
    cdef int64_t *span
    cdef Py_ssize_t count = 0, total = 0, at = 0
    cdef ssize_t length
    if largest < 1:
        raise ValueError(f"frames of {largest} octets")
    PyObject_GetBuffer(octets, &memory, PyBUF_WRITABLE)
    try:
        PyObject_GetBuffer(spans, &numbers, PyBUF_WRITABLE)
        try:
            span = <int64_t *>numbers.buf
            limit = min(limit, numbers.len // <Py_ssize_t>(SPAN * sizeof(int64_t)))
            while count < limit and at + largest <= memory.len:
                length = read(fd, <char *>memory.buf + at, largest)
                if length <= 0:
                    if length < 0 and count == 0 and errno != EAGAIN and errno != EINTR:
                        count = -errno
                    break
                span[0] = at
                span[1] = length
                span += SPAN
                count += 1
                total += length
                at += (length + ALIGNED - 1) // ALIGNED * ALIGNED
        finally:
            PyBuffer_Release(&numbers)
    finally:
        PyBuffer_Release(&memory)
    return count, total


def write_burst(
    int fd, octets, Py_ssize_t step, Py_ssize_t first, Py_ssize_t last, Py_ssize_t vnet=0
):
    """Write the frames ``first`` to ``last`` of those in ``octets``; see ``write_burst_py``.

    Raises: ValueError for frames that there are not.
    """
    cdef Py_buffer view
    cdef Py_ssize_t start, length, count, number = first
    cdef ssize_t written
    cdef int code = 0
    cdef char header[MAX_VNET]
    if step < 1:
        raise ValueError(f"frames of {step} octets")
    if not 0 <= vnet <= MAX_VNET:
        raise ValueError(f"a virtio-net header of {vnet} octets")
    memset(header, 0, vnet)
    PyObject_GetBuffer(octets, &view, PyBUF_SIMPLE)
    try:
        count = view.len // step + (view.len % step != 0)
        if not 0 <= first <= last <= count:
            raise ValueError(f"frames {first} to {last} of {count}")
        while number < last:
            start = number * step
            length = min(step, view.len - start)
            written = write_one(fd, header, vnet, <char *>view.buf + start, length)
            if written != length + vnet:
                code = errno if written < 0 else EIO  # part of a frame is no frame
                break
            number += 1
        return number - first, code
    finally:
        PyBuffer_Release(&view)


def read_frame(int fd, bytearray buffer not None, Py_ssize_t front, Py_ssize_t small):
    """Read one frame into ``buffer``; return a small one's octets, see ``read_frame_py``."""
    cdef Py_ssize_t length = read(fd, PyByteArray_AS_STRING(buffer), PyByteArray_GET_SIZE(buffer))
    if length < 0:
        return -errno
    if front <= length < small:
        return PyBytes_FromStringAndSize(PyByteArray_AS_STRING(buffer) + front, length - front)
    return length


def write_frame(int fd, bytes front not None, header, Py_ssize_t start, payload):
    """Write ``front``, ``header[start:]`` and ``payload`` as one frame; see ``write_frame_py``.

    Raises: ValueError for too many pieces, or a ``start`` beyond the header's end.
    """
    cdef Py_buffer views[FEW]
    cdef iovec vectors[FEW + 1]
    cdef Py_ssize_t got = 0, total, size = len(header)
    cdef int skipped
    cdef ssize_t written
    cdef tuple pieces
    if not 0 <= start <= size:
        raise ValueError(f"a frame from {start} of {size} octets")
    pieces = tuple(payload)
    if len(pieces) >= FEW:
        return write_pieces(fd, (front, memoryview(header)[start:], *pieces))
    try:
        PyObject_GetBuffer(header, &views[0], PyBUF_SIMPLE)
        got = 1
        vectors[0].iov_base = PyBytes_AS_STRING(front)
        vectors[0].iov_len = PyBytes_GET_SIZE(front)
        vectors[1].iov_base = <char *>views[0].buf + start
        vectors[1].iov_len = views[0].len - start
        total = vectors[0].iov_len + vectors[1].iov_len
        for piece in pieces:
            PyObject_GetBuffer(piece, &views[got], PyBUF_SIMPLE)
            vectors[got + 1].iov_base = views[got].buf
            vectors[got + 1].iov_len = views[got].len
            total += views[got].len
            got += 1
        skipped = vectors[0].iov_len == 0
        while True:
            written = writev(fd, vectors + skipped, <int>got + 1 - skipped)
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


cdef inline ssize_t write_one(
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
