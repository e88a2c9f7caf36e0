"""Which addresses are this host's, and which sources no packet may have.

Kept as sets of packed addresses, so that the receive path asks with one lookup. RFC 1122
3.2.1.3 and 3.3.6, RFC 1812 5.3.7. The host model is the weak one (RFC 1122 3.3.4.2): a packet
for any address of this host is taken from any interface, except 127/8, which exists on the
loopback interface alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from netstack.core.address import IPAddress
    from netstack.link.interface import Interface

LIMITED_BROADCAST = b"\xff\xff\xff\xff"
ALL_HOSTS = b"\xe0\x00\x00\x01"  # 224.0.0.1, which every host joins (RFC 1112 4)

# By first octet: networks no unicast packet comes from or goes to (RFC 1122 3.2.1.3): 0/8,
# 127/8, 224/4 and the reserved 240/4 with 255.255.255.255.
SPECIAL = bytes(first in (0, 127) or first >= 224 for first in range(256))


class LocalAddresses:
    """The addresses of all interfaces of one host; ``refresh`` after each change."""

    __slots__ = ("broadcasts", "changes", "groups", "local", "loopback", "refused")

    def __init__(self) -> None:
        self.changes = 0
        """How often anything changed: what was found before that may be outdated."""
        self.local: dict[bytes, Interface] = {}
        self.broadcasts: set[bytes] = {LIMITED_BROADCAST}
        self.groups: set[bytes] = {ALL_HOSTS}
        self.refused: set[bytes] = set()  # as the source of what comes from outside
        self.loopback: Interface | None = None  # the interface that has an address in 127/8

    def refresh(self, interfaces: list[Interface]) -> None:
        """Learn anew what ``interfaces`` have."""
        self.changes += 1
        self.local.clear()
        self.broadcasts = {LIMITED_BROADCAST}
        self.loopback = None
        for interface in interfaces:
            for address, prefix in interface.addresses:
                self.local.setdefault(address.packed, interface)
                if address.version == 4 and address.is_loopback:
                    self.loopback = interface
                elif prefix.broadcast is not None:
                    self.broadcasts.add(prefix.broadcast.packed)
        self.refused = self.broadcasts | set(self.local)

    def is_local(self, packed: bytes) -> bool:
        """Return whether a packet to ``packed`` ends here; all of 127/8 does."""
        if packed in self.local:
            return True
        return len(packed) == 4 and packed[0] == 127 and self.loopback is not None

    def is_group(self, packed: bytes) -> bool:
        """Return whether ``packed`` is an IPv4 broadcast or multicast address."""
        return 224 <= packed[0] <= 239 or packed in self.broadcasts

    def is_martian(self, source: bytes, interface: Interface) -> bool:
        """Return whether no packet from ``interface`` can have that IPv4 source."""
        if interface is self.loopback:
            return not self.is_local(source)
        return bool(SPECIAL[source[0]]) or source in self.refused

    def select_source(self, interface: Interface, target: IPAddress) -> IPAddress | None:
        """Return which address to send from through ``interface`` towards ``target``.

        The one whose link holds ``target``, else the one with the longest common prefix; an
        interface without addresses borrows one of the others'. None if there is none.
        """
        version = target.version
        best: IPAddress | None = None
        best_rank = (-1, -1)
        for address, prefix in interface.addresses:
            if address.version == version:
                common = len(target.packed) * 8 - (int(address) ^ int(target)).bit_length()
                rank = (prefix.length if target in prefix else -1, common)
                if best is None or rank > best_rank:
                    best, best_rank = address, rank
        if best is None:
            best = self._borrowed(version)
        return best

    def _borrowed(self, version: int) -> IPAddress | None:
        for interface in self.local.values():
            for address, _ in interface.addresses:
                if address.version == version and not address.is_loopback:
                    return address
        return None
