"""One network stack: the layers wired together, and the only ways in and out.

Sans-IO: no clock, no thread, never blocks, one caller at a time. ``receive`` takes one burst of
frames up and never transmits; ``poll`` ends the burst and is the only place that does. What
happened to endpoints is pulled with ``next_event``. No protocol rule lives here.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from netstack.core.address import IPAddress, parse_address, parse_cidr, parse_mac, parse_prefix
from netstack.core.context import Context
from netstack.core.errors import Unreachable
from netstack.core.timers import NEVER
from netstack.device.base import Device, Frame, Medium, only_octets
from netstack.device.burst import Burst
from netstack.device.loopback import LoopbackDevice
from netstack.internet.internet import Internet
from netstack.link.ethernet import EthernetInterface
from netstack.link.raw_ip import RawIpInterface
from netstack.transport.events import Event, EventQueue, Readable
from netstack.transport.ports import EADDRNOTAVAIL
from netstack.transport.tcp.protocol import Tcp
from netstack.transport.tcp.state import State
from netstack.transport.udp import Udp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from typing_extensions import Buffer

    from netstack.core.config import Config
    from netstack.core.trace import TraceEvent
    from netstack.internet.echo import EchoEndpoint, EchoError, EchoReply
    from netstack.link.interface import Interface
    from netstack.link.output import OutputQueue
    from netstack.transport.tcp.connection import Connection
    from netstack.transport.tcp.forwarder import Incoming
    from netstack.transport.tcp.info import ConnectionInfo
    from netstack.transport.tcp.listener import Listener
    from netstack.transport.udp import Datagrams

_ROUNDS = 64  # of output in one poll; what is left is due at once


class Echo:
    """An endpoint for echo requests (ping); ``receive`` hands out replies and errors."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._endpoint: EchoEndpoint = stack.internet.open_echo()
        self._endpoint.on_ready = lambda: stack.events.post(Readable(self))

    def send(self, remote: str, sequence: int, payload: bytes, now: float) -> None:
        """Send an echo request.

        Raises: ValueError if ``remote`` is no address, Unreachable without a route.
        """
        self._stack.enter(now)
        self._endpoint.send(parse_address(remote), sequence, payload)

    def receive(self) -> EchoReply | EchoError | None:
        """Return the next reply or error, or None."""
        return self._endpoint.receive()

    @property
    def readable(self) -> bool:
        """Whether ``receive`` would return something."""
        return self._endpoint.readable

    def close(self, now: float) -> None:
        """Give the identifier back; idempotent."""
        self._stack.enter(now)
        self._endpoint.close()


class Stack:
    """A host's network, from devices to endpoints.

    Without ``seed`` all randomness is the operating system's. ``now`` is in seconds and never
    goes back: a smaller value counts as the last one.
    """

    def __init__(
        self, name: str = "host", *, seed: int | None = None, config: Config | None = None
    ) -> None:
        self.name = name
        self.context = Context(name, seed=seed, config=config)
        self.events = EventQueue()
        self.internet = Internet(self.context)
        self.tcp = Tcp(self.context, self.internet, self.events.post)
        self.udp = Udp(self.context, self.internet, self.events.post)
        self.contain_errors = True
        """Whether an internal error aborts only the connection concerned. A driver that repairs
        the stack itself sets it to False and sees the exception."""
        self.last_error: BaseException | None = None
        # A router forwards what it got, in the pieces it got.
        self._coalesce: bool = not self.context.config.ipv4.forwarding
        self._interfaces: dict[Device, Interface] = {}
        self.attachments = 0
        """How often a device came or went: whoever watches them sees whether to look again."""
        self._outputs: tuple[OutputQueue, ...] = ()
        self._silent: tuple[Device, ...] = ()  # devices that no descriptor speaks for
        self._looped = False  # something may wait in the loopback, which this stack alone fills
        self._loopback = LoopbackDevice()
        loop = RawIpInterface(self.context, 0, self._loopback)
        self._loop_output: OutputQueue = loop.output
        self._interfaces[self._loopback] = loop
        self._note_attachment()
        self.internet.add_interface(loop)
        self.internet.add_address(loop, parse_cidr("127.0.0.1/8"))

    # ---- devices ---------------------------------------------------------------------------

    def _note_attachment(self) -> None:
        self.attachments += 1
        self._outputs = tuple(each.output for each in self._interfaces.values())
        self._silent = tuple(
            device
            for device in self._interfaces
            if type(device).pending is not Device.pending and device is not self._loopback
        )

    @property
    def devices(self) -> list[Device]:
        """The devices attached, loopback first."""
        return list(self._interfaces)

    @property
    def interfaces(self) -> list[Interface]:
        """The interfaces, in the order of their devices."""
        return list(self._interfaces.values())

    def attach(
        self,
        device: Device,
        *addresses: str,
        gateway: str | None = None,
        mac: str | None = None,
    ) -> Interface:
        """Join ``device`` with ``addresses`` (``192.0.2.1/24``); ``gateway`` is the default route.

        Without ``mac`` an Ethernet interface gets a locally administered one at random.

        Raises: ValueError for text that is no address, or a second attachment.
        """
        if device in self._interfaces:
            raise ValueError(f"{device.name} is attached already")
        parsed = [parse_cidr(address) for address in addresses]
        index = len(self._interfaces)
        interface: Interface
        if device.capabilities.medium is Medium.ETHERNET:
            octets = None if mac is None else parse_mac(mac)
            interface = EthernetInterface(self.context, index, device, mac=octets)
        else:
            interface = RawIpInterface(self.context, index, device)
        self._interfaces[device] = interface
        self._note_attachment()
        self.internet.add_interface(interface)
        for address in parsed:
            self.internet.add_address(interface, address)
        if gateway is not None:
            self.add_route("0.0.0.0/0", gateway)
        interface.announce()
        return interface

    def detach(self, device: Device) -> None:
        """Take ``device`` out; its routes and neighbours go with it."""
        interface = self._interfaces.pop(device)
        self._note_attachment()
        self.internet.remove_interface(interface)
        interface.close()

    def add_route(self, prefix: str, gateway: str) -> None:
        """Send packets for ``prefix`` to ``gateway``.

        Raises: ValueError for text that is no address, Unreachable if no link holds the gateway.
        """
        self.internet.add_route(parse_prefix(prefix), parse_address(gateway))

    # ---- bursts ----------------------------------------------------------------------------

    def enter(self, now: float) -> None:
        """Move the step's time on; it never goes back."""
        if now > self.context.now:
            self.context.now = now

    def receive(
        self, device: Device, frames: Burst | Iterable[Frame | Buffer], now: float
    ) -> None:
        """Take one burst of frames that ``device`` returned. Never transmits, never raises."""
        self.enter(now)
        interface: Interface | None = self._interfaces.get(device)
        burst: Burst | Sequence[Frame | bytes]
        if isinstance(frames, Burst):
            burst = frames
        else:
            given = list(frames)
            burst = (
                given
                if only_octets(given)
                else [each if isinstance(each, (Frame, bytes)) else bytes(each) for each in given]
            )
        if interface is None:
            self.context.drop("stack.unknown_device", len(burst))
            return
        try:
            interface.receive_burst(burst, self._coalesce)
        except Exception as error:
            self._contain(error)
            self._receive_rest(interface)

    def _receive_rest(self, interface: Interface) -> None:
        """Take what an exception left of a burst: each took at least one frame with it."""
        done = False
        while not done:
            try:
                interface.receive_rest()
                done = True
            except Exception as error:
                self._contain(error)

    def poll(self, now: float) -> None:
        """End the burst: what descriptor-less devices hold, due timers, then all output."""
        context = self.context
        if now > context.now:
            context.now = now
        if self._looped:
            self.receive(self._loopback, self._loopback.receive_burst(), now)
            self._looped = self._loopback.pending()
        for device in self._silent:
            if device.pending():
                self.receive(device, device.receive_burst(), now)
        if context.timers.earliest() <= context.now:
            try:
                context.timers.run_due(context.now)
            except Exception as error:
                self._contain(error)
        try:
            self._transmit()
        except Exception as error:
            self._contain(error)
        if context.trace is not None:
            context.deliver_trace()

    def _transmit(self) -> None:
        now = self.context.now
        tcp = self.tcp
        if tcp.no_room:
            tcp.room_again()
        for _ in range(_ROUNDS):
            if tcp.dirty:
                tcp.transmit_due(now)
            drained = True
            for output in self._outputs:
                if output.frames:
                    if output is self._loop_output:
                        self._looped = True
                    drained = output.flush() and drained
            if tcp.no_room:
                tcp.room_again()  # a queue that drained wakes nobody else
            if not tcp.dirty or not drained:
                return

    def _contain(self, error: Exception) -> None:
        """Have an internal error in a part of the step cost the connection concerned only."""
        if not self.contain_errors:
            raise error
        self.abort_current(self.context.now, error)

    def abort_current(self, now: float, error: BaseException | None = None) -> None:
        """Drop the connection that was being processed when a step was cut; counted.

        RFC 9293 has no word for it: the peer gets a reset when it next sends.
        """
        self.context.count("stack.internal_error")
        self.last_error = error
        connection, self.tcp.current = self.tcp.current, None
        if connection is not None:
            connection.break_off(error)

    def rebuild_timers(self) -> None:
        """Rebuild timers and dirty marks from the connections' own fields, after a cut step."""
        self.context.timers.rebuild()
        self.tcp.mark_all_dirty()

    def receive_rest(self, now: float) -> None:
        """Take what a cut step left of the last burst."""
        self.enter(now)
        for interface in self.interfaces:
            try:
                interface.receive_rest()
            except Exception as error:
                self._contain(error)

    def next_deadline(self) -> float | None:
        """Return when ``poll`` is next needed, in seconds; <= now: at once; None: not at all."""
        deadline = self.earliest()
        return None if deadline == NEVER else deadline

    def earliest(self) -> float:
        """Return when ``poll`` is next needed, NEVER for not at all."""
        now = self.context.now
        if self.tcp.dirty or self._looped:
            return now
        for output in self._outputs:
            if output.frames and not output.busy:
                return now
        for device in self._silent:
            if device.pending():
                return now
        return self.context.timers.earliest()

    def waits_for_output(self) -> bool:
        """Return whether a device left frames waiting that it was offered."""
        for output in self._outputs:  # noqa: SIM110 - C has no generators
            if output.frames:
                return True
        return False

    # ---- endpoints -------------------------------------------------------------------------

    def next_event(self) -> Event | None:
        """Return what happened next to an endpoint, or None."""
        return self.events.next_event()

    def connect(
        self,
        remote: tuple[str, int],
        now: float,
        *,
        local: tuple[str, int] | None = None,
        fast: bool = False,
    ) -> Connection:
        """Open a TCP connection; ``Connected`` or ``Closed`` tells how it went.

        ``fast``: if ``remote``'s cookie is known, the SYN waits for the first ``send`` and takes
        its data along (RFC 7413; ``Connection.opens_early``); else it asks for one.

        Raises: ValueError for text that is no address, Unreachable without a route.
        """
        self.enter(now)
        source = self._local(local) if local is not None else (None, 0)
        return self.tcp.connect((parse_address(remote[0]), remote[1]), source, fast=fast)

    def listen(self, local: tuple[str, int], *, backlog: int = 128) -> Listener:
        """Take TCP connections at ``local``; an empty address means every one.

        Raises: ValueError for text that is no address, Unreachable (EADDRINUSE) if it's taken.
        """
        address, port = self._local(local)
        return self.tcp.listen(address, port, backlog)

    def datagrams(self, local: tuple[str, int] = ("", 0)) -> Datagrams:
        """Open a UDP endpoint at ``local``; an empty address means every one.

        Raises: ValueError for text that is no address, Unreachable (EADDRINUSE) if it's taken.
        """
        address, port = self._local(local)
        return self.udp.open(address, port)

    def _local(self, local: tuple[str, int]) -> tuple[IPAddress | None, int]:
        host, port = local
        if not 0 <= port < 65_536:
            raise ValueError(f"{port} is no port")
        if host in ("", "0.0.0.0"):
            return None, port
        address = parse_address(host)
        if not self.internet.is_local(address):
            raise Unreachable(f"{address} is not an address of this host", EADDRNOTAVAIL)
        return address, port

    def echo(self) -> Echo:
        """Open an endpoint for echo requests."""
        return Echo(self)

    def close(self, now: float) -> None:
        """Close every listener and connection in order; ``drained`` tells when that is done."""
        for listener in tuple(self.tcp.listeners.values()):
            listener.close(now)
        for connection in tuple(self.tcp.connections.values()):
            connection.close(now)

    @property
    def drained(self) -> bool:
        """Whether all FINs are acknowledged, and with them all data, and no frame waits."""
        done = (State.CLOSED, State.FIN_WAIT_2, State.TIME_WAIT)
        connections = self.tcp.connections.values()
        return all(connection.state in done for connection in connections) and not any(
            interface.queued for interface in self._interfaces.values()
        )

    def abort(self, now: float) -> None:
        """Reset every connection; the resets leave with the next ``poll``."""
        for connection in tuple(self.tcp.connections.values()):
            connection.abort(now)
        self.tcp.time_wait.clear()

    def forward_tcp(self, handler: Callable[[Incoming], None]) -> None:
        """Offer ``handler`` every TCP open that no listener wants, to whatever address it goes.

        ``handler`` must not block; it may keep the Incoming and decide later.
        """
        self.internet.intercept(6)
        self.tcp.forwarder = handler

    # ---- what it looks like ----------------------------------------------------------------

    def counters(self) -> Mapping[str, int]:
        """Return all counters; wire frames and segments, also under offload."""
        return self.context.counters.snapshot()

    def connections(self) -> list[ConnectionInfo]:
        """Return the TCP connections, as ``ss -ti`` shows them."""
        endpoints = (*self.tcp.connections.values(), *self.tcp.time_wait)
        return [endpoint.info() for endpoint in endpoints]

    def trace(self, listener: Callable[[TraceEvent], None]) -> AbstractContextManager[None]:
        """Hand every event within the ``with`` block to ``listener``, after its step."""
        return _tracing(self.context, listener)


@contextmanager
def _tracing(context: Context, listener: Callable[[TraceEvent], None]) -> Iterator[None]:
    stop = context.listen(listener)
    try:
        yield
    finally:
        stop()
