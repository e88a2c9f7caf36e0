"""The receiving half of a connection: window, reassembly, when to acknowledge.

Sequence numbers here are unwrapped (``core.seqnum.unwrap``): their low 32 bits are on the wire.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from netstack.core.buffer import ReceiveBuffer, octets_of
from netstack.core.seqnum import MASK
from netstack.core.timers import NEVER
from netstack.core.trace import Reason
from netstack.transport.tcp.autotuning import TUNE_FROM, ReceiveTuner
from netstack.transport.tcp.limits import FLOOR, LARGE_FLOOR
from netstack.transport.tcp.reassembly import OutOfOrderQueue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netstack.transport.tcp.memory import Memory

MAX_RECENT = 7  # positions remembered besides the latest
ACK_AT_LEAST_EVERY = 65_536  # octets
QUICK_ACKS = 16  # TCP_QUICKACK, as Linux's TCP_MAX_QUICKACKS
MAX_WINDOW_SCALE = 14  # RFC 7323 2.3


class QuickAcks:
    """TCP_QUICKACK: no ACK is delayed, until so many have gone or the application answers.

    As on Linux the option starts a phase and is no lasting setting. The next text that arrives
    may be answered by the application, and its segment carries the ACK for nothing.
    """

    __slots__ = ("heard_at", "left")

    def __init__(self) -> None:
        self.left: int = QUICK_ACKS
        self.heard_at: float = -math.inf  # when text last arrived


class Receiver:
    """``RCV`` variables of RFC 9293 3.3.1, the receive buffer and the acknowledgment decision.

    ``rcv_adv`` is the right edge of the window as last advertised; it never moves left.
    ``ack_reason`` is set when an ACK is due at the end of the burst.
    """

    __slots__ = (
        "ack_deadline",
        "ack_reason",
        "buffer",
        "buffer_limit",
        "buffer_size",
        "duplicate",
        "fin_seq",
        "irs",
        "last_ack_sent",
        "memory",
        "mss",
        "out_of_order",
        "peer_closed",
        "quickack",
        "recent",
        "rcv_adv",
        "rcv_nxt",
        "shift",
        "tuner",
        "unacked",
    )

    def __init__(
        self, buffer_size: int, buffer_limit: int = 0, memory: Memory | None = None
    ) -> None:
        self.buffer_size = buffer_size
        self.buffer_limit: int = max(buffer_limit, buffer_size)  # how far it may grow
        self.memory = memory  # what the host has for all; None: no bound
        self.tuner: ReceiveTuner | None = None  # made once there is much to receive
        self.buffer: ReceiveBuffer | None = None
        self.out_of_order: OutOfOrderQueue | None = None
        self.irs = 0
        self.rcv_nxt = 0
        self.rcv_adv = 0
        self.last_ack_sent = 0
        self.shift = 0  # our window scale, as advertised
        self.mss = 536  # estimate of the peer's segment size, for delayed ACKs
        self.recent: tuple[int, ...] = ()  # where text arrived out of order lately, latest first
        self.duplicate: tuple[int, int] | None = None  # to be told as D-SACK, once
        self.unacked = 0  # octets received in order and not yet acknowledged
        self.fin_seq: int | None = None
        self.peer_closed = False
        self.quickack: QuickAcks | None = None  # acknowledge everything at once, for a while
        self.ack_reason: Reason | None = None
        self.ack_deadline: float = NEVER

    def open(self, irs: int) -> None:
        """Take the peer's initial sequence number."""
        promised = self.rcv_adv - self.rcv_nxt  # by our SYN, if that came first
        self.irs = irs
        self.rcv_nxt = irs + 1
        self.rcv_adv = self.rcv_nxt + promised
        self.last_ack_sent = self.rcv_nxt

    # ---- window ----------------------------------------------------------------------------

    def choose_shift(self) -> None:
        """Choose the window scale that the largest buffer needs (RFC 7323 2.2)."""
        self.shift = 0
        while self.buffer_limit >> self.shift > 0xFFFF and self.shift < MAX_WINDOW_SCALE:
            self.shift += 1

    def free(self) -> int:
        """Return the octets of buffer that nothing occupies."""
        used = self.buffer.length if self.buffer is not None else 0
        return max(self._size() - used, 0)

    def _size(self) -> int:
        """Return the buffer's size; while memory is short, what keeps a flow going."""
        if self.memory is not None and self.memory.tight:
            return min(self.buffer_size, max(FLOOR, min(2 * self.mss, LARGE_FLOOR)))
        return self.buffer_size

    @property
    def read_to(self) -> int:
        """Sequence number one past the last octet that the application has taken."""
        return self.rcv_nxt - (self.buffer.length if self.buffer is not None else 0)

    def fix_size(self, size: int) -> None:
        """Use a buffer of ``size`` octets from now on; a window that was told stays open."""
        self.buffer_size = self.buffer_limit = size
        self.tuner = None

    def tune(self, now: float, sample: float | None) -> None:
        """Text arrived in order; ``sample``: the round trip that its timestamps show, if any."""
        if self.tuner is None:
            self.tuner = ReceiveTuner(self, now)
        self.tuner.on_text(self, now, sample)

    @property
    def may_grow(self) -> bool:
        """Whether the buffer is to be tuned: its size isn't final, and much has arrived."""
        return self.buffer_size < self.buffer_limit and self.rcv_nxt - self.irs > TUNE_FROM

    def window_to_advertise(self, scale: int) -> int:
        """Return the window field to send, and move the right edge accordingly.

        RFC 9293 3.8.6.2.2: the edge stays until it can move by a segment or half the buffer.
        RFC 7323 2.4: rounding to the scale must not move it left, so it rounds up then; not
        beyond an eighth more than the buffer, or small segments would push it for ever.
        """
        offered = self.rcv_adv - self.rcv_nxt
        window = offered
        held = self.buffer.length if self.buffer is not None else 0
        size = self._size()
        free = max(size - held, 0)
        if free - offered >= min((size + 1) // 2, self.mss):
            window = free
        field = min(window >> scale, 0xFFFF)
        promised = held + (field << scale)
        if field << scale < offered and field < 0xFFFF and promised <= self.buffer_size * 9 // 8:
            field += 1
        self.rcv_adv = max(self.rcv_adv, self.rcv_nxt + (field << scale))
        return field

    def wants_window_update(self) -> bool:
        """Return whether the application has read enough to tell the peer unasked.

        Two segments, or half the buffer: what a sender with silly-window avoidance waits for.
        """
        # What the scale cannot tell the peer is no news.
        half = (self._size() + 1) // 2
        offered = self.rcv_adv - self.rcv_nxt
        if offered >= half:
            return False
        return min(self.free(), 0xFFFF << self.shift) - offered >= min(half, 2 * self.mss)

    # ---- segment text ----------------------------------------------------------------------

    def take_text(self, seq: int, pieces: Sequence[bytes | memoryview], length: int) -> int:
        """Take in segment text at ``seq``; return how far the stream advanced in order.

        Text left of the window was received before, text right of it is not kept.
        """
        if seq < self.rcv_nxt:
            self.duplicate = (seq, min(seq + length, self.rcv_nxt))
        limit: int = self.rcv_adv if self.fin_seq is None else min(self.rcv_adv, self.fin_seq)
        start, end = max(seq, self.rcv_nxt), min(seq + length, limit)
        if start >= end:
            return 0
        if start != seq or end != seq + length:
            pieces = _cut(pieces, start - seq, end - seq)
        if start > self.rcv_nxt:
            self._keep_out_of_order(start, pieces)
            return 0
        if self.buffer is None:
            self.buffer = ReceiveBuffer()
        queue = self.out_of_order
        if queue is not None and queue.start <= end:
            if end == queue.start:  # it fills the gap
                pieces = [*pieces, *queue.take(end)]
            else:
                # Through the queue, so that octets that arrived earlier win over these.
                queue.insert(start, pieces)
                pieces = queue.take(start)
            end = start + octets_of(pieces)
            if self.fin_seq is not None and end > self.fin_seq:
                # It came before the FIN that says that it cannot be.
                end = self.fin_seq
                pieces = _cut(pieces, 0, end - start)
            if not queue:
                self.out_of_order = None
                self.recent = ()
        self.buffer.append(pieces)
        self.rcv_nxt = end
        return end - start

    def keeps(self, seq: int) -> bool:
        """Whether text at ``seq`` is kept: what waits behind gaps may take twice the buffer.

        Its overhead included. What is not kept, the peer sends again.
        """
        queue = self.out_of_order
        return queue is None or seq <= self.rcv_nxt or queue.charged < 2 * self.buffer_size

    def _keep_out_of_order(self, start: int, pieces: Sequence[bytes | memoryview]) -> None:
        if self.out_of_order is None:
            self.out_of_order = OutOfOrderQueue()
        if not self.out_of_order.insert(start, pieces):
            self.duplicate = (start, start + octets_of(pieces))
        self.recent = (start, *self.recent[:MAX_RECENT])

    def forget_out_of_order(self) -> int:
        """Drop what waits behind gaps; return how much was charged for it (RFC 2018 8)."""
        queue, self.out_of_order = self.out_of_order, None
        self.recent = ()
        return queue.charged if queue is not None else 0

    # ---- selective acknowledgment ----------------------------------------------------------

    @property
    def has_sack_news(self) -> bool:
        """Whether an ACK would carry SACK blocks."""
        return self.duplicate is not None or bool(self.out_of_order)

    def sack_blocks(self, limit: int) -> list[tuple[int, int]]:
        """Return up to ``limit`` blocks as they go on the wire; a duplicate is told once.

        RFC 2018 4: the block with the latest segment first, then those told before; RFC 2883 4:
        a duplicate comes before all others, followed by the block that holds it.
        """
        if limit <= 0:
            return []
        blocks: list[tuple[int, int]] = []
        if self.duplicate is not None:
            blocks.append(self.duplicate)
            self.duplicate = None
        queue = self.out_of_order
        if queue is not None:
            for index in self._latest_ranges(queue, limit - len(blocks)):
                start, end = queue.range(index)
                if end == self.fin_seq:
                    # FIN came with it: a sender takes the segment for delivered only as a whole.
                    end += 1
                # Also a block that is just the duplicate: told once, it would be no D-SACK.
                blocks.append((start, end))
        return [(left & MASK, right & MASK) for left, right in blocks]

    def _latest_ranges(self, queue: OutOfOrderQueue, limit: int) -> list[int]:
        """Return up to ``limit`` ranges by index, those where text arrived lately first."""
        found: list[int] = []
        count: int = len(queue)
        limit = min(limit, count)
        for position in self.recent:
            if len(found) >= limit:
                return found
            index: int = queue.find(position)
            if index >= 0 and index not in found:
                found.append(index)
        for index in range(count):
            if len(found) >= limit:
                break
            if index not in found:
                found.append(index)
        return found

    def on_in_order(self, advanced: int, largest: int, now: float, delay: float) -> None:
        """Decide about the ACK for ``advanced`` new octets (RFC 9293 3.8.6.3, RFC 5681 4.2)."""
        self.mss = min(max(self.mss, largest), 65_535)
        self.unacked += advanced
        quick = self.quickack
        if quick is not None:
            quick.heard_at = now
        if self.unacked >= 2 * self.mss or quick or self.unacked >= ACK_AT_LEAST_EVERY:
            self.ack_reason = self.ack_reason or Reason.ACK
        elif self.ack_deadline == NEVER:
            self.ack_deadline = now + delay

    def on_ack_sent(self) -> None:
        """Everything received is acknowledged now."""
        self.last_ack_sent = self.rcv_nxt
        self.unacked = 0
        self.ack_reason = None
        self.ack_deadline = NEVER
        if self.quickack is not None:
            self.quickack.left -= 1
            if self.quickack.left <= 0:
                self.quickack = None

    def on_answer(self, now: float, delay: float) -> None:
        """The application sends: an exchange back and forth needs no quick ACKs any more."""
        if self.quickack is not None and now - self.quickack.heard_at < delay:
            self.quickack = None


def _cut(pieces: Sequence[bytes | memoryview], start: int, end: int) -> list[bytes | memoryview]:
    """Return the octets ``start .. end`` of ``pieces``."""
    result = []
    position = 0
    for piece in pieces:
        size = len(piece)
        low, high = max(start - position, 0), min(end - position, size)
        if low < high:
            result.append(piece[low:high])
        position += size
    return result
