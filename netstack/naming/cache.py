"""The resolver's cache: answers, negative answers, failures and delegations, each for its time.

Answers come from authority (or, for a stub, from its resolver) and are given to applications.
Delegations - NS records of a referral and their glue - only say whom to ask next; they live
under keys of their own, so that a referral can never become an answer (RFC 2181 5.4.1). What is
kept is bounded in number and octets; the least recently used goes first. Time is passed in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from netstack.naming.answer import Finding, Outcome, effective_ttl
from netstack.wire.dns_name import Name
from netstack.wire.dns_rdata import RecordType, rdata_pieces

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netstack.core.config import DnsConfig
    from netstack.wire.dns import Record

ENTRY_OVERHEAD = 400  # octets that an entry's objects take besides what follows
RECORD_OVERHEAD = 200

_ANY_TYPE = 0  # the key's type of a name that does not exist at all


class _Key(NamedTuple):
    name: Name
    type: int
    delegation: bool = False


class _Entry(NamedTuple):
    outcome: Outcome
    records: tuple[Record, ...]
    stored_at: float
    ttl: float
    octets: int


class Cache:
    """Bounded memory of what servers said."""

    def __init__(self, config: DnsConfig) -> None:
        self._config = config
        self._entries: dict[_Key, _Entry] = {}  # least recently used first
        self.octets = 0
        """What the entries account for."""

    def __len__(self) -> int:
        return len(self._entries)

    def store(self, finding: Finding, type: int, now: float) -> None:
        """Keep what a response said about its name, and each alias on the way there.

        A negative finding without a SOA has a TTL of 0 and is not kept.  RFC 2308 5.
        """
        for alias in finding.aliases:
            self._put(_Key(alias.name, RecordType.CNAME), Outcome.ANSWER, (alias,), now)
        if type == RecordType.ANY:
            return  # which of all records a server returned says nothing about the others
        key = _Key(finding.name, type)
        if finding.outcome is Outcome.ANSWER:
            self._forget(_Key(finding.name, _ANY_TYPE))
            self._put(key, Outcome.ANSWER, finding.records, now)
        elif finding.outcome in (Outcome.NAME_ERROR, Outcome.NO_DATA):
            if finding.outcome is Outcome.NAME_ERROR:
                key = key._replace(type=_ANY_TYPE)
            ttl = min(finding.ttl, self._config.max_negative_ttl)
            self._put(key, finding.outcome, (), now, ttl)

    def store_failure(self, name: Name, type: int, now: float) -> None:
        """Keep for a while that nobody could answer, lest all ask again.  RFC 9520 3."""
        self._put(_Key(name, type), Outcome.FAILURE, (), now, self._config.failure_ttl)

    def store_delegation(self, records: Sequence[Record], now: float) -> None:
        """Keep an RRset of a referral: NS records, or the glue of one server."""
        key = _Key(records[0].name, records[0].type, delegation=True)
        self._put(key, Outcome.ANSWER, tuple(records), now)

    def find(self, name: Name, type: int, now: float) -> Finding | None:
        """Return what is known about a question, one step of a chain of aliases at a time."""
        entry = self._get(_Key(name, type), now)
        if entry is not None:
            return self._finding(name, entry, now)
        alias = self._get(_Key(name, RecordType.CNAME), now)
        if alias is not None and alias.outcome is Outcome.ANSWER and type != RecordType.ANY:
            records = _aged(alias, now)
            target = records[0].data
            if isinstance(target, Name):
                return Finding(Outcome.ALIAS, target, records)
        entry = self._get(_Key(name, _ANY_TYPE), now)
        return None if entry is None else self._finding(name, entry, now)

    def delegation(self, name: Name, type: int, now: float) -> tuple[Record, ...]:
        """Return the records to find a server by: an answer if there is one, else glue."""
        for delegation in (False, True):
            entry = self._get(_Key(name, type, delegation), now)
            if entry is not None and entry.records:
                return _aged(entry, now)
        return ()

    def _finding(self, name: Name, entry: _Entry, now: float) -> Finding:
        remaining = entry.ttl - (now - entry.stored_at)
        reason = f"failed {now - entry.stored_at:.0f} s ago"
        return Finding(entry.outcome, name, (), _aged(entry, now), int(remaining), reason)

    def _get(self, key: _Key, now: float) -> _Entry | None:
        entry = self._entries.pop(key, None)
        if entry is None:
            return None
        if now - entry.stored_at >= entry.ttl:
            self.octets -= entry.octets
            return None
        self._entries[key] = entry  # the most recently used is last
        return entry

    def _put(
        self,
        key: _Key,
        outcome: Outcome,
        records: tuple[Record, ...],
        now: float,
        ttl: float | None = None,
    ) -> None:
        if ttl is None:
            # RFC 2181 5.2: the records of a set live equally long.
            ttl = min(effective_ttl(record.ttl) for record in records)
        ttl = min(ttl, self._config.max_ttl)
        self._forget(key)
        if ttl <= 0:
            return
        octets = ENTRY_OVERHEAD + len(key.name.build()) + sum(map(_record_octets, records))
        if octets > self._config.cache_octets:
            return
        self._entries[key] = _Entry(outcome, records, now, ttl, octets)
        self.octets += octets
        while (
            len(self._entries) > self._config.cache_entries
            or self.octets > self._config.cache_octets
        ):
            self._forget(next(iter(self._entries)))

    def _forget(self, key: _Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.octets -= entry.octets


def _aged(entry: _Entry, now: float) -> tuple[Record, ...]:
    """Return the records with what is left of their time to live."""
    left = int(entry.ttl) - int(now - entry.stored_at)
    return tuple([record._replace(ttl=max(left, 0)) for record in entry.records])


def _record_octets(record: Record) -> int:
    return RECORD_OVERHEAD + sum(
        len(piece.build()) if isinstance(piece, Name) else len(piece)
        for piece in rdata_pieces(record.data)
    )
