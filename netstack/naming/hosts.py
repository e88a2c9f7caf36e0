"""The hosts table: names and addresses that need no server.

The text is that of ``/etc/hosts``: an address, then its canonical name, then aliases. A name in
the table is answered from it alone for both address types, and addresses give their first name
back for PTR. ``localhost`` is always known (RFC 6761 6.3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netstack.core.address import IPAddress, parse_address
from netstack.wire.dns import Record
from netstack.wire.dns_name import Name, host_name, reverse_name
from netstack.wire.dns_rdata import RecordType

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_LOCALHOST = Name((b"localhost",))
_LOOPBACK = IPAddress(b"\x7f\x00\x00\x01")
_FAMILIES: dict[int, int] = {RecordType.A: 4, RecordType.AAAA: 6}


class HostsTable:
    """Names and addresses; lookups never fail, they only don't know."""

    def __init__(self, pairs: Iterable[tuple[Name, IPAddress]] = ()) -> None:
        self._addresses: dict[Name, list[IPAddress]] = {}
        self._names: dict[Name, Name] = {}  # reverse name -> canonical name
        self.ignored: tuple[int, ...] = ()
        """Numbers of the lines of the text that held no address and name."""
        for name, address in pairs:
            self._addresses.setdefault(name, []).append(address)
            self._names.setdefault(reverse_name(address), name)

    @classmethod
    def parse(cls, text: str) -> HostsTable:
        """Return the table that a hosts file spells; lines that make no sense are ``ignored``."""
        pairs: list[tuple[Name, IPAddress]] = []
        ignored = []
        for number, line in enumerate(text.splitlines(), 1):
            address_text, *names = line.partition("#")[0].split() or ("",)
            if not address_text:
                continue
            try:
                address = parse_address(address_text)
                found = [(host_name(name), address) for name in names]
            except ValueError:
                found = []
            if not found:
                ignored.append(number)
            pairs.extend(found)
        table = cls(pairs)
        table.ignored = tuple(ignored)
        return table

    @classmethod
    def of(cls, addresses: Mapping[str, str]) -> HostsTable:
        """Return the table of name -> address.

        Raises: ValueError for what is no name or no address.
        """
        return cls([(host_name(name), parse_address(text)) for name, text in addresses.items()])

    def lookup(self, name: Name, type: int) -> tuple[Record, ...] | None:
        """Return the records for a question, empty if the name has none of an address type.

        None: the table does not know, ask on. Records live 0 seconds: nobody need keep them.
        """
        if type == RecordType.PTR:
            host = self._names.get(name)
            return None if host is None else (Record(name, type, 0, host),)
        family = _FAMILIES.get(type)
        if family is None:
            return None
        addresses = self._addresses.get(name)
        if addresses is None:
            if not name.is_subdomain_of(_LOCALHOST):
                return None
            addresses = [_LOOPBACK]
        return tuple(
            [Record(name, type, 0, address) for address in addresses if address.version == family]
        )
