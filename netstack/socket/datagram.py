"""UDP sockets with the calls, and the errno values, of Linux."""

from __future__ import annotations

import errno
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from netstack.core.address import parse_address
from netstack.driver.base import PENDING, Pending
from netstack.socket import options as so
from netstack.socket.base import ANY, SOCK_DGRAM, Address, SocketBase, System
from netstack.socket.errno import os_error
from netstack.socket.stream import MSG_DONTWAIT

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from netstack.transport.udp import Datagrams

MAX_PAYLOAD = 65_507  # octets, over IPv4
_ENDPOINT_OPTIONS = frozenset({"ttl", "traffic_class", "broadcast", "receive_buffer"})


class DatagramSocket(SocketBase):
    """A UDP socket; it gets a port with ``bind``, or when it first needs one.

    As on Linux, errors that the network reports are told only once the socket is connected.
    """

    type = SOCK_DGRAM
    proto = 17
    _known_options: ClassVar[dict[tuple[int, int], so.Option]] = so.DATAGRAM

    def __init__(self, system: System) -> None:
        super().__init__(system)
        self._datagrams: Datagrams | None = None
        self._connected = False

    def _endpoint(self, local: Address = ("", 0)) -> Datagrams:
        """Return the endpoint, bound to ``local`` if it wasn't bound yet."""
        self.check_open()
        endpoint = self._datagrams
        if endpoint is None:
            stack = self._system.stack
            endpoint = self._datagrams = self._call(lambda _now: stack.datagrams(local))
            for name, value in self._options.items():
                self._apply(name, value)
        return endpoint

    def bind(self, address: Address) -> None:
        """Receive on that local address and port.

        Raises: EINVAL if bound already, EADDRINUSE, EADDRNOTAVAIL.
        """
        self.check_open()
        if self._datagrams is not None:
            raise os_error(errno.EINVAL)
        host, port = self._resolve(address, call="bind")
        local = parse_address(host)
        internet = self._system.stack.internet
        if not (local.is_unspecified or local.is_multicast or internet.is_local(local)):
            raise os_error(errno.EADDRNOTAVAIL)
        self._endpoint(("" if host == ANY else host, port))

    def connect(self, address: Address) -> None:
        """Send to that address by default, and receive from it only."""
        remote = self._remote(address, "connect")
        endpoint = self._endpoint()
        self._call(lambda _now: endpoint.connect(remote))
        self._connected = True

    def connect_ex(self, address: Address) -> int:
        """As ``connect``, but return the errno."""
        try:
            self.connect(address)
        except OSError as error:
            return error.errno or errno.EIO
        return 0

    def _remote(self, address: Address, call: str) -> Address:
        self.check_open()
        host, port = self._resolve(address, call=call)
        return ("127.0.0.1" if host == ANY else host), port

    def send(self, data: Buffer, flags: int = 0) -> int:
        """Send one datagram to the connected peer.

        Raises: EDESTADDRREQ without one, ECONNREFUSED if the last one met a closed port.
        """
        self.check_open()
        if not self._connected:
            raise os_error(errno.EDESTADDRREQ)
        return self._send(data, None)

    def sendall(self, data: Buffer, flags: int = 0) -> None:
        """As ``send``: a datagram goes whole or not at all."""
        self.send(data, flags)

    def sendto(self, data: Buffer, *args: Any) -> int:
        """Send one datagram: ``sendto(data[, flags], address)``.

        Raises: EMSGSIZE above 65,507 octets, EACCES to a broadcast address without SO_BROADCAST.
        """
        if not 1 <= len(args) <= 2:
            raise TypeError(f"sendto() takes 2 or 3 arguments ({1 + len(args)} given)")
        return self._send(data, self._remote(args[-1], "sendto"))

    def _send(self, data: Buffer, remote: Address | None) -> int:
        if memoryview(data).nbytes > MAX_PAYLOAD:
            raise os_error(errno.EMSGSIZE)
        if remote is not None and not remote[1]:
            raise os_error(errno.EINVAL)
        endpoint = self._endpoint()

        def send(now: float) -> int:
            self._raise_pending(endpoint)
            return endpoint.send(data, now, remote)

        return self._call(send)

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        """Return the next datagram, cut to ``bufsize`` octets."""
        return self.recvfrom(bufsize, flags)[0]

    def recvfrom(self, bufsize: int, flags: int = 0) -> tuple[bytes, Address]:
        """Return the next datagram, cut to ``bufsize`` octets, and its sender."""
        if bufsize < 0:
            raise ValueError("negative buffersize in recvfrom")
        if flags & ~MSG_DONTWAIT:
            raise os_error(errno.EOPNOTSUPP)
        endpoint = self._endpoint()
        timeout = 0.0 if flags else self._timeout
        data, source = self._wait(endpoint, partial(self._receive, endpoint), "recvfrom", timeout)
        return data[:bufsize], source

    def recv_into(self, buffer: Buffer, nbytes: int = 0, flags: int = 0) -> int:
        """Receive the next datagram into ``buffer``; return how many octets it has there."""
        return self.recvfrom_into(buffer, nbytes, flags)[0]

    def recvfrom_into(
        self, buffer: Buffer, nbytes: int = 0, flags: int = 0
    ) -> tuple[int, Address]:
        """As ``recv_into``, with the sender."""
        view = memoryview(buffer).cast("B")
        data, source = self.recvfrom(nbytes or len(view), flags)
        view[: len(data)] = data
        return len(data), source

    def _receive(
        self, endpoint: Datagrams, now: float
    ) -> tuple[bytes, Address] | Literal[Pending.PENDING]:
        self.check_open()
        self._raise_pending(endpoint)
        item = endpoint.receive()
        return PENDING if item is None else item

    def _raise_pending(self, endpoint: Datagrams) -> None:
        while (error := endpoint.take_error()) is not None:
            if self._connected:
                raise error

    def close(self) -> None:
        """Give the port back; idempotent. Whoever blocks in a call of this socket gets EBADF."""
        if self._closed:
            return
        self._closed = True
        self._system.sockets.pop(self._number, None)
        endpoint = self._datagrams
        if endpoint is None:
            return

        def close(now: float) -> None:
            endpoint.close(now)
            self._driver.wake(endpoint)

        self._last_call(close)

    def _endpoints(self) -> tuple[Datagrams, ...]:
        return () if self._datagrams is None else (self._datagrams,)

    def getsockname(self) -> Address:
        """Return the local address and port."""
        self.check_open()
        host, port = self._datagrams.local if self._datagrams is not None else ("", 0)
        return host or ANY, port

    def getpeername(self) -> Address:
        """Return the connected peer.

        Raises: ENOTCONN.
        """
        self.check_open()
        remote = self._datagrams.remote if self._datagrams is not None else None
        if remote is None:
            raise os_error(errno.ENOTCONN)
        return remote

    def _apply(self, name: str, value: Any) -> None:
        if self._datagrams is not None and name in _ENDPOINT_OPTIONS:
            setattr(self._datagrams, name, value)

    def _default(self, option: so.Option) -> Any:
        if option.name in ("receive_buffer", "send_buffer"):
            return self._system.stack.context.config.udp.receive_buffer
        return super()._default(option)

    def _take_error(self, now: float) -> int:
        error = self._datagrams.take_error() if self._datagrams is not None else None
        return (getattr(error, "errno", 0) if self._connected else 0) or 0
