"""SYN cookies (RFC 4987 3.6): a handshake that costs the listener no memory.

Theory of operation. When a listener holds all the half-open connections it may, it answers a SYN
with an initial sequence number that is itself the memory of it:

    27 bits of a keyed MAC | 1 timestamps | 3 index of the MSS | 1 lowest bit of the counter

The MAC covers the four-tuple, the peer's initial sequence number, a counter of 64 s and the low
bits. What else the SYN said (window scale, SACK, ECN) rides in the lowest six bits of our
timestamp, which the peer echoes; without timestamps it is lost. The ACK that ends the handshake
shows the cookie again, and only then is a connection made. Cookies are looked at only while the
listener overflowed lately, and are valid for the counter value they were made in and the next.

What cookies cannot do: a lost SYN,ACK is not sent again before the peer's SYN is; and when the
last ACK is lost, the listener knows nothing until the peer speaks.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

from netstack.core.address import IPAddress
from netstack.core.errors import Unreachable
from netstack.core.seqnum import MASK, diff
from netstack.core.trace import Reason
from netstack.transport.tcp import arrival, ecn, output
from netstack.transport.tcp.autotuning import receive_sizes
from netstack.transport.tcp.bare import send_bare
from netstack.transport.tcp.receiver import MAX_WINDOW_SCALE, Receiver
from netstack.wire.tcp import ACK, ECE, SYN, Segment, build_syn_options

if TYPE_CHECKING:
    from netstack.core.config import TcpConfig
    from netstack.core.rng import Rng
    from netstack.internet.packet import ReceivedPacket
    from netstack.transport.tcp.listener import Listener
    from netstack.transport.tcp.protocol import Tcp

PERIOD = 64  # seconds a counter value lasts
LIFETIME = 2.0 * PERIOD  # seconds after an overflow in which cookies count
MSS_TABLE = (48, 256, 536, 1220, 1300, 1400, 1440, 1460)  # a peer's MSS is rounded down
_LOW_BITS = 5
_NO_SCALE = 15  # scales go to 14 (RFC 7323 2.3)


class SynCookies:
    """Makes and checks cookies; nobody outside can compute one."""

    __slots__ = ("_secret",)

    def __init__(self, rng: Rng) -> None:
        self._secret = rng.octets(16)

    def _cookie(self, key: bytes, irs: int, counter: int, low: int) -> int:
        value = key + irs.to_bytes(4, "big") + counter.to_bytes(8, "big") + bytes((low,))
        digest = hashlib.blake2b(value, digest_size=4, key=self._secret).digest()
        return int.from_bytes(digest, "big") & ~31 & MASK | low

    def make(self, key: bytes, irs: int, mss: int, now: float, *, timestamps: bool) -> int:
        """Return the initial sequence number that answers a SYN."""
        index = max(bisect_right(MSS_TABLE, mss) - 1, 0)
        counter = int(now) // PERIOD
        return self._cookie(key, irs, counter, timestamps << 4 | index << 1 | counter & 1)

    def check(
        self, key: bytes, irs: int, cookie: int, now: float, *, timestamps: bool
    ) -> int | None:
        """Return the MSS that ``cookie`` remembers, or None if it is none of ours."""
        low = cookie & 31
        if bool(low & 16) != timestamps:
            return None
        counter = int(now) // PERIOD
        counter -= (counter ^ low) & 1
        if counter < 0 or self._cookie(key, irs, counter, low) != cookie:
            return None
        return MSS_TABLE[low >> 1 & 7]


class KeptOptions(NamedTuple):
    """What the low bits of a timestamp remember of a SYN."""

    window_scale: int | None
    sack: bool
    ecn: bool


def pack_options(timestamp: int, options: KeptOptions) -> int:
    """Return the latest timestamp up to ``timestamp`` whose low bits are ``options``."""
    scale = options.window_scale
    bits = _NO_SCALE if scale is None else min(scale, MAX_WINDOW_SCALE)
    value = timestamp & ~63 | bits | options.sack << 4 | options.ecn << 5
    return (value - 64 if value > timestamp else value) & MASK


def unpack_options(timestamp: int) -> KeptOptions:
    """Return what ``pack_options`` put in."""
    scale = timestamp & 15
    return KeptOptions(
        None if scale == _NO_SCALE else scale, bool(timestamp & 16), bool(timestamp & 32)
    )


def answer_syn(tcp: Tcp, packet: ReceivedPacket, key: bytes, segment: Segment) -> None:
    """Answer a SYN with SYN,ACK, and forget it."""
    context, config = tcp.context, tcp.config
    try:
        path = tcp.internet.path(IPAddress(packet.source), IPAddress(packet.destination))
    except Unreachable:
        context.drop("tcp.no_route_back", segment.segments)
        return
    stamped = config.timestamps and segment.ts_val is not None
    peer_mss = 536 if segment.mss is None else segment.mss
    iss = tcp.cookies.make(key, segment.seq, peer_mss, context.now, timestamps=stamped)
    receiver = _receiver(config)
    stamps = scale = None
    flags = SYN | ACK
    sack = stamped and config.sack and segment.sack_permitted
    if stamped:
        theirs = segment.window_scale if config.window_scaling else None
        stamp = _clock(tcp, packet)
        kept = KeptOptions(theirs, sack, ecn.agreeable(tcp.config, segment))
        stamps = pack_options(stamp, kept), segment.ts_val or 0
        flags |= ECE if kept.ecn else 0
        scale = None if theirs is None else receiver.shift
    options = build_syn_options(output.advertised_mss(path), scale, stamps, sack=sack)
    window = receiver.window_to_advertise(0)
    context.count("tcp.syn_cookies_sent")
    numbers = iss, (segment.seq + 1) & MASK
    send_bare(tcp, path, key, numbers, flags, Reason.SYN_ACK, window=window, options=options)


def _receiver(config: TcpConfig) -> Receiver:
    """Return what a new connection starts with: its window, its scale."""
    receiver = Receiver(*receive_sizes(config))
    if config.window_scaling:
        receiver.choose_shift()
    return receiver


def _clock(tcp: Tcp, packet: ReceivedPacket) -> int:
    offset = tcp.isn.timestamp_offset(packet.destination, packet.source)
    return output.clock(tcp.context.now, offset)


def receive_ack(
    tcp: Tcp, listener: Listener, packet: ReceivedPacket, key: bytes, segment: Segment
) -> bool:
    """Take an ACK for which there is no connection; False if it shows no cookie of ours.

    With a full accept queue a good one is forgotten; the peer's data brings it again.
    """
    context = tcp.context
    if context.now - listener.overflowed_at > LIFETIME:
        return False
    syn = _remember(tcp, packet, key, segment)
    if syn is None:
        context.count("tcp.syn_cookies_failed")
        return False
    context.count("tcp.syn_cookies_received")
    if not listener.has_room():
        context.drop("tcp.accept_queue_full", segment.segments)
        return True
    iss = (segment.ack - 1) & MASK
    connection = tcp.open_passive(packet.source, packet.destination, key, syn, iss)
    if connection is None:
        return True
    sender = connection.sender
    sender.snd_nxt = sender.snd_max = iss + 1  # the SYN,ACK went out before there was a queue
    connection.receiver.window_to_advertise(0)
    connection.listener = listener
    listener.on_syn(connection)
    arrival.receive_segment(connection, segment, context.now)
    return True


def _remember(tcp: Tcp, packet: ReceivedPacket, key: bytes, segment: Segment) -> Segment | None:
    """Return the SYN that the cookie in ``segment`` answered, or None."""
    context, config = tcp.context, tcp.config
    stamped = config.timestamps and segment.ts_val is not None
    irs, cookie = (segment.seq - 1) & MASK, (segment.ack - 1) & MASK
    mss = tcp.cookies.check(key, irs, cookie, context.now, timestamps=stamped)
    if mss is None:
        return None
    syn = Segment(irs, 0, SYN, segment.window, 0)
    syn.mss = mss
    if stamped:
        age = diff(_clock(tcp, packet), segment.ts_ecr)
        if not 0 <= age <= LIFETIME * 1000 + 64:
            return None  # the peer made it up
        kept = unpack_options(segment.ts_ecr)
        syn.ts_val = segment.ts_val
        syn.window_scale, syn.sack_permitted = kept.window_scale, kept.sack
        syn.flags |= ecn.SETUP if kept.ecn else 0
    return syn
