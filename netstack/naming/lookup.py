"""What the strategies - stub and iterative - share while one name is being resolved.

A strategy is a generator: it yields a ``Query`` and is sent the ``Reply``, so that resolution
reads as the straight procedure it is (RFC 1034 5.3.3) while all waiting is the driver's.
``Lookup`` carries the time, the budget of queries and the cache of one resolution.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from netstack.core.errors import NameNotFound, NameServerError
from netstack.core.trace import CacheLookup, NameStep
from netstack.naming.answer import Answer, Finding, Outcome
from netstack.wire.dns import Question
from netstack.wire.dns_rdata import type_text

if TYPE_CHECKING:
    from collections.abc import Generator

    from netstack.core.context import Context
    from netstack.naming.cache import Cache
    from netstack.naming.exchange import Query, Reply
    from netstack.wire.dns import Message, Record
    from netstack.wire.dns_name import Name


class Lookup:
    """One resolution's share of the resolver; ``now`` is the time of the current step."""

    def __init__(self, context: Context, cache: Cache, now: float, *, over_tcp: bool) -> None:
        self.context = context
        self.config = context.config.dns
        self.cache = cache
        self.now = now
        self.over_tcp = over_tcp
        self.queries = 0
        self.failed_servers = 0  # names of servers that had no address
        self.active: set[Name] = set()  # servers whose address is being looked for
        self.response: Message | None = None

    def ask(self, query: Query) -> Generator[Query, Reply, Reply]:
        """Ask a server.

        Raises: NameServerError once the resolution has used up its queries.
        """
        if self.queries >= self.config.max_queries:
            raise NameServerError(f"gave up after {self.queries} queries")
        self.queries += 1
        reply = yield query
        if reply.message is not None:
            self.response = reply.message
        else:
            self.step(query, reply.failure)
        return reply

    def step(self, query: Query, outcome: str) -> None:
        """Trace what became of a query."""
        if self.context.trace is not None:
            event = NameStep(
                self.now,
                self.context.name,
                "naming",
                str(query.name),
                type_text(query.type),
                query.label,
                outcome,
            )
            self.context.trace.emit(event)

    def cached(self, name: Name, type: int) -> Finding | None:
        """Ask the cache."""
        finding = self.cache.find(name, type, self.now)
        self.context.count("dns.cache_misses" if finding is None else "dns.cache_hits")
        if self.context.trace is not None:
            event = CacheLookup(
                self.now,
                self.context.name,
                "naming",
                "name",
                str(Question(name, type)),
                finding is not None,
            )
            self.context.trace.emit(event)
        return finding


class Strategy(Protocol):
    """A way to ask the network about one name; aliases that lead elsewhere are not followed."""

    def fetch(self, lookup: Lookup, name: Name, type: int) -> Generator[Query, Reply, Finding]:
        """Return what servers say.

        Raises: NameServerError or TimedOut if none says anything usable.
        """
        ...


def resolve(
    lookup: Lookup, strategy: Strategy, name: Name, type: int
) -> Generator[Query, Reply, Answer]:
    """Return the answer to a question, following aliases through cache and network.

    Raises: NameNotFound, NameServerError, TimedOut.  RFC 1034 5.3.3.
    """
    aliases: list[Record] = []
    current = name
    while True:
        finding = lookup.cached(current, type)
        if finding is None:
            finding = yield from strategy.fetch(lookup, current, type)
            lookup.cache.store(finding, type, lookup.now)
        aliases.extend(finding.aliases)
        _check_chain(name, aliases, lookup.config.max_cname_chain)
        if finding.outcome is not Outcome.ALIAS:
            return _conclude(lookup, name, type, finding, tuple(aliases))
        current = finding.name


def _check_chain(name: Name, aliases: list[Record], limit: int) -> None:
    """Refuse a loop and a chain without end.  RFC 1034 3.6.2."""
    if len(aliases) > limit:
        raise NameServerError(f"{name} leads through more than {limit} aliases")
    if len({record.name for record in aliases}) < len(aliases):
        raise NameServerError(f"{name} is an alias of itself, by a loop")


def _conclude(
    lookup: Lookup, name: Name, type: int, finding: Finding, aliases: tuple[Record, ...]
) -> Answer:
    if finding.outcome is Outcome.NAME_ERROR:
        raise NoSuchName(f"{name.plain}: no such name")
    if finding.outcome is Outcome.NO_DATA:
        raise NoData(f"{name.plain} has no {type_text(type)} record")
    if finding.outcome is Outcome.FAILURE:
        raise NameServerError(f"{name.plain}: {finding.reason}")
    ttl = min(record.ttl for record in (*aliases, *finding.records))
    cached = lookup.queries == 0
    return Answer(name, type, finding.name, finding.records, aliases, ttl, cached)


class NoSuchName(NameNotFound):
    """The name does not exist, with any type (NXDOMAIN)."""


class NoData(NameNotFound):
    """The name exists, but not with this type."""
