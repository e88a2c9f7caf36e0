"""The user timeout option: how long the peers of a connection wait for each other (RFC 5482)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netstack.core.trace import Reason
from netstack.transport.tcp.state import State
from netstack.wire.tcp import build_user_timeout

if TYPE_CHECKING:
    from netstack.transport.tcp.connection import Connection
    from netstack.wire.tcp import Segment

MAX_USER_TIMEOUT = 3600.0  # seconds; U_LIMIT of RFC 5482 3.1: what a peer may make us wait


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
