from collections.abc import Sequence

from typing_extensions import Buffer

def cut(
    header: Buffer,
    start: int,
    ip: int,
    tcp: int,
    payload: Sequence[Buffer],
    size: int,
    partial: bool = False,
) -> tuple[bytearray, int]: ...
