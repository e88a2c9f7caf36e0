"""The routing table: the longest prefix that holds the destination wins (RFC 1812 5.2.4.3)."""

from __future__ import annotations

from bisect import insort
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netstack.core.address import IPAddress, Prefix
    from netstack.link.interface import Interface


class Route(NamedTuple):
    """Packets for ``prefix`` leave through ``interface``, to ``gateway`` or, if None, directly."""

    prefix: Prefix
    gateway: IPAddress | None
    interface: Interface


class Routes:
    """Routes of one host, for both IP versions; a lookup costs one dictionary per length."""

    def __init__(self) -> None:
        self._tables: dict[tuple[int, int], dict[int, list[Route]]] = {}
        self._lengths: dict[int, list[int]] = {4: [], 6: []}  # ascending

    def __iter__(self) -> Iterator[Route]:
        for table in self._tables.values():
            for routes in table.values():
                yield from routes

    def add(self, route: Route) -> None:
        """Add ``route``; of several for one prefix the first whose interface is up is used."""
        network, length = route.prefix
        version = network.version
        table = self._tables.get((version, length))
        if table is None:
            table = self._tables[version, length] = {}
            insort(self._lengths[version], length)
        routes = table.setdefault(int(network), [])
        if route not in routes:
            routes.append(route)

    def remove(self, interface: Interface) -> None:
        """Remove every route through ``interface``."""
        for table in self._tables.values():
            for network, routes in list(table.items()):
                kept = [route for route in routes if route.interface is not interface]
                if kept:
                    table[network] = kept
                else:
                    del table[network]

    def lookup(self, destination: IPAddress, interface: Interface | None = None) -> Route | None:
        """Return the most specific usable route, through ``interface`` if one is given."""
        version = destination.version
        bits = len(destination.packed) * 8
        value = int(destination)
        for length in reversed(self._lengths[version]):
            shift = bits - length
            for route in self._tables[version, length].get(value >> shift << shift, ()):
                if route.interface.up and interface in (None, route.interface):
                    return route
        return None
