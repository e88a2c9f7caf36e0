"""Building segments: what leaves a connection at poll, and resets (RFC 9293 3.4, 3.5.2, 3.8).

A transmission may be a super-segment: a whole multiple of the effective MSS, or one that ends
with the last queued octet. It is cut as late as possible, by the device or just above it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netstack.core.errors import Unreachable
from netstack.core.seqnum import MASK
from netstack.core.timers import NEVER
from netstack.core.trace import Reason, SegmentSent
from netstack.device.base import HEADROOM, MAX_PAYLOAD_BUFFERS, Checksum, Frame, GsoType
from netstack.transport.tcp import ecn, fast_open, pmtud, user_timeout
from netstack.transport.tcp.state import CLOSED, SYN_RECEIVED, TIME_WAIT, State
from netstack.transport.tcp.tail_probe import next_probe
from netstack.transport.tcp.transmission import Transmission, needs_persist, next_range, probe
from netstack.wire.layout import folded, put, put_ports, put_tcp, put_timestamps, whole
from netstack.wire.tcp import (
    ACK,
    CHECKSUM_OFFSET,
    FIN,
    HEADER_LENGTH,
    MAX_OPTIONS,
    PSH,
    RST,
    SYN,
    URG,
    build_sack,
    build_syn_options,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netstack.internet.path import Path
    from netstack.transport.tcp.connection import Connection
    from netstack.transport.tcp.sender import Sender

TIMESTAMPS_LENGTH = 12  # octets in every segment once negotiated
PROTOCOL_TCP = 6
_TIMESTAMP_HZ = 1000  # RFC 7323 5.4: between 1 ms and 1 s a tick
MAX_SUPER_SEGMENT = 65_535 - 40 - 40  # octets of payload: IP total length less all headers
_PARTIAL, _TCPV4 = Checksum.PARTIAL, GsoType.TCPV4
_BURST_TIME = 0.001  # seconds at the current rate that one super-segment may span


def mss_of(connection: Connection) -> int:
    """Return the effective MSS: what one wire segment carries (RFC 9293 3.7.1, Eff.snd.MSS)."""
    path = connection.path
    mtu = path.mtu
    search = connection.path_search
    if search is not None and search.limit is not None:
        mtu = min(mtu, search.limit)
    available = mtu - path.header_size - HEADER_LENGTH
    peer = max(connection.peer_mss, connection.tcp.config.min_mss)
    mss = min(available, peer)
    if connection.ts_on:
        mss -= TIMESTAMPS_LENGTH
    return mss  # positive: an MTU is 68 octets at least (RFC 791 3.2), and so is the floor


def advertised_mss(path: Path) -> int:
    """Return what our SYN says: the interface's MTU less the fixed headers (RFC 6691)."""
    return min(path.interface.mtu, 65_535) - path.header_size - HEADER_LENGTH


def timestamp(connection: Connection, now: float) -> int:
    """Return the timestamp clock of this connection at ``now``."""
    return (whole(now * _TIMESTAMP_HZ) + connection.ts_offset) & MASK


def clock(now: float, offset: int) -> int:
    """Return the timestamp clock with ``offset`` at ``now``."""
    return (whole(now * _TIMESTAMP_HZ) + offset) & MASK


def refresh_path(connection: Connection, now: float) -> bool:
    """Read the path again if anything about it changed; False if there is none now."""
    tcp = connection.tcp
    if connection.path.generation == tcp.internet.generation:
        return True
    try:
        connection.path = tcp.internet.path(connection.remote_address, connection.local_address)
    except Unreachable as error:
        connection.on_soft_error(error)
        return False
    update_mss(connection)
    return True


def update_mss(connection: Connection) -> None:
    """Use the segment size that path and peer allow now; what is larger goes again."""
    mss = mss_of(connection)
    sender = connection.sender
    if mss != sender.mss:
        if mss < sender.mss:
            sender.mark_larger_than(mss)
        sender.on_mss(mss)


def transmit_due(connection: Connection, now: float) -> bool:
    """Send what may leave now: data, FIN, or a bare ACK; True if more could follow at once."""
    state = connection.state
    if state is CLOSED:
        return False
    if connection.path.generation != connection.tcp.internet.generation and not refresh_path(
        connection, now
    ):
        connection.sender.wait(now)
        connection.update_timer()
        return False
    more = False
    if state <= SYN_RECEIVED:
        _transmit_syn(connection, now)
        if fast_open.sends_early(connection):
            more = _transmit_data(connection, now)
    elif state is not TIME_WAIT and (
        _waits(connection.sender) or connection.path_search is not None
    ):
        more = _transmit_data(connection, now)
    reason = connection.receiver.ack_reason
    if reason is not None and state >= SYN_RECEIVED:
        send_ack(connection, reason)
    connection.update_timer()
    return more


def _transmit_syn(connection: Connection, now: float) -> None:
    """Send SYN or SYN,ACK, the first time or again (RFC 9293 3.5)."""
    sender = connection.sender
    if connection.fast_open is not None and connection.fast_open.held:
        return
    passive = connection.state is State.SYN_RECEIVED
    if sender.snd_nxt == sender.iss:
        transmission = Transmission(
            sender.iss, sender.iss + 1, Reason.SYN_ACK if passive else Reason.SYN
        )
    elif sender.queue and sender.queue[0].lost:
        transmission = Transmission(sender.iss, sender.iss + 1, Reason.RTO, sender.queue[0])
    else:
        return
    flags = ecn.syn_flags(connection, SYN | ACK if passive else SYN)
    timestamps = None
    scale = None
    config = connection.tcp.config
    if connection.ts_on or (not passive and config.timestamps and connection.syn_options):
        timestamps = (timestamp(connection, now), connection.ts_recent)
    if connection.syn_options and config.window_scaling:
        scale = connection.receiver.shift
    sack = sender.sack_on if passive else config.sack
    options = build_syn_options(advertised_mss(connection.path), scale, timestamps, sack=sack)
    options += user_timeout.offered(connection)
    reason, octets = transmission.reason, 0
    pieces: Sequence[bytes | memoryview] = []
    if connection.fast_open is not None and transmission.retransmitted is None:
        options, pieces, octets = fast_open.dress_syn(connection, options)
        reason = Reason.SYN_DATA if octets else reason
    _send(connection, sender.iss, flags, options, pieces, octets, reason)
    sender.on_sent(transmission, now)
    if octets:
        sender.on_sent(Transmission(sender.snd_nxt, sender.snd_nxt + octets, reason), now)
    if fast_open.is_early(connection):
        connection.receiver.on_ack_sent()  # it acknowledged the data in the peer's SYN


def _waits(sender: Sender) -> bool:
    """Return whether anything is to be sent, windows or not: octets, FIN, or what was lost."""
    end = sender.iss + 1 + sender.taken + sender.fin_queued
    return sender.snd_nxt < end or sender.queue.lost_octets > 0


def _transmit_data(connection: Connection, now: float) -> bool:
    """Send ranges while windows and the queue below allow; True if it stopped for fairness."""
    sender = connection.sender
    _restart_after_idle(connection, now)
    if connection.path_search is not None and not _probe_path(connection, now):
        return False
    for _ in range(4):
        if not _waits(sender):
            return False
        room = connection.path.room(connection.key)
        limit = _burst_limit(connection, min(room, MAX_SUPER_SEGMENT))
        transmission = next_range(sender, now, limit)
        if transmission is None:
            if not sender.queue and sender.timer_deadline == NEVER and needs_persist(sender):
                sender.start_persist(now)
            return False
        if room < min(transmission.end - transmission.start, sender.mss):
            connection.tcp.wait_for_room(connection)
            sender.wait(now)
            return False
        _send_range(connection, transmission, now)
    return True


def _restart_after_idle(connection: Connection, now: float) -> None:
    """Begin with the initial window after a time-out of silence (RFC 5681 4.1).

    Before the window is asked what may leave: one super-segment could take all of the old one.
    """
    sender = connection.sender
    if (
        sender.snd_una == sender.snd_nxt < sender.end
        and now - sender.last_sent > sender.rtt.timeout()
    ):
        sender.congestion.on_idle(connection.tcp.config.initial_window)


def _probe_path(connection: Connection, now: float) -> bool:
    """Go on with the search for the path's MTU (RFC 4821); False: data waits for the probe."""
    if pmtud.judge_probe(connection, now):
        update_mss(connection)
    octets = pmtud.wanted_probe(connection, now)
    if not octets or connection.path.room(connection.key) < octets:
        return True
    sender = connection.sender
    if sender.congestion.cwnd - sender.flight_size < octets:
        return False  # what is in flight will make room: less than a window of it is wanted
    usual, sender.mss = sender.mss, octets  # one wire segment
    try:
        _send_range(connection, pmtud.begin_probe(connection, octets), now)
    finally:
        sender.mss = usual
    return True


def _burst_limit(connection: Connection, room: int) -> int:
    """Return how much one transmission may carry.

    A path that cuts shares its wire: no more than 1 ms at the current rate, two segments at
    least; unless it is shorter than that itself, however long its queues make it look. Always a
    multiple of the segment size.
    """
    sender = connection.sender
    mss = sender.mss
    urgent = connection.urgent
    if not connection.tcp.config.super_segments or (urgent is not None and urgent.send_up):
        return mss
    limit: int = room
    rtt = sender.rtt
    path = connection.path
    if path.gso_max_size:
        headers = path.header_size + HEADER_LENGTH + MAX_OPTIONS
        limit = min(limit, path.gso_max_size - headers)
    elif rtt.min_rtt > _BURST_TIME:
        limit = min(limit, max(2 * mss, whole(sender.congestion.cwnd * _BURST_TIME / rtt.srtt)))
    return max(limit - limit % mss, mss)


def _send_range(connection: Connection, transmission: Transmission, now: float) -> None:
    sender = connection.sender
    start, end, reason = transmission.start, transmission.end, transmission.reason
    all_data = sender.data_end
    data_end = min(end, all_data)
    length = max(data_end - start, 0)
    pieces: list[bytes | memoryview] = []
    flags = ACK
    if length:
        first = sender.iss + 1
        buffer = sender.buffer
        assert buffer is not None  # octets between start and data_end are held
        pieces = buffer.pieces(start - first, data_end - first, MAX_PAYLOAD_BUFFERS)
        if data_end == all_data:
            flags |= PSH  # RFC 9293 3.9.1.2, MUST-61
    if end > all_data:
        flags |= FIN
    fresh = length > 0 and transmission.retransmitted is None and reason is not Reason.PROBE
    _send(connection, start, flags, b"", pieces, length, reason, fresh)
    sender.on_sent(transmission, now)
    receiver = connection.receiver
    if receiver.quickack is not None and fresh:
        receiver.on_answer(now, connection.tcp.config.delayed_ack)
    if not sender.sack_on or not receiver.has_sack_news:
        receiver.on_ack_sent()  # else a bare ACK follows: data has no room for SACK blocks


def send_ack(connection: Connection, reason: Reason) -> None:
    """Send a segment without text: <SEQ=SND.NXT><ACK=RCV.NXT><CTL=ACK>."""
    options = b""
    receiver = connection.receiver
    if reason is Reason.USER_TIMEOUT or reason is Reason.ACK_HANDSHAKE:
        options = user_timeout.offered(connection)
    if connection.sender.sack_on and receiver.has_sack_news:
        path = connection.path
        space = min(MAX_OPTIONS, path.mtu - path.header_size - HEADER_LENGTH)
        space -= len(options) + (TIMESTAMPS_LENGTH if connection.ts_on else 0)
        options += build_sack(receiver.sack_blocks((space - 4) // 8))
    _send(connection, connection.sender.snd_nxt, ACK, options, [], 0, reason)
    receiver.on_ack_sent()


def send_probe(connection: Connection, now: float) -> None:
    """Probe a closed window with one octet (RFC 9293 3.8.6.1)."""
    if not refresh_path(connection, now):
        return
    sender = connection.sender
    _send_range(connection, probe(sender), now)


def send_tail_probe(connection: Connection, now: float) -> None:
    """Send the next segment, or the last again: what became of the tail? (RFC 8985 7.3)."""
    sender = connection.sender
    transmission = next_probe(sender, now)
    sent = False
    if transmission is not None and refresh_path(connection, now):
        sent = True
        if transmission.retransmitted is not None:
            pmtud.on_tail_probe(connection)
        _send_range(connection, transmission, now)
    sender.on_probed(now, sent=sent)


def send_keepalive(connection: Connection) -> None:
    """Probe an idle peer: an octet-less segment below the window (RFC 9293 3.8.4)."""
    seq = connection.sender.snd_nxt - 1
    connection.tcp.context.count("tcp.keepalive_probes")
    _send(connection, seq, ACK, b"", [], 0, Reason.KEEPALIVE)


def send_reset(connection: Connection) -> None:
    """Abort towards the peer: <SEQ=SND.NXT><CTL=RST,ACK> (RFC 9293 3.10.5)."""
    if connection.state in (State.SYN_SENT, State.CLOSED, State.LISTEN):
        return
    if refresh_path(connection, connection.tcp.context.now):
        _send(connection, connection.sender.snd_nxt, RST | ACK, b"", [], 0, Reason.RESET)


def _send(
    connection: Connection,
    seq: int,
    flags: int,
    options: bytes,
    pieces: Sequence[bytes | memoryview],
    length: int,
    reason: Reason,
    fresh: bool = False,
) -> None:
    """Build the segment and hand it down; ``fresh``: it carries data for the first time.

    ``options`` are those besides timestamps, which stand in front of them once agreed on. A
    reset has none (RFC 7323 3.2 leaves the choice).
    """
    receiver = connection.receiver
    tcp = connection.tcp
    context = tcp.context
    stamped = connection.ts_on and flags & (SYN | RST) == 0
    header_length = HEADER_LENGTH + len(options)
    if stamped:
        header_length += TIMESTAMPS_LENGTH
    header = bytearray(HEADROOM + header_length)
    window = 0
    ack = 0
    if flags & ACK:
        ack = receiver.rcv_nxt & MASK
    if not flags & RST:
        scale = 0 if flags & SYN else receiver.shift
        window = receiver.window_to_advertise(scale)
    path = connection.path
    traffic_class = connection.traffic_class
    if connection.ecn is not None and flags & (SYN | RST) == 0:
        flags, traffic_class = connection.ecn.mark(flags, traffic_class, fresh=fresh)
    partial = folded(path.pseudo_header_sum + PROTOCOL_TCP + header_length + length)
    pointer = 0
    if connection.urgent is not None and not flags & SYN:
        pointer = connection.urgent.pointer(connection, seq)
    if pointer:
        flags |= URG
    put_ports(header, HEADROOM, connection.key)
    word = header_length << 10 | flags
    put_tcp(header, HEADROOM, seq & MASK, ack, word, window, partial, pointer)
    if stamped:
        stamp = timestamp(connection, context.now)
        put_timestamps(header, HEADROOM + HEADER_LENGTH, stamp, connection.ts_recent)
    if options:
        put(header, HEADROOM + header_length - len(options), options)
    frame = Frame(header, pieces, start=HEADROOM)
    frame.checksum = _PARTIAL
    frame.checksum_start = HEADROOM
    frame.checksum_offset = CHECKSUM_OFFSET
    frame.reason = reason
    mss = connection.sender.mss
    if length > mss:
        frame.gso_size = mss
        frame.gso_type = _TCPV4 if path.version == 4 else GsoType.TCPV6
        frame.segments = -(-length // mss)
    tcp.segments_sent.value += frame.segments
    if context.trace is not None:
        _trace_sent(connection, frame, seq, ack, flags, window, length)
    tcp.internet.send(
        path, PROTOCOL_TCP, frame, hop_limit=connection.ttl,
        traffic_class=traffic_class, dont_fragment=True, flow=connection.key,
    )  # fmt: skip


def _trace_sent(
    connection: Connection,
    frame: Frame,
    seq: int,
    ack: int,
    flags: int,
    window: int,
    length: int,
) -> None:
    context = connection.tcp.context
    trace, reason = context.trace, frame.reason
    if trace is None or reason is None:
        return
    frame.id = trace.frame_id()
    offset = max(seq - connection.sender.iss - 1, 0)
    trace.emit(
        SegmentSent(
            context.now, context.name, "tcp",
            f"{connection.local_address}:{connection.local_port}",
            f"{connection.remote_address}:{connection.remote_port}",
            seq & MASK, ack, flags, window, offset, offset + length, reason, frame.segments,
            frame.id,
        )
    )  # fmt: skip
