"""The options of a connection, by name: what ``set_option`` takes and ``get_option`` tells.

Names: nodelay cork quickack keepalive keepalive_idle keepalive_interval keepalive_probes
send_buffer receive_buffer linger user_timeout ttl traffic_class congestion report_errors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from netstack.core.trace import Reason
from netstack.transport.tcp import user_timeout
from netstack.transport.tcp.congestion import make
from netstack.transport.tcp.receiver import QuickAcks
from netstack.transport.tcp.state import State

if TYPE_CHECKING:
    from netstack.transport.tcp.connection import Connection

_KEEPALIVE_FIELDS = {"keepalive_idle": 0, "keepalive_interval": 1, "keepalive_probes": 2}


def keepalive_times(connection: Connection) -> tuple[float, float, int]:
    """Return the idle time and the interval in seconds, and how many probes may go unanswered."""
    config = connection.tcp.config
    return connection.keepalive_times or (
        config.keepalive_idle,
        config.keepalive_interval,
        config.keepalive_probes,
    )


def set_option(connection: Connection, name: str, value: Any) -> None:
    """Set the option ``name``.

    Raises: ValueError for an unknown name or an unusable value.
    """
    if name in ("nodelay", "cork", "quickack"):
        _set_pace(connection, name, bool(value))
    elif name == "user_timeout":
        connection.user_timeout = value
        user_timeout.announce(connection)
    elif name in ("send_buffer", "receive_buffer"):
        _set_buffer(connection, name, int(value))
    elif name == "keepalive":
        connection.keepalive = bool(value)
        connection.restart_keepalive()
    elif name in _KEEPALIVE_FIELDS:
        fields = list(keepalive_times(connection))
        fields[_KEEPALIVE_FIELDS[name]] = value
        connection.keepalive_times = (fields[0], fields[1], int(fields[2]))
        connection.restart_keepalive()
    elif name == "report_errors":
        connection.report_errors = bool(value)
    elif name == "congestion":
        initial = connection.tcp.config.initial_window
        connection.sender.use_congestion(make(str(value), connection.sender.mss, initial))
    elif name == "traffic_class":
        connection.traffic_class = value & ~3  # the lowest two bits are ECN's (RFC 3168 5)
    elif name in ("linger", "ttl"):
        setattr(connection, name, value)
    else:
        raise ValueError(f"no such option: {name}")


def _set_pace(connection: Connection, name: str, value: bool) -> None:
    """Set what decides when short segments and ACKs go."""
    sender = connection.sender
    if name == "quickack":
        connection.receiver.quickack = QuickAcks() if value else None
        if value and connection.receiver.unacked:
            connection.set_ack(Reason.ACK)
        return
    if name == "cork":
        sender.cork = sender.snd_una if value else None
    else:
        sender.nodelay = value
        if value and sender.cork is not None:
            sender.cork = sender.data_end  # as on Linux: what waits goes now
    connection.tcp.mark_dirty(connection)


def _set_buffer(connection: Connection, name: str, size: int) -> None:
    if size < 1:
        raise ValueError("a buffer holds at least one octet")
    if name == "send_buffer":
        connection.sender.buffer_size = connection.sender.buffer_limit = size
        return
    connection.receiver.fix_size(size)
    untold = (
        connection.state is State.SYN_SENT and connection.sender.snd_nxt == connection.sender.iss
    )
    if untold and connection.tcp.config.window_scaling:
        connection.receiver.choose_shift()


def get_option(connection: Connection, name: str) -> Any:
    """Return the option ``name``.

    Raises: ValueError for an unknown name.
    """
    if name == "nodelay":
        return connection.sender.nodelay
    if name == "cork":
        return connection.sender.cork is not None
    if name == "quickack":
        return connection.receiver.quickack is not None
    if name == "report_errors":
        return connection.report_errors
    if name == "congestion":
        return connection.sender.congestion.name
    if name == "send_buffer":
        return connection.sender.buffer_size
    if name == "receive_buffer":
        return connection.receiver.buffer_size
    if name == "keepalive":
        return connection.keepalive
    if name in _KEEPALIVE_FIELDS:
        return keepalive_times(connection)[_KEEPALIVE_FIELDS[name]]
    if name in ("linger", "user_timeout", "ttl", "traffic_class"):
        return getattr(connection, name)
    raise ValueError(f"no such option: {name}")
