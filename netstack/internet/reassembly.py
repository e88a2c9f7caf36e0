"""Putting fragments together (RFC 791 3.2, RFC 815), against those who abuse it.

Theory of operation. Fragments belong together if source, destination, protocol and
identification are equal. A datagram that any two fragments overlap in is given up whole, and
what still arrives of it ignored (RFC 5722's rule for IPv6; with it no later fragment can rewrite
a transport header, RFC 3128). The network duplicates packets, so a fragment that equals an
earlier one octet for octet is ignored alone, for a while also after its datagram was delivered.

Bounds, all in ``Ipv4Config``: octets over all datagrams (what is really held, overhead
included), datagrams, fragments of one datagram, and seconds. When room is needed, the oldest
datagram of the source that holds the most of them goes, so that a flood from one source costs
that source its datagrams and nobody else. Each step costs O(log n).
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

from netstack.core.checksum import internet_checksum
from netstack.core.intervals import Intervals
from netstack.core.timers import NEVER, Timer
from netstack.device.base import Frame
from netstack.internet.errors import ErrorKind
from netstack.internet.packet import ReceivedPacket
from netstack.wire.ipv4 import (
    ECN_CE,
    ECN_MASK,
    ECN_NOT_ECT,
    FLAG_DONT_FRAGMENT,
    FLAG_MORE_FRAGMENTS,
    FLAG_RESERVED,
    HEADER,
    MAX_TOTAL_LENGTH,
    OFFSET_MASK,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from netstack.core.context import Context

DATAGRAM_OVERHEAD = 1024  # octets that a datagram's bookkeeping takes
FRAGMENT_OVERHEAD = 256  # octets that a fragment's bookkeeping takes
DUPLICATE_MEMORY_S = 2.0  # how long a delivered datagram's fragments are known as duplicates
MAX_DELIVERED = 256  # datagrams remembered for that

Key = tuple[bytes, bytes, int, int]  # source, destination, protocol, identification


class Datagram:
    """The fragments of one datagram so far."""

    __slots__ = (
        "covered",
        "ecn",
        "expires",
        "first",
        "given_up",
        "group",
        "pieces",
        "size",
        "total",
    )

    def __init__(self, expires: float) -> None:
        self.expires = expires
        self.pieces: dict[int, bytes] = {}  # by first octet
        self.covered = Intervals()
        self.total: int | None = None  # octets, known once the last fragment came
        self.first: ReceivedPacket | None = None  # of the fragment at offset 0, octets copied
        self.ecn: set[int] = set()
        self.group = False
        self.given_up = False
        self.size = DATAGRAM_OVERHEAD

    def complete(self) -> bool:
        """Return whether every octet is there."""
        return self.total is not None and self.covered.covers(0, self.total)


class Reassembler:
    """Collects fragments into packets, for one host.

    ``on_error`` sends an ICMP error about a packet: time exceeded, code 1, quotes the first
    fragment of a datagram that timed out.
    """

    def __init__(
        self, context: Context, on_error: Callable[[ReceivedPacket, ErrorKind, int], None]
    ) -> None:
        self._context = context
        self._config = context.config.ipv4
        self._on_error = on_error
        self._datagrams: dict[Key, Datagram] = {}  # in order of expiry
        self._sources: dict[bytes, dict[Key, None]] = {}  # oldest first
        # _holding[n]: the sources with n datagrams; the last of them, _most, is the heaviest.
        self._holding: list[dict[bytes, None]] = [
            {} for _ in range(self._config.reassembly_max_datagrams + 2)
        ]
        self._most = 0
        self._delivered: dict[Key, tuple[float, dict[int, bytes]]] = {}
        self._timer = Timer(self._expire)
        self.size = 0  # octets held, overhead included

    def __len__(self) -> int:
        return len(self._datagrams)

    def add(self, packet: ReceivedPacket) -> ReceivedPacket | None:
        """Take a fragment; return the whole packet if this was the last one missing.

        The fragment's octets are copied: none pins the buffer it arrived in.
        """
        fields = HEADER.unpack_from(packet.frame.header, packet.header_start)
        start = (fields[4] & OFFSET_MASK) * 8
        more = bool(fields[4] & FLAG_MORE_FRAGMENTS)
        length = packet.length
        if length == 0 or (more and length % 8):
            self._drop("ipv4.bad_fragment", packet)
            return None
        key = (packet.source, packet.destination, packet.protocol, fields[3])
        header_length = packet.start - packet.header_start
        if header_length + start + length > MAX_TOTAL_LENGTH:  # the ping of death
            self._drop("ipv4.fragment_too_long", packet)
            self._give_up(key, "ipv4.fragment_too_long")
            return None
        data = packet.octets()
        if self._was_delivered(key, start, data):
            self._drop("ipv4.duplicate_fragment", packet)
            return None
        datagram = self._datagrams.get(key)
        if datagram is None:
            datagram = self._open(key)
        reason = self._refuse(datagram, start, data, more)
        if reason is not None:
            self._drop(reason, packet)
            if reason not in _HARMLESS:
                self._give_up(key, reason)
            return None
        return self._store(key, datagram, packet, start, data, more)

    def _refuse(self, datagram: Datagram, start: int, data: bytes, more: bool) -> str | None:
        """Return why the fragment doesn't fit, or None."""
        end = start + len(data)
        if datagram.given_up:
            return "ipv4.fragment_ignored"
        if datagram.pieces.get(start) == data and more == (datagram.total != end):
            return "ipv4.duplicate_fragment"
        if datagram.covered.overlaps(start, end):
            return "ipv4.fragment_overlap"
        beyond = datagram.total is not None and (end > datagram.total or not more)
        highest = datagram.covered.last()
        if beyond or (not more and highest is not None and highest[1] > end):
            return "ipv4.fragment_overlap"  # two different ends
        if len(datagram.pieces) >= self._config.reassembly_max_fragments:
            return "ipv4.too_many_fragments"
        return None

    def _store(
        self,
        key: Key,
        datagram: Datagram,
        packet: ReceivedPacket,
        start: int,
        data: bytes,
        more: bool,
    ) -> ReceivedPacket | None:
        datagram.pieces[start] = data
        datagram.covered.add(start, start + len(data))
        if not more:
            datagram.total = start + len(data)
        if start == 0:
            datagram.first = _copy_of(packet, data)
        datagram.ecn.add(packet.traffic_class & ECN_MASK)
        datagram.group = datagram.group or packet.group
        self._account(datagram, FRAGMENT_OVERHEAD + len(data))
        if datagram.complete():
            return self._deliver(key, datagram)
        self._make_room(key)
        return None

    def _deliver(self, key: Key, datagram: Datagram) -> ReceivedPacket | None:
        self._forget(key)
        pieces = len(datagram.pieces)
        first = datagram.first
        if first is None:  # complete means that offset 0 came
            return None
        # RFC 3168 5.3: congestion seen by one fragment was seen by the datagram; together with
        # a fragment that could not say so it means that somebody forged one.
        congested = ECN_CE in datagram.ecn
        if congested and ECN_NOT_ECT in datagram.ecn:
            self._context.drop("ipv4.fragment_ecn_mixed", pieces)
            return None
        self._remember(key, datagram)
        self._context.count("ipv4.fragments_reassembled", pieces)
        self._context.count("ipv4.packets_reassembled")
        header_length = first.start
        whole = bytearray(first.frame.header[:header_length])
        fields = list(HEADER.unpack_from(whole))
        if congested:
            fields[1] |= ECN_CE
        fields[2] = header_length + (datagram.total or 0)
        fields[4] &= FLAG_DONT_FRAGMENT | FLAG_RESERVED
        fields[7] = 0
        HEADER.pack_into(whole, 0, *fields)
        whole[10:12] = internet_checksum(whole).to_bytes(2, "big")
        ordered = [datagram.pieces[start] for start in sorted(datagram.pieces)]
        frame = Frame(b"".join((whole, *ordered)))
        frame.received_at = first.frame.received_at
        frame.id = first.frame.id
        return ReceivedPacket(
            4, first.source, first.destination, first.protocol, first.hop_limit, fields[1], frame,
            0, header_length, datagram.total or 0, first.interface, datagram.group,
        )  # fmt: skip

    # Bounds

    def _open(self, key: Key) -> Datagram:
        expires = self._context.now + self._config.reassembly_timeout
        datagram = self._datagrams[key] = Datagram(expires)
        owned = self._sources.setdefault(key[0], {})
        owned[key] = None
        self._hold(key[0], len(owned) - 1, len(owned))
        self.size += datagram.size
        if self._timer.deadline == NEVER:
            self._context.timers.arm(self._timer, expires)
        self._make_room(key)
        return datagram

    def _hold(self, source: bytes, before: int, after: int) -> None:
        self._holding[before].pop(source, None)
        if after:
            self._holding[after][source] = None
            self._most = max(self._most, after)
        while self._most and not self._holding[self._most]:
            self._most -= 1

    def _forget(self, key: Key) -> Datagram:
        datagram = self._datagrams.pop(key)
        self.size -= datagram.size
        owned = self._sources[key[0]]
        del owned[key]
        self._hold(key[0], len(owned) + 1, len(owned))
        if not owned:
            del self._sources[key[0]]
        return datagram

    def _account(self, datagram: Datagram, octets: int) -> None:
        datagram.size += octets
        self.size += octets

    def _make_room(self, keep: Key) -> None:
        """Evict until everything is within bounds; never the datagram ``keep``."""
        config = self._config
        while len(self._datagrams) > 1 and (
            self.size > config.reassembly_max_octets
            or len(self._datagrams) > config.reassembly_max_datagrams
        ):
            source = next(iter(self._holding[self._most]))
            victim = next((key for key in self._sources[source] if key != keep), None)
            if victim is None:  # the heaviest holds only what is being worked on
                victim = next(key for key in self._datagrams if key != keep)
            datagram = self._forget(victim)
            self._context.drop("ipv4.reassembly_evicted", max(1, len(datagram.pieces)))

    def _give_up(self, key: Key, reason: str) -> None:
        """Drop what is there of a datagram, and remember to ignore the rest."""
        datagram = self._datagrams.get(key)
        if datagram is None or datagram.given_up:
            return
        if datagram.pieces:
            self._context.drop(reason, len(datagram.pieces))
        datagram.given_up = True
        datagram.pieces = {}
        datagram.first = None
        datagram.covered.clear()
        self._account(datagram, DATAGRAM_OVERHEAD - datagram.size)

    def _expire(self, now: float) -> None:
        while self._datagrams:
            key, datagram = next(iter(self._datagrams.items()))
            if datagram.expires > now:
                self._context.timers.arm(self._timer, datagram.expires)
                break
            self._forget(key)
            if datagram.pieces:
                self._context.drop("ipv4.reassembly_timeout", len(datagram.pieces))
            if datagram.first is not None:
                # RFC 1122 3.3.2: only if the fragment at offset 0 was received.
                datagram.first.group = datagram.group
                self._on_error(datagram.first, ErrorKind.TIME_EXCEEDED, 1)

    # Duplicates of what was delivered

    def _remember(self, key: Key, datagram: Datagram) -> None:
        if len(self._delivered) >= MAX_DELIVERED:
            del self._delivered[next(iter(self._delivered))]
        digests = {start: _digest(data) for start, data in datagram.pieces.items()}
        self._delivered.pop(key, None)
        self._delivered[key] = (self._context.now + DUPLICATE_MEMORY_S, digests)

    def _was_delivered(self, key: Key, start: int, data: bytes) -> bool:
        known = self._delivered.get(key)
        if known is None:
            return False
        expires, digests = known
        if self._context.now < expires and digests.get(start) == _digest(data):
            return True
        del self._delivered[key]  # the identification is in use again
        return False

    def _drop(self, reason: str, packet: ReceivedPacket) -> None:
        self._context.drop(reason, packet.frame.segments, packet.frame.id)


_HARMLESS = ("ipv4.duplicate_fragment", "ipv4.fragment_ignored")


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=8).digest()


def _copy_of(packet: ReceivedPacket, data: bytes) -> ReceivedPacket:
    """Return ``packet`` with a frame of its own that holds the IP header and ``data``."""
    header = memoryview(packet.frame.header)[packet.header_start : packet.start]
    frame = Frame(b"".join((header, data)))
    frame.received_at = packet.frame.received_at
    frame.id = packet.frame.id
    return ReceivedPacket(
        packet.version, packet.source, packet.destination, packet.protocol, packet.hop_limit,
        packet.traffic_class, frame, 0, len(header), len(data), packet.interface, packet.group,
    )  # fmt: skip
