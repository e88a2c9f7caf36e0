from array import array
from collections.abc import Sequence

from typing_extensions import Buffer

def merge(
    frames: Sequence[Buffer], states: bytes | None, link: int
) -> list[tuple[int, int, int, bool, bytes | None]]: ...
def merge_spans(
    octets: Buffer, spans: array[int], count: int, link: int
) -> list[tuple[int, int, int, bool, bytes | None]]: ...
def span_octets(octets: Buffer, spans: array[int], at: int) -> bytes: ...
