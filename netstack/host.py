"""A running host: a stack, the driver that runs it, and the system calls of its applications."""

from __future__ import annotations

import errno
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Literal, ParamSpec, Self, TypeVar, overload

from netstack.core.address import parse_address
from netstack.core.errors import NetstackError, TimedOut
from netstack.driver.base import PENDING, Pending, Waiting
from netstack.naming.hosts import HostsTable
from netstack.naming.resolver import Resolver
from netstack.socket import DatagramSocket, EchoReply, EchoSocket, Server, StreamSocket, System
from netstack.socket.base import AF_INET, SOCK_DGRAM, SOCK_STREAM
from netstack.socket.errno import os_error
from netstack.socket.lookup import look_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from netstack.core.trace import TraceEvent
    from netstack.driver.base import Driver, Task
    from netstack.naming.resolver import Resolution
    from netstack.socket import Service, TaskService
    from netstack.stack import Stack
    from netstack.transport.tcp.info import ConnectionInfo

P = ParamSpec("P")
T = TypeVar("T")
Socket = StreamSocket | DatagramSocket
Address = tuple[str, int]

_TYPE_MASK = 0xF  # Linux: SOCK_NONBLOCK and SOCK_CLOEXEC stand above the type
_SOCK_NONBLOCK = 0o4000


class Host:
    """A stack and its driver; thread-safe where the driver is. Also a context manager.

    ``dns`` are the addresses of name servers, ``hosts`` a table of names that need none.
    ``shared_driver``: the driver runs other hosts too and outlives this one.
    """

    def __init__(
        self,
        stack: Stack,
        driver: Driver,
        *,
        dns: str | Iterable[str] = (),
        hosts: Mapping[str, str] | HostsTable | None = None,
        shared_driver: bool = False,
    ) -> None:
        self.stack = stack
        self.driver = driver
        servers = (dns,) if isinstance(dns, str) else tuple(dns)
        table = hosts if isinstance(hosts, HostsTable) else HostsTable.of(hosts or {})
        self.resolver = Resolver(
            stack.context, [parse_address(server) for server in servers], hosts=table
        )
        """Answers ``resolve``; may be replaced before its first use."""
        self._shared_driver = shared_driver
        self._servers: list[Server] = []
        self._closed = False
        self._system = System(stack.name, stack, driver, self._addresses)
        driver.add_stack(stack)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<host {self.name}>"

    @property
    def name(self) -> str:
        """The stack's name."""
        return self.stack.name

    @property
    def now(self) -> float:
        """The driver's clock in seconds."""
        return self.driver.now

    # -- sockets ------------------------------------------------------------------------------

    @overload
    def socket(
        self, family: int = ..., type: Literal[1] = ..., proto: int = ...
    ) -> StreamSocket: ...
    @overload
    def socket(self, family: int, type: Literal[2], proto: int = ...) -> DatagramSocket: ...
    @overload
    def socket(self, family: int = ..., type: int = ..., proto: int = ...) -> Socket: ...

    def socket(self, family: int = AF_INET, type: int = SOCK_STREAM, proto: int = 0) -> Socket:
        """Return a new socket: SOCK_STREAM for TCP, SOCK_DGRAM for UDP.

        Raises: OSError for a family, type or protocol that this stack doesn't have.
        """
        if family != AF_INET:
            raise os_error(errno.EAFNOSUPPORT)
        kind = type & _TYPE_MASK
        if kind not in (SOCK_STREAM, SOCK_DGRAM):
            raise os_error(errno.ESOCKTNOSUPPORT)
        made = StreamSocket if kind == SOCK_STREAM else DatagramSocket
        if proto not in (0, made.proto):
            raise os_error(errno.EPROTONOSUPPORT)
        opened = made(self._system)
        if type & _SOCK_NONBLOCK:
            opened.setblocking(False)
        return opened

    def create_connection(self, address: Address, timeout: float | None = None) -> StreamSocket:
        """Return a socket connected to ``address``; a name's addresses are tried in order.

        ``timeout`` (seconds) bounds the resolution and each attempt, and stays the socket's.
        Raises: the last attempt's error.
        """
        failure: Exception = os_error(errno.EHOSTUNREACH)
        for host in self._addresses(address[0], timeout):
            attempt = StreamSocket(self._system)
            attempt.settimeout(timeout)
            try:
                attempt.connect((host, address[1]))
            except OSError as error:
                attempt.close()
                failure = error
            except BaseException:
                attempt.close()
                raise
            else:
                return attempt
        raise failure

    def create_server(self, address: Address, *, backlog: int = 128) -> StreamSocket:
        """Return a socket that listens on ``address``; an empty host means every address."""
        listener = StreamSocket(self._system)
        try:
            listener.bind(address)
            listener.listen(backlog)
        except BaseException:
            listener.close()
            raise
        return listener

    def ping(self, host: str, *, size: int = 56, timeout: float | None = 1.0) -> EchoReply:
        """Send one ICMP echo request of ``size`` octets and return the reply, with its ``rtt``.

        Raises: TimedOut, Unreachable.
        """
        with EchoSocket(self._system) as echo:
            return echo.ping(host, size=size, timeout=timeout)

    # -- names --------------------------------------------------------------------------------

    def resolve(self, name: str, type: str = "A", *, timeout: float | None = 10.0) -> list[str]:
        """Return the data of the records of that type, as text; aliases are followed.

        Raises: NameNotFound, NameServerError, TimedOut; ValueError for what cannot be asked.
        """
        return self.look_up(self.resolver, name, type, timeout=timeout).result().texts()

    def look_up(
        self,
        resolver: Resolver,
        name: str,
        type: str,
        *,
        timeout: float | None = 10.0,
        over_tcp: bool = False,
    ) -> Resolution:
        """Let ``resolver`` answer a question over this host's stack; return what it ended with.

        Raises: TimedOut if it didn't end in time; ValueError for what cannot be asked.
        """
        return look_up(self.driver, self.stack, resolver, name, type, timeout, over_tcp=over_tcp)

    def _addresses(self, host: str, timeout: float | None) -> list[str]:
        try:
            return [str(parse_address(host))]
        except ValueError:
            return self.resolve(host, timeout=10.0 if timeout is None else timeout)

    # -- what runs here -----------------------------------------------------------------------

    def serve(self, service: Service | TaskService, port: int, *, address: str = "") -> Server:
        """Run a built-in server (``netstack.app.services``) on ``port``; 0 lets one be chosen."""
        server = Server(self._system, service, port, address=address)
        self._servers.append(server)
        return server

    def spawn(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Task[T]:
        """Run ``function`` beside the caller; ``join`` returns its result."""
        task = self.driver.spawn(function, *args, **kwargs)
        task.host = self.name
        return task

    def sleep(self, seconds: float) -> None:
        """Block for so many seconds of the host's clock."""
        self.driver.sleep(seconds)

    # -- what it looks like -------------------------------------------------------------------

    def counters(self) -> Mapping[str, int]:
        """Return all counters; wire frames and segments, also under offload."""
        return self.driver.call(lambda _now: self.stack.counters())

    def connections(self) -> list[ConnectionInfo]:
        """Return the TCP connections, as ``ss -ti`` shows them."""
        return self.driver.call(lambda _now: self.stack.connections())

    @contextmanager
    def trace(self, listener: Callable[[TraceEvent], None]) -> Iterator[None]:
        """Hand every event within the ``with`` block to ``listener``, after its step.

        ``listener`` runs inside a section: it must not block nor call the host.
        """
        context = self.stack.context
        stop = self.driver.call(lambda _now: context.listen(listener))

        def end(_now: float) -> None:
            context.deliver_trace()  # what happened since the last step ended
            stop()

        try:
            yield
        finally:
            if self._closed:
                stop()
            else:
                self.driver.call(end)

    # -- the end ------------------------------------------------------------------------------

    def close(self, timeout: float = 5.0) -> None:
        """End all connections; idempotent.

        Send queues are drained and FINs acknowledged for up to ``timeout`` seconds, the rest is
        reset. Sockets raise EBADF afterwards.
        """
        if self._closed:
            return
        self._closed = True
        if not self._shared_driver:
            self.driver.close(timeout)
            return
        with suppress(NetstackError, RuntimeError):  # the simulation may be over already
            self._drain(timeout)
        self.driver.remove_stack(self.stack)

    def _drain(self, timeout: float) -> None:
        for server in self._servers:
            server.close()
        self.driver.call(self.stack.close)
        for opened in tuple(self._system.sockets.values()):
            opened.close()
        waiting = Waiting(self.name, "close")
        try:
            self.driver.wait(None, self._drained, timeout, waiting)
        except TimedOut:
            self.driver.call(self.stack.abort)

    def _drained(self, now: float) -> Literal[True] | Literal[Pending.PENDING]:
        return True if self.stack.drained else PENDING
