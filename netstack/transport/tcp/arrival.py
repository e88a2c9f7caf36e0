"""Segment arrival, one function a step (RFC 9293 3.10.7.3 and 3.10.7.4).

Each step returns whether the segment goes on to the next. Where RFC 5961 is stricter than the
base rules (RST, SYN and ACK out of place), it is followed. One deviation: a segment without text
exactly at the right edge of the window is acceptable, as in Linux; it is what a peer that has
filled our window sends when an earlier segment was lost, and its ACK must not be ignored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netstack.core.errors import Refused, Reset
from netstack.core.seqnum import MASK, diff, unwrap
from netstack.core.timers import NEVER
from netstack.core.trace import Reason
from netstack.transport.tcp import ecn, fast_open, output, urgent, user_timeout
from netstack.transport.tcp.autotuning import grow_send_buffer
from netstack.transport.tcp.connection import PAWS_IDLE
from netstack.transport.tcp.receiver import MAX_WINDOW_SCALE
from netstack.transport.tcp.state import CAN_RECEIVE_TEXT, SYN_RECEIVED, SYN_SENT, State
from netstack.wire.tcp import ACK, FIN, RST, SYN, URG

if TYPE_CHECKING:
    from netstack.transport.tcp.connection import Connection
    from netstack.wire.tcp import Segment

CONFIRM_INTERVAL = 1.0  # seconds between hints to the neighbour cache


def receive_segment(connection: Connection, segment: Segment, now: float) -> None:
    """Process a segment whose checksum is good, in any state but CLOSED, LISTEN, TIME-WAIT."""
    state, receiver = connection.state, connection.receiver
    if state is SYN_SENT:
        _receive_in_syn_sent(connection, segment, now)
        return
    seq = unwrap(segment.seq, receiver.rcv_nxt)
    if state is SYN_RECEIVED and segment.flags & (SYN | ACK | RST) == SYN | ACK:
        seq = _skip_known_syn(connection, segment, seq)
    if not _check_sequence(connection, segment, seq, now):
        return
    flags = segment.flags
    if flags & RST:
        _check_rst(connection, seq, now)
        return
    if flags & SYN:
        _check_syn(connection, segment, seq, now)
        return
    if not flags & ACK:
        connection.tcp.context.drop("tcp.no_ack", segment.segments)
        return
    if connection.idle_deadline != NEVER:
        connection.restart_keepalive()
    if not _check_ack(connection, segment, seq, now):
        return
    _note_timestamp(connection, segment, seq, now)
    if connection.ecn is not None or segment.user_timeout or flags & URG:
        _take_signals(connection, segment, seq, now)
    if segment.length:
        _take_text(connection, segment, seq, now)
    if flags & FIN or receiver.fin_seq is not None:
        _take_fin(connection, segment, seq)


def _take_signals(connection: Connection, segment: Segment, seq: int, now: float) -> None:
    """What a good segment says besides text and numbers."""
    if segment.flags & URG:
        urgent.take(connection, segment, seq)
    if segment.user_timeout:
        user_timeout.take(connection, segment)
    if connection.ecn is not None:
        connection.ecn.on_segment(connection, segment, now)


def _receive_in_syn_sent(connection: Connection, segment: Segment, now: float) -> None:
    """RFC 9293 3.10.7.3."""
    sender = connection.sender
    context = connection.tcp.context
    flags = segment.flags
    ack = unwrap(segment.ack, sender.snd_una)
    acceptable = flags & ACK and sender.iss < ack <= sender.snd_max
    if flags & ACK and not acceptable:
        context.drop("tcp.bad_ack_in_syn_sent", segment.segments)
        if not flags & RST:
            connection.tcp.reply_reset(connection, segment)
        return
    if flags & RST:
        if not acceptable:  # RFC 5961 3: a RST must acknowledge our SYN
            context.drop("tcp.bad_rst", segment.segments)
            return
        connection.finish(Refused(f"{connection.remote_address} refused the connection"))
        return
    if not flags & SYN:
        context.drop("tcp.no_syn", segment.segments)
        return
    take_syn(connection, segment, now)
    if not acceptable:
        # Simultaneous open (RFC 9293 3.5, figure 8): our SYN goes again, as SYN,ACK.
        connection.set_state(State.SYN_RECEIVED)
        resend_syn(connection)
        return
    fast_open.take_syn_ack(connection, segment, ack)
    sender.on_ack(ack, now, _handshake_rtt(connection, segment, now))
    sender.snd_wl1, sender.snd_wl2 = unwrap(segment.seq, connection.receiver.rcv_nxt), ack
    sender.on_window(segment.window, grew=False)
    connection.establish()
    connection.set_ack(Reason.ACK_HANDSHAKE)
    if segment.length:
        _take_text(connection, segment, connection.receiver.rcv_nxt, now)
    if flags & FIN:
        _note_fin(connection, segment, connection.receiver.irs + 1)
        _check_fin(connection)


def _skip_known_syn(connection: Connection, segment: Segment, seq: int) -> int:
    """Simultaneous open, figure 8 line 6: the SYN,ACK repeats a SYN we have; its ACK counts.

    By the acceptability test alone it would be out of window, and each side would wait for the
    other's retransmission.
    """
    sender = connection.sender
    known = seq == connection.receiver.irs
    if known and unwrap(segment.ack, sender.snd_una) == sender.snd_max:
        segment.flags &= ~SYN
        return seq + 1
    return seq


def take_syn(connection: Connection, segment: Segment, now: float) -> None:
    """Take the peer's initial sequence number and options from its SYN (RFC 9293 3.7.1)."""
    config = connection.tcp.config
    sender, receiver = connection.sender, connection.receiver
    receiver.open(segment.seq)
    connection.peer_mss = 536 if segment.mss is None else segment.mss
    scaling = config.window_scaling and segment.window_scale is not None
    connection.syn_options = scaling
    if scaling:
        sender.shift = min(segment.window_scale or 0, MAX_WINDOW_SCALE)
    else:
        receiver.shift = 0
        receiver.fix_size(receiver.buffer_size)  # its window could not tell of more
    sender.sack_on = config.sack and segment.sack_permitted
    ecn.negotiate(connection, segment)
    user_timeout.take(connection, segment)
    if config.timestamps and segment.ts_val is not None:
        connection.ts_on = True
        connection.ts_recent = segment.ts_val
        connection.ts_recent_at = now
    sender.on_mss(output.mss_of(connection))
    # RFC 6928: the initial window counts segments of the size that was now agreed on.
    initial = config.initial_window
    sender.congestion.cwnd = min(initial * sender.mss, max(2 * sender.mss, 14_600))
    # No window scale applies to the SYN's own window field (RFC 7323 2.2).
    sender.snd_wl1 = receiver.irs
    sender.on_window(segment.window, grew=False)


def resend_syn(connection: Connection) -> None:
    """Let SYN or SYN,ACK leave again."""
    sender = connection.sender
    if sender.queue:
        sender.queue.mark_lost(sender.queue[0])  # data that left with it waits for the answer
    connection.tcp.mark_dirty(connection)


# ---- first: sequence number, timestamps ---------------------------------------------------------


def _check_sequence(connection: Connection, segment: Segment, seq: int, now: float) -> bool:
    receiver = connection.receiver
    flags = segment.flags
    if connection.ts_on and not flags & RST and not _check_timestamp(connection, segment, now):
        return False
    window = receiver.rcv_adv - receiver.rcv_nxt
    length = segment.length + bool(flags & SYN) + bool(flags & FIN)
    offset = seq - receiver.rcv_nxt
    if length == 0:
        acceptable = 0 <= offset < window + (0 if window and flags & RST else 1)
    elif window == 0:
        acceptable = False
    else:
        acceptable = offset < window and offset + length > 0
    if acceptable:
        return True
    return _on_unacceptable(connection, segment, seq, now, zero_window=window == 0)


def _note_timestamp(connection: Connection, segment: Segment, seq: int, now: float) -> None:
    """RFC 7323 4.3 (3): only a segment that spans the last ACK moves TS.Recent.

    After the ACK was found good, which a blind attacker's is not (RFC 5961 5.2): a value from
    the far future would have PAWS drop all that follows.
    """
    if (
        connection.ts_on
        and segment.ts_val is not None
        and seq <= connection.receiver.last_ack_sent
        and diff(segment.ts_val, connection.ts_recent) >= 0
    ):
        connection.ts_recent = segment.ts_val
        connection.ts_recent_at = now


def _check_timestamp(connection: Connection, segment: Segment, now: float) -> bool:
    """PAWS, RFC 7323 5.3 R1; a missing option drops the segment (3.2)."""
    context = connection.tcp.context
    if segment.ts_val is None:
        context.drop("tcp.missing_timestamp", segment.segments)
        return False
    if diff(segment.ts_val, connection.ts_recent) >= 0:
        return True
    if now - connection.ts_recent_at > PAWS_IDLE:
        connection.ts_recent = segment.ts_val
        return True
    context.drop("tcp.paws", segment.segments)
    _reply_ack(connection, segment, now)
    return False


def _on_unacceptable(
    connection: Connection, segment: Segment, seq: int, now: float, *, zero_window: bool
) -> bool:
    context = connection.tcp.context
    flags = segment.flags
    receiver = connection.receiver
    if flags & RST:
        context.drop("tcp.rst_out_of_window", segment.segments)
        return False
    if connection.state is State.SYN_RECEIVED and flags & SYN and seq == receiver.irs:
        context.count("tcp.repeated_syn")
        ecn.on_repeated_syn(connection, segment)
        resend_syn(connection)
        return False
    old = seq + segment.length + bool(flags & FIN) <= receiver.rcv_nxt
    if old and segment.length:
        receiver.duplicate = (seq, seq + segment.length)  # RFC 2883: the peer repeated this
    context.drop("tcp.old_segment" if old else "tcp.out_of_window", segment.segments)
    if zero_window and seq == receiver.rcv_nxt and flags & ACK and not flags & SYN:
        # RFC 9293 3.10.7.4: a closed window still takes ACKs and URG (MUST-66).
        _check_ack(connection, segment, seq, now)
        if connection.state is State.CLOSED:
            return False
        if flags & URG:
            urgent.take(connection, segment, seq)
    _reply_ack(connection, segment, now)
    return False


def _reply_ack(connection: Connection, segment: Segment, now: float) -> None:
    """Answer an unacceptable segment; without text and FIN not too often (RFC 5961 7).

    The limit is the connection's own: a shared one tells an attacker about other connections
    (CVE-2016-5696). What carries text is no part of an ACK loop, and must be answered.
    """
    if not segment.length and not segment.flags & FIN:
        _challenge(connection, Reason.ACK_UNACCEPTABLE, now)
        return
    connection.set_ack(Reason.ACK_UNACCEPTABLE)


def _challenge(connection: Connection, reason: Reason, now: float) -> None:
    if now < connection.challenge_deadline:
        connection.tcp.context.count("tcp.challenge_ack_limited")
        return
    connection.challenge_deadline = now + connection.tcp.config.challenge_ack_interval
    connection.tcp.context.count("tcp.challenge_acks")
    connection.set_ack(reason)


# ---- second: RST; fourth: SYN -------------------------------------------------------------------


def _check_rst(connection: Connection, seq: int, now: float) -> None:
    """RFC 9293 3.10.7.4, second, with RFC 5961 3.2."""
    context = connection.tcp.context
    if seq != connection.receiver.rcv_nxt:
        context.drop("tcp.rst_not_exact")
        _challenge(connection, Reason.CHALLENGE_ACK, now)
        return
    state = connection.state
    context.count("tcp.resets_received")
    if state is State.SYN_RECEIVED and not fast_open.is_early(connection):
        connection.finish(Refused(f"{connection.remote_address} refused the connection"))
    elif state in (State.CLOSING, State.LAST_ACK):
        connection.finish(None)
    else:
        fast_open.on_reset(connection)
        connection.finish(Reset(f"{connection.remote_address} reset the connection"))


def _check_syn(connection: Connection, segment: Segment, seq: int, now: float) -> None:
    """RFC 5961 4.2: a SYN in a synchronized state is challenged."""
    context = connection.tcp.context
    if connection.state is State.SYN_RECEIVED and seq == connection.receiver.irs:
        resend_syn(connection)
        return
    context.drop("tcp.unexpected_syn", segment.segments)
    _challenge(connection, Reason.CHALLENGE_ACK, now)


# ---- fifth: ACK ---------------------------------------------------------------------------------


def _check_ack(connection: Connection, segment: Segment, seq: int, now: float) -> bool:
    sender = connection.sender
    context = connection.tcp.context
    ack = unwrap(segment.ack, sender.snd_una)
    if connection.state is SYN_RECEIVED:
        return _check_ack_of_syn(connection, segment, seq, ack, now)
    if ack > sender.snd_max:
        context.drop("tcp.ack_of_unsent", segment.segments)
        _reply_ack(connection, segment, now)
        return False
    if ack < sender.snd_una - sender.max_window:
        # RFC 5961 5.2: too old to be of this connection.
        context.drop("tcp.ack_too_old", segment.segments)
        _challenge(connection, Reason.CHALLENGE_ACK, now)
        return False
    window = segment.window << sender.shift
    blocks = segment.sack_blocks if sender.sack_on else ()
    if ack > sender.snd_una:
        sender.on_ack(ack, now, _timestamp_rtt(connection, segment, now), blocks)
        if sender.buffer_size < sender.buffer_limit:
            grow_send_buffer(sender)
        connection.soft_error = None
        if now - connection.confirmed_at >= CONFIRM_INTERVAL:
            connection.confirmed_at = now
            connection.tcp.confirm_path(connection)
        _update_window(connection, segment, seq, ack, window, now)
        connection.tcp.mark_dirty(connection)
        connection.on_room()
        if context.trace is not None:
            connection.tcp.sample(connection)
        return not sender.fin_queued or _after_our_fin(connection)
    if ack == sender.snd_una and blocks and (sender.queue or sender.recovery or sender.tail_probe):
        # What SACK tells counts, whatever the window does: no duplicates are counted. A D-SACK
        # may come when all is acknowledged already.
        sender.on_ack(ack, now, _timestamp_rtt(connection, segment, now), blocks)
        connection.tcp.mark_dirty(connection)
        connection.tcp.sample(connection)
    duplicate = (
        not sender.sack_on
        and ack == sender.snd_una
        and not segment.length
        and not segment.flags & FIN
        and bool(sender.queue)
        and sender.snd_wnd <= window <= sender.snd_wnd + 2 * sender.mss
        and not sender.persist
    )
    if ack == sender.snd_una:
        _update_window(connection, segment, seq, ack, window, now)
    if duplicate:
        # The window may grow a little: Linux opens it with every duplicate ACK.
        context.count("tcp.duplicate_acks")
        sender.on_duplicate_ack(now)
        connection.tcp.mark_dirty(connection)
        connection.tcp.sample(connection)
    return True


def _check_ack_of_syn(
    connection: Connection, segment: Segment, seq: int, ack: int, now: float
) -> bool:
    """SYN-RECEIVED: the ACK of our SYN makes the connection (RFC 9293 3.10.7.4, fifth)."""
    sender = connection.sender
    if not sender.snd_una < ack <= sender.snd_max:
        connection.tcp.context.drop("tcp.bad_ack_in_syn_received", segment.segments)
        connection.tcp.reply_reset(connection, segment)
        return False
    listener = connection.listener
    early = fast_open.is_early(connection)
    if listener is not None and not early and not listener.has_room():
        # As Linux does: the ACK is forgotten, the SYN,ACK goes again, the peer's data too.
        connection.tcp.context.drop("tcp.accept_queue_full", segment.segments)
        return False
    sender.on_ack(ack, now, _handshake_rtt(connection, segment, now))
    sender.snd_wl1, sender.snd_wl2 = seq, ack
    sender.on_window(segment.window << sender.shift, grew=False)
    connection.establish()
    connection.tcp.mark_dirty(connection)
    return _after_our_fin(connection)


def _timestamp_rtt(connection: Connection, segment: Segment, now: float) -> float | None:
    """Return the round trip that TSecr shows; None if it says nothing plausible.

    RFC 7323 4.1: only an ACK that advances counts (the caller sees to that). An echo from the
    future, or older than the connection could be, is forged or broken and ignored.
    """
    if not connection.ts_on or segment.ts_val is None:
        return None
    elapsed = (output.timestamp(connection, now) - segment.ts_ecr) & MASK
    if elapsed > 120_000:
        return None
    return elapsed / 1000


def _handshake_rtt(connection: Connection, segment: Segment, now: float) -> float | None:
    """Return the round trip of SYN and SYN,ACK; None if ours had to be sent again.

    A repeated SYN,ACK echoes the first SYN: the sample would be the whole time of waiting, and
    the first timeout three times as long.
    """
    if connection.sender.retransmitted_segments:
        return None
    return _timestamp_rtt(connection, segment, now)


def _update_window(
    connection: Connection, segment: Segment, seq: int, ack: int, window: int, now: float
) -> None:
    """RFC 9293 3.10.7.4: SND.WL1 and SND.WL2 keep old segments from moving the window."""
    sender = connection.sender
    if not (sender.snd_wl1 < seq or (sender.snd_wl1 == seq and sender.snd_wl2 <= ack)):
        return
    before = sender.snd_wnd
    sender.snd_wl1 = seq
    sender.snd_wl2 = ack
    if (window == 0 or sender.persist) and not connection.orphan:
        # RFC 9293 3.8.6.1 (MUST-37): an answered probe is progress, however long it goes on;
        # but what its user has closed may be ended (RFC 6429 4).
        sender.last_progress = now
    if window != before:
        sender.on_window(window, grew=window > before)
        connection.tcp.mark_dirty(connection)


def _after_our_fin(connection: Connection) -> bool:
    """State changes once our FIN is acknowledged."""
    if not connection.sender.fin_acknowledged:
        return True
    state = connection.state
    if state is State.FIN_WAIT_1:
        connection.set_state(State.FIN_WAIT_2)
        if connection.orphan:
            connection.start_idle_timer(connection.tcp.config.fin_wait_2_timeout)
    elif state is State.CLOSING:
        connection.enter_time_wait()
        return False
    elif state is State.LAST_ACK:
        connection.finish(None)
        return False
    return True


# ---- seventh: text; eighth: FIN -----------------------------------------------------------------


def _take_text(connection: Connection, segment: Segment, seq: int, now: float) -> None:
    receiver = connection.receiver
    context = connection.tcp.context
    if connection.state not in CAN_RECEIVE_TEXT:
        context.drop("tcp.text_after_fin", segment.segments)
        return
    if connection.orphan and seq + segment.length > receiver.rcv_nxt:
        # RFC 9293 3.6.1 (SHLD-3): nobody will read this; say so.
        context.drop("tcp.text_after_close", segment.segments)
        output.send_reset(connection)
        connection.finish(None)
        return
    memory = connection.tcp.memory
    if memory.full and not memory.admits(receiver, seq):
        context.drop("tcp.memory_refused", segment.segments)
        connection.set_ack(Reason.ACK_UNACCEPTABLE)
        return
    if receiver.out_of_order is not None and not receiver.keeps(seq):
        context.drop("tcp.out_of_order_refused", segment.segments)
        connection.set_ack(Reason.ACK_UNACCEPTABLE)
        return
    largest = segment.gso_size or segment.length
    in_order = seq <= receiver.rcv_nxt
    filled_gap = bool(receiver.out_of_order)
    advanced = receiver.take_text(seq, segment.payload, segment.length)
    if advanced:
        receiver.on_in_order(advanced, largest, now, connection.tcp.config.delayed_ack)
        if receiver.may_grow:
            full_sized = largest >= receiver.mss
            receiver.tune(now, _timestamp_rtt(connection, segment, now) if full_sized else None)
        if filled_gap:
            connection.set_ack(Reason.ACK)  # RFC 5681 4.2: at once when a gap is filled
        elif receiver.ack_reason is not None:
            connection.tcp.mark_dirty(connection)
        else:
            connection.update_timer()
        connection.on_readable()
    if not in_order:
        context.count("tcp.out_of_order", segment.segments)
        connection.set_ack(Reason.ACK_OUT_OF_ORDER)
    elif not advanced or seq < receiver.rcv_nxt - advanced:
        connection.set_ack(Reason.ACK_UNACCEPTABLE)


def _take_fin(connection: Connection, segment: Segment, seq: int) -> None:
    if segment.flags & FIN:
        _note_fin(connection, segment, seq)
    _check_fin(connection)


def _note_fin(connection: Connection, segment: Segment, seq: int) -> None:
    """Remember where the peer's stream ends; the first FIN within the window counts."""
    receiver = connection.receiver
    fin_seq = seq + segment.length
    if receiver.fin_seq is not None or connection.state not in CAN_RECEIVE_TEXT:
        return
    if receiver.rcv_nxt <= fin_seq < receiver.rcv_adv:
        receiver.fin_seq = fin_seq
        if fin_seq > receiver.rcv_nxt:
            connection.set_ack(Reason.ACK_OUT_OF_ORDER)


def _check_fin(connection: Connection) -> None:
    """RFC 9293 3.10.7.4, eighth."""
    receiver = connection.receiver
    if receiver.peer_closed or receiver.fin_seq != receiver.rcv_nxt:
        return
    receiver.rcv_nxt += 1
    receiver.rcv_adv = max(receiver.rcv_adv, receiver.rcv_nxt)
    receiver.out_of_order = None
    connection.set_ack(Reason.ACK_FIN)
    state = connection.state
    connection.on_peer_closed()
    if state is State.ESTABLISHED:
        connection.set_state(State.CLOSE_WAIT)
    elif state is State.FIN_WAIT_1:
        if connection.sender.fin_acknowledged:
            connection.enter_time_wait()
        else:
            connection.set_state(State.CLOSING)
    elif state is State.FIN_WAIT_2:
        connection.enter_time_wait()
