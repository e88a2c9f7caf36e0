"""What happened to an endpoint, for whoever drives the stack.

Events are pulled with ``Stack.next_event``; the stack never calls back. They say that something
became possible, not how much: an endpoint posts each kind once until it has been pulled.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netstack.core.errors import NetstackError


class Event:
    """Something happened to ``source``: a Connection, Listener, Datagrams or echo endpoint.

    Events are values: nothing changes one.
    """

    __slots__ = ("kind", "source")
    __match_args__ = ("source",)

    def __init__(self, source: Any) -> None:
        self.kind = 0  # the queue's note of the event's type
        self.source = source

    def _values(self) -> tuple[Any, ...]:
        return (self.source,)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self) or not isinstance(other, Event):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        pairs = zip(self.__match_args__, self._values(), strict=True)
        values = ", ".join([f"{name}={value!r}" for name, value in pairs])
        return f"{type(self).__name__}({values})"


class Connected(Event):
    """The handshake of an active open is done."""

    __slots__ = ()


class Accepted(Event):
    """A listener has a new connection; ``source`` is the listener."""

    __slots__ = ("connection",)
    __match_args__ = ("source", "connection")

    def __init__(self, source: Any, connection: Any) -> None:
        self.source = source
        self.connection = connection

    def _values(self) -> tuple[Any, ...]:
        return (self.source, self.connection)


class Readable(Event):
    """Octets or a datagram can be received, or an error is to be told."""

    __slots__ = ()


class Writable(Event):
    """There is room to send again."""

    __slots__ = ()


class UrgentData(Event):
    """The peer announced urgent data: ``Connection.urgent_ahead`` says how far it reaches."""

    __slots__ = ()


class PeerClosed(Event):
    """The peer sent FIN: nothing follows what can still be received."""

    __slots__ = ()


class Closed(Event):
    """The connection is over; ``error`` tells why, None after a normal close."""

    __slots__ = ("error",)
    __match_args__ = ("source", "error")

    def __init__(self, source: Any, error: NetstackError | None = None) -> None:
        self.source = source
        self.error = error

    def _values(self) -> tuple[Any, ...]:
        return (self.source, self.error)


class SoftError(Event):
    """Something is wrong on the way, the connection goes on trying (RFC 9293 3.9.1.8).

    An ICMP error that is no end, or R1 retransmissions without an answer.
    """

    __slots__ = ("error",)
    __match_args__ = ("source", "error")

    def __init__(self, source: Any, error: NetstackError) -> None:
        self.source = source
        self.error = error

    def _values(self) -> tuple[Any, ...]:
        return (self.source, self.error)


_ONCE = (Connected, Readable, Writable, UrgentData, PeerClosed, Closed, SoftError)
_KINDS = {kind: number for number, kind in enumerate(_ONCE)}

MAX_UNPULLED = 4096  # events kept for an application that has not pulled any so far


class EventQueue:
    """Events in order; an event equal to one still waiting is not queued again.

    Whoever has pulled one gets them all. For an application that only asks its endpoints
    (``accept``, ``receive``) the oldest give way, so that connections long gone are not kept.
    """

    __slots__ = ("_pulled", "_queue", "_waiting")

    def __init__(self) -> None:
        self._pulled = False
        self._queue: deque[Event] = deque()
        self._waiting: list[set[object]] = [set() for _ in _ONCE]  # sources, by kind

    def post(self, event: Event) -> None:
        """Queue ``event`` unless one of its kind for its source waits already."""
        if len(self._queue) >= MAX_UNPULLED and not self._pulled:
            self._take()
        if isinstance(event, Accepted):
            self._queue.append(event)
            return
        kind: int = _KINDS[type(event)]
        waiting: set[object] = self._waiting[kind]
        if event.source not in waiting:
            event.kind = kind
            # In this order, and the other one below: an exception of a signal handler that hits
            # in between may double an event, never swallow all later ones of its kind.
            self._queue.append(event)
            waiting.add(event.source)

    def next_event(self) -> Event | None:
        """Return and remove the oldest event, or None."""
        self._pulled = True
        return self._take() if self._queue else None

    def _take(self) -> Event:
        event: Event = self._queue[0]
        if not isinstance(event, Accepted):
            waiting: set[object] = self._waiting[event.kind]
            waiting.discard(event.source)
        self._queue.popleft()
        return event

    def __len__(self) -> int:
        return len(self._queue)
