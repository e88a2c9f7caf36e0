"""What was worked out lately and may be asked for again: a mapping that stays small."""

from __future__ import annotations

from typing import TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Recent(dict[Key, Value]):
    """At most ``entries`` values under keys that others choose; one more, and all are forgotten.

    Forgetting all is as good as forgetting the oldest where each value can be had again, and
    nobody can keep anything in here, or out of here, for long. How much an entry may hold is for
    those who put it in to bound.
    """

    __slots__ = ("_entries",)

    def __init__(self, entries: int) -> None:
        super().__init__()
        self._entries = entries

    def put(self, key: Key, value: Value) -> None:
        """Remember ``value``."""
        if len(self) >= self._entries:
            self.clear()
        self[key] = value
