"""Echo requests and their replies (RFC 792): what ``ping`` is made of."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING, NamedTuple

from netstack.core.address import IPAddress
from netstack.core.errors import LocalProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable

    from netstack.core.context import Context
    from netstack.internet.errors import ErrorKind, NetworkError
    from netstack.internet.icmpv4 import Icmpv4
    from netstack.internet.packet import ReceivedPacket
    from netstack.wire.icmpv4 import ICMPv4Header

MAX_QUEUED = 256  # replies and errors an endpoint keeps
MAX_QUEUED_OCTETS = 1 << 20
MAX_OUTSTANDING = 1024  # requests an endpoint remembers, for errors about them
MAX_PAYLOAD = 65_535 - 20 - 8  # octets: total length, IP header, ICMP header
MAX_ENDPOINTS = 32_768  # half of the identifiers: a random one is found at once


class EchoReply(NamedTuple):
    """A reply: who sent it, to which request; ``time`` (seconds) is when it arrived."""

    source: IPAddress
    sequence: int
    payload: bytes
    ttl: int
    time: float


class EchoError(NamedTuple):
    """A request that failed: ``reporter`` said so, or this host itself if it is None."""

    kind: ErrorKind
    remote: IPAddress
    sequence: int
    reporter: IPAddress | None
    time: float


class EchoEndpoint:
    """Sends echo requests under an identifier of its own and queues what comes back."""

    def __init__(self, demux: EchoDemux, identifier: int) -> None:
        self._demux = demux
        self.identifier = identifier
        self.on_ready: Callable[[], None] | None = None
        """Called when the first reply or error was queued; it must only take a note."""
        self._queue: deque[EchoReply | EchoError] = deque()
        self._octets = 0
        self._outstanding: OrderedDict[int, IPAddress] = OrderedDict()
        self.closed = False

    def send(
        self, remote: IPAddress, sequence: int, payload: bytes, *, hop_limit: int | None = None
    ) -> None:
        """Send a request; replies to it are handed out by ``receive``.

        Raises: Unreachable if there is no route, LocalProtocolError after ``close`` or for a
        payload above 65,507 octets.
        """
        if self.closed:
            raise LocalProtocolError("the echo endpoint is closed")
        if len(payload) > MAX_PAYLOAD:
            raise LocalProtocolError(f"an echo payload of {len(payload)} octets")
        sequence &= 0xFFFF
        self._outstanding.pop(sequence, None)
        while len(self._outstanding) >= MAX_OUTSTANDING:
            self._outstanding.popitem(last=False)
        self._outstanding[sequence] = remote
        self._demux.icmpv4.send_echo_request(
            remote, self.identifier, sequence, payload, hop_limit=hop_limit
        )

    def receive(self) -> EchoReply | EchoError | None:
        """Return the next reply or error, or None."""
        if not self._queue:
            return None
        item = self._queue.popleft()
        if isinstance(item, EchoReply):
            self._octets -= len(item.payload)
        return item

    @property
    def readable(self) -> bool:
        """Whether ``receive`` would return something."""
        return bool(self._queue)

    def close(self) -> None:
        """Give the identifier back; idempotent."""
        if not self.closed:
            self.closed = True
            self._demux.release(self)

    def knows(self, sequence: int, remote: bytes) -> bool:
        """Return whether a request with that number went to ``remote`` lately."""
        asked = self._outstanding.get(sequence)
        return asked is not None and asked.packed == remote

    def queue(self, item: EchoReply | EchoError) -> bool:
        """Keep ``item`` for ``receive``; False if there is no room."""
        octets = len(item.payload) if isinstance(item, EchoReply) else 0
        if len(self._queue) >= MAX_QUEUED or self._octets + octets > MAX_QUEUED_OCTETS:
            return False
        self._queue.append(item)
        self._octets += octets
        if len(self._queue) == 1 and self.on_ready is not None:
            self.on_ready()
        return True


class EchoDemux:
    """Hands echo replies, and errors about echo requests, to the endpoint that asked."""

    def __init__(self, context: Context, icmpv4: Icmpv4) -> None:
        self._context = context
        self._rng = context.rng.child("echo:identifier")
        self._endpoints: dict[int, EchoEndpoint] = {}
        self.icmpv4 = icmpv4

    def open(self) -> EchoEndpoint:
        """Return an endpoint with an identifier that nobody uses, chosen at random.

        Raises: LocalProtocolError if 32,768 are open.
        """
        if len(self._endpoints) >= MAX_ENDPOINTS:
            raise LocalProtocolError("too many echo endpoints")
        identifier = self._rng.getrandbits(16)
        while identifier in self._endpoints:
            identifier = self._rng.getrandbits(16)
        endpoint = self._endpoints[identifier] = EchoEndpoint(self, identifier)
        return endpoint

    def release(self, endpoint: EchoEndpoint) -> None:
        """Forget a closed endpoint."""
        self._endpoints.pop(endpoint.identifier, None)

    def receive_reply(self, packet: ReceivedPacket, header: ICMPv4Header, payload: bytes) -> None:
        """Queue a reply at its endpoint."""
        endpoint = self._endpoints.get(header.identifier)
        if endpoint is None:
            self._context.drop("icmpv4.no_endpoint", frame_id=packet.frame.id)
            return
        source = IPAddress(packet.source)
        now = self._context.now
        reply = EchoReply(source, header.sequence, payload, packet.hop_limit, now)
        if not endpoint.queue(reply):
            self._context.drop("icmpv4.receive_queue_full", frame_id=packet.frame.id)

    def receive_error(self, error: NetworkError) -> bool:
        """Queue an error at the endpoint that sent the request; return whether one did."""
        endpoint = self._endpoints.get(error.local_port)
        sequence = error.seq
        if endpoint is None or sequence is None or not endpoint.knows(sequence, error.remote):
            return False
        reporter = None if error.reporter is None else IPAddress(error.reporter)
        item = EchoError(
            error.kind, IPAddress(error.remote), sequence, reporter, self._context.now
        )
        if not endpoint.queue(item):
            self._context.drop("icmpv4.receive_queue_full")
        return True
