"""The internet layer's face: interfaces, addresses, routes, sending and receiving.

It names no IP version, so that IPv6 can stand beside IPv4. It wires the parts together and holds
no rule of its own.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from netstack.core.errors import ParseError, Unreachable
from netstack.internet.addresses import LocalAddresses
from netstack.internet.echo import EchoDemux, EchoEndpoint
from netstack.internet.errors import ErrorKind, NetworkError
from netstack.internet.forward import Forwarder
from netstack.internet.fragmentation import check_mtu
from netstack.internet.icmpv4 import Icmpv4, parse_quote
from netstack.internet.ipv4 import Ipv4
from netstack.internet.packet import ReceivedPacket
from netstack.internet.pathfinder import Pathfinder
from netstack.internet.reassembly import Reassembler
from netstack.internet.route import Route, Routes
from netstack.wire.ethernet import EtherType
from netstack.wire.ipv4 import IPv4Header, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from netstack.core.address import InterfaceAddress, IPAddress, Prefix
    from netstack.core.context import Context
    from netstack.device.base import Frame
    from netstack.internet.path import Path
    from netstack.link.interface import Interface


class Internet:
    """The internet layer of one host.

    The loopback interface is the one that has an address in 127/8; without one, nothing can be
    sent to this host's own addresses.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        self.interfaces: list[Interface] = []
        self.routes = Routes()
        self._addresses = LocalAddresses()
        self._paths = Pathfinder(context, self._addresses, self.routes)
        reassembler = Reassembler(context, self.send_error)
        self._ipv4 = Ipv4(context, self._addresses, reassembler, self.send_error)
        self._icmpv4 = Icmpv4(context, self._addresses, self._paths, self._ipv4)
        self._echo = EchoDemux(context, self._icmpv4)
        self._icmpv4.on_echo_reply = self._echo.receive_reply
        self.register(Protocol.ICMP, self._icmpv4.receive_message, self._echo.receive_error)
        if context.config.ipv4.forwarding:
            self._ipv4.forward = Forwarder(
                context, self.routes, self._ipv4, self.send_error
            ).forward

    @property
    def generation(self) -> int:
        """Changes whenever a path that was handed out may be outdated."""
        return self._paths.generation

    # Configuration

    def add_interface(self, interface: Interface) -> None:
        """Send and receive through ``interface`` from now on.

        Raises: ValueError if its MTU is below 68 octets (RFC 791).
        """
        check_mtu(interface.mtu)
        self.interfaces.append(interface)
        interface.handlers[EtherType.IPV4] = self._ipv4.receive_packet
        interface.on_change = self._refresh
        interface.on_unresolved = partial(self._give_up, interface)
        for address in interface.addresses:
            self._connect(interface, address)
        self._refresh()

    def remove_interface(self, interface: Interface) -> None:
        """Forget ``interface`` and all routes through it."""
        self.interfaces.remove(interface)
        interface.handlers.pop(EtherType.IPV4, None)
        interface.on_change = None
        interface.on_unresolved = None
        self.routes.remove(interface)
        self._refresh()

    def add_address(self, interface: Interface, address: InterfaceAddress) -> None:
        """Give ``interface`` an address, and a route to the link that its prefix names.

        Raises: ValueError for an address that no host may have (RFC 1122 3.2.1.3).
        """
        _check_host_address(address)
        if address not in interface.addresses:
            interface.addresses.append(address)
        self._connect(interface, address)
        self._refresh()

    def _connect(self, interface: Interface, address: InterfaceAddress) -> None:
        self.routes.add(Route(address.prefix, None, interface))

    def add_route(
        self, prefix: Prefix, gateway: IPAddress | None, interface: Interface | None = None
    ) -> None:
        """Send packets for ``prefix`` through ``interface``, to ``gateway`` or directly.

        Without ``interface`` it is the one whose link holds the gateway.

        Raises: Unreachable if no link holds the gateway, or neither is given.
        """
        if interface is None:
            direct = None if gateway is None else self.routes.lookup(gateway)
            if direct is None or direct.gateway is not None:
                raise Unreachable(f"no interface reaches the gateway {gateway}")
            interface = direct.interface
        self.routes.add(Route(prefix, gateway, interface))
        self._paths.bump()

    def intercept(self, protocol: int) -> None:
        """Take packets of ``protocol`` whatever their destination, and answer from there.

        For tunnels, gateways and honeypots. From then on ``path`` accepts any source.
        """
        self._ipv4.intercepted.add(protocol)
        self._paths.foreign_sources = True

    def _refresh(self) -> None:
        self._addresses.refresh(self.interfaces)
        self._paths.bump()

    # Transports

    def register(
        self,
        protocol: int,
        handler: Callable[[ReceivedPacket], None],
        error_handler: Callable[[NetworkError], bool],
    ) -> None:
        """Hand packets of ``protocol`` to ``handler`` and errors about them to the other.

        ``error_handler`` returns whether it recognised the packet as one of its own; only then
        is a path MTU believed.
        """
        self._ipv4.handlers[protocol] = handler
        self._icmpv4.error_handlers[protocol] = error_handler

    def learn_mtu(self, destination: IPAddress, mtu: int) -> None:
        """Believe that the path to ``destination`` takes packets of ``mtu`` octets at most."""
        self._paths.pmtu.update(destination.packed, mtu)

    def send_error(self, packet: ReceivedPacket, kind: ErrorKind, mtu: int = 0) -> None:
        """Send an ICMP error about ``packet`` to its source, unless a rule forbids it.

        ``mtu`` is for PACKET_TOO_BIG; PARAMETER_PROBLEM takes the index of the faulty octet in its
        place, TIME_EXCEEDED 1 if reassembly took too long.
        """
        self._icmpv4.send_error(packet, kind, mtu)

    def open_echo(self) -> EchoEndpoint:
        """Return a new endpoint for echo requests."""
        return self._echo.open()

    # Going down

    def path(
        self,
        destination: IPAddress,
        source: IPAddress | None = None,
        interface: Interface | None = None,
    ) -> Path:
        """Return the way to ``destination``, from ``source`` and through ``interface`` if given.

        Raises: Unreachable if there is no route or no address to send from.
        """
        return self._paths.path(destination, source, interface)

    def send(
        self,
        path: Path,
        protocol: int,
        frame: Frame,
        *,
        hop_limit: int | None = None,
        traffic_class: int = 0,
        dont_fragment: bool = False,
        flow: object = None,
    ) -> bool:
        """Send the packet whose payload begins at ``frame.start``; see ``Ipv4.send``."""
        return self._ipv4.send(
            path, protocol, frame, hop_limit=hop_limit, traffic_class=traffic_class,
            dont_fragment=dont_fragment, flow=flow,
        )  # fmt: skip

    # Questions

    def is_local(self, address: IPAddress) -> bool:
        """Return whether packets to ``address`` end at this host."""
        return self._addresses.is_local(address.packed)

    def is_broadcast(self, packed: bytes) -> bool:
        """Return whether this is 255.255.255.255 or the broadcast address of one of our links."""
        return packed in self._addresses.broadcasts

    # Packets that the link could not deliver

    def _give_up(
        self, interface: Interface, next_hop: IPAddress, frame: Frame, offset: int
    ) -> None:
        """Report a packet whose next hop did not answer: to the sender here, or to its source."""
        data = b"".join((memoryview(frame.header)[offset:], *frame.payload))
        try:
            header, payload = IPv4Header.parse(data)
        except ParseError:
            self.context.drop("ipv4.undeliverable", frame.segments, frame.id)
            return
        self.context.drop("ipv4.neighbour_unreachable", frame.segments, frame.id)
        if self._addresses.is_local(header.source.packed):
            self._tell_transport(header, data)
            return
        packet = ReceivedPacket(
            4, header.source.packed, header.destination.packed, header.protocol, header.ttl,
            header.traffic_class, frame, offset, offset + header.header_length, len(payload),
            interface, False,
        )  # fmt: skip
        self.send_error(packet, ErrorKind.HOST_UNREACHABLE)

    def _tell_transport(self, header: IPv4Header, data: bytes) -> None:
        handler = self._icmpv4.error_handlers.get(header.protocol)
        try:
            quote = parse_quote(memoryview(data))
        except ParseError:
            return
        if handler is not None:
            handler(
                NetworkError(
                    ErrorKind.HOST_UNREACHABLE,
                    header.source.packed,
                    header.destination.packed,
                    quote.local_port,
                    quote.remote_port,
                    quote.seq,
                )
            )


def _check_host_address(address: InterfaceAddress) -> None:
    value, prefix = address
    if value.version == 4:
        group = value.is_multicast or value.is_limited_broadcast or value.is_unspecified
        if group or value == prefix.broadcast:
            raise ValueError(f"{address} is no address of a host")
