"""lwIP over a TAP, as a peer: Debian's liblwip0, called through ctypes.

Its bulk receiving can't be measured: version 2.1.3's TAP driver writes beyond its receive buffers
(616 octets each) once frames are larger, and the process dies.

The library's own thread reads the TAP; its sockets are blocking calls, for which ctypes gives the
interpreter to other threads. There is one lwIP a process, and no end to it but the process's.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import threading
from typing import TYPE_CHECKING, Any, Final

from netstack.bench import namespace
from netstack.bench.result import BenchError
from netstack.bench.worker import Client

if TYPE_CHECKING:
    from typing_extensions import Buffer

LIBRARY: Final = "liblwip.so.0"
UNABLE: Final = frozenset({"bulk_receive"})
"""Works that this build does not survive."""
TAP: Final = "bench-lwip"
# A third network for benchmarks (RFC 2544 C.2.2).
PEER, ADDRESS, MASK = "198.18.1.1", "198.18.1.2", "255.255.255.0"
_NETIF_SIZE: Final = 4096  # octets, more than struct netif has in any build
_START_S: Final = 5.0
_Callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def missing() -> str:
    """Return why lwIP can't take part here; nothing if it can."""
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        return f"no {LIBRARY} (Debian: liblwip0)"
    return ""


class LwipSocket:
    """A connected stream socket of lwIP, as far as ``work.Stream`` goes.

    Raises: OSError from every call.
    """

    def __init__(self, library: ctypes.CDLL, address: tuple[str, int]) -> None:
        self._library = library
        self._number = self._checked(
            library.lwip_socket(socket.AF_INET, socket.SOCK_STREAM, 0), "socket"
        )
        host, port = address
        # This build takes the addresses of the system's <netinet/in.h>.
        name = struct.pack("=H", socket.AF_INET) + struct.pack(
            "!H4s8x", port, socket.inet_aton(host)
        )
        self._checked(library.lwip_connect(self._number, name, len(name)), "connect")

    def sendall(self, data: Buffer, flags: int = 0, /) -> None:
        """Send all of ``data``."""
        octets = data if isinstance(data, bytes) else bytes(data)
        start = ctypes.cast(ctypes.c_char_p(octets), ctypes.c_void_p).value or 0
        sent = 0
        while sent < len(octets):
            left = ctypes.c_size_t(len(octets) - sent)
            at = ctypes.c_void_p(start + sent)
            sent += self._checked(self._library.lwip_send(self._number, at, left, flags), "send")

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """Receive up to ``bufsize`` octets."""
        buffer = bytearray(bufsize)
        return bytes(buffer[: self.recv_into(buffer, bufsize, flags)])

    def recv_into(self, buffer: bytearray, nbytes: int = 0, flags: int = 0, /) -> int:
        """Receive into ``buffer``; return how many octets."""
        size = nbytes or len(buffer)
        into = (ctypes.c_char * size).from_buffer(buffer)
        received = self._library.lwip_recv(self._number, into, ctypes.c_size_t(size), flags)
        return self._checked(received, "recv")

    def shutdown(self, how: int, /) -> None:
        """Shut one way down."""
        self._checked(self._library.lwip_shutdown(self._number, how), "shutdown")

    def setsockopt(self, level: int, optname: int, value: int, /) -> None:
        """Set a socket option."""
        number = ctypes.c_int(value)
        done = self._library.lwip_setsockopt(
            self._number, level, optname, ctypes.byref(number), ctypes.sizeof(number)
        )
        self._checked(done, "setsockopt")

    def close(self) -> None:
        """Close it."""
        self._checked(self._library.lwip_close(self._number), "close")

    def _checked(self, result: int, call: str) -> int:
        if result < 0:
            code = ctypes.get_errno()
            raise OSError(code, f"lwip_{call}: {errno.errorcode.get(code, code)}")
        return result


class LwipClient(Client):
    """A client on lwIP, over a TAP whose other end is in the peer's network."""

    def __init__(self, beside: int | None) -> None:
        super().__init__()
        if beside is None:
            raise BenchError("lwIP needs a peer")
        if why := missing():
            raise BenchError(f"lwIP: {why}")
        namespace.join_network(beside)

    def start(self) -> dict[str, Any]:
        """Make the TAP and the stack; return how it is set up."""
        namespace.ip("tuntap", "add", TAP, "mode", "tap")
        namespace.ip("address", "add", f"{PEER}/24", "dev", TAP)
        namespace.ip("link", "set", TAP, "up")
        os.environ["PRECONFIGURED_TAPIF"] = TAP  # else its driver would run ifconfig
        self._library = library = ctypes.CDLL(LIBRARY, use_errno=True)
        self._netif = ctypes.create_string_buffer(_NETIF_SIZE)
        library.netif_add.argtypes = [ctypes.c_void_p] * 7
        started = threading.Event()

        def set_up(_: int | None) -> None:
            # In its own thread, as its locks ask for.
            library.netif_add(
                self._netif, *map(_packed, (ADDRESS, MASK, PEER)), None,
                ctypes.cast(library.tapif_init, ctypes.c_void_p),
                ctypes.cast(library.tcpip_input, ctypes.c_void_p),
            )  # fmt: skip
            library.netif_set_default(self._netif)
            library.netif_set_up(self._netif)
            library.netif_set_link_up(self._netif)
            started.set()

        self._set_up = _Callback(set_up)  # the library keeps only its address
        library.tcpip_init(self._set_up, None)
        if not started.wait(_START_S):
            raise BenchError("lwIP: its thread does not start")
        return {
            "path": "TAP in the peer's network namespace",
            "congestion": "newreno",
            "offloads": [],
            "mtu": 1500,
            "library": LIBRARY,
        }

    def connect(self, port: int) -> LwipSocket:
        """Open a connection to the peer."""
        return LwipSocket(self._library, (PEER, port))


def _packed(address: str) -> Any:
    return ctypes.byref(ctypes.c_uint32.from_buffer_copy(socket.inet_aton(address)))
