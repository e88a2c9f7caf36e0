# The fixed fields of headers for compiled modules, in place: twin of netstack/wire/layout.py.
# Inline only: who uses it loads nothing.

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_CheckExact, PyByteArray_GET_SIZE
from cpython.bytes cimport (
    PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE,
)
from libc.string cimport memcmp, memcpy

ctypedef const unsigned char *octets_p


cdef inline octets_p _begin(object octets, Py_ssize_t at, Py_ssize_t length) except NULL:
    # Whoever calls holds a reference to ``octets`` and runs no Python before it is done.
    cdef Py_buffer view
    cdef const unsigned char *first
    cdef Py_ssize_t size
    if PyBytes_CheckExact(octets):
        first, size = <octets_p>PyBytes_AS_STRING(octets), PyBytes_GET_SIZE(octets)
    elif PyByteArray_CheckExact(octets):
        first, size = <octets_p>PyByteArray_AS_STRING(octets), PyByteArray_GET_SIZE(octets)
    else:
        PyObject_GetBuffer(octets, &view, PyBUF_SIMPLE)
        first, size = <octets_p>view.buf, view.len
        PyBuffer_Release(&view)
    if at < 0 or length < 0 or at > size - length:
        raise ValueError("octets beyond the end of a buffer")
    return first + at


cdef inline unsigned char *_begin_writing(
    object buffer, Py_ssize_t at, Py_ssize_t length
) except NULL:
    if not PyByteArray_CheckExact(buffer):
        raise TypeError("a header is written to a bytearray")
    return <unsigned char *>_begin(buffer, at, length)


cdef inline long long _u16(octets_p at) noexcept:
    return at[0] << 8 | at[1]


cdef inline long long _u32(octets_p at) noexcept:
    return <unsigned int>at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3]


cdef inline void _put_u16(unsigned char *at, long long value) noexcept:
    at[0] = <unsigned char>(value >> 8)
    at[1] = <unsigned char>value


cdef inline void _put_u32(unsigned char *at, long long value) noexcept:
    _put_u16(at, value >> 16)
    _put_u16(at + 2, value)


cdef inline (long long, long long, long long, long long, long long) tcp_fields(
    object header, Py_ssize_t at
) except *:
    cdef octets_p p = _begin(header, at, 20)
    return _u32(p + 4), _u32(p + 8), _u16(p + 12), _u16(p + 14), _u16(p + 18)


cdef inline (long long, long long) timestamp_fields(object option, Py_ssize_t at) except *:
    cdef octets_p p = _begin(option, at, 8)
    return _u32(p), _u32(p + 4)


cdef inline (
    long long, long long, long long, long long, long long, long long, long long
) ipv4_fields(object header, Py_ssize_t at) except *:
    cdef octets_p p = _begin(header, at, 20)
    return p[0], p[1], _u16(p + 2), _u16(p + 4), _u16(p + 6), p[8], p[9]


cdef inline long long ethertype_for(object octets, Py_ssize_t at, bytes mac) except? -1:
    cdef octets_p p = _begin(octets, at, 14)
    if PyBytes_GET_SIZE(mac) != 6 or memcmp(p, PyBytes_AS_STRING(mac), 6) != 0 or p[6] & 1:
        return -1
    return _u16(p + 12)


cdef inline (long long, long long, long long, long long, long long) vnet_fields(
    object octets
) except *:
    cdef octets_p p = _begin(octets, 0, 10)
    cdef unsigned short numbers[3]
    memcpy(numbers, p + 4, 6)
    return p[0], p[1], numbers[0], numbers[1], numbers[2]


cdef inline int put_vnet(
    object buffer, Py_ssize_t at, long long flags, long long kind, long long length,
    long long gso_size, long long start, long long offset,
) except -1:
    cdef unsigned char *p = _begin_writing(buffer, at, 10)
    cdef unsigned short numbers[4]
    numbers[0], numbers[1] = <unsigned short>length, <unsigned short>gso_size
    numbers[2], numbers[3] = <unsigned short>start, <unsigned short>offset
    p[0], p[1] = <unsigned char>flags, <unsigned char>kind
    memcpy(p + 2, numbers, 8)
    return 0


cdef inline long long u16(object octets, Py_ssize_t at) except -1:
    return _u16(_begin(octets, at, 2))


cdef inline long long u32(object octets, Py_ssize_t at) except -1:
    return _u32(_begin(octets, at, 4))


cdef inline long long u8(object octets, Py_ssize_t at) except -1:
    return _begin(octets, at, 1)[0]


cdef inline bytes octets_at(object octets, Py_ssize_t at, Py_ssize_t length):
    return PyBytes_FromStringAndSize(<const char *>_begin(octets, at, length), length)


cdef inline bint same(object octets, Py_ssize_t at, bytes expected) except -1:
    cdef Py_ssize_t length = PyBytes_GET_SIZE(expected)
    return memcmp(_begin(octets, at, length), PyBytes_AS_STRING(expected), length) == 0


cdef inline bint alike(
    object one, Py_ssize_t at, object other, Py_ssize_t there, Py_ssize_t length
) except -1:
    return memcmp(_begin(one, at, length), _begin(other, there, length), length) == 0


cdef inline long long header_sum(object octets, Py_ssize_t at, Py_ssize_t length) except -1:
    cdef octets_p p = _begin(octets, at, length)
    cdef unsigned long long total = 0
    cdef Py_ssize_t index
    for index in range(0, length - 1, 2):
        total += p[index] << 8 | p[index + 1]
    if length & 1:
        total += p[length - 1] << 8
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


cdef inline int put(object buffer, Py_ssize_t at, bytes octets) except -1:
    cdef Py_ssize_t length = PyBytes_GET_SIZE(octets)
    memcpy(_begin_writing(buffer, at, length), PyBytes_AS_STRING(octets), length)
    return 0


cdef inline int put_ethernet(
    object buffer, Py_ssize_t at, bytes destination, bytes rest
) except -1:
    cdef unsigned char *p = _begin_writing(buffer, at, 14)
    memcpy(p, _begin(destination, 0, 6), 6)
    memcpy(p + 6, _begin(rest, 0, 8), 8)
    return 0


cdef inline int put_tcp(
    object buffer, Py_ssize_t at, long long seq, long long ack, long long word, long long window,
    long long checksum, long long urgent,
) except -1:
    cdef unsigned char *p = _begin_writing(buffer, at, 20)
    _put_u32(p + 4, seq)
    _put_u32(p + 8, ack)
    _put_u16(p + 12, word)
    _put_u16(p + 14, window)
    _put_u16(p + 16, checksum)
    _put_u16(p + 18, urgent)
    return 0


cdef inline int put_ports(object buffer, Py_ssize_t at, bytes key) except -1:
    cdef unsigned char *p = _begin_writing(buffer, at, 4)
    cdef octets_p ports = _begin(key, PyBytes_GET_SIZE(key) - 4, 4)
    memcpy(p, ports + 2, 2)
    memcpy(p + 2, ports, 2)
    return 0


cdef inline int put_timestamps(
    object buffer, Py_ssize_t at, long long ts_val, long long ts_ecr
) except -1:
    cdef unsigned char *p = _begin_writing(buffer, at, 12)
    _put_u32(p, 0x0101080A)
    _put_u32(p + 4, ts_val)
    _put_u32(p + 8, ts_ecr)
    return 0


cdef inline long long whole(double number) noexcept:
    return <long long>number


cdef inline long long folded(long long total) noexcept:
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


cdef inline int put_ipv4(
    object buffer, Py_ssize_t at, long long traffic_class, long long total_length,
    long long identification, long long flags, long long ttl, long long protocol,
    long long checksum, bytes addresses,
) except -1:
    cdef unsigned char *p = _begin_writing(buffer, at, 20)
    p[0] = 0x45
    p[1] = <unsigned char>traffic_class
    _put_u16(p + 2, total_length)
    _put_u16(p + 4, identification)
    _put_u16(p + 6, flags)
    p[8] = <unsigned char>ttl
    p[9] = <unsigned char>protocol
    _put_u16(p + 10, checksum)
    memcpy(p + 12, _begin(addresses, 0, 8), 8)
    return 0
