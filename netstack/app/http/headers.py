"""Header fields (RFC 9110 5): names without regard to case, order kept, repetitions kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

Field = tuple[str, str]


class Headers(Mapping[str, str]):
    """An immutable set of fields; as a mapping, a repeated field reads as one list.

    ``headers["Accept"]`` joins the lines of a repeated field with a comma (RFC 9110 5.3), which
    is right for every field but Set-Cookie: ask ``get_all`` for that one. Obs-text is kept as
    ISO-8859-1, so that no octet is lost.
    """

    __slots__ = ("_values", "fields")

    def __init__(self, fields: Mapping[str, str] | Iterable[Field] = ()) -> None:
        if isinstance(fields, Headers):
            pairs: Iterable[Field] = fields.fields
        elif isinstance(fields, Mapping):
            pairs = fields.items()
        else:
            pairs = fields
        self.fields: tuple[Field, ...] = tuple(pairs)
        """The fields as they stand in the message: (name, value), in order."""
        self._values: dict[str, list[str]] = {}
        for name, value in self.fields:
            self._values.setdefault(name.lower(), []).append(value)

    def __getitem__(self, name: str) -> str:
        return ", ".join(self._values[name.lower()])

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._values

    def __iter__(self) -> Iterator[str]:
        seen = set()
        for name, _ in self.fields:
            if name.lower() not in seen:
                seen.add(name.lower())
                yield name

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Headers):
            return NotImplemented
        return self._values == other._values

    def __hash__(self) -> int:
        return hash(tuple(sorted((name, tuple(v)) for name, v in self._values.items())))

    def __repr__(self) -> str:
        return f"Headers({list(self.fields)!r})"

    def isdisjoint(self, names: frozenset[str]) -> bool:
        """Return whether none of the fields has one of these names, given in lower case."""
        return names.isdisjoint(self._values)

    def get_all(self, name: str) -> list[str]:
        """Return the values of every line with that name, in order."""
        return list(self._values.get(name.lower(), ()))

    def tokens(self, name: str) -> list[str]:
        """Return the elements of a comma-separated list field, in lower case, empty ones left out.

        RFC 9110 5.6.1.2. Not for fields whose elements may hold quoted commas.
        """
        parts = ",".join(self._values.get(name.lower(), ())).split(",")
        return [token for part in parts if (token := part.strip(" \t").lower())]

    def without(self, names: Iterable[str]) -> Headers:
        """Return the fields but those named."""
        left_out = {name.lower() for name in names}
        return Headers(field for field in self.fields if field[0].lower() not in left_out)

    def with_field(self, name: str, value: str) -> Headers:
        """Return the fields and one more, at the end."""
        return Headers((*self.fields, (name, value)))
