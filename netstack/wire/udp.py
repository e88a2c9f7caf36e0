"""The User Datagram Protocol's header (RFC 768)."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from netstack.core.checksum import pseudo_header_sum, sum_pieces
from netstack.core.errors import ParseError

if TYPE_CHECKING:
    from typing_extensions import Buffer

HEADER = Struct("!HHHH")
HEADER_LENGTH = 8  # octets
PROTOCOL = 17  # IANA protocol number


class UdpHeader(NamedTuple):
    """The header of a UDP datagram (RFC 768)::

         0      7 8     15 16    23 24    31
        +--------+--------+--------+--------+
        |   Source port   |Destination port |
        +--------+--------+--------+--------+
        |     Length      |    Checksum     |
        +--------+--------+--------+--------+
        |          data octets ...

    ``length`` counts header and data; ``checksum`` 0 means that none was computed.
    """

    source_port: int
    destination_port: int
    length: int
    checksum: int = 0

    @classmethod
    def parse(cls, data: Buffer) -> tuple[UdpHeader, memoryview]:
        """Return the header and the payload that ``length`` delimits.

        Raises: ParseError if ``length`` is below 8 or beyond ``data``.
        """
        view = memoryview(data).cast("B")
        if len(view) < HEADER_LENGTH:
            raise ParseError(f"a UDP datagram of {len(view)} octets")
        header = cls(*HEADER.unpack_from(view))
        if not HEADER_LENGTH <= header.length <= len(view):
            raise ParseError(f"UDP length {header.length} in {len(view)} octets")
        return header, view[HEADER_LENGTH : header.length]

    def build(self) -> bytes:
        """Return the header's 8 octets."""
        return HEADER.pack(*self)

    def with_checksum(self, source: bytes, destination: bytes, payload: Buffer) -> UdpHeader:
        """Return a copy whose checksum covers the pseudo-header, the header and ``payload``.

        ``source`` and ``destination`` are packed addresses of one IP version.
        """
        pseudo = pseudo_header_sum(source, destination, PROTOCOL, self.length)
        total = sum_pieces([self._replace(checksum=0).build(), payload], pseudo)
        # RFC 768: a computed zero is sent as all ones, since zero says "not computed".
        return self._replace(checksum=~total & 0xFFFF or 0xFFFF)
