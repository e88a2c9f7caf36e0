"""What all sockets share: timeouts, waiting, options, closing, errors."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar
from weakref import WeakValueDictionary

from netstack.core.address import parse_address
from netstack.core.errors import NetstackError
from netstack.driver.base import PENDING, Driver, Pending, Waiting
from netstack.socket import options as so
from netstack.socket.errno import os_error, translate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from netstack.stack import Stack

AF_INET = 2
SOCK_STREAM = 1
SOCK_DGRAM = 2
SHUT_RD, SHUT_WR, SHUT_RDWR = 0, 1, 2
ANY = "0.0.0.0"
BROADCAST = "255.255.255.255"

Address = tuple[str, int]
T = TypeVar("T")
_NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})


@dataclass(eq=False, slots=True)
class System:
    """What a socket needs of the host that it belongs to."""

    name: str
    stack: Stack
    driver: Driver
    resolve: Callable[[str, float | None], list[str]]
    """Returns the addresses of a name, within so many seconds."""
    sockets: WeakValueDictionary[int, Any] = field(default_factory=WeakValueDictionary)
    """Those that are open, by a number in order of making."""
    made: int = 0
    waits: dict[str, Waiting] = field(default_factory=dict)
    """Who waits in which call, for messages; by the call's name."""


class SocketBase:
    """The part of a socket that doesn't depend on its type. Blocking by default.

    ``fileno()`` is -1: there is no descriptor behind it to select on.
    """

    __slots__ = (
        "__weakref__",
        "_closed",
        "_driver",
        "_error",
        "_number",
        "_options",
        "_system",
        "_timeout",
    )

    type: ClassVar[int]
    proto: ClassVar[int]
    family = AF_INET
    _known_options: ClassVar[dict[tuple[int, int], so.Option]]

    def __init__(self, system: System) -> None:
        self._system = system
        self._driver = system.driver
        self._timeout: float | None = None
        self._closed = False
        self._error: BaseException | None = None  # what SO_ERROR would tell
        self._options: Mapping[str, Any] = _NO_OPTIONS  # a new one whenever one is set
        system.made += 1
        self._number = system.made
        system.sockets[self._number] = self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"laddr={self.getsockname()}"
        return f"<netstack.{type(self).__name__} host={self._system.name!r} {state}>"

    # -- timeouts -----------------------------------------------------------------------------

    def settimeout(self, value: float | None) -> None:
        """Let blocking calls end after so many seconds; None: never; 0: don't block.

        Raises: ValueError below zero.
        """
        if value is not None and value < 0:
            raise ValueError("Timeout value out of range")
        self._timeout = value

    def gettimeout(self) -> float | None:
        """Return what ``settimeout`` set."""
        return self._timeout

    @property
    def timeout(self) -> float | None:
        """What ``settimeout`` set."""
        return self._timeout

    def setblocking(self, flag: bool) -> None:
        """True is ``settimeout(None)``, False ``settimeout(0)``."""
        self._timeout = None if flag else 0.0

    def getblocking(self) -> bool:
        """Return whether calls may block."""
        return self._timeout != 0

    def fileno(self) -> int:
        """Return -1: this socket has no descriptor."""
        return -1

    # -- calls --------------------------------------------------------------------------------

    def check_open(self) -> None:
        """Raise EBADF once the socket is closed."""
        if self._closed:
            raise os_error(errno.EBADF)

    def _call(self, function: Callable[[float], T]) -> T:
        """Run ``function`` in a section, with the errors of a socket."""
        try:
            return self._driver.call(function)
        except NetstackError as error:
            raise translate(error) from None

    def _last_call(self, function: Callable[[float], None]) -> None:
        """Run ``function`` unless the driver is gone, and every endpoint with it."""
        try:
            self._driver.call(function)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise

    def _wait(
        self,
        endpoint: object,
        condition: Callable[[float], T | Literal[Pending.PENDING]],
        call: str,
        timeout: float | None,
    ) -> T:
        """Wait for ``condition``; with timeout 0 ask it once.

        Raises: BlockingIOError, TimeoutError, or what the condition raises.
        """
        try:
            if timeout == 0:
                return _at_once(self._driver.call(condition))
            waits = self._system.waits
            waiting = waits.get(call)
            if waiting is None:
                waiting = waits[call] = Waiting(self._system.name, call)
            return self._driver.wait(endpoint, condition, timeout, waiting)
        except NetstackError as error:
            raise translate(error) from None

    def _resolve(self, address: Address, *, call: str) -> Address:
        """Return ``address`` with its host as an address.

        Raises: TypeError, OverflowError as the standard library; NameNotFound and the like.
        """
        if not isinstance(address, tuple) or len(address) < 2:
            raise TypeError(f"{call}(): AF_INET address must be tuple, not {address!r}")
        host, port = address[0], address[1]
        if not isinstance(host, str) or not isinstance(port, int):
            raise TypeError(f"{call}(): address must be (str, int), not {address!r}")
        if not 0 <= port <= 65_535:
            raise OverflowError(f"{call}(): port must be 0-65535.")
        return self._numeric(host), port

    def _numeric(self, host: str) -> str:
        if host == "":
            return ANY
        if host == "<broadcast>":
            return BROADCAST
        try:
            parse_address(host)
        except ValueError:
            # As getaddrinfo, a name blocks even where the socket wouldn't.
            return self._system.resolve(host, self._timeout or None)[0]
        return host

    # -- options ------------------------------------------------------------------------------

    def setsockopt(self, level: int, optname: int, value: int | bytes | str) -> None:
        """Set an option.

        Raises: ENOPROTOOPT for one that isn't known, EINVAL for an unusable value.
        """
        self.check_open()
        option = self._known_options.get((level, optname))
        if option is None:
            raise os_error(errno.ENOPROTOOPT)
        decoded = option.decode(value)
        self._options = {**self._options, option.name: decoded}
        if (level, optname) not in so.IGNORED:
            self._call(lambda _now: self._apply(option.name, decoded))

    def getsockopt(self, level: int, optname: int, buflen: int = 0) -> int | bytes:
        """Return an option's value; SO_ERROR is forgotten by being told.

        SO_RCVBUF and SO_SNDBUF are told as they were set: Linux tells twice as much, since its
        own bookkeeping counts.
        """
        self.check_open()
        if level == so.SOL_SOCKET and optname == so.SO_ERROR:
            return self._call(self._take_error)
        if level == so.SOL_SOCKET and optname == so.SO_TYPE:
            return self.type
        if level == so.SOL_SOCKET and optname == so.SO_ACCEPTCONN:
            return int(self._listening())
        option = self._known_options.get((level, optname))
        if option is None:
            raise os_error(errno.ENOPROTOOPT)
        value = self._options.get(option.name)
        if value is None:
            value = self._default(option)
        encoded = option.encode(value)
        if buflen and isinstance(encoded, int):
            encoded = encoded.to_bytes(4, "little", signed=True)
        return encoded[:buflen] if buflen and isinstance(encoded, bytes) else encoded

    def _apply(self, name: str, value: Any) -> None:
        """Hand an option to the endpoint, if there is one."""
        raise NotImplementedError

    def _default(self, option: so.Option) -> Any:
        """Return the value of an option that was never set."""
        config = self._system.stack.context.config
        if option.name == "ttl":
            return config.ipv4.default_ttl
        return option.default

    def _listening(self) -> bool:
        return False

    def _take_error(self, now: float) -> int:
        error, self._error = self._error, None
        return getattr(error, "errno", None) or 0

    # -- the end ------------------------------------------------------------------------------

    def getsockname(self) -> Address:
        """Return the local address and port."""
        raise NotImplementedError

    def _endpoints(self) -> tuple[Any, ...]:
        """Return what the stack holds for this socket."""
        raise NotImplementedError

    def __del__(self) -> None:
        # Forgotten, not closed: nobody can use its endpoints any more. A finalizer may run at any
        # time, so this only leaves a note.
        if not getattr(self, "_closed", True):
            for endpoint in self._endpoints():
                self._driver.defer(endpoint.close)

    def close(self) -> None:
        """Release the socket; idempotent. Whoever blocks in a call of it gets EBADF."""
        raise NotImplementedError


def _at_once(result: T | Literal[Pending.PENDING]) -> T:
    if result is PENDING:
        raise os_error(errno.EAGAIN)
    return result
