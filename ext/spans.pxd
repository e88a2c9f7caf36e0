# cython: language_level=3
"""Where frames lie in one piece of memory; ``netstack.device.burst`` is the definition."""

from libc.stdint cimport int64_t

cdef enum:
    SPAN = 2  # numbers of a frame: start, length


cdef inline bint lies_within(const int64_t *span, Py_ssize_t size) noexcept nogil:
    """Return whether a frame lies in ``size`` octets."""
    return 0 <= span[1] <= size and 0 <= span[0] <= size - span[1]
