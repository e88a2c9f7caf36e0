# What ext/sum.h offers; see there.
from libc.stdint cimport uint32_t, uint64_t

cdef extern from "sum.h" nogil:
    void choose_loops()
    uint32_t fold16(uint64_t total)
    uint64_t fold32(uint64_t total)
    uint32_t swap16(uint32_t total)
    uint32_t host16(uint32_t total)
    uint64_t sum_octets(const unsigned char *octets, size_t length)
    uint64_t copy_octets(unsigned char *target, const unsigned char *octets, size_t length)
