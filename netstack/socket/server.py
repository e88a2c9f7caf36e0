"""Runs a service on a port: its sessions live in the stack's turn, in handlers and timers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Self

from netstack.core.errors import NetstackError
from netstack.core.timers import Timer
from netstack.socket.base import ANY, Address, System
from netstack.socket.service import Service, TaskService
from netstack.socket.stream import StreamSocket
from netstack.transport.events import Accepted, Event
from netstack.transport.tcp.state import State

if TYPE_CHECKING:
    from netstack.socket.service import Session
    from netstack.transport.tcp.connection import Connection
    from netstack.transport.tcp.listener import Listener
    from netstack.transport.udp import Datagrams

CHUNK = 65_536  # octets handed to or taken from a session at a time


class Server:
    """A service at work. ``close`` ends it; its connections may finish."""

    def __init__(
        self,
        system: System,
        service: Service | TaskService,
        port: int,
        *,
        address: str = "",
        backlog: int = 128,
    ) -> None:
        self._system = system
        self._service = service
        self._driver = system.driver
        self._listener: Listener | None = None
        self._datagrams: Datagrams | None = None
        self._sessions: dict[Connection, _Running] = {}
        self._closed = False
        system.driver.call(partial(self._open, (address, port), backlog))

    def _open(self, local: Address, backlog: int, _now: float) -> None:
        stack = self._system.stack
        blocking = isinstance(self._service, TaskService)
        if blocking or getattr(self._service, "stream", False):
            self._listener = stack.listen(local, backlog=backlog)
            local = (local[0], self._listener.local[1])
            self._driver.set_handler(self._listener, self._on_accepted)
        if not blocking and getattr(self._service, "datagram", False):
            self._datagrams = stack.datagrams(local)
            self._driver.set_handler(self._datagrams, self._on_datagram)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    @property
    def local(self) -> Address:
        """The address and port that it serves."""
        endpoint: Any = self._listener or self._datagrams
        host, port = endpoint.local
        return host or ANY, port

    @property
    def connections(self) -> int:
        """How many sessions run now."""
        return len(self._sessions)

    def close(self) -> None:
        """Take no new connections or datagrams; sessions go on until they finish."""
        if not self._closed:
            self._closed = True
            self._driver.call(self._close)

    def abort(self) -> None:
        """Close, and reset every connection that is left."""
        self.close()
        self._driver.call(self._abort)

    def _close(self, now: float) -> None:
        for endpoint in (self._listener, self._datagrams):
            if endpoint is not None:
                self._driver.set_handler(endpoint, None)
                endpoint.close(now)

    def _abort(self, now: float) -> None:
        for running in list(self._sessions.values()):
            running.end(now, abort=True)

    # -- in the stack's turn ------------------------------------------------------------------

    def _on_accepted(self, event: Event, now: float) -> None:
        if not isinstance(event, Accepted):
            return
        while self._listener is not None:
            connection = self._listener.accept()
            if connection is None:
                return
            if isinstance(self._service, TaskService):
                self._driver.spawn_service(partial(self._handle, connection))
                continue
            session = self._service.open(connection.remote, connection.local, now)
            running = _Running(self._system, connection, session, self._sessions)
            running.pump(now)

    def _handle(self, connection: Connection) -> None:
        """Serve a connection in a task of its own."""
        service = self._service
        with StreamSocket.of(self._system, connection) as stream:
            if isinstance(service, TaskService):
                try:
                    service.handle(stream)
                except OSError:  # the peer went away
                    self._system.stack.context.count("server.connections_lost")

    def _on_datagram(self, event: Event, now: float) -> None:
        endpoint = self._datagrams
        if endpoint is None or not isinstance(self._service, Service):
            return
        while endpoint.take_error() is not None:
            continue
        while (item := endpoint.receive()) is not None:
            data, (host, port) = item
            answer = self._service.receive_datagram(data, (host, port), now)
            if answer is not None:
                self._answer(endpoint, answer, (host, port), now)

    def _answer(self, endpoint: Datagrams, answer: bytes, peer: Address, now: float) -> None:
        try:
            endpoint.send(answer, now, peer)
        except (NetstackError, ValueError):  # no way back, or port 0
            self._system.stack.context.count("server.answers_lost")


class _Running:
    """One session and its connection."""

    def __init__(
        self,
        system: System,
        connection: Connection,
        session: Session,
        sessions: dict[Connection, _Running],
    ) -> None:
        self._system = system
        self._connection = connection
        self._session = session
        self._sessions = sessions
        self._unsent: bytes | memoryview = b""
        self._eof = False
        self._timer = Timer(self._on_timer)
        sessions[connection] = self
        system.driver.set_handler(connection, self._on_event)

    def _on_event(self, event: Event, now: float) -> None:
        self.pump(now)

    def _on_timer(self, now: float) -> None:
        self._session.handle_timers(now)
        self.pump(now)

    def pump(self, now: float) -> None:
        """Move octets both ways until neither side has any, or the peer takes no more.

        While the peer doesn't read, nothing is received either: its window closes, and what a
        session must keep stays bounded.
        """
        try:
            while self._step(now):
                pass
        except NetstackError:  # the connection is dead
            self._system.stack.context.count("server.connections_lost")
            self.end(now, abort=True)
            return
        if self._connection not in self._sessions:
            return
        deadline = self._session.next_deadline()
        timers = self._system.stack.context.timers
        if deadline is None:
            timers.disarm(self._timer)
        else:
            timers.arm(self._timer, max(deadline, now))

    def _step(self, now: float) -> bool:
        """Send or receive once; return whether there may be more to do."""
        session, connection = self._session, self._connection
        if not self._unsent:
            self._unsent = session.outgoing(CHUNK)
        # Asked afterwards: a file that has become too short shows when it is read.
        if session.abort or connection.state is State.CLOSED:
            self.end(now, abort=True)
            return False
        if self._unsent:
            taken = connection.send(self._unsent, now)
            rest = len(self._unsent) - taken
            self._unsent = memoryview(self._unsent)[taken:] if rest else b""
            return not rest
        if session.finished:
            self.end(now, abort=False)
            return False
        if self._eof or session.paused:
            return False
        data = connection.receive(CHUNK, now)
        if data is None:
            return False
        self._eof = not data
        session.receive(data, now)
        return True

    def end(self, now: float, *, abort: bool) -> None:
        """Close or reset the connection, and forget it."""
        if self._sessions.pop(self._connection, None) is None:
            return
        self._system.stack.context.timers.disarm(self._timer)
        self._system.driver.set_handler(self._connection, None)
        if abort:
            self._connection.abort(now)
        else:
            self._connection.close(now)
        self._session.close()
