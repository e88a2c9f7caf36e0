"""The iterative resolver: from the root down, one referral at a time (RFC 1034 5.3.3).

Theory of operation. Resolution stands at a *zone*: its name and the servers that may know it.
A server of the zone either answers with authority, or refers to a zone below, which becomes the
next; since each referral must lead strictly closer to the name, that ends. Everything that a
server says is believed only within the zone that it was asked about: glue and aliases outside
are not looked at, so that nobody can speak for a zone that was not delegated to them. A server
without usable glue is itself looked up, one level deeper. The limits of ``DnsConfig`` bound
what a hostile zone can make us send: queries and depth per name, servers per zone, and how
many servers' names may turn out to have no address (NXNSAttack, CVE-2020-8616).
Left out: DNSSEC, QNAME minimisation, servers reached over IPv6.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from netstack.core.address import IPAddress
from netstack.core.errors import NameServerError, NetstackError, TimedOut
from netstack.naming.answer import Finding, Outcome, has_soa, read_response
from netstack.naming.exchange import Query
from netstack.wire.dns_name import ROOT, Name
from netstack.wire.dns_rdata import RecordClass, RecordType

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from netstack.naming.exchange import Reply
    from netstack.naming.lookup import Lookup
    from netstack.wire.dns import Message, Record


class Zone(NamedTuple):
    """A zone and the servers delegated to: those with a known address, and mere names."""

    name: Name
    known: tuple[tuple[Name, IPAddress], ...]
    unresolved: tuple[Name, ...] = ()

    def describe(self, _type: int) -> str:
        """Return the delegation as a narrative shows it, whatever was asked for."""
        hosts = list(dict.fromkeys([host for host, _ in self.known])) + list(self.unresolved)
        more = ", ..." if len(hosts) > 4 else ""
        return f"referral to {self.name}: {', '.join(map(str, hosts[:4]))}{more}"


class _Servers:
    """The servers of one zone while they are asked in turn."""

    def __init__(self, zone: Zone, limit: int) -> None:
        self.ready: deque[tuple[Name, IPAddress]] = deque()
        self.unresolved = deque(zone.unresolved)
        self.silent: list[tuple[Name, IPAddress]] = []
        self.round = 1
        self._limit = limit
        self._known: set[IPAddress] = set()
        for host, address in zone.known:
            self.add(host, [address])

    def add(self, host: Name, addresses: Iterable[IPAddress]) -> None:
        """Take addresses of a server: each once, and not too many for one zone."""
        for address in addresses:
            if address not in self._known and len(self._known) < self._limit:
                self._known.add(address)
                self.ready.append((host, address))


class IterativeStrategy:
    """Finds its own way, given the addresses of root servers."""

    def __init__(self, hints: Iterable[tuple[Name, IPAddress]]) -> None:
        self._root = Zone(ROOT, tuple(hints))

    def fetch(self, lookup: Lookup, name: Name, type: int) -> Generator[Query, Reply, Finding]:
        """Return what the servers of the name's zone say about it.

        Raises: NameServerError, TimedOut.
        """
        return (yield from self._descend(lookup, name, type, 0))

    def _descend(
        self, lookup: Lookup, name: Name, type: int, depth: int
    ) -> Generator[Query, Reply, Finding]:
        zone = self._closest(lookup, name)
        while True:
            verdict = yield from self._ask_zone(lookup, zone, name, type, depth)
            if isinstance(verdict, Finding):
                return verdict
            zone = verdict

    def _closest(self, lookup: Lookup, name: Name) -> Zone:
        """Return the lowest zone above the name whose servers can be reached."""
        for ancestor in name.ancestors():
            records = lookup.cache.delegation(ancestor, RecordType.NS, lookup.now)
            if records:
                zone = _zone(lookup, ancestor, records)
                if zone.known or zone.unresolved:
                    return zone
        return self._root

    def _ask_zone(
        self, lookup: Lookup, zone: Zone, name: Name, type: int, depth: int
    ) -> Generator[Query, Reply, Finding | Zone]:
        """Ask the zone's servers until one answers or refers downwards.

        First those whose address is known, then those to be looked up, then once more those
        that were silent. A server that answers anything else is lame and not asked again.
        """
        servers = _Servers(zone, lookup.config.max_servers)
        rounds = lookup.config.attempts if depth == 0 else 1
        told = "it has no server"
        while (server := (yield from self._next(lookup, servers, rounds, depth))) is not None:
            host, address = server
            label = f"{address} ({host.plain})"
            query = Query(address, label, name, type, False, over_tcp=lookup.over_tcp)
            reply = yield from lookup.ask(query)
            if reply.message is None:
                told = f"{label}: {reply.failure}"
                if reply.timed_out:
                    servers.silent.append(server)
                continue
            verdict = _judge(lookup, reply.message, zone, name, type)
            outcome = verdict.describe(type)
            lookup.step(query, outcome)
            if isinstance(verdict, Zone) or verdict.outcome is not Outcome.FAILURE:
                return verdict
            told = f"{label}: {outcome}"
        reason = f"looking up {name.plain}: no server of {zone.name} ({told})"
        raise TimedOut(reason) if servers.silent else NameServerError(reason)

    def _next(
        self, lookup: Lookup, servers: _Servers, rounds: int, depth: int
    ) -> Generator[Query, Reply, tuple[Name, IPAddress] | None]:
        """Return the server to ask next, looked up if need be; None after the last round."""
        while not servers.ready:
            if servers.unresolved:
                host = servers.unresolved.popleft()
                addresses = yield from self._addresses(lookup, host, depth + 1)
                servers.add(host, addresses)
            elif servers.round < rounds and servers.silent:
                servers.round += 1
                servers.ready.extend(servers.silent)
                servers.silent.clear()
            else:
                return None
        return servers.ready.popleft()

    def _addresses(
        self, lookup: Lookup, host: Name, depth: int
    ) -> Generator[Query, Reply, list[IPAddress]]:
        """Return the addresses of a server that came without glue; none if that fails.

        A server's name must not be an alias (RFC 2181 10.3), and none is followed.
        """
        cached = lookup.cache.delegation(host, RecordType.A, lookup.now)
        if cached:
            return _addresses_in(cached)
        config = lookup.config
        if (
            depth > config.max_depth
            or host in lookup.active
            or lookup.failed_servers >= config.max_failed_servers
        ):
            return []
        addresses: list[IPAddress] = []
        finding = lookup.cached(host, RecordType.A)
        if finding is None:
            lookup.active.add(host)
            try:
                finding = yield from self._descend(lookup, host, RecordType.A, depth)
                lookup.cache.store(finding, RecordType.A, lookup.now)
            except NetstackError:
                lookup.cache.store_failure(host, RecordType.A, lookup.now)
            finally:
                lookup.active.discard(host)
        if finding is not None and not finding.aliases:
            addresses = _addresses_in(finding.records)
        if not addresses:
            lookup.failed_servers += 1
        return addresses


def _addresses_in(records: Iterable[Record]) -> list[IPAddress]:
    return [record.data for record in records if isinstance(record.data, IPAddress)]


def _judge(lookup: Lookup, message: Message, zone: Zone, name: Name, type: int) -> Finding | Zone:
    """Return an authoritative finding, the zone referred to, or a FAILURE that says why."""
    finding = read_response(message, name, type, zone.name, lookup.config.max_cname_chain)
    if finding.outcome is Outcome.FAILURE:
        return finding
    if finding.outcome is Outcome.NO_DATA and not finding.aliases and not has_soa(message):
        child = _referral(lookup, message, zone, name)
        if child is not None:
            return child
    if not message.authoritative:
        return Finding(Outcome.FAILURE, name, reason=f"lame: no authority for {zone.name}")
    return finding


def _referral(lookup: Lookup, message: Message, zone: Zone, name: Name) -> Zone | None:
    """Return the zone that a response delegates to, strictly below and towards the name.

    It and its glue go to the cache. Glue counts only for the servers named, and only from a
    server of a zone that the address belongs to: in bailiwick.
    """
    delegations = [
        record
        for record in message.authority
        if record.type == RecordType.NS
        and record.class_ == RecordClass.IN
        and len(record.name) > len(zone.name)
        and record.name.is_subdomain_of(zone.name)
        and name.is_subdomain_of(record.name)
    ]
    if not delegations:
        return None
    child = delegations[0].name
    records = tuple([record for record in delegations if record.name == child])
    records = records[: lookup.config.max_servers]
    lookup.cache.store_delegation(records, lookup.now)
    glue: dict[Name, list[Record]] = {}
    for record in message.additional:
        if record.type == RecordType.A and record.name.is_subdomain_of(zone.name):
            glue.setdefault(record.name, []).append(record)
    for record in records:
        if isinstance(record.data, Name) and record.data in glue:
            lookup.cache.store_delegation(glue[record.data], lookup.now)
    return _zone(lookup, child, records, glue)


def _zone(
    lookup: Lookup,
    name: Name,
    delegations: tuple[Record, ...],
    glue: dict[Name, list[Record]] | None = None,
) -> Zone:
    """Return the zone with the addresses that the cache or the referral itself knows."""
    known: dict[IPAddress, Name] = {}
    unresolved = []
    for delegation in delegations:
        host = delegation.data
        if not isinstance(host, Name):
            continue
        records = (glue or {}).get(host) or lookup.cache.delegation(host, RecordType.A, lookup.now)
        for address in _addresses_in(records):
            known.setdefault(address, host)
        # A server inside the zone that it serves cannot be found without glue.
        if not records and not host.is_subdomain_of(name):
            unresolved.append(host)
    return Zone(
        name, tuple([(host, address) for address, host in known.items()]), tuple(unresolved)
    )
