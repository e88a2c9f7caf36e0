"""Times that users and peers choose: TCP_CORK's bound, and the user timeout option (RFC 5482)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netstack.core.timers import Timer
from netstack.core.trace import Reason
from netstack.transport.tcp.state import State
from netstack.wire.tcp import build_user_timeout

if TYPE_CHECKING:
    from netstack.transport.tcp.connection import Connection
    from netstack.wire.tcp import Segment

CORK_TIME = 0.2  # seconds that a cork holds octets back, as Linux
MAX_USER_TIMEOUT = 3600.0  # seconds; U_LIMIT of RFC 5482 3.1: what a peer may make us wait


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


def announce(connection: Connection) -> None:
    """The user chose a timeout: tell the peer, if that is wanted."""
    if offered(connection) and connection.state >= State.ESTABLISHED:
        connection.receiver.ack_reason = Reason.USER_TIMEOUT
        connection.tcp.mark_dirty(connection)


def offered(connection: Connection) -> bytes:
    """Return the option that tells our user timeout; nothing without one."""
    if connection.user_timeout is None or not connection.tcp.config.user_timeout_option:
        return b""
    return build_user_timeout(connection.user_timeout)


def take(connection: Connection, segment: Segment) -> None:
    """The peer tells its user timeout: wait as long as it does, within bounds (RFC 5482 3.1).

    Never shorter than without, or a forged option would end the connection early. A timeout that
    the user chose stands.
    """
    config = connection.tcp.config
    if config.user_timeout_option and segment.user_timeout:
        wanted = max(segment.user_timeout, config.r2_timeout)
        connection.peer_timeout = min(wanted, max(MAX_USER_TIMEOUT, config.r2_timeout))
