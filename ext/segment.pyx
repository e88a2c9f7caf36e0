# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Cutting a super-segment's octets into wire frames; ``netstack.device.cut`` is the definition.

Theory of operation. What all cuts share is summed once, from a template of their header in which
the fields that differ are zero: IP's length, identification and checksum, TCP's sequence number,
flags and checksum. Each cut is then a copy of the template, a copy of its payload that sums on
the way, and the fields. An IP version is a ``Form``: where those fields are, and what they count.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_FromStringAndSize
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy
from octets cimport get16, get32, put16
from sum cimport choose_loops, copy_octets, fold16, host16, sum_octets, swap16

choose_loops()

cdef enum:
    WIDE = 64  # octets that are copied at a time
    MAX_HEADERS = 256  # of a template: link 64, IP and TCP 60 each, in multiples of WIDE
    MIN_TCP = 20
    FIN = 0x01
    PSH = 0x08
    CWR = 0x80
    TCP = 6  # IANA's protocol number


cdef struct Form:
    # What an IP version's header looks like; -1 where it has no such field.
    Py_ssize_t minimum  # octets of the header
    Py_ssize_t length  # offset of the length field
    Py_ssize_t uncounted  # octets of the header that the length field leaves out
    Py_ssize_t identification
    Py_ssize_t checksum
    Py_ssize_t addresses
    Py_ssize_t addresses_length  # octets of both


cdef struct Cursor:
    # Where the next octet of the payload comes from.
    Py_buffer *pieces
    Py_ssize_t piece
    Py_ssize_t at


cdef Form IPV4 = Form(20, 2, 0, 4, 10, 12, 8)


cdef inline void put32(unsigned char *octets, uint32_t value) noexcept nogil:
    put16(octets, value >> 16)
    put16(octets + 2, value)


cdef inline uint32_t network_sum(const unsigned char *octets, Py_ssize_t length) noexcept nogil:
    return host16(fold16(sum_octets(octets, length)))


cdef uint64_t copy_payload(
    Cursor *cursor, unsigned char *target, Py_ssize_t length
) noexcept nogil:
    """Copy the next ``length`` octets of the payload; return their sum in the machine's order."""
    cdef uint64_t total = 0
    cdef uint32_t part
    cdef Py_ssize_t done = 0, size
    cdef Py_buffer *piece = cursor.pieces + cursor.piece
    if length < piece.len - cursor.at:
        cursor.at += length
        return copy_octets(target, <const unsigned char *>piece.buf + cursor.at - length, length)
    while done < length:
        piece = cursor.pieces + cursor.piece
        size = min(piece.len - cursor.at, length - done)
        part = fold16(
            copy_octets(target + done, <const unsigned char *>piece.buf + cursor.at, size)
        )
        total += swap16(part) if done & 1 else part
        done += size
        cursor.at += size
        if cursor.at == piece.len:
            cursor.piece += 1
            cursor.at = 0
    return total


cdef inline void copy_template(
    unsigned char *target, const unsigned char *template, Py_ssize_t head, Py_ssize_t length
) noexcept nogil:
    """Copy a template, and what lies behind it where ``length`` octets of payload will."""
    cdef Py_ssize_t at = 0
    if length < WIDE:
        memcpy(target, template, head)
        return
    while at < head:
        memcpy(target + at, template + at, WIDE)  # a few vectors, where any length is a call
        at += WIDE


cdef void cut_all(
    unsigned char *template, Py_ssize_t ip, Py_ssize_t tcp, Py_ssize_t head, const Form *form,
    Cursor *cursor, Py_ssize_t octets, Py_ssize_t size, bint partial, unsigned char *target,
) noexcept nogil:
    """Write the wire frames of ``octets`` of payload, ``size`` each, end to end to ``target``.

    What sums to ``shared`` is in the machine's order, as what ``copy_payload`` returns.
    """
    cdef uint32_t identification = 0, flags, seq, word, pseudo, ip_sum, tcp_sum, total = 0
    cdef uint32_t shared = 0
    cdef uint32_t last_flags
    cdef uint16_t checksum
    cdef uint64_t payload
    cdef Py_ssize_t length, done = 0, tcp_length = head - tcp
    cdef Py_ssize_t template_length = -1
    # In locals, since what is written through ``target`` might be the form, as far as C knows.
    cdef Py_ssize_t length_at = ip + form.length, counted = head - ip - form.uncounted
    cdef Py_ssize_t identification_at = form.identification, checksum_at = form.checksum
    cdef bint last = False
    seq = get32(template + tcp + 4)
    flags = template[tcp + 13] & ~(FIN | PSH)
    last_flags = template[tcp + 13] & (FIN | PSH)
    put32(template + tcp + 4, 0)
    template[tcp + 13] = 0
    put16(template + tcp + 16, 0)
    put16(template + length_at, 0)
    if identification_at >= 0:
        identification_at += ip
        identification = get16(template + identification_at)
        put16(template + identification_at, 0)
    if checksum_at >= 0:
        checksum_at += ip
        put16(template + checksum_at, 0)
    ip_sum = network_sum(template + ip, tcp - ip)
    pseudo = network_sum(template + ip + form.addresses, form.addresses_length) + TCP
    tcp_sum = pseudo + network_sum(template + tcp, tcp_length)
    while not last:
        length = min(size, octets - done)
        last = done + length == octets
        if last:
            flags |= last_flags
        if length != template_length or flags != template[tcp + 13]:
            # All but the first, the second and the last have these in common too.
            template_length = length
            total = counted + length
            put16(template + length_at, total)
            total += ip_sum
            template[tcp + 13] = flags
            shared = host16(fold16(tcp_sum + tcp_length + length + flags))
            if partial:
                put16(template + tcp + 16, fold16(pseudo + tcp_length + length))
        copy_template(target, template, head, length)
        payload = copy_payload(cursor, target + head, length)
        if identification_at >= 0:
            put16(target + identification_at, identification)
        if checksum_at >= 0:
            put16(target + checksum_at, ~fold16(total + identification))
        put32(target + tcp + 4, seq)
        if not partial:
            memcpy(&word, target + tcp + 4, 4)
            checksum = ~fold16(payload + shared + word)
            memcpy(target + tcp + 16, &checksum, 2)
        flags &= ~CWR
        seq += length
        identification = (identification + 1) & 0xFFFF
        done += length
        target += head + length


def cut(header, Py_ssize_t start, Py_ssize_t ip, Py_ssize_t tcp, payload, Py_ssize_t size,
        bint partial=False):
    """Return the wire frames of a super-segment, end to end, and how long all but the last are.

    See ``cut_py`` of ``netstack.device.cut``.
    Raises: ValueError for what is no super-segment of TCP over IPv4, BufferError for octets that
    don't lie in one piece.
    """
    cdef Py_ssize_t held = 0, octets = 0, head, frames
    cdef unsigned char template[MAX_HEADERS]
    cdef Cursor cursor
    cdef Py_buffer *views
    cdef list pieces = list(payload)
    views = <Py_buffer *>PyMem_Malloc((len(pieces) + 1) * sizeof(Py_buffer))
    if views == NULL:
        raise MemoryError
    try:
        PyObject_GetBuffer(header, views, PyBUF_SIMPLE)
        held = 1
        for piece in pieces:
            PyObject_GetBuffer(piece, views + held, PyBUF_SIMPLE)
            octets += views[held].len
            held += 1
        head = check(<const unsigned char *>views.buf, views.len, start, ip, tcp, &IPV4)
        octets += views.len - tcp - head
        head += tcp - start
        if not 0 < size <= 0xFFFF + IPV4.uncounted - (head - (ip - start)):
            raise ValueError(f"pieces of {size} octets: no packet has that")
        memcpy(template, <const unsigned char *>views.buf + start, head)
        frames = (octets + size - 1) // size if octets else 1
        result = PyByteArray_FromStringAndSize(NULL, frames * head + octets)
        cursor = Cursor(views, 0, start + head)
        cut_all(
            template, ip - start, tcp - start, head, &IPV4, &cursor, octets, size, partial,
            <unsigned char *>PyByteArray_AS_STRING(result),
        )
        return result, head + size
    finally:
        while held:
            held -= 1
            PyBuffer_Release(views + held)
        PyMem_Free(views)


cdef Py_ssize_t check(
    const unsigned char *header, Py_ssize_t end, Py_ssize_t start, Py_ssize_t ip, Py_ssize_t tcp,
    const Form *form,
) except -1:
    """Return the length of the TCP header if everything lies where it should."""
    cdef Py_ssize_t length
    if not (0 <= start <= ip and ip - start < 64 and form.minimum <= tcp - ip <= 60):
        raise ValueError(f"no headers begin at {start}, {ip} and {tcp}")
    if tcp > end - MIN_TCP:
        raise ValueError(f"{end} octets end before the TCP header at {tcp} does")
    length = header[tcp + 12] >> 4 << 2
    if length < MIN_TCP or tcp + length > end:
        raise ValueError(f"a TCP header of {length} octets in {end - tcp}")
    if header[ip] != 0x40 | (tcp - ip) >> 2 or (tcp - ip) & 3:
        raise ValueError("only TCP over IPv4 can be cut")
    return length
