"""The authoritative server: octets of a query to octets of a response (RFC 1034 4.3.2).

Answers with authority from the zones it holds, refers to zones below them with glue
(RFC 9471), proves what does not exist by the SOA record (RFC 2308), follows aliases as far as
its zones reach, and synthesizes from wildcards (RFC 4592). EDNS0 (RFC 6891). It never recurses
and transfers no zones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from netstack.core.errors import ParseError
from netstack.wire.dns import (
    MAX_MESSAGE,
    UDP_SIZE,
    Edns,
    Message,
    Opcode,
    Rcode,
    Record,
    parse_header,
    rcode_text,
)
from netstack.wire.dns_name import Name
from netstack.wire.dns_rdata import Mx, RecordClass, RecordType, Soa

if TYPE_CHECKING:
    from collections.abc import Iterable

    from netstack.app.dns.zone import Node, Zone

MAX_ALIASES = 11  # followed within our zones, as many as a resolver would
EDNS_SIZE = 1232  # octets of a datagram that we take and, at most, send; RFC 9715 3
_WILDCARD = b"*"


class _Place(NamedTuple):
    """Where a name lies in a zone: at a node, below a delegation, or nowhere."""

    node: Node | None
    delegation: tuple[Record, ...] = ()


class AuthoritativeServer:
    """Serves zones; ``counters`` counts responses by code, and queries left unanswered."""

    def __init__(self, zones: Iterable[Zone]) -> None:
        self._zones: dict[Name, Zone] = {}
        self.counters: dict[str, int] = {}
        for zone in zones:
            if zone.origin in self._zones:
                raise ValueError(f"zone {zone.origin} is given twice")
            self._zones[zone.origin] = zone

    def answer(self, query: bytes, max_size: int) -> bytes:
        """Return the response, or ``b""`` if there must be none.

        ``max_size`` is what the transport carries: 65,535 for a stream, else the largest
        datagram; what the query can take (RFC 6891 6.2.3) limits datagrams further.
        """
        try:
            header = parse_header(query)
        except ParseError:
            self._count("too_short")
            return b""
        if header.message.response:
            # Two servers would answer each other's errors for ever.
            self._count("not_a_query")
            return b""
        try:
            message = Message.parse(query)
        except ParseError:
            message = header.message
            rcode = Rcode.FORMERR if message.opcode == Opcode.QUERY else Rcode.NOTIMP
            response = _response_to(message)._replace(rcode=rcode)
        else:
            response = self._respond(message)
        self._count(rcode_text(response.rcode))
        return _fit(response, _limit(message, max_size))

    def _count(self, name: str) -> None:
        self.counters[name] = self.counters.get(name, 0) + 1

    def _respond(self, query: Message) -> Message:
        response = _response_to(query)
        if query.opcode != Opcode.QUERY:
            return response._replace(rcode=Rcode.NOTIMP)
        if query.edns is not None and query.edns.version != 0:
            return response._replace(rcode=Rcode.BADVERS)
        if len(query.question) != 1:
            return response._replace(rcode=Rcode.FORMERR, question=())
        name, type, class_ = query.question[0]
        zone = self._zone_of(name)
        served = class_ in (RecordClass.IN, RecordClass.ANY)
        if zone is None or not served or type in (RecordType.AXFR, RecordType.IXFR):
            return response._replace(rcode=Rcode.REFUSED)
        return self._look_up(response, zone, name, type)

    def _zone_of(self, name: Name) -> Zone | None:
        """Return the lowest of our zones that the name lies in."""
        for ancestor in name.ancestors():
            zone = self._zones.get(ancestor)
            if zone is not None:
                return zone
        return None

    def _look_up(self, response: Message, zone: Zone, name: Name, type: int) -> Message:
        """Fill in the sections, an alias at a time.  RFC 1034 4.3.2."""
        aliases: list[Record] = []
        while True:
            place = _locate(zone, name)
            if place.delegation:
                return _refer(response, zone, tuple(aliases), place.delegation)
            if place.node is None:
                return _deny(response, zone, tuple(aliases), Rcode.NXDOMAIN)
            alias = place.node.get(RecordType.CNAME)
            if alias is None or type in (RecordType.CNAME, RecordType.ANY):
                break
            aliases.append(alias[0]._replace(name=name))
            target = alias[0].data
            next_zone = self._zone_of(target) if isinstance(target, Name) else None
            if (
                not isinstance(target, Name)
                or next_zone is None
                or len(aliases) > MAX_ALIASES
                or any(record.name == target for record in aliases)
            ):
                return response._replace(authoritative=True, answer=tuple(aliases))
            zone, name = next_zone, target
        records = [
            record._replace(name=name)
            for held, records in place.node.items()
            if type in (held, RecordType.ANY)
            for record in records
        ]
        if not records:
            return _deny(response, zone, tuple(aliases), Rcode.NOERROR)
        return response._replace(
            authoritative=True,
            answer=(*aliases, *records),
            additional=_addresses(zone, records),
        )


def _response_to(query: Message) -> Message:
    return Message(
        query.id,
        response=True,
        opcode=query.opcode,
        recursion_desired=query.recursion_desired,
        question=query.question,
        edns=None if query.edns is None else Edns(EDNS_SIZE),
    )


def _locate(zone: Zone, name: Name) -> _Place:
    """Walk down from the origin to the name, or to where it leaves the zone."""
    depth = len(zone.origin)
    encloser = zone.origin
    for count in range(depth + 1, len(name) + 1):
        below = Name(name.labels[-count:])
        node = zone.nodes.get(below)
        if node is None:
            # RFC 4592 3.3.1: the wildcard child of the closest encloser, or nothing.
            return _Place(zone.nodes.get(Name((_WILDCARD, *encloser.labels))))
        if RecordType.NS in node:
            return _Place(None, node[RecordType.NS])
        encloser = below
    return _Place(zone.nodes[encloser])


def _refer(
    response: Message, zone: Zone, aliases: tuple[Record, ...], delegation: tuple[Record, ...]
) -> Message:
    """Point to the servers of a zone below.  RFC 1034 4.3.2, 3b."""
    if aliases:
        # What we know for sure is the chain; its target is for the resolver to ask.
        return response._replace(authoritative=True, answer=aliases)
    return response._replace(authority=delegation, additional=_addresses(zone, delegation))


def _deny(response: Message, zone: Zone, aliases: tuple[Record, ...], rcode: Rcode) -> Message:
    """Say that there is no such name, or no such type, for as long as the SOA record says."""
    soa = zone.soa
    minimum = soa.data.minimum if isinstance(soa.data, Soa) else soa.ttl
    return response._replace(
        authoritative=True,
        rcode=rcode,
        answer=aliases,
        authority=(soa._replace(ttl=min(soa.ttl, minimum)),),  # RFC 2308 3
    )


def _addresses(zone: Zone, records: Iterable[Record]) -> tuple[Record, ...]:
    """Return the addresses that the zone holds, glue too, for the hosts that records name."""
    hosts: dict[Name, None] = {}
    for record in records:
        if record.type == RecordType.NS and isinstance(record.data, Name):
            hosts[record.data] = None
        elif isinstance(record.data, Mx):
            hosts[record.data.exchange] = None
    return tuple(
        [
            record
            for host in hosts
            for type in (RecordType.A, RecordType.AAAA)
            for record in zone.nodes.get(host, {}).get(type, ())
        ]
    )


def _limit(query: Message, max_size: int) -> int:
    if max_size >= MAX_MESSAGE:
        return MAX_MESSAGE
    # RFC 6891 6.2.3: a payload below 512 counts as 512.
    payload = UDP_SIZE if query.edns is None else max(query.edns.payload, UDP_SIZE)
    return min(max_size, payload)


def _fit(response: Message, limit: int) -> bytes:
    """Return the octets of a response within the limit, truncated if need be."""
    attempts = [response]
    if response.authoritative:
        # What is additional may go without a word (RFC 2181 9), glue may not (RFC 9471 3).
        attempts.append(response._replace(additional=()))
    attempts.append(response._replace(answer=(), authority=(), additional=(), truncated=True))
    octets = b""
    for attempt in attempts:
        try:
            octets = attempt.build()
        except ValueError:
            continue
        if len(octets) <= limit:
            break
    return octets
