# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Merging consecutive segments of a burst; ``netstack.device.merge`` is the definition, for ACKs
``netstack.device.acks``.

Theory of operation. One pass reads each frame's headers where they lie and finds the open run and
the last ACK of its flow in a hash table; what must be equal is compared in place. A second pass
writes each run of more than one frame into octets of its own. Nothing is moved or allocated for a
frame that stays alone.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset
from octets cimport get16, get32, put16
from spans cimport SPAN, lies_within
from sum cimport choose_loops, fold16, host16, sum_octets

choose_loops()

cdef enum:
    ETHERNET = 14  # octets of the link header; 0 on a medium without
    IPV4 = 20
    MAX_PACKET = 65535
    LARGEST_ACK = 98  # octets: a link header, IP, TCP with all options, a trailer
    TIMESTAMPS = 0x0101080A  # as RFC 7323 appendix A aligns them
    SACK = 0x01010500  # as RFC 2018 3 shows it, without the length
    HALF = 0x80000000
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
    ACKED = -3  # an ACK, which has its place


cdef struct Piece:
    # One frame: its octets and where its payload lies in them.
    const unsigned char *octets
    Py_ssize_t length
    Py_ssize_t head
    Py_ssize_t end
    Py_ssize_t next  # of the same run, -1 = none
    Py_ssize_t count  # of ACKs that it stands for
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
    # By flow too: the place of its last ACK, unless another frame came since.
    Py_ssize_t *acks
    Py_ssize_t *ack_epochs
    Py_ssize_t ack_epoch
    size_t mask
    Py_ssize_t *found  # of each frame: the run that it is of, else what became of it
    # In the order of what is returned: the first frame of a run, or one that stays.
    Py_ssize_t *places
    Py_ssize_t place_count
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


cdef bint is_plain(const Piece *piece, Py_ssize_t link) noexcept nogil:
    """Return whether a frame is TCP in a whole IPv4 packet without options, its header verified."""
    cdef const unsigned char *ip = piece.octets + link
    if ip[0] != 0x45 or (link and get16(piece.octets + 12) != 0x0800):
        return False
    if ip[6] & 0xBF or ip[7] or ip[9] != TCP:
        return False
    return fold16(sum_octets(ip, IPV4)) == 0xFFFF


cdef bint begin(Burst *burst, Py_ssize_t index) noexcept nogil:
    """Begin a run with a frame if anything may be merged to it."""
    cdef Piece *piece = burst.pieces + index
    cdef Py_ssize_t link = burst.link
    cdef const unsigned char *ip = piece.octets + link
    cdef Run *run
    cdef uint32_t varying
    if ip[33] & ~PSH != ACK or piece.end <= piece.head or piece.end > piece.length:
        return False
    if not is_plain(piece, link) or not checksum_holds(piece, link):
        return False
    run = burst.runs + burst.run_count
    run.first = run.last = index
    run.count = 1
    run.size = piece.end - piece.head
    run.total = piece.end - link
    varying = get16(ip + 2) + get16(ip + 4) + get16(ip + 10)
    run.ip_sum = fold16(4 * 0xFFFF - varying)  # the whole sums to 0xFFFF
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


cdef bint begins_with_block(
    const unsigned char *option, Py_ssize_t length, uint32_t number
) noexcept nogil:
    """Return whether SACK blocks alone follow, of which the first is no D-SACK (RFC 2883)."""
    cdef uint32_t left
    if length < 12 or (length & 7) != 4 or get32(option) != (SACK | <uint32_t>(length - 2)):
        return False
    left = get32(option + 4)
    if not 0 < left - number < HALF:
        return False
    return length == 12 or left - get32(option + 12) >= get32(option + 16) - get32(option + 12)


cdef inline Py_ssize_t behind_timestamps(const unsigned char *tcp, Py_ssize_t length) noexcept nogil:
    return 32 if length >= 32 and get32(tcp + 20) == TIMESTAMPS else 20


cdef bint is_pure(Piece *piece, Py_ssize_t link) noexcept nogil:
    """Return whether a segment of no data is an ACK and nothing else, its checksums verified."""
    cdef const unsigned char *tcp = piece.octets + link + IPV4
    cdef Py_ssize_t length = piece.head - link - IPV4, at
    if piece.length > LARGEST_ACK or get16(tcp + 12) & 0xFFF != ACK:
        return False
    at = behind_timestamps(tcp, length)
    if at != length and not begins_with_block(tcp + at, length - at, get32(tcp + 8)):
        return False
    return is_plain(piece, link) and checksum_holds(piece, link)


cdef bint supersedes(const Piece *piece, const Piece *before, Py_ssize_t link) noexcept nogil:
    """Return whether a pure ACK tells all that the one before it tells, and more."""
    cdef const unsigned char *ip = piece.octets + link
    cdef const unsigned char *other = before.octets + link
    cdef const unsigned char *tcp = ip + IPV4
    cdef Py_ssize_t length = piece.head - link - IPV4, at
    cdef uint32_t acknowledged = get32(ip + 28) - get32(other + 28), reached = 0
    if acknowledged >= HALF or piece.head != before.head or get32(ip + 24) != get32(other + 24):
        return False
    if memcmp(piece.octets, before.octets, link + 2) != 0 or get32(ip + 6) != get32(other + 6):
        return False
    at = behind_timestamps(tcp, length)
    # The urgent pointer and all options, but how far the first block reaches.
    if at == length:
        if memcmp(ip + 38, other + 38, length - 18) != 0:
            return False
    else:
        at += 8
        reached = get32(tcp + at) - get32(other + IPV4 + at)
        if memcmp(ip + 38, other + 38, at - 18) != 0:
            return False
        if memcmp(tcp + at + 4, other + IPV4 + at + 4, length - at - 4) != 0:
            return False
    return reached < HALF and (acknowledged != 0 or reached != 0)


cdef void take_ack(Burst *burst, Py_ssize_t index, size_t entry) noexcept nogil:
    """Give a pure ACK the place of the one before it that it supersedes, or one of its own."""
    cdef Piece *piece = burst.pieces + index
    cdef Py_ssize_t place = burst.acks[entry]
    cdef Piece *before
    if burst.ack_epochs[entry] == burst.ack_epoch:
        before = burst.pieces + burst.places[place]
        if supersedes(piece, before, burst.link):
            piece.count += before.count
            burst.places[place] = index
            return
    burst.acks[entry] = burst.place_count
    burst.ack_epochs[entry] = burst.ack_epoch
    burst.places[burst.place_count] = index
    burst.place_count += 1


cdef Py_ssize_t take(Burst *burst, Py_ssize_t index) noexcept nogil:
    """Look at a frame; return the run that it was merged to or began, else ALONE, UNREAD, ACKED.
    """
    cdef Piece *piece = burst.pieces + index
    cdef Py_ssize_t link = burst.link
    cdef const unsigned char *ip = piece.octets + link
    cdef size_t entry
    cdef Py_ssize_t known
    cdef Run *run
    cdef int offset
    piece.next = -1
    piece.count = 1
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
    if piece.end == piece.head and is_pure(piece, link):
        if burst.flows[entry] < 0:
            burst.flows[entry] = index
        take_ack(burst, index, entry)
        return ACKED
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


cdef list results(const Burst *burst):
    cdef const Py_ssize_t *runs = burst.found
    cdef list merged = []
    cdef Py_ssize_t index, place
    cdef const Run *run
    for place in range(burst.place_count):
        index = burst.places[place]
        if runs[index] >= 0:
            run = burst.runs + runs[index]
            if run.count > 1:
                merged.append((index, run.count, run.size, True, merged_octets(burst, run)))
                continue
        merged.append((index, burst.pieces[index].count, 0, burst.pieces[index].verified, None))
    return merged


def merge(frames, states, Py_ssize_t link):
    """Return what becomes of the frames of one burst.

    See ``merge_py`` of ``netstack.device.merge``.
    Raises: ValueError for another number of states than of frames, or a link header of other
    than 0 or 14 octets; BufferError for octets that don't lie in one piece.
    """
    cdef list given = list(frames)
    cdef Py_ssize_t count = len(given), held = 0
    cdef Burst burst
    cdef Py_buffer *views = NULL
    cdef bytes known = states
    if known is not None and len(known) != count:
        raise ValueError(f"{len(known)} states of {count} frames")
    make_room(&burst, count, link)
    try:
        views = <Py_buffer *>PyMem_Malloc((count + 1) * sizeof(Py_buffer))
        if views == NULL:
            raise MemoryError
        for frame in given:
            PyObject_GetBuffer(frame, views + held, PyBUF_SIMPLE)
            burst.pieces[held].octets = <const unsigned char *>views[held].buf
            burst.pieces[held].length = views[held].len
            burst.pieces[held].state = UNKNOWN if known is None else known[held]
            held += 1
        take_all(&burst, count)
        return results(&burst)
    finally:
        while held:
            held -= 1
            PyBuffer_Release(views + held)
        PyMem_Free(views)
        PyMem_Free(burst.pieces)


def span_octets(octets, spans, Py_ssize_t at):
    """Return a copy of a frame; see ``span_octets_py`` of ``netstack.device.burst``."""
    cdef Py_buffer memory, numbers
    cdef int64_t span[SPAN]
    PyObject_GetBuffer(spans, &numbers, PyBUF_SIMPLE)
    try:
        if not 0 <= at <= numbers.len // <Py_ssize_t>sizeof(int64_t) - SPAN:
            raise IndexError("array index out of range")
        memcpy(span, <int64_t *>numbers.buf + at, sizeof(span))
    finally:
        PyBuffer_Release(&numbers)
    PyObject_GetBuffer(octets, &memory, PyBUF_SIMPLE)
    try:
        if not lies_within(span, memory.len):
            raise ValueError("a frame outside of its octets")
        return PyBytes_FromStringAndSize(<char *>memory.buf + span[0], span[1])
    finally:
        PyBuffer_Release(&memory)


def merge_spans(octets, spans, Py_ssize_t count, Py_ssize_t link):
    """Return what becomes of ``count`` frames that lie in one piece of memory.

    See ``merge_spans_py`` of ``netstack.device.merge``.
    Raises: ValueError for frames outside of the octets, or another link header.
    """
    cdef Py_buffer memory, numbers
    cdef const int64_t *span
    cdef Py_ssize_t index
    cdef Burst burst
    PyObject_GetBuffer(octets, &memory, PyBUF_SIMPLE)
    try:
        PyObject_GetBuffer(spans, &numbers, PyBUF_SIMPLE)
        try:
            if not 0 <= count <= numbers.len // <Py_ssize_t>(SPAN * sizeof(int64_t)):
                raise ValueError(f"{count} frames of fewer")
            make_room(&burst, count, link)
            try:
                span = <const int64_t *>numbers.buf
                for index in range(count):
                    if not lies_within(span, memory.len):
                        raise ValueError("a frame outside of its octets")
                    burst.pieces[index].octets = <const unsigned char *>memory.buf + span[0]
                    burst.pieces[index].length = span[1]
                    burst.pieces[index].state = UNKNOWN
                    span += SPAN
                take_all(&burst, count)
                return results(&burst)
            finally:
                PyMem_Free(burst.pieces)
        finally:
            PyBuffer_Release(&numbers)
    finally:
        PyBuffer_Release(&memory)


cdef int make_room(Burst *burst, Py_ssize_t count, Py_ssize_t link) except -1:
    """Get memory for a burst of ``count`` frames, all in one piece that begins with ``pieces``."""
    cdef size_t table = 16, size
    cdef char *memory
    if link != 0 and link != ETHERNET:
        raise ValueError(f"a link header of {link} octets")
    while table < <size_t>count * 2:
        table *= 2
    size = (count + 1) * (sizeof(Piece) + sizeof(Run) + 2 * sizeof(Py_ssize_t))
    memory = <char *>PyMem_Malloc(size + 5 * table * sizeof(Py_ssize_t))
    if memory == NULL:
        raise MemoryError
    burst.pieces = <Piece *>memory
    burst.runs = <Run *>(burst.pieces + count + 1)
    burst.found = <Py_ssize_t *>(burst.runs + count + 1)
    burst.places = burst.found + count + 1
    burst.flows = burst.places + count + 1
    burst.open_runs = burst.flows + table
    burst.epochs = burst.open_runs + table
    burst.acks = burst.epochs + table
    burst.ack_epochs = burst.acks + table
    memset(burst.flows, 0xFF, 5 * table * sizeof(Py_ssize_t))  # -1
    burst.run_count = burst.epoch = burst.place_count = burst.ack_epoch = 0
    burst.mask = table - 1
    burst.link = link
    return 0


cdef void take_all(Burst *burst, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t index, found
    for index in range(count):
        found = burst.found[index] = take(burst, index)
        if found == UNREAD:
            burst.epoch += 1  # of which flow was not read: later segments stay behind it
        if found != ACKED and (found < 0 or burst.runs[found].first == index):
            burst.places[burst.place_count] = index
            burst.place_count += 1
            burst.ack_epoch += 1  # no ACK passes it
