# Numbers in network byte order, at any address.
from libc.stdint cimport uint32_t


cdef inline uint32_t get16(const unsigned char *octets) noexcept nogil:
    return <uint32_t>octets[0] << 8 | octets[1]


cdef inline uint32_t get32(const unsigned char *octets) noexcept nogil:
    return get16(octets) << 16 | get16(octets + 2)


cdef inline void put16(unsigned char *octets, uint32_t value) noexcept nogil:
    octets[0] = <unsigned char>(value >> 8)
    octets[1] = <unsigned char>value
