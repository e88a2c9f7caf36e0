"""Finding the path to a destination: route, next hop, source address, path MTU.

Paths are remembered until anything changes (``generation``), so that a datagram socket may ask
for each datagram.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from netstack.core.address import prefix_of
from netstack.core.checksum import internet_sum
from netstack.core.errors import Unreachable
from netstack.internet.errors import ErrorKind
from netstack.internet.identification import Identifications
from netstack.internet.path import Path
from netstack.internet.pmtu import PmtuCache
from netstack.internet.route import Route

if TYPE_CHECKING:
    from netstack.core.address import IPAddress
    from netstack.core.context import Context
    from netstack.internet.addresses import LocalAddresses
    from netstack.internet.route import Routes
    from netstack.link.interface import Interface

MAX_PATHS = 4096  # remembered ones
MAX_PACKET = 65535  # octets, RFC 791 total length
HEADER_SIZE = 20  # octets of the IPv4 header that is sent; no options


class Pathfinder:
    """Answers ``path``; ``generation`` changes whenever an earlier answer may be outdated."""

    def __init__(self, context: Context, addresses: LocalAddresses, routes: Routes) -> None:
        self._addresses = addresses
        self._routes = routes
        self._identifications = Identifications(context.rng.child("ipv4:identification"))
        self._paths: dict[tuple[IPAddress, IPAddress | None, int], Path] = {}
        self.pmtu = PmtuCache(context, self.bump)
        self.foreign_sources = False  # whether to send from addresses that are not ours
        self.generation = 0

    def bump(self) -> None:
        """Outdate every path: a route, address, neighbour, MTU or path MTU changed."""
        self.generation += 1
        self._paths.clear()

    def path(
        self,
        destination: IPAddress,
        source: IPAddress | None = None,
        interface: Interface | None = None,
    ) -> Path:
        """Return the way to ``destination``, from ``source`` and through ``interface`` if given.

        Raises: Unreachable if there is no route or no address to send from.
        """
        key = (destination, source, id(interface))
        path = self._paths.get(key)
        if path is None:
            path = self._find(destination, source, interface)
            if len(self._paths) >= MAX_PATHS:
                self._paths.clear()
            self._paths[key] = path
        return path

    def _find(
        self, destination: IPAddress, source: IPAddress | None, interface: Interface | None
    ) -> Path:
        route = self._route(destination, interface)
        chosen = self._source(route, destination, source)
        outgoing = route.interface
        entry = self.pmtu.get(destination.packed)
        mtu = min(outgoing.mtu, MAX_PACKET)
        return Path(
            chosen,
            destination,
            route.gateway or destination,
            outgoing,
            mtu=mtu if entry is None else min(mtu, entry.mtu),
            fragment=entry is not None and entry.fragment,
            header_size=HEADER_SIZE,
            pseudo_header_sum=internet_sum(chosen.packed + destination.packed),
            identification=self._identifications.counter(chosen.packed, destination.packed),
            generation=self.generation,
        )

    def _route(self, destination: IPAddress, interface: Interface | None) -> Route:
        if destination.version != 4:
            raise Unreachable("IPv6 is not available", errno.EAFNOSUPPORT)
        if destination.is_unspecified:
            raise Unreachable("0.0.0.0 is no destination", errno.EADDRNOTAVAIL)
        loopback = self._addresses.loopback
        if destination.is_loopback or self._addresses.is_local(destination.packed):
            # RFC 1122 3.2.1.3 g: 127/8 must never appear outside a host.
            if loopback is None:
                raise Unreachable(f"no loopback interface to reach {destination}")
            return self._directly(destination, loopback)
        if destination.is_multicast or destination.is_limited_broadcast:
            interface = interface or self._default_interface()
            if interface is None:
                raise Unreachable("no interface is up", errno.ENETUNREACH)
            return self._directly(destination, interface)
        route = self._routes.lookup(destination, interface)
        if route is None:
            phrase = ErrorKind.NO_ROUTE.value
            raise Unreachable(f"{phrase}: {destination}", errno.ENETUNREACH)
        return route

    @staticmethod
    def _directly(destination: IPAddress, interface: Interface) -> Route:
        return Route(prefix_of(destination, 32), None, interface)

    def _default_interface(self) -> Interface | None:
        for interface in self._addresses.local.values():
            if interface.up and interface is not self._addresses.loopback:
                return interface
        return None

    def _source(self, route: Route, destination: IPAddress, source: IPAddress | None) -> IPAddress:
        addresses = self._addresses
        looped = route.interface is addresses.loopback
        if source is None or source.is_unspecified:
            if looped and not destination.is_loopback:
                return destination
            selected = addresses.select_source(route.interface, route.gateway or destination)
            if selected is None:
                raise Unreachable(f"no address to reach {destination} from")
            return selected
        if source.is_loopback and not looped:
            raise Unreachable(f"{source} cannot reach {destination}", errno.EINVAL)
        if not (self.foreign_sources or addresses.is_local(source.packed)):
            raise Unreachable(f"{source} is not an address of this host", errno.EADDRNOTAVAIL)
        return source
