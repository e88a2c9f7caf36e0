"""The states of a connection and the transitions between them (RFC 9293 3.3.2, figure 5).

The table is what figure 5 draws, plus the aborts that its note names. ``Connection`` may only
move along it; a test walks it next to the figure.
"""

from __future__ import annotations

from enum import IntEnum


class State(IntEnum):
    """RFC 9293 3.3.2; ordered so that ``state >= ESTABLISHED`` means synchronized."""

    CLOSED = 0
    LISTEN = 1
    SYN_SENT = 2
    SYN_RECEIVED = 3
    ESTABLISHED = 4
    FIN_WAIT_1 = 5
    FIN_WAIT_2 = 6
    CLOSE_WAIT = 7
    CLOSING = 8
    LAST_ACK = 9
    TIME_WAIT = 10

    # Enum's own is a function in Python, and states are looked up in sets for each segment.
    __hash__ = int.__hash__


# By themselves too: an enum's attribute costs as much as a function call in CPython 3.11, and
# each segment asks for several.
CLOSED, ESTABLISHED, CLOSE_WAIT = State.CLOSED, State.ESTABLISHED, State.CLOSE_WAIT
SYN_SENT, SYN_RECEIVED, TIME_WAIT = State.SYN_SENT, State.SYN_RECEIVED, State.TIME_WAIT

_S = State

TRANSITIONS: dict[State, dict[State, str]] = {
    _S.CLOSED: {
        _S.LISTEN: "passive OPEN",
        _S.SYN_SENT: "active OPEN, send SYN",
        _S.SYN_RECEIVED: "a listener received SYN, send SYN,ACK",
    },
    _S.LISTEN: {_S.CLOSED: "CLOSE"},
    _S.SYN_SENT: {
        _S.ESTABLISHED: "received SYN,ACK, send ACK",
        _S.SYN_RECEIVED: "received SYN (simultaneous open), send SYN,ACK",
        _S.CLOSED: "CLOSE, received RST, or timeout",
    },
    _S.SYN_RECEIVED: {
        _S.ESTABLISHED: "received ACK of SYN",
        _S.FIN_WAIT_1: "CLOSE, send FIN",
        _S.CLOSE_WAIT: "received FIN, send ACK",
        _S.CLOSED: "received RST, or timeout",
    },
    _S.ESTABLISHED: {
        _S.FIN_WAIT_1: "CLOSE, send FIN",
        _S.CLOSE_WAIT: "received FIN, send ACK",
        _S.CLOSED: "ABORT, received RST, or timeout",
    },
    _S.FIN_WAIT_1: {
        _S.FIN_WAIT_2: "received ACK of FIN",
        _S.CLOSING: "received FIN, send ACK",
        _S.TIME_WAIT: "received FIN and ACK of FIN, send ACK",
        _S.CLOSED: "ABORT, received RST, or timeout",
    },
    _S.FIN_WAIT_2: {
        _S.TIME_WAIT: "received FIN, send ACK",
        _S.CLOSED: "ABORT, received RST, or timeout",
    },
    _S.CLOSE_WAIT: {
        _S.LAST_ACK: "CLOSE, send FIN",
        _S.CLOSED: "ABORT, received RST, or timeout",
    },
    _S.CLOSING: {
        _S.TIME_WAIT: "received ACK of FIN",
        _S.CLOSED: "ABORT, received RST, or timeout",
    },
    _S.LAST_ACK: {_S.CLOSED: "received ACK of FIN, RST, or timeout"},
    _S.TIME_WAIT: {_S.CLOSED: "2 MSL passed"},
}

CAN_SEND = frozenset({_S.SYN_SENT, _S.SYN_RECEIVED, _S.ESTABLISHED, _S.CLOSE_WAIT})
"""States in which SEND queues data (RFC 9293 3.10.2)."""

CAN_RECEIVE_TEXT = frozenset({_S.ESTABLISHED, _S.FIN_WAIT_1, _S.FIN_WAIT_2})
"""States in which segment text is taken (RFC 9293 3.10.7.4, seventh)."""

LINGERING = frozenset({State.FIN_WAIT_1, State.CLOSING, State.LAST_ACK})
"""Closed, but not all was acknowledged: SO_LINGER bounds how long."""
