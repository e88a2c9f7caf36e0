"""One TCP connection: its state, its timers, and the calls of its user (RFC 9293 3.10.1-3.10.6).

The rules of segment arrival are in ``arrival``, building segments in ``output``; what may be
sent and what was lost is the ``Sender``'s, what arrived the ``Receiver``'s. A call changes state
and marks the connection dirty; segments leave at the next poll.
"""

from __future__ import annotations

from contextlib import suppress
from copy import copy
from typing import TYPE_CHECKING, Any

from netstack.core.errors import Aborted, LocalProtocolError, NetstackError, Reset
from netstack.core.timers import NEVER, Timer
from netstack.core.trace import Reason, StateChanged, SystemCall
from netstack.transport.events import (
    Closed,
    Connected,
    PeerClosed,
    Readable,
    SoftError,
    Writable,
)
from netstack.transport.tcp import fast_open, options, output, timeouts, urgent
from netstack.transport.tcp.autotuning import receive_sizes
from netstack.transport.tcp.congestion import make
from netstack.transport.tcp.info import ConnectionInfo, describe
from netstack.transport.tcp.receiver import Receiver
from netstack.transport.tcp.rtt import RttEstimator
from netstack.transport.tcp.sender import Sender
from netstack.transport.tcp.state import (
    CAN_SEND,
    CLOSE_WAIT,
    CLOSED,
    ESTABLISHED,
    LINGERING,
    SYN_RECEIVED,
    SYN_SENT,
    TIME_WAIT,
    TRANSITIONS,
    State,
)

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from netstack.core.address import IPAddress
    from netstack.internet.path import Path
    from netstack.transport.tcp.ecn import Ecn
    from netstack.transport.tcp.fast_open import FastOpen
    from netstack.transport.tcp.listener import Listener
    from netstack.transport.tcp.pmtud import PathSearch
    from netstack.transport.tcp.protocol import Tcp
    from netstack.transport.tcp.urgent import Urgent

PAWS_IDLE = 24 * 86_400.0  # seconds, RFC 7323 5.5


class Connection:
    """A connection, from its first SYN to its last FIN; ``time_wait`` does the rest.

    ``send`` and ``receive`` raise the connection's error once it is dead: Reset, Refused,
    TimedOut or Unreachable.
    """

    __slots__ = (
        "__weakref__",
        "_error_told",
        "_was_full",
        "challenge_deadline",
        "confirmed_at",
        "cork_timer",
        "dirty",
        "ecn",
        "error",
        "fast_open",
        "held",
        "idle_deadline",
        "keepalive",
        "keepalive_probes_sent",
        "keepalive_times",
        "key",
        "linger",
        "listener",
        "local_address",
        "local_port",
        "orphan",
        "path",
        "path_search",
        "peer_timeout",
        "peer_mss",
        "receiver",
        "remote_address",
        "remote_port",
        "report_errors",
        "sender",
        "soft_error",
        "state",
        "syn_options",
        "tcp",
        "timer",
        "traffic_class",
        "ts_offset",
        "ts_on",
        "ts_recent",
        "ts_recent_at",
        "ttl",
        "urgent",
        "user_timeout",
    )

    def __init__(
        self,
        tcp: Tcp,
        key: bytes,
        local: tuple[IPAddress, int],
        remote: tuple[IPAddress, int],
        path: Path,
        iss: int,
    ) -> None:
        config = tcp.config
        self.tcp = tcp
        self.key = key
        # The path's addresses are shared by all connections that go there.
        self.local_address = path.source if path.source == local[0] else local[0]
        self.remote_address = path.destination if path.destination == remote[0] else remote[0]
        self.local_port: int = local[1]
        self.remote_port: int = remote[1]
        self.path = path
        self.path_search: PathSearch | None = None  # made when its MTU is in doubt
        self.state = State.CLOSED
        self.peer_mss = 536  # RFC 9293 3.7.1, until its SYN says more
        self.ts_on = False
        self.ts_offset: int = tcp.isn.timestamp_offset(local[0].packed, remote[0].packed)
        self.ts_recent = 0
        self.ts_recent_at = 0.0
        self.syn_options = True  # offer scaling and timestamps in our SYN
        rtt = RttEstimator(config)
        congestion = make(config.congestion, output.mss_of(self), config.initial_window)
        self.sender = Sender(iss, config, congestion, rtt, tcp.memory)
        self.receiver = Receiver(*receive_sizes(config), tcp.memory)
        self.held = 0  # octets that ``tcp.memory`` has accounted for
        if config.window_scaling:
            self.receiver.choose_shift()
        self.listener: Listener | None = None  # where a passive open came from
        self.error: NetstackError | None = None
        self._error_told = False
        self.soft_error: NetstackError | None = None
        self.report_errors = True  # soft ones, by event and SO_ERROR (RFC 9293 3.9.1.8)
        self.orphan = False  # the application closed it: nobody will read
        self.linger: float | None = None
        self.urgent: Urgent | None = None  # made when urgent data is sent or announced
        self.user_timeout: float | None = None
        self.peer_timeout: float | None = None  # what the peer asked for (RFC 5482)
        self.keepalive: bool = config.keepalive
        self.keepalive_times: tuple[float, float, int] | None = None  # if not as configured
        self.keepalive_probes_sent = 0
        self.ttl: int | None = None
        self.traffic_class = 0
        self.timer = Timer(timeouts.handle_timer, self)
        self.idle_deadline: float = NEVER  # keepalive, FIN-WAIT-2
        self.confirmed_at = 0.0  # when the link layer was last told of progress
        self.challenge_deadline = 0.0  # no challenge ACK before
        self.dirty = False
        self.cork_timer: Timer | None = None
        self.ecn: Ecn | None = None  # made when agreed on
        self.fast_open: FastOpen | None = None  # made when asked for
        self._was_full = False

    # ---- what it looks like ----------------------------------------------------------------

    @property
    def local(self) -> tuple[str, int]:
        """Our address and port."""
        return str(self.local_address), self.local_port

    @property
    def remote(self) -> tuple[str, int]:
        """The peer's address and port."""
        return str(self.remote_address), self.remote_port

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent or arrive any more."""
        return self.state in (State.CLOSED, State.TIME_WAIT)

    @property
    def peer_closed(self) -> bool:
        """Whether the peer's FIN has arrived, after all its data."""
        return self.receiver.peer_closed

    @property
    def readable(self) -> bool:
        """Whether ``receive`` would return octets or the end of the stream, or raise."""
        buffer = self.receiver.buffer
        return (
            (buffer is not None and buffer.length > 0)
            or self.receiver.peer_closed
            or self.state is State.CLOSED
        )

    @property
    def writable(self) -> bool:
        """Whether ``send`` is worth calling: a third of the buffer is free, or it would raise.

        As in Linux: whoever waits for room is not woken for each segment acknowledged.
        """
        state, sender = self.state, self.sender
        open_ = state is ESTABLISHED or state is CLOSE_WAIT
        if (open_ or self.opens_early) and not sender.fin_queued:
            return sender.room() >= max(sender.buffer_size // 3, 1)
        return state is not SYN_SENT and state is not SYN_RECEIVED

    @property
    def opens_early(self) -> bool:
        """Whether data may be sent though the handshake isn't done (RFC 7413).

        The SYN waits for it, or the peer's has come with a good cookie.
        """
        state = self.fast_open
        return state is not None and (state.held or state.pending is not None)

    @property
    def sent(self) -> int:
        """Octets that the application has handed over so far."""
        return self.sender.taken

    @property
    def received(self) -> int:
        """Octets that arrived in order so far."""
        receiver = self.receiver
        if not receiver.irs and not receiver.rcv_nxt:
            return 0
        return max(receiver.rcv_nxt - receiver.irs - 1 - receiver.peer_closed, 0)

    @property
    def queued(self) -> int:
        """Octets in both buffers: not yet acknowledged, and not yet taken."""
        sent, received = self.sender.buffer, self.receiver.buffer
        return (len(sent) if sent is not None else 0) + (received.length if received else 0)

    def info(self) -> ConnectionInfo:
        """Return the numbers that ``ss -ti`` shows."""
        return describe(self)

    # ---- the user's calls ------------------------------------------------------------------

    def send(self, data: Buffer, now: float) -> int:
        """Queue ``data``; return how many octets were taken, 0 when the buffer is full.

        Raises: the connection's error; LocalProtocolError after ``shutdown_write`` or ``close``.
        RFC 9293 3.10.2.
        """
        self.tcp.enter(now)
        if self.state not in CAN_SEND or self.sender.fin_queued:
            self._raise_error()
            raise LocalProtocolError("the sending side is closed")
        view: Any = data
        if not isinstance(data, bytes):
            view = memoryview(data).cast("B")
        tcp = self.tcp
        tcp.current = self  # a cut may leave it half changed
        taken = self.sender.take(view)
        self._was_full = taken < len(view)
        if taken:
            tcp.memory.settle(self)
            if tcp.context.trace is not None:
                self._trace_call("send", self.sent - taken, self.sent)
            if self.sender.cork is not None:
                timeouts.hold_cork(self)
            tcp.mark_dirty(self)
        if self.fast_open is not None:
            fast_open.begin(self)
        tcp.current = None
        return taken

    def send_urgent(self, data: Buffer, now: float) -> int:
        """Queue ``data`` as ``send`` does; what was taken is urgent, and all before it.

        RFC 9293 3.8.5, RFC 6093: for old applications, new ones should not use it.
        """
        taken = self.send(data, now)
        if taken:
            urgent.mark_end(self)
        return taken

    @property
    def urgent_ahead(self) -> int | None:
        """How many octets are still to be read up to the end of the urgent data; None: no mark.

        They may not all have arrived. 0: the mark is reached (what SIOCATMARK asks); it is
        forgotten with the next read.
        """
        if self.urgent is None or self.urgent.receive_up is None:
            return None
        return max(self.urgent.receive_up - urgent.position(self), 0)

    def receive(self, limit: int, now: float) -> bytes | None:
        """Return up to ``limit`` octets; None: nothing yet; ``b""``: the peer closed.

        Raises: the connection's error, after the octets that arrived before it.
        RFC 9293 3.10.3.
        """
        receiver = self.receiver
        buffer = receiver.buffer
        if buffer is not None and buffer.length:
            self.tcp.enter(now)
            self.tcp.current = self  # a cut may leave a hole in the stream
            if self.urgent is not None:
                limit = self.urgent.clip(self, limit)
            data = buffer.take(limit)
            self._after_read(len(data))
            return data
        if receiver.peer_closed:
            return b""
        if self.state is State.CLOSED:
            self._raise_error()
            return b""
        if self.fast_open is not None:
            fast_open.begin(self)  # who waits for the peer has nothing to say first
        return None

    def receive_into(self, view: memoryview, now: float) -> int | None:
        """Receive into ``view``: as ``receive``, without a copy in between; 0: the peer closed."""
        buffer = self.receiver.buffer
        if buffer is None or not buffer.length:
            return None if self.receive(len(view), now) is None else 0
        self.tcp.enter(now)
        self.tcp.current = self
        limit = len(view)
        if self.urgent is not None:
            limit = self.urgent.clip(self, limit)
        length = buffer.take_into(view[:limit])
        self._after_read(length)
        return length

    def _after_read(self, length: int) -> None:
        """The application took octets: there is room again."""
        tcp, receiver, buffer = self.tcp, self.receiver, self.receiver.buffer
        left = buffer.length if buffer is not None else 0
        if not left:
            receiver.buffer = None
        tcp.memory.settle(self)
        if receiver.tuner is not None and receiver.may_grow:
            receiver.tuner.on_read(receiver, tcp.context.now)
        if tcp.context.trace is not None:
            end = self.received - left
            self._trace_call("receive", end - length, end)
        shaken = self.state is not State.SYN_RECEIVED  # before, no scaled window is told
        if shaken and not receiver.peer_closed and receiver.wants_window_update():
            self.set_ack(Reason.WINDOW_UPDATE)
        tcp.current = None

    def _raise_error(self) -> None:
        """Raise the connection's error; it is told once, as SO_ERROR is.

        A copy: its traceback would keep the frames of whoever catches it, and with them the
        connection, alive for as long as the connection keeps the error.
        """
        if self.error is not None and not self._error_told:
            self._error_told = True
            raise copy(self.error)

    def shutdown_write(self, now: float) -> None:
        """Send FIN after what was queued; receiving goes on (RFC 9293 3.6, half-close)."""
        self.tcp.enter(now)
        if self.sender.fin_queued or self.state not in CAN_SEND:
            return
        if self.state is State.SYN_SENT:
            self.finish(None)
            return
        self._trace_call("shutdown", self.sent, self.sent)
        self.tcp.current = self
        self.sender.fin_queued = True
        if self.state is State.CLOSE_WAIT:
            self.set_state(State.LAST_ACK)
        elif self.state is State.ESTABLISHED:
            self.set_state(State.FIN_WAIT_1)
        # In SYN-RECEIVED the FIN waits for the handshake (RFC 9293 3.10.4).
        self.tcp.mark_dirty(self)
        self.tcp.current = None

    def close(self, now: float) -> None:
        """Close both ways; unread octets make it a reset (RFC 9293 3.6.1, RFC 2525 2.17)."""
        self.tcp.enter(now)
        if self.orphan:
            return
        self._trace_call("close", self.sent, self.sent)
        if self.closed:
            self.orphan = True
            self.receiver.buffer = None  # TIME-WAIT goes on, for what the network still holds
            return
        self.tcp.current = self  # nobody could close it again if a cut left it half closed
        self.orphan = True
        buffer = self.receiver.buffer
        unread = buffer is not None and buffer.length > 0
        if unread or self.linger == 0 or not self.tcp.orphans.add(self):
            self.abort(now)
            self.tcp.current = None
            return
        self.shutdown_write(now)
        self.tcp.current = self
        if self.state is State.FIN_WAIT_2:
            self.start_idle_timer(self.tcp.config.fin_wait_2_timeout)
        elif self.linger is not None and self.state in LINGERING:
            self.start_idle_timer(self.linger)
        self.tcp.mark_dirty(self)
        self.tcp.current = None

    def abort(self, now: float) -> None:
        """Reset the connection: queued octets are lost, the peer is told (RFC 9293 3.10.5)."""
        self.tcp.enter(now)
        if self.state in (State.CLOSED, State.TIME_WAIT, State.SYN_SENT):
            self.orphan = True
            self.finish(None)
            return
        self.tcp.current = self
        self.orphan = True
        output.send_reset(self)
        self.finish(Reset("the connection was aborted here"))
        self.tcp.current = None

    def break_off(self, error: BaseException | None) -> None:
        """Drop the connection after an internal error, and tell the peer, who may only listen."""
        # Its fields may be half changed. A reset with a wrong number is challenged (RFC 5961 3).
        with suppress(Exception):
            output.send_reset(self)
        self.finish(Aborted(f"an internal error ended the connection: {error!r}"))

    # ---- options ---------------------------------------------------------------------------

    def set_option(self, name: str, value: Any) -> None:
        """Set the option ``name`` (``options`` has the names).

        Raises: ValueError for an unknown name or an unusable value.
        """
        options.set_option(self, name, value)

    def get_option(self, name: str) -> Any:
        """Return the option ``name`` (``options`` has the names).

        Raises: ValueError for an unknown name.
        """
        return options.get_option(self, name)

    # ---- state -----------------------------------------------------------------------------

    def set_state(self, state: State) -> None:
        """Move along a transition of figure 5."""
        old = self.state
        if state not in TRANSITIONS[old]:
            raise LocalProtocolError(f"no transition from {old.name} to {state.name}")
        self.state = state
        context = self.tcp.context
        if context.trace is not None:
            name = (
                f"{self.local_address}:{self.local_port}-{self.remote_address}:{self.remote_port}"
            )
            context.trace.emit(
                StateChanged(context.now, context.name, "tcp", name, old.name, state.name)
            )

    def establish(self) -> None:
        """The handshake is done (RFC 9293 3.10.7.3-4)."""
        self.set_state(State.ESTABLISHED)
        if self.sender.retransmitted_segments:
            self._after_lost_syn()
        self.restart_keepalive()
        early = fast_open.is_early(self)  # it waits to be accepted, or was, already
        fast_open.on_established(self)
        if early:
            self.on_room()
        elif self.listener is not None:
            self.listener.on_established(self)
        elif not self.orphan:
            self.tcp.post(Connected(self))
            self.tcp.post(Writable(self))
        if self.sender.fin_queued:
            self.set_state(State.FIN_WAIT_1)

    def _after_lost_syn(self) -> None:
        """Data starts afresh, with a longer timeout (RFC 6298 5.7).

        RFC 6928 2: one lost SYN proves nothing, two are taken for congestion.
        """
        config, sender = self.tcp.config, self.sender
        sender.rtt.after_lost_syn()
        initial = config.initial_window if sender.retransmitted_segments == 1 else 1
        sender.congestion = make(sender.congestion.name, sender.mss, initial)
        sender.recovery = None  # it was the SYN's, and would slow down the controller before

    def enter_time_wait(self) -> None:
        """Stay for 2 MSL, to catch what the network still holds (RFC 9293 3.6.1)."""
        self.set_state(State.TIME_WAIT)
        self.sender.discard()
        self.receiver.out_of_order = None
        self.idle_deadline = NEVER
        self.tcp.on_time_wait(self)
        self.notify_closed(None)

    def finish(self, error: NetstackError | None) -> None:
        """Become CLOSED, now; ``error`` is what the user is told."""
        if self.state is State.CLOSED and self.tcp.connections.get(self.key) is not self:
            return
        was_waiting = self.state is State.TIME_WAIT
        if self.state is not State.CLOSED:
            self.set_state(State.CLOSED)
        self.error = self.error or error
        fast_open.on_gone(self, failed=error is not None)
        self.tcp.forget(self)
        self.sender.discard()
        self.receiver.out_of_order = None
        if self.listener is not None:
            self.listener.on_gone(self)
        if not was_waiting:
            self.notify_closed(error)

    def notify_closed(self, error: NetstackError | None) -> None:
        """Tell the user that nothing more will happen."""
        if not self.orphan and self.listener is None:
            self.tcp.post(Readable(self))
            self.tcp.post(Writable(self))
            self.tcp.post(Closed(self, error))

    def on_peer_closed(self) -> None:
        """The peer's FIN is in order (RFC 9293 3.10.7.4, eighth)."""
        self.receiver.peer_closed = True
        if not self.orphan and self.listener is None:
            self.tcp.post(Readable(self))
            self.tcp.post(PeerClosed(self))

    def on_soft_error(self, error: NetstackError) -> None:
        """The network has a complaint that is no end (RFC 9293 3.9.2.2, SHLD-25)."""
        self.soft_error = error
        self.report(error)

    def report(self, error: NetstackError) -> None:
        """Tell the user of a soft error, unless that is switched off."""
        if self.report_errors and not self.orphan and self.listener is None:
            self.tcp.post(SoftError(self, error))

    def take_soft_error(self) -> NetstackError | None:
        """Return the last soft error, once, unless they are switched off: SO_ERROR tells it."""
        if not self.report_errors:
            return None
        error, self.soft_error = self.soft_error, None
        return error

    def on_readable(self) -> None:
        """Octets became available."""
        if self.listener is None:
            self.tcp.post(Readable(self))

    def on_room(self) -> None:
        """Acknowledged octets left the send buffer."""
        if self._was_full and not self.orphan and self.writable:
            self._was_full = False
            self.tcp.post(Writable(self))

    def set_ack(self, reason: Reason) -> None:
        """Let an ACK leave at the end of this burst."""
        if self.receiver.ack_reason is None:
            self.receiver.ack_reason = reason
        self.tcp.mark_dirty(self)

    # ---- timers ----------------------------------------------------------------------------

    def start_idle_timer(self, seconds: float) -> None:
        """Arm the timer that belongs to the state as such."""
        self.idle_deadline = self.tcp.context.now + seconds
        self.update_timer()

    def restart_keepalive(self) -> None:
        """Something was heard: probes start over (RFC 9293 3.8.4)."""
        self.keepalive_probes_sent = 0
        if self.state is State.TIME_WAIT or (self.state is State.FIN_WAIT_2 and self.orphan):
            return
        if self.orphan and self.linger is not None:
            return  # SO_LINGER's time goes on
        self.idle_deadline = NEVER
        if self.keepalive and self.state >= State.ESTABLISHED:
            self.start_idle_timer(options.keepalive_times(self)[0])

    def update_timer(self) -> None:
        """Arm the one timer for the earliest deadline."""
        state = self.state
        if state is CLOSED or state is TIME_WAIT:
            return
        deadline = min(self.sender.timer_deadline, self.receiver.ack_deadline)
        timer = self.timer
        timer.housekeeping = deadline == NEVER or self.sender.persist
        deadline = min(deadline, self.idle_deadline)
        if deadline == timer.deadline:
            return
        if deadline == NEVER:
            self.tcp.context.timers.disarm(timer)
        else:
            self.tcp.context.timers.arm(timer, deadline)

    def _trace_call(self, call: str, start: int, end: int) -> None:
        context = self.tcp.context
        if context.trace is not None:
            name = (
                f"{self.local_address}:{self.local_port}-{self.remote_address}:{self.remote_port}"
            )
            context.trace.emit(
                SystemCall(context.now, context.name, "tcp", call, name, start, end)
            )
