"""What is in flight: ranges of sequence numbers with their history (RFC 6675's scoreboard).

Numbers are unwrapped. A range remembers when it was last sent and in pieces of which size, never
the frames. It is in one of three conditions: in flight, ``lost`` (waits to be sent again) or
``sacked`` (the peer has it). Ranges are split only at multiples of their piece size, so that a
wire segment has one fate, and there are never more ranges than wire segments (CVE-2019-11478);
neighbours that the peer has are joined, so that a scan passes a long delivered stretch in one
step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class SentRange:
    """Octets ``start .. end``, last sent at ``sent_at`` in pieces of ``gso_size`` octets."""

    __slots__ = (
        "ambiguous", "end", "gso_size", "lost", "sacked", "sent_at", "start", "transmissions",
    )  # fmt: skip

    def __init__(self, start: int, end: int, sent_at: float, gso_size: int) -> None:
        self.start = start
        self.end = end
        self.sent_at = sent_at
        self.gso_size = gso_size
        self.transmissions = 1
        self.ambiguous = False  # an acknowledgment may be of an earlier transmission
        self.sacked = False
        self.lost = False

    @property
    def octets(self) -> int:
        """How many octets (SYN and FIN counted)."""
        return self.end - self.start

    @property
    def segments(self) -> int:
        """How many wire segments."""
        return -(-(self.end - self.start) // self.gso_size)

    def split(self, at: int) -> SentRange:
        """Cut at ``at``; keep the front, return the rest with the same history."""
        rest = SentRange(at, self.end, self.sent_at, self.gso_size)
        rest.transmissions = self.transmissions
        rest.ambiguous = self.ambiguous
        rest.sacked, rest.lost = self.sacked, self.lost
        self.end = at
        return rest


class Scoreboard:
    """The ranges from SND.UNA to SND.NXT, in order, disjoint and without gaps.

    ``ranges`` is for looking only.
    """

    __slots__ = ("lost_octets", "ranges", "sacked_octets", "sacked_segments")

    def __init__(self) -> None:
        self.ranges: list[SentRange] = []
        self.lost_octets = 0
        self.sacked_octets = 0
        self.sacked_segments = 0

    def __bool__(self) -> bool:
        return bool(self.ranges)

    def __len__(self) -> int:
        return len(self.ranges)

    def __iter__(self) -> Iterator[SentRange]:
        return iter(self.ranges)

    def __getitem__(self, index: int) -> SentRange:
        return self.ranges[index]

    def clear(self) -> None:
        """Forget everything."""
        self.ranges.clear()
        self.lost_octets = self.sacked_octets = self.sacked_segments = 0

    def append(self, start: int, end: int, now: float, gso_size: int) -> None:
        """New octets were sent."""
        self.ranges.append(SentRange(start, end, now, gso_size))

    def resent(self, sent: SentRange, end: int, now: float, gso_size: int, msl: float) -> None:
        """``sent`` up to ``end`` went out again, in pieces of ``gso_size``.

        ``msl``: for how long (seconds) the network may keep the earlier transmission.
        """
        if end < sent.end:
            index = self._index(sent.start)
            self.ranges.insert(index + 1, sent.split(end))
        if sent.lost:
            sent.lost = False
            self.lost_octets -= sent.octets
        # What was sent more than an MSL ago is in the network no more (RFC 9293 3.4.3). Without
        # this, a sender that repeats all it has stays backed off for ever.
        sent.ambiguous = now - sent.sent_at <= msl
        sent.sent_at = now
        sent.gso_size = gso_size
        sent.transmissions += 1

    def _index(self, position: int) -> int:
        """Return the index of the range that holds ``position``; -1 if it is before all."""
        ranges = self.ranges
        low, high = 0, len(ranges)
        while low < high:
            middle = (low + high) >> 1
            if position < ranges[middle].start:
                high = middle
            else:
                low = middle + 1
        return low - 1

    def find(self, position: int) -> SentRange | None:
        """Return the range that holds ``position``."""
        index = self._index(position)
        if index < 0 or self.ranges[index].end <= position:
            return None
        return self.ranges[index]

    # ---- acknowledgments -------------------------------------------------------------------

    def acknowledge(self, ack: int) -> list[SentRange]:
        """Drop everything before ``ack``; return the ranges that went, whole ones only.

        A range that ``ack`` cuts keeps its rest, whose pieces count from there. If it was thought
        lost, its front is returned too: that it arrived may show that nothing was (RFC 5682).
        """
        ranges = self.ranges
        count = 0
        front: list[SentRange] = []
        for sent in ranges:
            if sent.end > ack:
                if sent.start < ack:
                    self._uncount(sent, ack - sent.start)
                    if sent.lost and ack - sent.start >= sent.gso_size:
                        rest = sent.split(ack)
                        front.append(sent)
                        ranges[count] = rest
                    else:
                        sent.start = ack
                break
            self._uncount(sent, sent.end - sent.start)
            count += 1
        gone = ranges[:count]
        del ranges[:count]
        if not ranges:
            self.sacked_segments = 0
        return gone + front

    def _uncount(self, sent: SentRange, octets: int) -> None:
        if sent.lost:
            self.lost_octets -= octets
        if sent.sacked:
            self.sacked_octets -= octets
            self.sacked_segments -= -(-octets // sent.gso_size)

    def sack(self, left: int, right: int) -> list[SentRange]:
        """The peer has ``left .. right``; return what is new of it, each with its history.

        Edges inside a wire segment are rounded inward: half a segment is not delivered.
        """
        ranges = self.ranges
        newly: list[SentRange] = []
        index = max(self._index(left), 0)
        while index < len(ranges) and ranges[index].start < right:
            sent = ranges[index]
            if sent.sacked or sent.end <= left:
                index += 1
                continue
            size = sent.gso_size
            low, high = sent.start, sent.end
            if left > low:
                low += -(-(left - low) // size) * size
            if right < high:
                high = sent.start + (right - sent.start) // size * size
            if low >= high:
                index += 1
                continue
            if low > sent.start:
                index += 1
                ranges.insert(index, sent.split(low))
                sent = ranges[index]
            if high < sent.end:
                ranges.insert(index + 1, sent.split(high))
            newly.append(self._mark_sacked(sent))
            index = self._join(index) + 1
        return newly

    def _mark_sacked(self, sent: SentRange) -> SentRange:
        if sent.lost:
            sent.lost = False
            self.lost_octets -= sent.octets
        sent.sacked = True
        self.sacked_octets += sent.octets
        self.sacked_segments += sent.segments
        history = SentRange(sent.start, sent.end, sent.sent_at, sent.gso_size)
        history.transmissions = sent.transmissions
        return history

    def _join(self, index: int) -> int:
        """Join the range at ``index`` with sacked neighbours; return where it is now."""
        ranges = self.ranges
        if index + 1 < len(ranges) and ranges[index + 1].sacked:
            ranges[index].end = ranges[index + 1].end
            del ranges[index + 1]
        if index and ranges[index - 1].sacked:
            ranges[index - 1].end = ranges[index].end
            del ranges[index]
            index -= 1
        return index

    def forget_sacks(self) -> None:
        """The peer has given up octets it had (RFC 2018 section 8): all may be needed again."""
        for sent in self.ranges:
            sent.sacked = False
        self.sacked_octets = self.sacked_segments = 0

    # ---- loss ------------------------------------------------------------------------------

    def mark_lost(self, sent: SentRange) -> None:
        """``sent`` has left the network and must go again."""
        if not sent.lost and not sent.sacked:
            sent.lost = True
            self.lost_octets += sent.octets

    def mark_first_lost(self) -> None:
        """Mark the first wire segment in flight lost."""
        first = self.ranges[0]
        if first.octets > first.gso_size:
            self.ranges.insert(1, first.split(first.start + first.gso_size))
        self.mark_lost(first)

    def unmark_lost(self) -> None:
        """Nothing was lost after all."""
        for sent in self.ranges:
            sent.lost = False
        self.lost_octets = 0

    def first_lost(self) -> SentRange | None:
        """Return the first range that waits to be sent again."""
        if not self.lost_octets:
            return None
        for sent in self.ranges:
            if sent.lost:
                return sent
        return None

    def last_segment(self) -> SentRange | None:
        """Split off and return the last wire segment, unless the peer has it."""
        if not self.ranges or self.ranges[-1].sacked:
            return None
        last = self.ranges[-1]
        at = last.start + (last.octets - 1) // last.gso_size * last.gso_size
        if at > last.start:
            self.ranges.append(last.split(at))
        return self.ranges[-1]
