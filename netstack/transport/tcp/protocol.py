"""The TCP layer of one stack: demultiplexing, opens, resets for nobody, and the dirty queue.

Connections are found by one packed key: peer's address, our address, peer's port, our port, as
they stand in an arriving packet. Order: connection, listener on the address, listener on any
address, forwarder; else a reset (RFC 9293 3.10.7.1).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from netstack.core.address import IPAddress
from netstack.core.checksum import internet_sum, pseudo_header_sum, sum_pieces
from netstack.core.errors import NetstackError, ParseError, Refused, Unreachable
from netstack.core.seqnum import MASK
from netstack.core.trace import CongestionSample, Reason, SegmentReceived
from netstack.device.base import Checksum
from netstack.internet.errors import ErrorKind, NetworkError
from netstack.transport.ports import EADDRINUSE, choose_port
from netstack.transport.tcp import arrival, fast_open, output, pmtud, syn_cookies
from netstack.transport.tcp.bare import send_bare
from netstack.transport.tcp.connection import Connection
from netstack.transport.tcp.forwarder import Incoming
from netstack.transport.tcp.isn import IsnGenerator
from netstack.transport.tcp.limits import Orphans, ResetLimit
from netstack.transport.tcp.listener import Listener
from netstack.transport.tcp.memory import Memory
from netstack.transport.tcp.state import State
from netstack.transport.tcp.time_wait import TimeWaitTable
from netstack.wire.layout import octets_at, same
from netstack.wire.tcp import ACK, FIN, RST, SYN, parse_segment

if TYPE_CHECKING:
    from collections.abc import Callable

    from netstack.core.context import Context, Counter
    from netstack.internet.internet import Internet
    from netstack.internet.packet import ReceivedPacket
    from netstack.internet.path import Path
    from netstack.transport.events import Event
    from netstack.transport.tcp.time_wait import TimeWaitRecord
    from netstack.wire.tcp import Segment

PROTOCOL_TCP = 6


class Tcp:
    """All connections and listeners of a stack."""

    def __init__(
        self, context: Context, internet: Internet, post: Callable[[Event], None]
    ) -> None:
        self.context = context
        self.config = context.config.tcp
        self.internet = internet
        self.post = post
        rng = context.rng.child("tcp")
        self._segments_received: Counter = context.counter("tcp.segments_received")
        self.segments_sent: Counter = context.counter("tcp.segments_sent")
        self.memory = Memory(context, self.config.memory_limit)
        self.isn = IsnGenerator(rng.child("isn"))
        self.cookies = syn_cookies.SynCookies(rng.child("cookies"))
        self.fast_open_cookies = fast_open.Cookies(rng.child("fast open"))
        self.servers = fast_open.Servers()
        self._port_rng = rng.child("ports")
        self.connections: dict[bytes, Connection] = {}
        self.listeners: dict[tuple[bytes, int], Listener] = {}
        self.forwarder: Callable[[Incoming], None] | None = None
        self._last: Connection | None = None  # that a segment was for: most often the next is too
        self.current: Connection | None = None  # being processed, for repair after a cut
        self._local_ports: dict[int, int] = {}  # local port -> connections that use it
        self.dirty: deque[Connection] = deque()  # what ``transmit_due`` will ask
        self.no_room: list[Connection] = []  # those that ``room_again`` will ask
        self.time_wait = TimeWaitTable(self)
        self.orphans = Orphans(context)
        self._reset_limit = ResetLimit(self.config)
        internet.register(PROTOCOL_TCP, self.receive_packet, self.receive_error)

    def enter(self, now: float) -> None:
        """An application call at ``now``; time never goes back."""
        if now > self.context.now:
            self.context.now = now

    # ---- opens -----------------------------------------------------------------------------

    def connect(
        self,
        remote: tuple[IPAddress, int],
        local: tuple[IPAddress | None, int],
        *,
        fast: bool = False,
    ) -> Connection:
        """Open actively (RFC 9293 3.10.1); port 0 lets one be chosen.

        ``fast``: the SYN may wait for data to carry (RFC 7413).

        Raises: Unreachable without a route, for a group address (MUST-46), or when the local
        port is taken; ValueError for remote port 0.
        """
        address, port = remote
        if not 0 < port < 65_536:
            raise ValueError(f"port {port} cannot be connected to")
        if self._is_group(address):
            raise Unreachable(f"{address} is a group, TCP has one peer", 101)
        path = self.internet.path(address, local[0])
        source = path.source
        tail = address.packed + source.packed + port.to_bytes(2, "big")
        local_port = local[1]
        if not local_port:
            local_port = choose_port(
                self._port_rng, self.config.ephemeral_ports,
                lambda candidate: self._port_taken(candidate, source.packed, tail),
            )  # fmt: skip
        key = tail + local_port.to_bytes(2, "big")
        if not self._may_open(key):
            raise Unreachable(f"{source}:{local_port} to {address}:{port} exists", EADDRINUSE)
        iss = self._isn_after_time_wait(key)
        connection = self.current = Connection(self, key, (source, local_port), remote, path, iss)
        connection.sender.last_progress = self.context.now
        self._add(connection)
        connection.set_state(State.SYN_SENT)
        if fast:
            fast_open.prepare(connection)
            output.update_mss(connection)
        self.mark_dirty(connection)
        self.context.count("tcp.active_opens")
        self.current = None
        return connection

    def _isn_after_time_wait(self, key: bytes) -> int:
        """Return an initial sequence number; what was in TIME-WAIT makes way (RFC 6191)."""
        record = self.time_wait.get(key)
        if record is None:
            return self.isn.isn(key, self.context.now)
        self.context.count("tcp.time_wait_reused")
        self.isn.stay_above(key, record.snd_nxt)
        self.time_wait.remove(record)
        iss = self.isn.isn(key, self.context.now)
        self.isn.stay_above(key, None)
        return iss

    def _port_taken(self, port: int, source: bytes, tail: bytes) -> bool:
        # One that somebody listens at is left alone; else the four-tuple decides.
        listeners = self.listeners
        return (
            (b"", port) in listeners
            or (source, port) in listeners
            or not self._may_open(tail + port.to_bytes(2, "big"))
        )

    def _may_open(self, key: bytes) -> bool:
        return key not in self.connections and self.time_wait.may_open(key)

    def _is_group(self, address: IPAddress) -> bool:
        return address.is_multicast or self.internet.is_broadcast(address.packed)

    def listen(self, address: IPAddress | None, port: int, backlog: int) -> Listener:
        """Open passively; no address means every one, port 0 lets one be chosen.

        Raises: Unreachable (EADDRINUSE) if somebody listens there.
        """
        packed = address.packed if address is not None else b""
        if not port:
            port = choose_port(
                self._port_rng, self.config.ephemeral_ports,
                lambda candidate: (packed, candidate) in self.listeners
                or candidate in self._local_ports,
            )  # fmt: skip
        if (packed, port) in self.listeners:
            raise Unreachable(f"port {port} is taken", EADDRINUSE)
        listener = Listener(self, address, port, backlog)
        self.listeners[packed, port] = listener
        return listener

    def forget_listener(self, listener: Listener) -> None:
        """The listener is closed."""
        packed = listener.address.packed if listener.address is not None else b""
        if self.listeners.get((packed, listener.port)) is listener:
            del self.listeners[packed, listener.port]

    def _add(self, connection: Connection) -> None:
        self.connections[connection.key] = connection
        port = connection.local_port
        self._local_ports[port] = self._local_ports.get(port, 0) + 1

    def forget(self, connection: Connection) -> None:
        """The connection is CLOSED: nothing finds it any more."""
        self.memory.settle(connection)
        self.orphans.discard(connection)
        self.context.timers.disarm(connection.timer)
        connection.timer.release()  # breaks the cycle of connection and timer
        if self.connections.get(connection.key) is not connection:
            self.time_wait.remove_owned(connection)
            return
        if self._last is connection:
            self._last = None
        del self.connections[connection.key]
        self.release_port(connection.local_port)

    def release_port(self, port: int) -> None:
        """One connection less uses ``port``."""
        # A step that was cut may have counted it down before: the repair counts anew.
        left = self._local_ports.pop(port, 1) - 1
        if left > 0:
            self._local_ports[port] = left

    def on_time_wait(self, connection: Connection) -> None:
        """Keep a record of ``connection`` in its place; its port stays counted."""
        if self.connections.get(connection.key) is not connection:
            return
        self.orphans.discard(connection)
        self.context.timers.disarm(connection.timer)
        connection.timer.release()
        self.memory.settle(connection)
        self.time_wait.add(connection)
        if self._last is connection:
            self._last = None
        del self.connections[connection.key]

    def receive_packet(self, packet: ReceivedPacket) -> None:
        """Take a packet from the internet layer."""
        frame = packet.frame
        header, start, length = frame.header, packet.start, packet.length
        context = self.context
        if packet.group:
            context.drop("tcp.group_destination", frame.segments)  # RFC 9293 3.9.2.3, MUST-57
            return
        if frame.checksum is Checksum.UNKNOWN and not self._checksum_good(packet):
            context.drop("tcp.bad_checksum", frame.segments)
            return
        try:
            segment = parse_segment(header, start, length, frame.payload)
        except ParseError:
            context.drop("tcp.malformed", frame.segments)
            return
        segment.segments = frame.segments
        segment.gso_size = frame.gso_size
        segment.ecn = packet.traffic_class & 3
        self._segments_received.value += frame.segments
        connection: Connection | None = self._last
        if connection is None or context.trace is not None or not _is_key(packet, connection.key):
            key = _key_of(packet)
            connection = self._last = self.connections.get(key)
            if context.trace is not None:
                self._trace_received(packet, key, segment)
        if connection is None:
            record = self.time_wait.get(key)
            if record is not None:
                self._receive_in_time_wait(record, packet, key, segment)
            else:
                self._receive_unknown(packet, key, segment)
            self.current = None
            return
        self.current = connection
        arrival.receive_segment(connection, segment, context.now)
        self.memory.settle(connection)
        self.current = None

    def _checksum_good(self, packet: ReceivedPacket) -> bool:
        header, start, length = packet.frame.header, packet.start, packet.length
        initial = pseudo_header_sum(packet.source, packet.destination, PROTOCOL_TCP, length)
        if not packet.frame.payload:
            view = memoryview(header)[start : start + length]
            return internet_sum(view, initial) == 0xFFFF
        return sum_pieces([memoryview(header)[start:], *packet.frame.payload], initial) == 0xFFFF

    def _trace_received(self, packet: ReceivedPacket, key: bytes, segment: Segment) -> None:
        context = self.context
        trace = context.trace
        if trace is None:
            return
        source_port, destination_port = key[-4:-2], key[-2:]
        trace.emit(
            SegmentReceived(
                context.now, context.name, "tcp",
                f"{IPAddress(packet.destination)}:{int.from_bytes(destination_port, 'big')}",
                f"{IPAddress(packet.source)}:{int.from_bytes(source_port, 'big')}",
                segment.seq, segment.ack, segment.flags, segment.window, segment.length,
                segment.segments, packet.frame.id,
            )
        )  # fmt: skip

    def _receive_in_time_wait(
        self, record: TimeWaitRecord, packet: ReceivedPacket, key: bytes, segment: Segment
    ) -> None:
        """A new SYN may take the place of what is in TIME-WAIT, if somebody wants it."""
        listener = self._listener(packet.destination, key)
        wanted = listener is not None or self.forwarder is not None
        if not wanted or not self.time_wait.may_reopen(record, segment):
            self.time_wait.receive_segment(record, segment)
            return
        if listener is not None and not listener.takes_syn():
            # A cookie could not promise to start above the old connection's numbers.
            self.context.drop("tcp.listen_overflow", segment.segments)
            return
        self.isn.stay_above(key, record.snd_nxt)
        self.time_wait.remove(record)
        self._receive_unknown(packet, key, segment)
        self.isn.stay_above(key, None)

    def _listener(self, address: bytes, key: bytes) -> Listener | None:
        port = int.from_bytes(key[-2:], "big")
        return self.listeners.get((address, port)) or self.listeners.get((b"", port))

    def _receive_unknown(self, packet: ReceivedPacket, key: bytes, segment: Segment) -> None:
        """No connection: LISTEN or CLOSED (RFC 9293 3.10.7.1-2)."""
        flags = segment.flags
        listener = self._listener(packet.destination, key)
        if flags & RST:
            self.context.drop("tcp.rst_for_nobody", segment.segments)
            return
        if (
            listener is not None
            and flags & (SYN | ACK) == ACK
            and syn_cookies.receive_ack(self, listener, packet, key, segment)
        ):
            return
        wanted = listener is not None or (self.forwarder is not None and flags & SYN)
        if not wanted or flags & ACK:
            self.context.drop("tcp.no_connection", segment.segments)
            self._send_reset(packet, key, segment)
        elif not flags & SYN:
            self.context.drop("tcp.no_syn", segment.segments)
        elif flags & FIN:
            # Nothing sends SYN with FIN but scanners; as Linux does, and RFC 1644 is history.
            self.context.drop("tcp.syn_fin", segment.segments)
        elif listener is not None:
            self._receive_syn(listener, packet, key, segment)
        elif self.forwarder is not None:
            self.forwarder(Incoming(self, packet, key, segment))

    def _receive_syn(
        self, listener: Listener, packet: ReceivedPacket, key: bytes, segment: Segment
    ) -> None:
        full = not listener.takes_syn()
        if not listener.has_room() or (full and not self.config.syn_cookies):
            self.context.drop("tcp.listen_overflow", segment.segments)
            return
        if full:
            listener.overflowed_at = self.context.now
            syn_cookies.answer_syn(self, packet, key, segment)
            return
        connection = self.open_passive(packet.source, packet.destination, key, segment)
        if connection is not None:
            connection.listener = listener
            listener.on_syn(connection)
            fast_open.receive_syn(listener, connection, segment)

    def open_passive(
        self, source: bytes, destination: bytes, key: bytes, segment: Segment,
        iss: int | None = None,
    ) -> Connection | None:  # fmt: skip
        """Make the connection that a SYN asks for, in SYN-RECEIVED (RFC 9293 3.10.7.2).

        ``iss`` is given if the SYN,ACK has left already.
        """
        context = self.context
        remote = IPAddress(source), int.from_bytes(key[-4:-2], "big")
        local = IPAddress(destination), int.from_bytes(key[-2:], "big")
        try:
            path = self.internet.path(remote[0], local[0])
        except Unreachable:
            context.drop("tcp.no_route_back", segment.segments)
            return None
        if iss is None:
            iss = self.isn.isn(key, context.now)
        # Until its listener knows it, a cut must not leave a connection that nobody owns.
        connection = self.current = Connection(self, key, local, remote, path, iss)
        connection.sender.last_progress = context.now
        self._add(connection)
        connection.set_state(State.SYN_RECEIVED)
        arrival.take_syn(connection, segment, context.now)
        # Text that comes with the SYN is not kept: the peer sends it again (RFC 9293 3.10.7.2
        # would have it queued until ESTABLISHED; Linux drops it too without TFO).
        self.mark_dirty(connection)
        context.count("tcp.passive_opens")
        return connection

    # ---- resets for nobody -----------------------------------------------------------------

    def _send_reset(self, packet: ReceivedPacket, key: bytes, segment: Segment) -> None:
        """RFC 9293 3.10.7.1."""
        if IPAddress(packet.source).is_multicast or self.internet.is_broadcast(packet.source):
            return
        if not self._reset_limit.allows(packet.source, self.context.now):
            self.context.count("tcp.resets_limited")
            return
        self.answer_with_reset(packet.source, packet.destination, key, segment)

    def answer_with_reset(
        self, source: bytes, destination: bytes, key: bytes, segment: Segment
    ) -> None:
        """Reset what came from ``source`` to ``destination``, if there is a way back."""
        try:
            path = self.internet.path(IPAddress(source), IPAddress(destination))
        except Unreachable:
            self.context.drop("tcp.no_route_back", segment.segments)
            return
        self.send_bare_reset(path, key, segment)

    def reply_reset(self, connection: Connection, segment: Segment) -> None:
        """Answer an unacceptable ACK during the handshake: <SEQ=SEG.ACK><CTL=RST>."""
        self.send_bare_reset(connection.path, connection.key, segment)

    def send_bare_reset(self, path: Path, key: bytes, segment: Segment) -> None:
        """Reset what ``segment`` belongs to, from its own numbers."""
        if segment.flags & ACK:
            seq, ack, flags = segment.ack, 0, RST
        else:
            length = segment.length + bool(segment.flags & SYN) + bool(segment.flags & FIN)
            seq, ack, flags = 0, (segment.seq + length) & MASK, RST | ACK
        self.context.count("tcp.resets_sent")
        send_bare(self, path, key, (seq, ack), flags, Reason.RESET)

    # ---- errors from below -----------------------------------------------------------------

    def receive_error(self, error: NetworkError) -> bool:
        """Take an ICMP error; return whether it is about something we have in flight.

        RFC 5927 4: the quoted sequence number must be outstanding. Hard errors abort only a
        connection that is not synchronized yet (RFC 5461 4, RFC 5927 5); else they are soft.
        """
        key = (
            error.remote + error.local
            + error.remote_port.to_bytes(2, "big") + error.local_port.to_bytes(2, "big")
        )  # fmt: skip
        connection = self.connections.get(key)
        if connection is None:
            self.context.drop("tcp.error_for_nobody")
            return False
        sender = connection.sender
        distance = 0
        if error.seq is not None:
            distance = (error.seq - sender.snd_una) & MASK
            if distance >= max(sender.snd_max - sender.snd_una, 0):
                self.context.drop("tcp.error_not_in_flight")
                return False
        if error.kind is ErrorKind.PACKET_TOO_BIG:
            if not pmtud.believes(connection, error, sender.snd_una + distance):
                return False
            self.mark_dirty(connection)
            return True
        reason = _error_of(error, connection)
        # What this host found out itself (no answer to ARP) is as sure as a hard error.
        hard = error.kind.hard or error.reporter is None
        if connection.state <= State.SYN_RECEIVED and hard:
            self.context.count("tcp.aborted_by_icmp")
            connection.finish(reason)
        else:
            connection.on_soft_error(reason)
        return True

    # ---- the end of the burst --------------------------------------------------------------

    def mark_dirty(self, connection: Connection) -> None:
        """Let ``connection`` decide about output at the end of the burst."""
        if not connection.dirty:
            connection.dirty = True
            self.dirty.append(connection)

    def wait_for_room(self, connection: Connection) -> None:
        """The queue below is full for this flow: try again when it has drained."""
        if connection not in self.no_room:
            self.no_room.append(connection)

    def room_again(self) -> None:
        """Queues below may have drained: those who have room again become dirty."""
        waiting, self.no_room = self.no_room, []
        for connection in waiting:
            if connection.path.room(connection.key) >= connection.sender.mss:
                self.mark_dirty(connection)
            elif connection.state is not State.CLOSED:
                self.no_room.append(connection)

    def transmit_due(self, now: float) -> None:
        """Let each dirty connection transmit once, round robin."""
        dirty = self.dirty
        for _ in range(len(dirty)):
            connection = dirty.popleft()
            connection.dirty = False
            self.current = connection
            if output.transmit_due(connection, now):
                self.mark_dirty(connection)
        self.current = None

    def mark_all_dirty(self) -> None:
        """Rebuild the indexes from the connections' own fields, after a cut step."""
        self.dirty.clear()
        ports: dict[int, int] = {}
        for key in (*self.connections, *(record.key for record in self.time_wait)):
            port = int.from_bytes(key[-2:], "big")
            ports[port] = ports.get(port, 0) + 1
        self._local_ports = ports
        self.memory.recount(self.connections.values())
        fast_open.recount(self.listeners.values(), self.connections.values())
        for connection in self.connections.values():
            connection.dirty = True
            self.dirty.append(connection)
            connection.update_timer()

    def confirm_path(self, connection: Connection) -> None:
        """Tell the link layer that the next hop passes things on (RFC 4861 7.3.1)."""
        path = connection.path
        path.interface.confirm(path.next_hop)

    def sample(self, connection: Connection) -> None:
        """Trace the congestion state."""
        context = self.context
        if context.trace is None:
            return
        sender = connection.sender
        context.trace.emit(
            CongestionSample(
                context.now, context.name, "tcp",
                f"{connection.local_address}:{connection.local_port}",
                f"{connection.remote_address}:{connection.remote_port}",
                sender.congestion.cwnd, sender.congestion.ssthresh, sender.flight_size,
                sender.rtt.srtt, sender.rtt.timeout(),
            )
        )  # fmt: skip


def _is_key(packet: ReceivedPacket, key: bytes) -> bool:
    """Return whether ``key`` is that of a packet without options."""
    start, size = packet.start, len(key) - 4
    plain = packet.version == 4 and size == 8 and start - packet.header_start == 20
    return plain and same(packet.frame.header, start - size, key)


def _key_of(packet: ReceivedPacket) -> bytes:
    start, addresses = packet.start, 2 * len(packet.source)
    if start - packet.header_start == 12 + addresses and packet.version == 4:
        # Without options the addresses stand right in front of the ports.
        return octets_at(packet.frame.header, start - addresses, addresses + 4)
    return packet.source + packet.destination + octets_at(packet.frame.header, start, 4)


def _error_of(error: NetworkError, connection: Connection) -> NetstackError:
    """Return what the user is told about a network error."""
    reporter = IPAddress(error.reporter) if error.reporter else "this host"
    message = f"{connection.remote_address}: {error.kind.value}"
    if error.kind in (ErrorKind.PORT_UNREACHABLE, ErrorKind.PROTOCOL_UNREACHABLE):
        return Refused(f"{message} (says {reporter})")
    return Unreachable(f"{message} (says {reporter})")
