"""What a resolution ends with, and how a response is read (RFC 1034 4.3.1, RFC 2308 2).

From a response only what was asked for is believed: records in the answer section whose owner
is the name asked for or the alias that the response itself led to, in the asked class and of the
asked type, and only within the zone that the server was asked about. What else a server sends
along is not looked at.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from netstack.core.address import IPAddress
from netstack.wire.dns import Message, Rcode, Record, rcode_text
from netstack.wire.dns_name import Name
from netstack.wire.dns_rdata import (
    MAX_TTL,
    RecordClass,
    RecordType,
    Soa,
    rdata_text,
    type_text,
)


class Outcome(Enum):
    """What became of a question."""

    ANSWER = "answer"
    ALIAS = "alias"  # only on the way: the name is an alias, its target is still to be asked
    NAME_ERROR = "NXDOMAIN"
    NO_DATA = "no data"
    FAILURE = "failure"


class Answer(NamedTuple):
    """The records found; ``aliases`` are the CNAME records that led from name to canonical.

    ``ttl`` is for how many seconds all of it holds; ``cached`` says that no server was asked.
    """

    name: Name
    type: int
    canonical: Name
    records: tuple[Record, ...]
    aliases: tuple[Record, ...] = ()
    ttl: int = 0
    cached: bool = False

    @property
    def addresses(self) -> list[IPAddress]:
        """The addresses among the records, in the order received."""
        return [record.data for record in self.records if isinstance(record.data, IPAddress)]

    def texts(self) -> list[str]:
        """Return the data of each record as a master file shows it."""
        return [rdata_text(record.data) for record in self.records]


class Finding(NamedTuple):
    """What one source - a response or the cache - says about a name.

    ``name`` is the last of the chain; ``ttl`` counts for negative outcomes; ``reason`` is for
    failures.
    """

    outcome: Outcome
    name: Name
    aliases: tuple[Record, ...] = ()
    records: tuple[Record, ...] = ()
    ttl: int = 0
    reason: str = ""

    def describe(self, type: int) -> str:
        """Return the finding as a narrative shows it."""
        parts = [f"alias {rdata_text(record.data)}" for record in self.aliases]
        if self.outcome is Outcome.ANSWER:
            shown = [rdata_text(record.data) for record in self.records[:4]]
            more = ["..."] if len(self.records) > 4 else []
            parts.append(f"answer {', '.join(shown + more)}")
        elif self.outcome is Outcome.NAME_ERROR:
            parts.append("NXDOMAIN")
        elif self.outcome is Outcome.NO_DATA:
            parts.append(f"no {type_text(type)} record")
        elif self.outcome is Outcome.FAILURE:
            parts.append(self.reason)
        return ", ".join(parts)


def effective_ttl(ttl: int) -> int:
    """Return the TTL that counts: one with the high bit set is 0.  RFC 2181 8."""
    return ttl if ttl <= MAX_TTL else 0


def read_response(
    message: Message, name: Name, type: int, zone: Name, max_aliases: int
) -> Finding:
    """Return what a response to (``name``, ``type``) says, as far as ``zone`` may say it.

    A response without answer or alias is NO_DATA here; whether it is a referral is the
    iterative resolver's to judge.
    """
    if message.rcode not in (Rcode.NOERROR, Rcode.NXDOMAIN):
        return Finding(Outcome.FAILURE, name, reason=rcode_text(message.rcode))
    aliases: list[Record] = []
    seen = {name}
    current = name
    while current.is_subdomain_of(zone):
        owned = [
            record
            for record in message.answer
            if record.name == current and record.class_ == RecordClass.IN
        ]
        records = [record for record in owned if type in (record.type, RecordType.ANY)]
        if records:
            return Finding(Outcome.ANSWER, current, tuple(aliases), tuple(records))
        alias = next((record for record in owned if record.type == RecordType.CNAME), None)
        if alias is None or not isinstance(alias.data, Name):
            return _negative(message, type, current, tuple(aliases), zone)
        aliases.append(alias)
        current = alias.data
        if current in seen or len(aliases) > max_aliases:
            return Finding(Outcome.FAILURE, name, reason="a loop or too long a chain of aliases")
        seen.add(current)
    return Finding(Outcome.ALIAS, current, tuple(aliases))


def _negative(
    message: Message, type: int, name: Name, aliases: tuple[Record, ...], zone: Name
) -> Finding:
    ttl = _negative_ttl(message, name, zone)
    if message.rcode == Rcode.NXDOMAIN:
        return Finding(Outcome.NAME_ERROR, name, aliases, ttl=ttl or 0)
    if aliases and ttl is None:
        # The chain just ends: the server may not know its target.  RFC 2308 2.1
        return Finding(Outcome.ALIAS, name, aliases)
    return Finding(Outcome.NO_DATA, name, aliases, ttl=ttl or 0)


def _negative_ttl(message: Message, name: Name, zone: Name) -> int | None:
    """Return how long a negative answer holds; None without a fitting SOA.  RFC 2308 5."""
    for record in message.authority:
        fits = name.is_subdomain_of(record.name) and record.name.is_subdomain_of(zone)
        if fits and isinstance(record.data, Soa):
            return min(effective_ttl(record.ttl), effective_ttl(record.data.minimum))
    return None


def has_soa(message: Message) -> bool:
    """Return whether a response proves a negative answer by a SOA record.  RFC 2308 2.2."""
    return any(record.type == RecordType.SOA for record in message.authority)
