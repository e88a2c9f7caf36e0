# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The Internet checksum's kernel (RFC 1071); ``netstack.core.checksum`` holds its definition.

Theory of operation. A one's complement sum does not care in which order carries come back, nor
how wide the words are that are added: 32-bit words in the machine's own octet order go into
64-bit accumulators, which gcc turns into vector additions; the carries are folded in at the end
and the two octets swapped where the machine is little-endian (RFC 1071 section 2 B).
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

# 2**28 words of 32 bits make a sum below 2**60: no carry is lost in a 64-bit accumulator.
cdef enum:
    BLOCK = 1 << 30  # octets, a multiple of 4


cdef inline uint64_t sum_block(const unsigned char *octets, Py_ssize_t words) noexcept nogil:
    """Return the plain sum of ``words`` 32-bit words at any alignment."""
    cdef uint64_t total = 0
    cdef uint32_t word
    cdef Py_ssize_t index
    for index in range(words):
        memcpy(&word, octets + 4 * index, 4)  # one unaligned load
        total += word
    return total


cdef inline uint64_t fold32(uint64_t total) noexcept nogil:
    """Return ``total`` with what lies above 32 bits added back in, below 2**33."""
    return <uint64_t><uint32_t>total + (total >> 32)


cdef inline uint32_t fold16(uint64_t total) noexcept nogil:
    """Return ``total`` with its carries added back in until 16 bits are left."""
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return <uint32_t>total


cdef uint32_t sum_octets(const unsigned char *octets, Py_ssize_t length) noexcept nogil:
    """Return the folded sum of big-endian words."""
    cdef uint64_t total = 0
    cdef Py_ssize_t rest = length
    cdef unsigned char tail[4]
    cdef uint32_t word
    cdef uint16_t probe = 1
    cdef uint32_t folded
    while rest >= BLOCK:
        total = fold32(total + sum_block(octets, BLOCK // 4))
        octets += BLOCK
        rest -= BLOCK
    total += sum_block(octets, rest // 4)
    octets += rest & ~3
    rest &= 3
    if rest:
        tail[0] = octets[0]
        tail[1] = octets[1] if rest > 1 else 0
        tail[2] = octets[2] if rest > 2 else 0
        tail[3] = 0
        memcpy(&word, tail, 4)
        total += word
    folded = fold16(total)
    if (<unsigned char *>&probe)[0]:
        folded = (folded >> 8) | ((folded & 0xFF) << 8)
    return folded


def internet_sum(data, uint64_t initial=0):
    """Return the folded one's complement sum of ``data``, going on from ``initial``.

    Raises: BufferError if the octets don't lie in one piece.
    """
    cdef Py_buffer view
    cdef uint64_t total
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    total = fold32(initial) + sum_octets(<const unsigned char *>view.buf, view.len)
    PyBuffer_Release(&view)
    return fold16(total)
