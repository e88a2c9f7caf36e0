"""UDP (RFC 768, RFC 1122 section 4.1): datagrams to and from ports.

An endpoint is bound to a port, on one address or on all, and may be connected to one peer: then
it takes datagrams and ICMP errors of that peer only. The receive queue is bounded in octets,
with a charge for each datagram's bookkeeping. Left out: UDP-Lite, and multicast membership.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from netstack.core.address import IPAddress, parse_address
from netstack.core.checksum import fold, internet_sum, pseudo_header_sum
from netstack.core.errors import LocalProtocolError, NetstackError, Refused, Unreachable
from netstack.core.trace import Reason, SystemCall
from netstack.device.base import HEADROOM, Checksum, Frame
from netstack.internet.errors import ErrorKind, NetworkError
from netstack.transport.events import Closed, Event, Readable
from netstack.transport.ports import EADDRINUSE, choose_port
from netstack.wire.udp import HEADER, HEADER_LENGTH

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

    from netstack.core.context import Context
    from netstack.internet.internet import Internet
    from netstack.internet.packet import ReceivedPacket

PROTOCOL_UDP = 17
MAX_PAYLOAD = 65_535 - 20 - HEADER_LENGTH  # octets, over IPv4 without options
CHECKSUM_OFFSET = 6
DATAGRAM_OVERHEAD = 256  # octets charged for each queued datagram
EMSGSIZE = 90
EACCES = 13


class Datagrams:
    """An endpoint for datagrams. ``receive`` never blocks; the driver waits for ``Readable``."""

    __slots__ = (
        "__weakref__",
        "_charged",
        "_errors",
        "_queue",
        "broadcast",
        "closed",
        "local_address",
        "local_port",
        "receive_buffer",
        "remote_address",
        "remote_port",
        "traffic_class",
        "ttl",
        "udp",
    )

    def __init__(self, udp: Udp, address: IPAddress | None, port: int) -> None:
        self.udp = udp
        self.local_address = address
        self.local_port = port
        self.remote_address: IPAddress | None = None
        self.remote_port = 0
        self.receive_buffer = udp.context.config.udp.receive_buffer
        self.broadcast = False  # SO_BROADCAST
        self.ttl: int | None = None
        self.traffic_class = 0
        self.closed = False
        self._queue: deque[tuple[bytes, tuple[str, int]]] = deque()
        self._errors: deque[NetstackError] = deque()
        self._charged = 0

    @property
    def local(self) -> tuple[str, int]:
        """Our address (empty: every one) and port."""
        return (str(self.local_address) if self.local_address else ""), self.local_port

    @property
    def remote(self) -> tuple[str, int] | None:
        """The peer this endpoint is connected to, if any."""
        if self.remote_address is None:
            return None
        return str(self.remote_address), self.remote_port

    @property
    def readable(self) -> bool:
        """Whether a datagram or an error waits."""
        return bool(self._queue or self._errors)

    def connect(self, remote: tuple[str, int] | None) -> None:
        """Take datagrams from ``remote`` only, and send there by default; None undoes it.

        Raises: Unreachable without a route; ValueError for text that is no address.
        """
        if remote is None:
            self.remote_address, self.remote_port = None, 0
            return
        address = parse_address(remote[0])
        path = self.udp.internet.path(address, self.local_address)
        self.remote_address, self.remote_port = address, remote[1]
        if self.local_address is None:
            self.udp.rebind(self, path.source)

    def send(self, data: Buffer, now: float, remote: tuple[str, int] | None = None) -> int:
        """Send one datagram; return its octets.

        Raises: LocalProtocolError if closed, without a peer, or above 65,507 octets;
        Unreachable without a route, or towards a broadcast address without leave.
        """
        udp = self.udp
        udp.enter(now)
        if self.closed:
            raise LocalProtocolError("the endpoint is closed")
        if remote is None:
            if self.remote_address is None:
                raise LocalProtocolError("no destination: connect, or name one")
            udp.send(self, data, (self.remote_address, self.remote_port))
        else:
            udp.send(self, data, (parse_address(remote[0]), remote[1]))
        return memoryview(data).nbytes

    def receive(self) -> tuple[bytes, tuple[str, int]] | None:
        """Return the oldest datagram and its sender, or None."""
        if not self._queue:
            return None
        item = self._queue.popleft()
        self._charged -= len(item[0]) + DATAGRAM_OVERHEAD
        return item

    def take_error(self) -> NetstackError | None:
        """Return and forget the oldest error that the network reported, or None."""
        return self._errors.popleft() if self._errors else None

    def close(self, now: float) -> None:
        """Give the port back; idempotent. What is queued is lost."""
        self.udp.enter(now)
        if not self.closed:
            self.closed = True
            self.udp.forget(self)
            self._queue.clear()
            self.udp.post(Closed(self))

    # ---- for the layer ---------------------------------------------------------------------

    def takes_from(self, source: bytes, port: int) -> bool:
        """Whether a datagram from there is for this endpoint."""
        remote = self.remote_address
        return remote is None or (remote.packed == source and self.remote_port == port)

    def queue(self, data: bytes, source: tuple[str, int]) -> bool:
        """Keep a datagram; False if the receive buffer is full."""
        charge = len(data) + DATAGRAM_OVERHEAD
        if self._charged + charge > self.receive_buffer:
            return False
        self._charged += charge
        self._queue.append((data, source))
        return True

    def queue_error(self, error: NetstackError) -> None:
        """Keep an error for ``take_error``; the oldest goes if there are too many."""
        if len(self._errors) >= self.udp.context.config.udp.max_queued_errors:
            self._errors.popleft()
        self._errors.append(error)


class Udp:
    """All datagram endpoints of a stack."""

    def __init__(
        self, context: Context, internet: Internet, post: Callable[[Event], None]
    ) -> None:
        self.context = context
        self.internet = internet
        self.post = post
        self._rng = context.rng.child("udp:ports")
        self._endpoints: dict[tuple[bytes, int], Datagrams] = {}
        internet.register(PROTOCOL_UDP, self.receive_packet, self.receive_error)

    def enter(self, now: float) -> None:
        """An application call at ``now``; time never goes back."""
        if now > self.context.now:
            self.context.now = now

    def open(self, address: IPAddress | None, port: int) -> Datagrams:
        """Bind an endpoint; no address means every one, port 0 lets one be chosen.

        Raises: Unreachable (EADDRINUSE) if the port is taken, or none is left.
        """
        packed = address.packed if address is not None else b""
        if not port:
            bounds = self.context.config.tcp.ephemeral_ports
            port = choose_port(self._rng, bounds, lambda p: self._taken(packed, p))
        elif self._taken(packed, port):
            raise Unreachable(f"port {port} is taken", EADDRINUSE)
        endpoint = Datagrams(self, address, port)
        self._endpoints[packed, port] = endpoint
        return endpoint

    def _taken(self, packed: bytes, port: int) -> bool:
        return (packed, port) in self._endpoints

    def rebind(self, endpoint: Datagrams, address: IPAddress) -> None:
        """Narrow an endpoint on every address to the one its peer sees."""
        if (address.packed, endpoint.local_port) in self._endpoints:
            raise Unreachable(f"port {endpoint.local_port} is taken", EADDRINUSE)
        self.forget(endpoint)
        endpoint.local_address = address
        self._endpoints[address.packed, endpoint.local_port] = endpoint

    def forget(self, endpoint: Datagrams) -> None:
        """The endpoint is closed."""
        address = endpoint.local_address
        key = (address.packed if address is not None else b"", endpoint.local_port)
        if self._endpoints.get(key) is endpoint:
            del self._endpoints[key]

    # ---- down ------------------------------------------------------------------------------

    def send(self, endpoint: Datagrams, data: Buffer, remote: tuple[IPAddress, int]) -> None:
        """Send ``data`` from ``endpoint`` to ``remote``."""
        address, port = remote
        payload = bytes(data)
        if len(payload) > MAX_PAYLOAD:
            raise LocalProtocolError(f"a datagram of {len(payload)} octets is too long")
        if not 0 < port < 65_536:
            raise ValueError(f"port {port} cannot be sent to")
        if self.internet.is_broadcast(address.packed) and not endpoint.broadcast:
            raise Unreachable(f"{address} is a broadcast address", EACCES)
        path = self.internet.path(address, endpoint.local_address)
        length = HEADER_LENGTH + len(payload)
        header = bytearray(HEADROOM + HEADER_LENGTH)
        pseudo = fold(path.pseudo_header_sum + PROTOCOL_UDP + length)
        HEADER.pack_into(header, HEADROOM, endpoint.local_port, port, length, 0)
        total = internet_sum(payload, internet_sum(memoryview(header)[HEADROOM:], pseudo))
        # RFC 768: a computed zero is sent as all ones.
        checksum = ~total & 0xFFFF or 0xFFFF
        HEADER.pack_into(header, HEADROOM, endpoint.local_port, port, length, checksum)
        frame = Frame(header, (payload,) if payload else (), start=HEADROOM)
        frame.checksum = Checksum.VALID
        frame.reason = Reason.DATAGRAM
        context = self.context
        context.count("udp.datagrams_sent")
        if context.trace is not None:
            frame.id = context.trace.frame_id()
            name = f"{path.source}:{endpoint.local_port}-{address}:{port}"
            context.trace.emit(
                SystemCall(context.now, context.name, "udp", "send", name, 0, len(payload))
            )
        self.internet.send(
            path, PROTOCOL_UDP, frame, hop_limit=endpoint.ttl,
            traffic_class=endpoint.traffic_class, flow=endpoint,
        )  # fmt: skip

    # ---- up --------------------------------------------------------------------------------

    def receive_packet(self, packet: ReceivedPacket) -> None:
        """Take a packet from the internet layer."""
        context = self.context
        frame = packet.frame
        if packet.length < HEADER_LENGTH:
            context.drop("udp.malformed")
            return
        data = packet.octets() if frame.payload else frame.header
        start = 0 if frame.payload else packet.start
        source_port, port, length, checksum = HEADER.unpack_from(data, start)
        if not HEADER_LENGTH <= length <= packet.length:
            context.drop("udp.bad_length")
            return
        view = memoryview(data)[start : start + length]
        if checksum and frame.checksum is Checksum.UNKNOWN:
            pseudo = pseudo_header_sum(packet.source, packet.destination, PROTOCOL_UDP, length)
            if internet_sum(view, pseudo) != 0xFFFF:
                context.drop("udp.bad_checksum")
                return
        if not port:
            context.drop("udp.port_zero")
            return
        endpoint = self._find(packet.destination, port)
        if endpoint is None:
            context.drop("udp.no_port")
            if not packet.group:
                self.internet.send_error(packet, ErrorKind.PORT_UNREACHABLE)
            return
        if not endpoint.takes_from(packet.source, source_port):
            context.drop("udp.not_connected_peer")
            return
        payload = bytes(view[HEADER_LENGTH:])
        if not endpoint.queue(payload, (str(IPAddress(packet.source)), source_port)):
            context.drop("udp.receive_buffer_full")
            return
        context.count("udp.datagrams_received")
        self.post(Readable(endpoint))

    def _find(self, destination: bytes, port: int) -> Datagrams | None:
        endpoint = self._endpoints.get((destination, port))
        return endpoint if endpoint is not None else self._endpoints.get((b"", port))

    def receive_error(self, error: NetworkError) -> bool:
        """Report an ICMP error to the endpoint whose datagram it quotes (RFC 1122 4.1.3.3)."""
        endpoint = self._find(error.local, error.local_port)
        if endpoint is None:
            self.context.drop("udp.error_for_nobody")
            return False
        remote = endpoint.remote_address
        if remote is not None and not endpoint.takes_from(error.remote, error.remote_port):
            self.context.drop("udp.error_for_other_peer")
            return False
        address = IPAddress(error.remote)
        message = f"{address}:{error.remote_port}: {error.kind.value}"
        if error.kind is ErrorKind.PACKET_TOO_BIG:
            endpoint.queue_error(Unreachable(f"{message}, MTU {error.mtu}", EMSGSIZE))
        elif error.kind is ErrorKind.PORT_UNREACHABLE:
            endpoint.queue_error(Refused(message))
        else:
            endpoint.queue_error(Unreachable(message))
        self.post(Readable(endpoint))
        return True
