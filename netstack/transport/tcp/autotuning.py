"""How large the buffers of a connection are: as large as its path needs, and no larger.

Theory of operation. A sender can have no more in flight than the receive window, so a window
below the bandwidth-delay product wastes the path. What a reader takes in one round-trip time is
what the path (or the window) let through, so the buffer is made twice that: enough for a sender
whose congestion window doubles every round trip (dynamic right-sizing, Fisk and Feng 2001). A
slow reader takes little per round trip and keeps a small buffer. The round-trip time comes from
the echoes of our timestamps; without them from the time that a window's worth of octets takes to
arrive, the shortest seen, since that is never less than a round trip.

A send buffer holds what is in flight and as much again to go on with: twice the congestion
window. Buffers only grow: a window once told is never taken back (RFC 9293 3.8.6, SHLD-14). A
size that the user gave, in the configuration or by SO_RCVBUF and SO_SNDBUF, stays as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netstack.transport.tcp.rtt import MIN_RTT

if TYPE_CHECKING:
    from netstack.core.config import TcpConfig
    from netstack.transport.tcp.receiver import Receiver
    from netstack.transport.tcp.sender import Sender

INITIAL_SIZE = 128 * 1024  # octets, as Linux: ten segments pass, and slow start does a few rounds
TUNE_FROM = 32 * 1024
"""Octets received from which on the buffer is tuned: most connections never need it."""


def send_sizes(config: TcpConfig) -> tuple[int, int]:
    """Return the first and the largest size of a send buffer."""
    return _sizes(config.send_buffer, config.send_buffer_max)


def receive_sizes(config: TcpConfig) -> tuple[int, int]:
    """Return the first and the largest size of a receive buffer."""
    return _sizes(config.receive_buffer, config.receive_buffer_max)


def _sizes(fixed: int | None, largest: int) -> tuple[int, int]:
    if fixed is not None:
        return fixed, fixed
    return min(INITIAL_SIZE, largest), largest


def grow_send_buffer(sender: Sender) -> None:
    """The congestion window may have grown: let the buffer follow."""
    wanted = 2 * sender.congestion.cwnd
    if sender.buffer_size < wanted and sender.buffer_size < sender.buffer_limit:
        memory = sender.memory
        if memory is None or not memory.tight:
            sender.buffer_size = min(wanted, sender.buffer_limit)


class ReceiveTuner:
    """Measures a receiver's round trips and what its reader takes in each."""

    __slots__ = ("_from", "_last", "_round_end", "_round_start", "_since", "_timed", "rtt")

    def __init__(self, receiver: Receiver, now: float) -> None:
        self.rtt: float | None = None
        self._timed = False  # by timestamps
        self._round_end: int = receiver.rcv_adv
        self._round_start = now
        self._from: int = receiver.read_to  # position of the reader when the measurement began
        self._since = now
        self._last: int = receiver.buffer_size // 2  # taken in the measurement before

    def on_text(self, receiver: Receiver, now: float, sample: float | None) -> None:
        """Text arrived in order; ``sample`` is the round trip that its timestamp echo shows."""
        if sample is not None:
            sample = max(sample, MIN_RTT)
            known = self.rtt if self._timed else None
            self.rtt = sample if known is None else known + (sample - known) / 8
            self._timed = True
        if self._timed or receiver.rcv_nxt < self._round_end:
            return
        elapsed = max(now - self._round_start, MIN_RTT)
        self.rtt = elapsed if self.rtt is None else min(self.rtt, elapsed)
        self._round_end = max(receiver.rcv_adv, receiver.rcv_nxt + 1)
        self._round_start = now

    def on_read(self, receiver: Receiver, now: float) -> None:
        """The reader has taken octets: once a round trip, see whether the buffer is enough."""
        elapsed = now - self._since
        if self.rtt is None or elapsed < self.rtt:
            return
        position = receiver.read_to
        taken = position - self._from
        if receiver.rcv_nxt > position:
            # What it left behind shows that the reader is the slow part: its rate counts, not
            # how much it takes at a time.
            taken = int(taken * self.rtt / max(elapsed, MIN_RTT))
        self._from, self._since = position, now
        if taken <= self._last:
            return
        # The next round may bring as much more again as this one did, while the news of a larger
        # window takes half a round to get there.
        growth = min(taken / max(self._last, 1), 2.0)
        self._last = taken
        wanted = int(2 * taken * growth) + 16 * receiver.mss
        if wanted > receiver.buffer_size and (
            receiver.memory is None or not receiver.memory.tight
        ):
            receiver.buffer_size = min(wanted, receiver.buffer_limit)
