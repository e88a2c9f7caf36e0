# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Merging consecutive segments of a burst; ``netstack.device.merge`` is the definition.

Theory of operation. One pass reads each frame's headers where they lie and finds the open run of
its flow in a hash table; what must be equal is compared with the run's first frame in place. A
second pass writes each run of more than one frame into octets of its own. Nothing is moved or
allocated for a frame that stays alone.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcmp, memcpy
from octets cimport get16, get32, put16
from sum cimport choose_loops, fold16, host16, sum_octets

choose_loops()

cdef enum:
    ETHERNET = 14  # octets of the link header; 0 on a medium without
    IPV4 = 20
    MAX_PACKET = 65535
    FIN = 0x01
    PSH = 0x08
    ACK = 0x10
    MERGEABLE = 0x19  # FIN, PSH, ACK
    CLOSED = 0x100  # a piece was shorter than the first
    TCP = 6

# What is known of a frame's TCP checksum when it is given.
cdef enum:
    UNKNOWN = 0
    VERIFIED = 1
    WHOLE = 2  # a super-segment already: nothing merges with it

# What became of a frame that was looked at.
cdef enum:
    ALONE = -1  # and nothing else may happen to its flow's run
    UNREAD = -2  # of no flow that could be read, but it may belong to any


cdef struct Piece:
    # One frame: its octets and where its payload lies in them.
    const unsigned char *octets
    Py_ssize_t length
    Py_ssize_t head
    Py_ssize_t end
    Py_ssize_t next  # of the same run, -1 = none
    int state  # as given
    bint verified


cdef struct Run:
    Py_ssize_t first
    Py_ssize_t last
    Py_ssize_t count
    Py_ssize_t size
    Py_ssize_t total
    uint32_t ip_sum  # of the octets of IP's header that all of them share
    uint32_t next_seq
    int flags


cdef struct Burst:
    Piece *pieces
    Run *runs
    Py_ssize_t run_count
    # By flow: the first frame that had it, and its open run. An entry of an older epoch has none.
    Py_ssize_t *flows
    Py_ssize_t *open_runs
    Py_ssize_t *epochs
    Py_ssize_t epoch
    size_t mask
    Py_ssize_t link


cdef inline uint64_t get64(const unsigned char *octets) noexcept nogil:
    cdef uint64_t value
    memcpy(&value, octets, 8)
    return value


cdef size_t flow_entry(const Burst *burst, const unsigned char *flow) noexcept nogil:
    """Return the table's entry for the 12 octets of a flow: its own, or a free one."""
    cdef uint64_t mixed = get64(flow) * <uint64_t>0x9E3779B97F4A7C15
    mixed = (mixed ^ (mixed >> 29) ^ get32(flow + 8)) * <uint64_t>0xBF58476D1CE4E5B9
    cdef size_t entry = <size_t>(mixed >> 32) & burst.mask
    cdef Py_ssize_t known
    while True:
        known = burst.flows[entry]
        if known < 0:
            return entry
        if memcmp(burst.pieces[known].octets + burst.link + 12, flow, 12) == 0:
            return entry
        entry = (entry + 1) & burst.mask


cdef bint may_be_tcp(const Piece *piece, Py_ssize_t link) noexcept nogil:
    """Return whether an odd frame may carry TCP over IPv4 (IP options, a fragment, cut off)."""
    if link:
        if piece.length < link or get16(piece.octets + 12) != 0x0800:
            return False
    return piece.length < link + 10 or piece.octets[link + 9] == TCP


cdef bint checksum_holds(Piece *piece, Py_ssize_t link) noexcept nogil:
    cdef Py_ssize_t start = link + 12  # addresses, then the segment
    cdef uint64_t total
    if not piece.verified:
        total = host16(fold16(sum_octets(piece.octets + start, piece.end - start)))
        if fold16(total + TCP + piece.end - link - IPV4) != 0xFFFF:
            return False
        piece.verified = True
    return True


cdef bint begin(Burst *burst, Py_ssize_t index) noexcept nogil:
    """Begin a run with a frame if anything may be merged to it."""
    cdef Piece *piece = burst.pieces + index
    cdef Py_ssize_t link = burst.link
    cdef const unsigned char *ip = piece.octets + link
    cdef Run *run
    cdef uint32_t ip_sum, varying
    if ip[33] & ~PSH != ACK or piece.end <= piece.head or piece.end > piece.length:
        return False
    if ip[0] != 0x45 or (link and get16(piece.octets + 12) != 0x0800):
        return False
    if ip[6] & 0xBF or ip[7] or ip[9] != TCP:
        return False
    ip_sum = host16(fold16(sum_octets(ip, IPV4)))
    if ip_sum != 0xFFFF:
        return False
    if not checksum_holds(piece, link):
        return False
    run = burst.runs + burst.run_count
    run.first = run.last = index
    run.count = 1
    run.size = piece.end - piece.head
    run.total = piece.end - link
    varying = get16(ip + 2) + get16(ip + 4) + get16(ip + 10)
    run.ip_sum = fold16(ip_sum + 3 * 0xFFFF - varying)
    run.next_seq = get32(ip + 24) + <uint32_t>run.size
    run.flags = ip[33]
    return True


cdef bint extend(Burst *burst, Run *run, Py_ssize_t index) noexcept nogil:
    """Merge a frame to a run if all rules allow it; return whether they do."""
    cdef Piece *piece = burst.pieces + index
    cdef const Piece *first = burst.pieces + run.first
    cdef Py_ssize_t link = burst.link, length = piece.end - piece.head
    cdef const unsigned char *ip = piece.octets + link
    cdef const unsigned char *other = first.octets + link
    cdef int flags = ip[33]
    if get32(ip + 24) != run.next_seq or piece.head != first.head:
        return False
    if get32(ip + 28) != get32(other + 28) or get16(ip + 34) != get16(other + 34):
        return False  # acknowledgment, window
    if memcmp(ip + 38, other + 38, piece.head - link - 38) != 0:
        return False  # urgent pointer and options
    if memcmp(piece.octets, first.octets, link + 2) != 0 or get32(ip + 6) != get32(other + 6):
        return False  # link header, version, DSCP and ECN; fragmentation, TTL, protocol
    if flags & ~MERGEABLE or not flags & ACK:
        return False
    if not 0 < length <= run.size or run.total + length > MAX_PACKET:
        return False
    if piece.end > piece.length:
        return False
    if fold16(run.ip_sum + get16(ip + 2) + get16(ip + 4) + get16(ip + 10)) != 0xFFFF:
        return False
    if not checksum_holds(piece, link):
        return False
    burst.pieces[run.last].next = index
    run.last = index
    run.count += 1
    run.next_seq += <uint32_t>length
    run.total += length
    run.flags |= flags if length == run.size else flags | CLOSED
    return True


cdef Py_ssize_t take(Burst *burst, Py_ssize_t index) noexcept nogil:
    """Look at a frame; return the run that it was merged to or began, else ALONE or UNREAD."""
    cdef Piece *piece = burst.pieces + index
    cdef Py_ssize_t link = burst.link
    cdef const unsigned char *ip = piece.octets + link
    cdef size_t entry
    cdef Py_ssize_t known
    cdef Run *run
    cdef int offset
    piece.next = -1
    piece.verified = piece.state == VERIFIED
    offset = ip[32] if piece.length > link + 32 else 0
    if offset & 0x0F or offset < 0x50 or piece.state == WHOLE:
        return UNREAD if may_be_tcp(piece, link) else ALONE
    piece.head = link + IPV4 + (offset >> 2)
    if piece.length < piece.head:
        return UNREAD if may_be_tcp(piece, link) else ALONE
    piece.end = link + get16(ip + 2)
    entry = flow_entry(burst, ip + 12)
    known = burst.open_runs[entry] if burst.epochs[entry] == burst.epoch else -1
    if known >= 0:
        run = burst.runs + known
        if extend(burst, run, index):
            if run.flags & ~PSH != ACK:
                burst.open_runs[entry] = -1
            return known
        burst.open_runs[entry] = -1
    if begin(burst, index):
        if burst.flows[entry] < 0:
            burst.flows[entry] = index
        burst.open_runs[entry] = burst.run_count
        burst.epochs[entry] = burst.epoch
        burst.run_count += 1
        return burst.run_count - 1
    if link and get16(piece.octets + 12) != 0x0800:
        return ALONE
    if ip[0] != 0x45 or ip[6] & 0x3F or ip[7]:
        return UNREAD  # what was read as ports is none: behind IP options, or in a fragment
    return ALONE


cdef object merged_octets(const Burst *burst, const Run *run):
    """Return the frame that stands for a run: headers of the first, payload of all."""
    cdef const Piece *piece = burst.pieces + run.first
    cdef Py_ssize_t link = burst.link, index = run.first
    cdef object result = PyBytes_FromStringAndSize(NULL, link + run.total)
    cdef unsigned char *target = <unsigned char *>PyBytes_AS_STRING(result)
    cdef unsigned char *ip = target + link
    memcpy(target, piece.octets, piece.head)
    put16(ip + 2, <uint32_t>run.total)
    put16(ip + 10, ~fold16(run.ip_sum + <uint32_t>run.total + get16(ip + 4)))
    ip[33] = <unsigned char>run.flags
    target += piece.head
    while index >= 0:
        piece = burst.pieces + index
        memcpy(target, piece.octets + piece.head, piece.end - piece.head)
        target += piece.end - piece.head
        index = piece.next
    return result


cdef list results(const Burst *burst, const Py_ssize_t *runs, Py_ssize_t count):
    cdef list merged = []
    cdef Py_ssize_t index
    cdef const Run *run
    for index in range(count):
        if runs[index] >= 0:
            run = burst.runs + runs[index]
            if run.first != index:
                continue
            if run.count > 1:
                merged.append((index, run.count, run.size, True, merged_octets(burst, run)))
                continue
        merged.append((index, 1, 0, burst.pieces[index].verified, None))
    return merged


def merge(frames, states, Py_ssize_t link):
    """Return what becomes of the frames of one burst.

    See ``merge_py`` of ``netstack.device.merge``.
    Raises: ValueError for another number of states than of frames, or a link header of other
    than 0 or 14 octets; BufferError for octets that don't lie in one piece.
    """
    cdef list given = list(frames)
    cdef Py_ssize_t count = len(given), held = 0, index
    cdef size_t table = 16
    cdef Burst burst
    cdef Py_buffer *views = NULL
    cdef Py_ssize_t *runs = NULL
    cdef bytes known = states
    if known is not None and len(known) != count:
        raise ValueError(f"{len(known)} states of {count} frames")
    if link != 0 and link != ETHERNET:
        raise ValueError(f"a link header of {link} octets")
    while table < <size_t>count * 2:
        table *= 2
    burst.pieces = NULL
    burst.runs = NULL
    burst.flows = NULL
    try:
        views = <Py_buffer *>PyMem_Malloc((count + 1) * sizeof(Py_buffer))
        runs = <Py_ssize_t *>PyMem_Malloc((count + 1) * sizeof(Py_ssize_t))
        burst.pieces = <Piece *>PyMem_Calloc(count + 1, sizeof(Piece))
        burst.runs = <Run *>PyMem_Malloc((count + 1) * sizeof(Run))
        burst.flows = <Py_ssize_t *>PyMem_Malloc(3 * table * sizeof(Py_ssize_t))
        if not (views and runs and burst.pieces and burst.runs and burst.flows):
            raise MemoryError
        burst.open_runs = burst.flows + table
        burst.epochs = burst.open_runs + table
        for index in range(<Py_ssize_t>table):
            burst.flows[index] = burst.open_runs[index] = burst.epochs[index] = -1
        burst.run_count = burst.epoch = 0
        burst.mask = table - 1
        burst.link = link
        for frame in given:
            PyObject_GetBuffer(frame, views + held, PyBUF_SIMPLE)
            burst.pieces[held].octets = <const unsigned char *>views[held].buf
            burst.pieces[held].length = views[held].len
            burst.pieces[held].state = UNKNOWN if known is None else known[held]
            held += 1
        for index in range(count):
            runs[index] = take(&burst, index)
            if runs[index] == UNREAD:
                burst.epoch += 1  # of which flow was not read: later segments stay behind it
        return results(&burst, runs, count)
    finally:
        while held:
            held -= 1
            PyBuffer_Release(views + held)
        PyMem_Free(views)
        PyMem_Free(runs)
        PyMem_Free(burst.pieces)
        PyMem_Free(burst.runs)
        PyMem_Free(burst.flows)
