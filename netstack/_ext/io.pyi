from collections.abc import Sequence

from typing_extensions import Buffer

def read_burst(fd: int, pool: Buffer, limit: int) -> list[bytes]: ...
def write_burst(
    fd: int, octets: Buffer, ends: Sequence[int], first: int, last: int, vnet: int = 0
) -> tuple[int, int]: ...
