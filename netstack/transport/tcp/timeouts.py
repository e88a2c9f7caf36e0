"""What a connection does when time has passed (RFC 9293 3.8.1, 3.8.3, 3.8.4, 3.10.8).

One timer a connection, armed for the earliest of its deadlines; beside it TCP_CORK's bound.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netstack.core.errors import TimedOut
from netstack.core.timers import NEVER, Timer
from netstack.core.trace import Reason
from netstack.transport.tcp import fast_open, options, output, pmtud
from netstack.transport.tcp.state import LINGERING, State
from netstack.transport.tcp.transmission import needs_persist

if TYPE_CHECKING:
    from netstack.transport.tcp.connection import Connection

CORK_TIME = 0.2  # seconds that a cork holds octets back, as Linux


def handle_timer(connection: Connection, now: float) -> None:
    """Do what is due at ``now``, and arm the timer again."""
    connection.tcp.current = connection
    receiver, sender = connection.receiver, connection.sender
    if receiver.ack_deadline <= now:
        receiver.ack_deadline = NEVER
        connection.set_ack(Reason.DELAYED_ACK)
    if sender.timer_deadline <= now:
        sender.timer_deadline = NEVER
        _on_sender_timer(connection, now)
    if connection.idle_deadline <= now:
        connection.idle_deadline = NEVER
        _on_idle_timer(connection, now)
    connection.update_timer()
    connection.tcp.current = None


def _on_sender_timer(connection: Connection, now: float) -> None:
    sender = connection.sender
    if sender.timer_kind == "reorder":
        connection.tcp.context.count("tcp.reorder_timer")
        sender.on_reorder_timer(now)
        connection.tcp.mark_dirty(connection)
    elif sender.timer_kind == "tlp":
        connection.tcp.context.count("tcp.tail_loss_probes")
        output.send_tail_probe(connection, now)
    else:
        _on_retransmission_timer(connection, now)


def _on_retransmission_timer(connection: Connection, now: float) -> None:
    sender = connection.sender
    if _gives_up(connection, now):
        error = connection.soft_error or TimedOut(f"no answer from {connection.remote_address}")
        connection.tcp.context.count("tcp.timeouts")
        connection.finish(error)
        return
    connection.tcp.mark_dirty(connection)
    if sender.persist or (not sender.queue and needs_persist(sender)):
        connection.tcp.context.count("tcp.persist_timer")
        sender.rtt.back_off()
        sender.persist = True
        sender.restart_timer(now)
        output.send_probe(connection, now)
        return
    if not sender.queue:  # nothing could leave: see Sender.wait
        sender.rtt.back_off()
        sender.restart_timer(now)
        return
    connection.tcp.context.count("tcp.retransmission_timer")
    sender.on_timeout(now)
    fast_open.on_timeout(connection)
    if pmtud.on_timeout(connection):
        output.update_mss(connection)
    if sender.timeouts == connection.tcp.config.r1_retransmissions:
        # RFC 9293 3.8.3 a: R1. The neighbour cache finds a dead gateway by itself, since
        # nothing confirms it any more and it is probed.
        connection.tcp.context.count("tcp.r1_reached")
        connection.report(TimedOut(f"no answer from {connection.remote_address} so far"))
    connection.tcp.sample(connection)


def _gives_up(connection: Connection, now: float) -> bool:
    """RFC 9293 3.8.3: R2 as a time without progress; for SYN at least three minutes."""
    config = connection.tcp.config
    sender = connection.sender
    passive = connection.listener is not None or fast_open.is_early(connection)
    if connection.state is State.SYN_RECEIVED and passive:
        limit = config.syn_ack_timeout
    elif connection.state <= State.SYN_RECEIVED:
        limit = config.syn_timeout
    else:
        limit = connection.peer_timeout or config.r2_timeout
        if connection.orphan:
            limit = min(limit, config.orphan_timeout)
    if connection.user_timeout is not None:
        limit = connection.user_timeout
    return now - sender.last_progress >= limit


def _on_idle_timer(connection: Connection, now: float) -> None:
    if connection.state is State.FIN_WAIT_2 and connection.orphan:
        connection.finish(None)
        return
    if connection.orphan and connection.linger is not None and connection.state in LINGERING:
        connection.tcp.context.count("tcp.linger_aborts")
        output.send_reset(connection)
        connection.finish(None)
        return
    if not connection.keepalive:
        return
    idle, interval, probes = options.keepalive_times(connection)
    connection.idle_deadline = now + interval
    if connection.sender.timer_deadline != NEVER:
        return  # retransmissions or window probes ask the peer already, and R2 bounds them
    sent = connection.keepalive_probes_sent
    limit = connection.user_timeout or connection.peer_timeout
    # As Linux, and RFC 5482 4.2: the user's time counts, not how often was asked in it.
    over = sent and idle + sent * interval >= limit if limit else sent >= probes
    if over:
        output.send_reset(connection)
        connection.finish(
            TimedOut(f"no answer from {connection.remote_address} to keep-alive probes")
        )
        return
    connection.keepalive_probes_sent += 1
    output.send_keepalive(connection)


def hold_cork(connection: Connection) -> None:
    """A corked connection took octets: let none of them wait for longer than CORK_TIME."""
    if connection.cork_timer is None:

        def pull(now: float) -> None:
            connection.cork_timer = None
            sender = connection.sender
            if sender.cork is not None and connection.state is not State.CLOSED:
                sender.cork = sender.data_end
                connection.tcp.mark_dirty(connection)

        connection.cork_timer = Timer(pull)
        context = connection.tcp.context
        context.timers.arm(connection.cork_timer, context.now + CORK_TIME)
