"""Built-in servers: what a service is, and the object that runs one on a port.

A *service* opens one *session* for each connection. A session is sans-IO: it is handed what
arrived, and asked for what to send; it never blocks, so it runs in the stack's turn and needs no
thread. A service whose code blocks (a WSGI application) is a ``TaskService`` instead: each of its
connections is handled in a task of its own, through a socket.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from netstack.socket.stream import StreamSocket


class Session(Protocol):
    """One connection's worth of a stream service."""

    @property
    def finished(self) -> bool:
        """Whether the connection is to be closed as soon as ``outgoing`` is empty."""

    @property
    def abort(self) -> bool:
        """Whether the connection is to be reset at once."""

    @property
    def paused(self) -> bool:
        """Whether it wants no input now: its answers wait, and its buffers are bounded.

        What arrived stays in the connection, whose window closes. Asked again after each
        ``outgoing``; a session that is handed input all the same may abort.
        """

    def receive(self, data: bytes, now: float) -> None:
        """Take what the peer sent; ``b""`` is its end of stream."""

    def outgoing(self, limit: int) -> bytes | memoryview:
        """Return, and forget, at most ``limit`` octets to send; empty = nothing now."""

    def next_deadline(self) -> float | None:
        """Return when ``handle_timers`` wants to be called, or None."""

    def handle_timers(self, now: float) -> None:
        """Do what is due."""

    def close(self) -> None:
        """Release what it holds (open files): the connection is over, however it ended."""


@runtime_checkable
class Service(Protocol):
    """A server's protocol half, never blocking."""

    stream: bool
    """Whether it serves TCP connections (``open``)."""
    datagram: bool
    """Whether it answers UDP datagrams (``receive_datagram``)."""

    def open(self, peer: tuple[str, int], local: tuple[str, int], now: float) -> Session:
        """Return the session of a new connection."""

    def receive_datagram(self, data: bytes, peer: tuple[str, int], now: float) -> bytes | None:
        """Return the answer to a datagram, or None for none."""


@runtime_checkable
class TaskService(Protocol):
    """A server whose code blocks: ``handle`` runs in a task, once a connection."""

    def handle(self, connection: StreamSocket) -> None:
        """Serve one connection; it is closed afterwards."""
