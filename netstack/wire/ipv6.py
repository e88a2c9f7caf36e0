"""The Internet Protocol's header, version 6 (RFC 8200), as far as captures need it.

The stack doesn't speak IPv6 yet; captures hold it all the same. ``skip_extensions`` walks the
extension headers to what they carry, without looking into them.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from netstack.core.address import IPAddress
from netstack.core.errors import ParseError

if TYPE_CHECKING:
    from typing_extensions import Buffer

HEADER = Struct("!IHBB16s16s")
HEADER_LENGTH = 40  # octets
MAX_EXTENSIONS = 16  # headers walked; more are nobody's honest packet (RFC 8504 5.3)

_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AUTHENTICATION, _DESTINATION = 0, 43, 44, 51, 60


class IPv6Header(NamedTuple):
    """The header of an IPv6 packet (RFC 8200 3)::

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |Version| Traffic Class |           Flow Label                  |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |         Payload Length        |  Next Header  |   Hop Limit   |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                                                               |
    +                         Source Address                        +
    |                          (128 bits)                           |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                                                               |
    +                      Destination Address                      +
    |                          (128 bits)                           |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    source: IPAddress
    destination: IPAddress
    next_header: int
    payload_length: int
    hop_limit: int = 64
    traffic_class: int = 0
    flow_label: int = 0

    @classmethod
    def parse(cls, data: Buffer, *, truncated: bool = False) -> tuple[IPv6Header, memoryview]:
        """Return the header and the payload that the payload length delimits.

        ``truncated``: ``data`` may end early, as in a capture with a snap length.

        Raises: ParseError.
        """
        view = memoryview(data).cast("B")
        if len(view) < HEADER_LENGTH:
            raise ParseError(f"an IPv6 packet of {len(view)} octets")
        word, length, next_header, hop_limit, source, destination = HEADER.unpack_from(view)
        if word >> 28 != 6:
            raise ParseError(f"IP version {word >> 28}")
        if length > len(view) - HEADER_LENGTH and not truncated:
            raise ParseError(f"IPv6 payload length {length} in {len(view) - HEADER_LENGTH} octets")
        header = cls(
            IPAddress(source), IPAddress(destination), next_header, length, hop_limit,
            word >> 20 & 0xFF, word & 0xFFFFF,
        )  # fmt: skip
        return header, view[HEADER_LENGTH : HEADER_LENGTH + length]

    def build(self) -> bytes:
        """Return the header's 40 octets."""
        word = 6 << 28 | self.traffic_class << 20 | self.flow_label
        return HEADER.pack(
            word, self.payload_length, self.next_header, self.hop_limit, self.source.packed,
            self.destination.packed,
        )  # fmt: skip


def skip_extensions(next_header: int, payload: memoryview) -> tuple[int, memoryview, int]:
    """Return what the extension headers lead to: protocol, its octets, its fragment offset.

    Behind a fragment header whose offset (in octets) isn't zero, and behind an encrypted or an
    unknown header, the walk ends.

    Raises: ParseError if a header is cut off, or there are too many.
    """
    for _ in range(MAX_EXTENSIONS):
        if next_header == _FRAGMENT:
            size = 8
        elif next_header in (_HOP_BY_HOP, _ROUTING, _DESTINATION) and len(payload) > 1:
            size = (payload[1] + 1) * 8
        elif next_header == _AUTHENTICATION and len(payload) > 1:
            size = (payload[1] + 2) * 4  # RFC 4302 2.2
        else:
            return next_header, payload, 0
        if size > len(payload):
            raise ParseError(f"an IPv6 extension header of {size} octets in {len(payload)}")
        fragmented, next_header = next_header == _FRAGMENT, payload[0]
        offset = int.from_bytes(payload[2:4], "big") & 0xFFF8 if fragmented else 0
        payload = payload[size:]
        if offset:
            return next_header, payload, offset
    raise ParseError(f"more than {MAX_EXTENSIONS} IPv6 extension headers")
