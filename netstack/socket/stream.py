"""TCP sockets with the calls, and the errno values, of Linux."""

from __future__ import annotations

import errno
import socket as std
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from netstack.core.address import parse_address
from netstack.core.errors import NetstackError
from netstack.driver.base import PENDING, Pending
from netstack.socket import options as so
from netstack.socket import tcp_info
from netstack.socket.base import (
    ANY,
    SHUT_RD,
    SHUT_RDWR,
    SHUT_WR,
    SOCK_STREAM,
    Address,
    SocketBase,
    System,
)
from netstack.socket.errno import os_error
from netstack.socket.file import make_file
from netstack.transport.tcp.autotuning import receive_sizes, send_sizes
from netstack.transport.tcp.state import State

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from netstack.transport.tcp.connection import Connection
    from netstack.transport.tcp.listener import Listener

# Plain numbers: every call tests them, and arithmetic with flags of an enum is 20 times slower.
MSG_DONTWAIT = int(getattr(std, "MSG_DONTWAIT", 0x40))
MSG_FASTOPEN = int(getattr(std, "MSG_FASTOPEN", 0x20000000))
MSG_NOSIGNAL = int(getattr(std, "MSG_NOSIGNAL", 0x4000))
MSG_OOB = int(std.MSG_OOB)
MSG_PEEK = int(std.MSG_PEEK)
MSG_WAITALL = int(getattr(std, "MSG_WAITALL", 0x100))
RECEIVE_FLAGS = MSG_DONTWAIT | MSG_PEEK | MSG_WAITALL
SEND_FLAGS = MSG_DONTWAIT | MSG_NOSIGNAL | MSG_OOB
# An attribute of a module costs what a method call does.
_ENOTCONN, _EPIPE = errno.ENOTCONN, errno.EPIPE
_OF_THE_SOCKET = frozenset(
    {"reuse_address", "reuse_port", "oob_inline", "fast_open", "fast_open_connect"}
)  # options that no connection knows


class _Push:
    """What ``send`` or ``sendall`` still has to hand over: the conditions that they wait for."""

    __slots__ = ("_connection", "_full", "_rest", "_socket", "_urgent")

    def __init__(
        self, socket: StreamSocket, connection: Connection, data: Any, flags: int
    ) -> None:
        self._socket = socket
        self._connection = connection
        self._rest: Any = data
        self._urgent = flags & MSG_OOB
        self._full = False  # the buffer was: wait until it is worth going on

    def some(self, now: float) -> int | Literal[Pending.PENDING]:
        """Hand over what there is room for, at least one octet."""
        return self._put(now) or (PENDING if memoryview(self._rest).nbytes else 0)

    def all(self, now: float) -> Literal[True] | Literal[Pending.PENDING]:
        """Hand over what there is room for, until nothing is left."""
        if self._full and not self._connection.writable:
            self._socket.check_open()
            return PENDING  # not a piece for each acknowledgment
        taken = self._put(now)
        if taken == len(self._rest):
            return True
        self._rest = memoryview(self._rest)[taken:]
        self._full = True
        return PENDING

    def _put(self, now: float) -> int:
        self._socket.check_open()
        connection = self._connection
        if self._urgent:
            return connection.send_urgent(self._rest, now)
        return connection.send(self._rest, now)


class StreamSocket(SocketBase):
    """A TCP socket: first neither, then a listener or one end of a connection."""

    __slots__ = (
        "_bound",
        "_connecting",
        "_connection",
        "_io_refs",
        "_listener",
        "_peeked",
        "_read_shut",
        "_released",
    )

    type = SOCK_STREAM
    proto = 6
    _known_options: ClassVar[dict[tuple[int, int], so.Option]] = so.STREAM

    def __init__(self, system: System) -> None:
        super().__init__(system)
        self._bound: Address | None = None
        self._connection: Connection | None = None
        self._listener: Listener | None = None
        self._connecting = False
        self._read_shut = False
        self._peeked = b""
        self._io_refs = 0
        self._released = False

    @classmethod
    def of(cls, system: System, connection: Connection) -> StreamSocket:
        """Return a socket for a connection that exists."""
        made = cls(system)
        made._connection = connection
        return made

    # -- opening ------------------------------------------------------------------------------

    def bind(self, address: Address) -> None:
        """Choose the local address and port; it is taken by ``listen`` or ``connect``.

        Raises: EINVAL if it was done already, EADDRNOTAVAIL for an address of somebody else.
        """
        self.check_open()
        if self._bound is not None or self._connection is not None:
            raise os_error(errno.EINVAL)
        host, port = self._resolve(address, call="bind")
        local = parse_address(host)
        if not local.is_unspecified and not self._system.stack.internet.is_local(local):
            raise os_error(errno.EADDRNOTAVAIL)
        self._bound = (host, port)

    def listen(self, backlog: int = 128) -> None:
        """Take connections; ``backlog`` bounds those not accepted yet.

        Raises: EADDRINUSE, EINVAL on a connection.
        """
        self.check_open()
        if self._connection is not None:
            raise os_error(errno.EINVAL)
        if self._listener is not None:
            self._listener.backlog = max(backlog, 1)
            return
        host, port = self._bound or (ANY, 0)
        local = ("" if host == ANY else host, port)
        stack = self._system.stack
        self._listener = self._call(lambda _now: stack.listen(local, backlog=backlog))
        if "fast_open" in self._options:
            self._listener.set_fast_open(self._options["fast_open"])

    def accept(self) -> tuple[StreamSocket, Address]:
        """Wait for a connection; return its socket and the peer's address.

        Raises: EINVAL unless listening.
        """
        self.check_open()
        listener = self._listener
        if listener is None:
            raise os_error(errno.EINVAL)
        connection = self._wait(listener, partial(self._accept, listener), "accept", self._timeout)
        return StreamSocket.of(self._system, connection), connection.remote

    def _accept(self, listener: Listener, now: float) -> Connection | Literal[Pending.PENDING]:
        self.check_open()
        if self._read_shut:
            raise os_error(errno.EINVAL)
        connection = listener.accept()
        if connection is None:
            return PENDING
        for name, value in self._options.items():
            if name not in _OF_THE_SOCKET:
                connection.set_option(name, value)
        return connection

    def connect(self, address: Address) -> None:
        """Open a connection to ``address``; its host may be a name.

        With TCP_FASTOPEN_CONNECT and a cookie of that server it is done at once; the first
        ``send`` sets out, and takes its data along (RFC 7413).

        Raises: what became of it; without blocking EINPROGRESS, then EALREADY until it is done.
        """
        self.check_open()
        connection = self._connection
        held = connection is not None and connection.opens_early
        if self._listener is not None or (connection and (held or not self._connecting)):
            raise os_error(errno.EISCONN)
        begun = connection is None
        if begun:
            self._begin(address, fast=bool(self._options.get("fast_open_connect")))
            if self._held is not None:
                return
        try:
            self._wait(self._connection, self._opened, "connect", self._timeout)
        except BlockingIOError:
            raise os_error(errno.EINPROGRESS if begun else errno.EALREADY) from None

    def connect_ex(self, address: Address) -> int:
        """Open a connection and return 0 or the errno; other failures are raised."""
        try:
            self.connect(address)
        except TimeoutError:
            # The socket's own timeout looks like a call that would have blocked.
            return errno.EAGAIN if self._connecting else errno.ETIMEDOUT
        except OSError as error:
            return error.errno or errno.EIO
        return 0

    def _begin(self, address: Address, *, fast: bool) -> None:
        remote = self._resolve(address, call="connect")
        self._call(partial(self._open, remote, fast))

    @property
    def _held(self) -> Connection | None:
        """The connection, if its SYN waits for data (RFC 7413)."""
        connection = self._connection if self._connecting else None
        return connection if connection is not None and connection.opens_early else None

    def _open(self, remote: Address, fast: bool, now: float) -> None:
        host, port = self._bound or (ANY, 0)
        stack = self._system.stack
        if remote[0] == ANY:  # Linux: connecting to nowhere is connecting to oneself
            remote = ("127.0.0.1", remote[1])
        local = (host if host != ANY else "", port) if self._bound else None
        try:
            self._connection = stack.connect(remote, now, local=local, fast=fast)
        except ValueError:
            raise os_error(errno.ECONNREFUSED) from None  # port 0
        self._connecting = True
        for name, value in self._options.items():
            self._apply(name, value)

    def _opened(self, now: float) -> Literal[True] | Literal[Pending.PENDING]:
        self.check_open()
        connection = self._connection
        if connection is None:
            raise os_error(errno.ECONNABORTED)
        if connection.state in (State.SYN_SENT, State.SYN_RECEIVED):
            return PENDING
        self._connecting = False
        if connection.state is State.CLOSED:
            # The socket is as if new: Linux lets it be connected again.
            self._connection = None
            error = connection.error
            raise copy(error) if error is not None else os_error(errno.ECONNABORTED)
        return True

    # -- transfer -----------------------------------------------------------------------------

    def _connected(self, code: int) -> Connection:
        """Return the connection; ``code`` is the error if there is none."""
        self.check_open()
        if self._connection is None:
            raise os_error(code)
        return self._connection

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        """Return up to ``bufsize`` octets as soon as there are any; ``b""``: the peer closed.

        Flags: MSG_DONTWAIT, MSG_PEEK, MSG_WAITALL.
        """
        connection = self._connected(_ENOTCONN)
        if bufsize < 0:
            raise ValueError("negative buffersize in recv")
        timeout = self._timeout
        if flags:
            if flags & MSG_OOB:
                raise os_error(errno.EINVAL)  # as Linux with SO_OOBINLINE: it is in the stream
            if flags & ~RECEIVE_FLAGS:
                raise os_error(errno.EOPNOTSUPP)
            timeout = 0 if flags & MSG_DONTWAIT else timeout
        if bufsize == 0:
            return b""
        condition = partial(self._receive, connection, bufsize)
        data = self._wait(connection, condition, "recv", timeout)
        if flags & MSG_PEEK:
            self._peeked = data + self._peeked
        elif flags & MSG_WAITALL:
            while data and len(data) < bufsize:
                more = self.recv(bufsize - len(data), flags & ~MSG_WAITALL)
                if not more:
                    break
                data += more
        return data

    def _receive(
        self, connection: Connection, limit: int, now: float
    ) -> bytes | Literal[Pending.PENDING]:
        self.check_open()
        if self._peeked:
            data, self._peeked = self._peeked[:limit], self._peeked[limit:]
            more = connection.receive(limit - len(data), now) if len(data) < limit else None
            return data + (more or b"")
        received = connection.receive(limit, now)
        if received is None:
            return b"" if self._read_shut else PENDING
        return received

    def at_mark(self) -> bool:
        """Return whether all urgent data was read, and nothing after it: SIOCATMARK.

        As RFC 6093 has it, the mark is behind the urgent data; a read stops there.
        """
        connection = self._connected(_ENOTCONN)
        return not self._peeked and self._call(lambda _now: connection.urgent_ahead == 0)

    def recv_into(self, buffer: Buffer, nbytes: int = 0, flags: int = 0) -> int:
        """Receive into ``buffer`` (its first ``nbytes`` octets); return how many came."""
        view = memoryview(buffer).cast("B")
        if nbytes:
            if not 0 < nbytes <= len(view):
                raise ValueError("nbytes: negative, or more than the buffer takes")
            view = view[:nbytes]
        if view.readonly:
            raise TypeError("recv_into() needs a buffer that can be written")
        if flags or self._peeked or not view:
            data = self.recv(len(view), flags)
            view[: len(data)] = data
            return len(data)
        connection = self._connected(_ENOTCONN)
        condition = partial(self._receive_into, connection, view)
        return self._wait(connection, condition, "recv", self._timeout)

    def _receive_into(
        self, connection: Connection, view: memoryview, now: float
    ) -> int | Literal[Pending.PENDING]:
        self.check_open()
        length = connection.receive_into(view, now)
        if length is None:
            return 0 if self._read_shut else PENDING
        return length

    def recvfrom(self, bufsize: int, flags: int = 0) -> tuple[bytes, Address | None]:
        """As ``recv``; a stream has no other sender than its peer."""
        return self.recv(bufsize, flags), None

    def send(self, data: Buffer, flags: int = 0) -> int:
        """Queue as much of ``data`` as there is room for, at least one octet; return how much.

        Raises: EPIPE once the sending side is closed.
        """
        if flags & MSG_FASTOPEN:
            self._refuse_fast_open()
        connection = self._connected(_EPIPE)
        if flags & ~SEND_FLAGS:
            raise os_error(errno.EOPNOTSUPP)
        if self._held is not None:
            return self._send_first(data, flags)

        push = _Push(self, connection, data, flags)
        timeout = 0.0 if flags & MSG_DONTWAIT else self._timeout
        return self._wait(connection, push.some, "send", timeout)

    def sendall(self, data: Buffer, flags: int = 0) -> None:
        """Queue all of ``data``; the timeout is for the whole of it."""
        connection = self._connected(_EPIPE)
        if flags and flags & ~SEND_FLAGS:
            raise os_error(errno.EOPNOTSUPP)
        rest: Any = data if isinstance(data, bytes) else memoryview(data).cast("B")
        if self._held is not None:
            rest = memoryview(rest)[self._send_first(rest, flags) :]
        push = _Push(self, connection, rest, flags)
        self._wait(connection, push.all, "sendall", self._timeout)

    def sendto(self, data: Buffer, *args: Any) -> int:
        """As ``send``: a stream's peer is known. (``sendto(data[, flags], address)``).

        With MSG_FASTOPEN it isn't yet: connect to ``address``, the data in the SYN if the
        server's cookie is known (RFC 7413), else after the handshake.

        Raises: also what ``connect`` does; EINPROGRESS without blocking and without a cookie:
        nothing was sent.
        """
        flags = args[0] if len(args) > 1 else 0
        if not flags & MSG_FASTOPEN:
            return self.send(data, flags)
        self.check_open()
        if self._connection is not None or self._listener is not None:
            self._refuse_fast_open()
        flags &= ~MSG_FASTOPEN
        if flags & ~SEND_FLAGS:
            raise os_error(errno.EOPNOTSUPP)
        self._begin(args[-1], fast=True)
        if self._held is not None:
            return self._send_first(data, flags)
        if flags & MSG_DONTWAIT or self._timeout == 0:
            raise os_error(errno.EINPROGRESS)
        self._wait(self._connection, self._opened, "sendto", self._timeout)
        return self.send(data, flags)

    def _refuse_fast_open(self) -> None:
        """MSG_FASTOPEN where it is too late, or there is no address."""
        if self._connection is None and self._listener is None:
            raise os_error(errno.EINVAL)
        held = self._held is not None
        raise os_error(errno.EALREADY if self._connecting and not held else errno.EISCONN)

    def _send_first(self, data: Buffer, flags: int) -> int:
        """Send what the SYN waits for, and unless told otherwise wait for the answer."""
        connection = self._connection
        assert connection is not None  # the caller has seen it
        put = connection.send_urgent if flags & MSG_OOB else connection.send
        taken = self._call(partial(put, data))
        if not flags & MSG_DONTWAIT and self._timeout != 0:
            self._wait(connection, self._opened, "send", self._timeout)
        return taken

    # -- closing ------------------------------------------------------------------------------

    def shutdown(self, how: int) -> None:
        """Close the receiving side (SHUT_RD), the sending side (SHUT_WR) or both.

        Raises: ENOTCONN.
        """
        if how not in (SHUT_RD, SHUT_WR, SHUT_RDWR):
            raise os_error(errno.EINVAL)
        self.check_open()
        self._call(partial(self._shutdown, how))

    def _shutdown(self, how: int, now: float) -> None:
        connection, listener = self._connection, self._listener
        if listener is not None and how != SHUT_WR:
            self._read_shut = True
            listener.close(now)
            self._driver.wake(listener)
            return
        if connection is None or connection.state is State.CLOSED:
            raise os_error(errno.ENOTCONN)
        if how != SHUT_RD:
            connection.shutdown_write(now)
        if how != SHUT_WR:
            self._read_shut = True
        self._driver.wake(connection)

    def close(self) -> None:
        """Close the socket, at the latest when the last file of ``makefile`` is closed.

        With SO_LINGER: zero seconds reset the connection; more wait so long for the peer to
        have acknowledged everything.
        """
        if self._closed:
            return
        if self._io_refs <= 0:
            self._release()
        else:
            self._released = True

    def _release(self) -> None:
        self._closed = True
        self._system.sockets.pop(self._number, None)
        self._last_call(self._close)
        connection = self._connection
        if connection is not None and self._options.get("linger") and self._timeout != 0:
            self._linger(connection, float(self._options["linger"]))

    def _close(self, now: float) -> None:
        for endpoint in self._endpoints():
            endpoint.close(now)
            self._driver.wake(endpoint)

    def _endpoints(self) -> tuple[Connection | Listener, ...]:
        return tuple(end for end in (self._connection, self._listener) if end is not None)

    def _linger(self, connection: Connection, seconds: float) -> None:
        over = (State.CLOSED, State.TIME_WAIT, State.FIN_WAIT_2)
        try:
            self._wait(
                None, lambda _now: True if connection.state in over else PENDING, "close", seconds
            )
        except TimeoutError:
            self._last_call(connection.abort)

    # -- names and options --------------------------------------------------------------------

    def getsockname(self) -> Address:
        """Return the local address and port."""
        self.check_open()
        if self._connection is not None:
            return self._connection.local
        if self._listener is not None:
            host, port = self._listener.local
            return host or ANY, port
        return self._bound or (ANY, 0)

    def getpeername(self) -> Address:
        """Return the peer's address and port.

        Raises: ENOTCONN.
        """
        connection = self._connected(_ENOTCONN)
        if self._connecting or connection.state is State.CLOSED:
            raise os_error(errno.ENOTCONN)
        return connection.remote

    def setsockopt(self, level: int, optname: int, value: int | bytes | str) -> None:
        """Set an option.

        Raises: ENOPROTOOPT, EINVAL; also where it is too late for fast open.
        """
        self.check_open()
        late = self._connection is not None
        if level == so.IPPROTO_TCP and (
            (optname == so.TCP_FASTOPEN and late)
            or (optname == so.TCP_FASTOPEN_CONNECT and (late or self._listener is not None))
        ):
            raise os_error(errno.EINVAL)
        super().setsockopt(level, optname, value)

    def getsockopt(self, level: int, optname: int, buflen: int = 0) -> int | bytes:
        """Return an option's value; TCP_INFO is Linux's ``struct tcp_info``."""
        if (level, optname) == (so.IPPROTO_TCP, so.TCP_INFO):
            self.check_open()
            octets = self._call(self._info)
            return octets[:buflen] if buflen else octets
        if (level, optname) == (so.IPPROTO_TCP, so.TCP_QUICKACK) and self._connection is not None:
            # It ends by itself: what was set says little.
            self.check_open()
            on = int(self._connection.get_option("quickack"))
            return on.to_bytes(4, "little")[:buflen] if buflen else on
        return super().getsockopt(level, optname, buflen)

    def _info(self, _now: float) -> bytes:
        if self._connection is not None:
            return tcp_info.pack(self._connection.info())
        if self._listener is not None:
            return tcp_info.pack_listener(self._listener.waiting, self._listener.backlog)
        return tcp_info.pack_closed()

    def _listening(self) -> bool:
        return self._listener is not None

    def _apply(self, name: str, value: Any) -> None:
        if name == "fast_open" and self._listener is not None:
            self._listener.set_fast_open(value)
        if self._connection is not None and name not in _OF_THE_SOCKET:
            self._connection.set_option(name, value)

    def _default(self, option: so.Option) -> Any:
        if self._connection is not None and option.name not in _OF_THE_SOCKET:
            value = self._connection.get_option(option.name)
            if option.name != "ttl" or value is not None:
                return value
        config = self._system.stack.context.config.tcp
        if option.name == "send_buffer":
            return send_sizes(config)[0]
        if option.name == "receive_buffer":
            return receive_sizes(config)[0]
        if hasattr(config, option.name):
            return getattr(config, option.name)
        return super()._default(option)

    def _take_error(self, now: float) -> int:
        connection = self._connection
        if connection is None:
            return super()._take_error(now)
        if connection.state is not State.CLOSED:
            # As Linux's sk_err_soft: the connection goes on, but somebody complained.
            soft = connection.take_soft_error()
            return (getattr(soft, "errno", None) or 0) or super()._take_error(now)
        try:
            connection.send(b"", now)  # a dead connection tells its error once
        except OSError as error:
            return error.errno or 0
        except NetstackError:
            return 0
        return 0

    # -- files --------------------------------------------------------------------------------

    def makefile(
        self,
        mode: str = "r",
        buffering: int | None = None,
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> Any:
        """Return a file over this socket; see ``socket.socket.makefile``.

        Its type is ``Any``: what it can do depends on ``mode``, as with ``open``.
        """
        return make_file(self, mode, buffering, encoding=encoding, errors=errors, newline=newline)

    def hold(self) -> None:
        """Stay open until one more file is closed."""
        self._io_refs += 1

    def _decref_socketios(self) -> None:
        """Told by a file of ``makefile`` that it was closed."""
        if self._io_refs > 0:
            self._io_refs -= 1
        if self._released and self._io_refs <= 0 and not self._closed:
            self._release()
