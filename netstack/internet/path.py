"""How to reach a destination: what a transport needs to know before it builds a segment."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from netstack.core.address import IPAddress
    from netstack.internet.identification import Counter
    from netstack.link.interface import Interface


class Path:
    """The way to ``destination``, as known in ``generation``. Shared: don't change one.

    Once ``internet.generation`` differs, ask for a new one. ``mtu`` counts octets of an IP packet
    and ``header_size`` those of its IP header. ``addresses`` are both as they lie in that header,
    ``pseudo_header_sum`` is their folded sum; protocol and length are still to be added.
    ``gso_max_size`` and ``tx_checksum`` are the device's capabilities: 0 means that super-segments
    are cut above the device.
    ``fragment``: the path's MTU is below the floor, so DF must not be set.
    """

    __slots__ = (
        "addresses",
        "destination",
        "fragment",
        "generation",
        "gso_max_size",
        "header_size",
        "identification",
        "interface",
        "mtu",
        "next_hop",
        "pseudo_header_sum",
        "source",
        "tx_checksum",
        "version",
    )

    def __init__(
        self,
        source: IPAddress,
        destination: IPAddress,
        next_hop: IPAddress,
        interface: Interface,
        *,
        mtu: int,
        fragment: bool,
        header_size: int,
        pseudo_header_sum: int,
        identification: Counter,
        generation: int,
    ) -> None:
        self.source = source
        self.version: int = source.version
        self.destination = destination
        self.addresses = source.packed + destination.packed
        self.next_hop = next_hop
        self.interface = interface
        self.mtu = mtu
        self.fragment = fragment
        self.header_size = header_size
        self.pseudo_header_sum = pseudo_header_sum
        self.identification = identification
        self.generation = generation
        capabilities = interface.device.capabilities
        self.gso_max_size: int = capabilities.gso_max_size
        self.tx_checksum: bool = capabilities.tx_checksum

    def __repr__(self) -> str:
        return f"Path({self.source} -> {self.destination} via {self.next_hop}, mtu {self.mtu})"

    def room(self, flow: object) -> int:
        """Return how many octets ``flow`` may still queue below the transport."""
        return self.interface.room(flow)
