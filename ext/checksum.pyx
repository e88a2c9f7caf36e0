# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The Internet checksum's kernels (RFC 1071); ``netstack.core.checksum`` holds their definition.

How the sums are made is told in ``sum.h``.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memmove
from sum cimport choose_loops, copy_octets, fold16, fold32, host16, sum_octets, swap16

choose_loops()


def internet_sum(data, uint64_t initial=0):
    """Return the folded one's complement sum of ``data``, going on from ``initial``.

    Raises: BufferError if the octets don't lie in one piece.
    """
    cdef Py_buffer view
    cdef uint64_t total
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    total = fold32(initial) + host16(fold16(sum_octets(<const unsigned char *>view.buf, view.len)))
    PyBuffer_Release(&view)
    return fold16(total)


def sum_pieces(pieces, uint64_t initial=0):
    """Return the sum of ``pieces`` laid end to end; odd lengths shift what follows by an octet.

    Raises: BufferError if the octets of one don't lie in one piece.
    """
    cdef Py_buffer view
    cdef uint64_t total = fold32(initial)
    cdef uint32_t part
    cdef bint odd = False
    for piece in pieces:
        PyObject_GetBuffer(piece, &view, PyBUF_SIMPLE)
        part = host16(fold16(sum_octets(<const unsigned char *>view.buf, view.len)))
        total = fold32(total + (swap16(part) if odd else part))
        odd ^= view.len & 1
        PyBuffer_Release(&view)
    return fold16(total)


def copy_and_sum(target, Py_ssize_t offset, data):
    """Copy ``data`` to ``target[offset:]`` and return its folded sum.

    Raises: BufferError if the octets don't lie in one piece or can't be written, ValueError if
    they don't fit.
    """
    cdef Py_buffer into, view
    cdef uint64_t total
    PyObject_GetBuffer(target, &into, PyBUF_WRITABLE)
    try:
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            if offset < 0 or offset > into.len or view.len > into.len - offset:
                raise ValueError(
                    f"{view.len} octets don't fit at {offset} into {into.len}"
                )
            if _overlap(<char *>into.buf + offset, <char *>view.buf, view.len):
                total = sum_octets(<const unsigned char *>view.buf, view.len)
                memmove(<char *>into.buf + offset, view.buf, view.len)
            else:
                total = copy_octets(
                    <unsigned char *>into.buf + offset, <const unsigned char *>view.buf, view.len
                )
        finally:
            PyBuffer_Release(&view)
    finally:
        PyBuffer_Release(&into)
    return host16(fold16(total))


cdef inline bint _overlap(const char *first, const char *second, Py_ssize_t length) noexcept nogil:
    return length > 0 and first < second + length and second < first + length
