"""Zones and their master files (RFC 1035 5, TTLs of RFC 2308 4, generic data of RFC 3597 5).

``$ORIGIN``, ``$TTL``, ``@``, relative names, parentheses, comments, quoted strings and escapes;
TTLs also as ``1h30m``. ``$INCLUDE`` and ``$GENERATE`` are left out, as are classes but IN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from netstack.core.errors import ParseError
from netstack.wire.dns import Record
from netstack.wire.dns_name import Name
from netstack.wire.dns_rdata import (
    RecordType,
    Soa,
    parse_ttl,
    rdata_from_text,
    type_number,
    type_text,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Node = dict[int, tuple[Record, ...]]
"""The record sets at one name, by type."""


class Zone:
    """The records of one zone by name and type.

    ``nodes`` holds each name that exists, also those that only lie between others (empty).
    Raises: ParseError for records that make no zone: no SOA or several, no NS at the origin,
    names outside, an alias beside other data.  RFC 1035 5.2, RFC 1034 3.6.2.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        records = tuple(records)
        starts = [record for record in records if record.type == RecordType.SOA]
        if len(starts) != 1:
            raise ParseError(f"a zone has one SOA record, not {len(starts)}")
        self.soa = starts[0]
        self.origin = self.soa.name
        self.nodes: dict[Name, Node] = {}
        for record in records:
            self._add(record)
        if RecordType.NS not in self.nodes[self.origin]:
            raise ParseError(f"zone {self.origin} has no NS record at its origin")
        for name, node in self.nodes.items():
            if RecordType.CNAME in node and (len(node) > 1 or len(node[RecordType.CNAME]) > 1):
                raise ParseError(f"{name} is an alias and has other records too")

    def _add(self, record: Record) -> None:
        if not record.name.is_subdomain_of(self.origin):
            raise ParseError(f"{record.name} lies outside the zone {self.origin}")
        above = record.name
        while above not in self.nodes:
            self.nodes[above] = {}
            if above == self.origin:
                break
            above = above.parent
        node = self.nodes[record.name]
        known = node.get(record.type, ())
        # RFC 2181 5.2: the records of a set have one TTL, the smallest; 5: none stands twice.
        ttl = min([record.ttl, *[other.ttl for other in known]])
        if all(record.data != other.data for other in known):
            known = (*known, record)
        node[record.type] = tuple([other._replace(ttl=ttl) for other in known])


def parse_zone(text: str, origin: str | None = None) -> Zone:
    """Return the zone that a master file spells; ``origin`` is its first ``$ORIGIN``.

    Raises: ParseError, with the number of the line.
    """
    reader = _ZoneReader(None if origin is None else _absolute(origin))
    for entry in _entries(text):
        try:
            reader.take(entry)
        except ValueError as error:
            raise ParseError(f"line {entry.line}: {error}") from None
    return Zone(reader.records)


def _absolute(text: str) -> Name:
    return Name.from_text(text if text.endswith(".") else f"{text}.")


class _Entry(NamedTuple):
    """The words of one entry, parentheses and comments gone; ``indented``: no owner is given."""

    line: int
    indented: bool
    words: list[str]


def _entries(text: str) -> Iterator[_Entry]:
    depth = 0
    entry = _Entry(0, False, [])
    number = 0
    for number, line in enumerate(text.split("\n"), 1):
        if depth == 0:
            entry = _Entry(number, line[:1] in (" ", "\t"), [])
        for word, quoted in _words(line.rstrip("\r"), number):
            if quoted or word not in ("(", ")"):
                entry.words.append(word)
                continue
            depth += 1 if word == "(" else -1
            if depth < 0:
                raise ParseError(f"line {number}: a parenthesis was never opened")
        if depth == 0 and entry.words:
            yield entry
    if depth:
        raise ParseError(f"line {entry.line}: a parenthesis is never closed")


def _words(line: str, number: int) -> Iterator[tuple[str, bool]]:
    """Yield the words of a line, escapes left as they are, and whether each was quoted."""
    position = 0
    while position < len(line):
        character = line[position]
        if character in " \t":
            position += 1
        elif character == ";":
            return
        elif character in "()":
            yield character, False
            position += 1
        elif character == '"':
            end = _end(line, position + 1, '"')
            if end == len(line):
                raise ParseError(f"line {number}: a quoted string is never closed")
            yield line[position + 1 : end], True
            position = end + 1
        else:
            end = _end(line, position, ' \t;()"')
            yield line[position:end], False
            position = end


def _end(line: str, position: int, stops: str) -> int:
    """Return where the first of ``stops`` stands that is not escaped, else the line's end."""
    while position < len(line) and line[position] not in stops:
        position += 2 if line[position] == "\\" else 1
    return min(position, len(line))


class _ZoneReader:
    """What carries over from entry to entry: origin, owner and TTLs."""

    def __init__(self, origin: Name | None) -> None:
        self._origin = origin
        self._owner: Name | None = None
        self._default_ttl: int | None = None
        self._last_ttl: int | None = None
        self.records: list[Record] = []

    def take(self, entry: _Entry) -> None:
        words = list(entry.words)
        if not entry.indented and words[0].startswith("$"):
            self._directive(words)
            return
        if not entry.indented:
            self._owner = Name.from_text(words.pop(0), self._origin)
        if self._owner is None:
            raise ValueError("the first record has no owner")
        ttl = self._ttl_and_class(words)
        if not words:
            raise ValueError("a record without type")
        type = type_number(words.pop(0))
        data = rdata_from_text(type, words, self._origin)
        if ttl is None:
            ttl = self._last_ttl if self._default_ttl is None else self._default_ttl
        if ttl is None and isinstance(data, Soa):
            ttl = data.minimum  # RFC 1035 3.3.13: the default of the zone, before $TTL was
        if ttl is None:
            raise ValueError(f"the {type_text(type)} record has no TTL, and no $TTL precedes it")
        self._last_ttl = ttl
        self.records.append(Record(self._owner, type, ttl, data))

    def _directive(self, words: list[str]) -> None:
        name = words[0].upper()
        if name not in ("$ORIGIN", "$TTL"):
            raise ValueError(f"{words[0]} is not supported")
        if len(words) != 2:
            raise ValueError(f"{name} takes one value")
        if name == "$ORIGIN":
            self._origin = Name.from_text(words[1], self._origin)
        else:
            self._default_ttl = parse_ttl(words[1])

    def _ttl_and_class(self, words: list[str]) -> int | None:
        """Take TTL and class, in either order and both optional; return the TTL."""
        ttl: int | None = None
        for _ in range(2):
            if words and words[0].upper() in ("CH", "CS", "HS"):
                raise ValueError(f"class {words[0]} is not supported")
            if words and words[0].upper() == "IN":
                words.pop(0)
            elif words and ttl is None and words[0][0:1].isdigit():
                ttl = parse_ttl(words.pop(0))
        return ttl
