"""TIME-WAIT: what is left of a connection for 2 MSL (RFC 9293 3.6.1, 3.10.7.4; RFC 1337, 6191).

A record of a few numbers replaces the connection, so that many thousands cost little: an
application's ``Connection`` lives on only as long as somebody holds it. The record acknowledges
what the network still brings, ignores resets (RFC 1337), and makes way for a new connection of
the same four-tuple when timestamps or sequence numbers show that it is newer (RFC 6191). All
records last equally long, so one timer serves the oldest.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING

from netstack.core.errors import Unreachable
from netstack.core.seqnum import MASK, diff
from netstack.core.timers import Timer
from netstack.core.trace import Reason, StateChanged
from netstack.transport.tcp import output
from netstack.transport.tcp.bare import endpoints, send_bare
from netstack.transport.tcp.info import ConnectionInfo
from netstack.transport.tcp.state import State
from netstack.wire.tcp import ACK, FIN, RST, SYN, build_timestamps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netstack.transport.tcp.connection import Connection
    from netstack.transport.tcp.protocol import Tcp
    from netstack.wire.tcp import Segment

REUSE_AFTER = 1.0  # seconds; the peer's and our timestamps have moved on by then (RFC 6191)


class TimeWaitRecord:
    """One four-tuple in TIME-WAIT; sequence numbers as on the wire."""

    __slots__ = (
        "deadline",
        "entered",
        "key",
        "owner",
        "quiet_until",
        "rcv_nxt",
        "rcv_wnd",
        "shift",
        "snd_nxt",
        "ts_on",
        "ts_recent",
    )

    def __init__(self, connection: Connection, now: float, deadline: float) -> None:
        receiver = connection.receiver
        self.key = connection.key
        self.snd_nxt: int = connection.sender.snd_max & MASK
        self.rcv_nxt: int = receiver.rcv_nxt & MASK
        self.rcv_wnd: int = receiver.rcv_adv - receiver.rcv_nxt
        self.shift: int = receiver.shift
        self.ts_on: bool = connection.ts_on
        self.ts_recent: int = connection.ts_recent
        self.entered = now
        self.deadline = deadline
        self.quiet_until = 0.0  # no challenge ACK before
        # The application may still look at its connection.
        self.owner: weakref.ref[Connection] | None = weakref.ref(connection)

    def info(self) -> ConnectionInfo:
        """Return what ``ss`` shows of it."""
        local, remote = endpoints(self.key)
        return ConnectionInfo(
            (str(local[0]), local[1]), (str(remote[0]), remote[1]), "TIME-WAIT",
            0, 0, 0, 0, 0, 0, 0.0, 0.0, 0, 0,
            timestamps=self.ts_on, receive_scale=self.shift, receive_window=self.rcv_wnd,
        )  # fmt: skip


class TimeWaitTable:
    """All records of a stack, oldest deadline first."""

    __slots__ = ("_records", "_tcp", "_timer")

    def __init__(self, tcp: Tcp) -> None:
        self._tcp = tcp
        # Not a plain dict: taking its first entry again and again is quadratic.
        self._records: OrderedDict[bytes, TimeWaitRecord] = OrderedDict()
        self._timer = Timer(self._expire, housekeeping=True)

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[TimeWaitRecord]:
        return iter(tuple(self._records.values()))

    def get(self, key: bytes) -> TimeWaitRecord | None:
        """Return the record of that four-tuple, or None."""
        return self._records.get(key)

    def add(self, connection: Connection) -> None:
        """Put ``connection`` into TIME-WAIT; the oldest goes when there are too many."""
        tcp = self._tcp
        if len(self._records) >= tcp.config.max_time_wait:
            tcp.context.count("tcp.time_wait_overflow")
            self.remove(next(iter(self._records.values())))
        now = tcp.context.now
        record = TimeWaitRecord(connection, now, now + 2 * tcp.config.msl)
        self._records[record.key] = record
        self._arm()

    def remove(self, record: TimeWaitRecord) -> None:
        """End TIME-WAIT for ``record``."""
        tcp = self._tcp
        if self._records.get(record.key) is not record:
            return
        del self._records[record.key]
        tcp.release_port(int.from_bytes(record.key[-2:], "big"))
        self._arm()
        owner = record.owner() if record.owner is not None else None
        record.owner = None
        if owner is not None and owner.state is State.TIME_WAIT:
            owner.finish(None)
        elif owner is None and tcp.context.trace is not None:
            local, remote = endpoints(record.key)
            name = f"{local[0]}:{local[1]}-{remote[0]}:{remote[1]}"
            tcp.context.trace.emit(
                StateChanged(
                    tcp.context.now, tcp.context.name, "tcp", name,
                    State.TIME_WAIT.name, State.CLOSED.name,
                )
            )  # fmt: skip

    def remove_owned(self, connection: Connection) -> None:
        """End it for ``connection``, if it is in TIME-WAIT."""
        record = self._records.get(connection.key)
        if record is not None and record.owner is not None and record.owner() is connection:
            self.remove(record)

    def clear(self) -> None:
        """End it for all."""
        for record in self:
            self.remove(record)

    # ---- time ------------------------------------------------------------------------------

    def _arm(self) -> None:
        timers = self._tcp.context.timers
        if not self._records:
            timers.disarm(self._timer)
            self._records = OrderedDict()  # an emptied table keeps its size
            return
        deadline = next(iter(self._records.values())).deadline
        if self._timer.deadline != deadline:
            timers.arm(self._timer, deadline)

    def _restart(self, record: TimeWaitRecord) -> None:
        record.deadline = self._tcp.context.now + 2 * self._tcp.config.msl
        self._records.move_to_end(record.key)  # the order is that of deadlines
        self._arm()

    def _expire(self, now: float) -> None:
        while self._records:
            record = next(iter(self._records.values()))
            if record.deadline > now:
                break
            self.remove(record)
        self._arm()

    # ---- reuse -----------------------------------------------------------------------------

    def may_reopen(self, record: TimeWaitRecord, segment: Segment) -> bool:
        """Return whether a SYN shows itself newer than ``record`` (RFC 6191 2; 9293 MAY-2)."""
        if segment.flags & (SYN | ACK | RST | FIN) != SYN:
            return False
        if record.ts_on and segment.ts_val is not None:
            newer = diff(segment.ts_val, record.ts_recent)
            if newer:
                return newer > 0
        return diff(segment.seq, record.rcv_nxt) > 0

    def may_open(self, key: bytes) -> bool:
        """Return whether we may open that four-tuple ourselves: timestamps protect it."""
        record = self._records.get(key)
        if record is None:
            return True
        return record.ts_on and self._tcp.context.now - record.entered >= REUSE_AFTER

    # ---- segments --------------------------------------------------------------------------

    def receive_segment(self, record: TimeWaitRecord, segment: Segment) -> None:
        """Process a segment in TIME-WAIT (RFC 9293 3.10.7.4)."""
        context = self._tcp.context
        flags = segment.flags
        if flags & RST:
            self._receive_reset(record, segment)
            return
        if record.ts_on and not self._check_timestamp(record, segment):
            return
        if not _acceptable(record, segment):
            context.drop("tcp.time_wait_segment", segment.segments)
            if flags & FIN:
                self._restart(record)
            self._reply(record, segment)
        elif flags & SYN:
            context.drop("tcp.unexpected_syn", segment.segments)
            self._challenge(record, Reason.CHALLENGE_ACK)
        elif not flags & ACK:
            context.drop("tcp.no_ack", segment.segments)
        elif diff(segment.ack, record.snd_nxt) > 0:
            context.drop("tcp.ack_of_unsent", segment.segments)
            self._reply(record, segment)
        elif segment.length:
            context.drop("tcp.text_after_fin", segment.segments)

    def _receive_reset(self, record: TimeWaitRecord, segment: Segment) -> None:
        """RFC 1337 3: a reset does not end TIME-WAIT; RFC 5961 3.2 for one out of place."""
        context = self._tcp.context
        if segment.seq == record.rcv_nxt:
            context.drop("tcp.rst_in_time_wait", segment.segments)
        elif 0 <= diff(segment.seq, record.rcv_nxt) < record.rcv_wnd:
            context.drop("tcp.rst_not_exact", segment.segments)
            self._challenge(record, Reason.CHALLENGE_ACK)
        else:
            context.drop("tcp.rst_out_of_window", segment.segments)

    def _check_timestamp(self, record: TimeWaitRecord, segment: Segment) -> bool:
        context = self._tcp.context
        if segment.ts_val is None:
            context.drop("tcp.missing_timestamp", segment.segments)
            return False
        if diff(segment.ts_val, record.ts_recent) >= 0:
            return True
        context.drop("tcp.paws", segment.segments)
        self._reply(record, segment)
        return False

    def _reply(self, record: TimeWaitRecord, segment: Segment) -> None:
        if not segment.length and not segment.flags & FIN:
            self._challenge(record, Reason.ACK_UNACCEPTABLE)
            return
        self._send_ack(record, Reason.ACK_UNACCEPTABLE)

    def _challenge(self, record: TimeWaitRecord, reason: Reason) -> None:
        """The limit is the record's own, as a connection's is (RFC 5961 7)."""
        context = self._tcp.context
        if context.now < record.quiet_until:
            context.count("tcp.challenge_ack_limited")
            return
        record.quiet_until = context.now + self._tcp.config.challenge_ack_interval
        context.count("tcp.challenge_acks")
        self._send_ack(record, reason)

    def _send_ack(self, record: TimeWaitRecord, reason: Reason) -> None:
        tcp = self._tcp
        local, remote = endpoints(record.key)
        try:
            path = tcp.internet.path(remote[0], local[0])
        except Unreachable:
            tcp.context.count("tcp.no_route_back")
            return
        options = b""
        if record.ts_on:
            offset = tcp.isn.timestamp_offset(local[0].packed, remote[0].packed)
            options = build_timestamps(output.clock(tcp.context.now, offset), record.ts_recent)
        window = min(record.rcv_wnd >> record.shift, 0xFFFF)
        numbers = record.snd_nxt, record.rcv_nxt
        send_bare(tcp, path, record.key, numbers, ACK, reason, window=window, options=options)


def _acceptable(record: TimeWaitRecord, segment: Segment) -> bool:
    """RFC 9293 3.10.7.4, first: the four cases of the acceptability test."""
    offset = diff(segment.seq, record.rcv_nxt)
    length = segment.length + bool(segment.flags & SYN) + bool(segment.flags & FIN)
    if not length:
        return 0 <= offset <= record.rcv_wnd
    return offset < record.rcv_wnd and offset + length > 0
