"""The Internet Protocol's header, version 4 (RFC 791), and its options.

``parse`` accepts what is a header by form; addresses, checksum and the meaning of options are
the layer's business. Deprecated options are named so that they can be shown and refused
(RFC 7126).
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from netstack.core.address import IPAddress
from netstack.core.checksum import internet_checksum
from netstack.core.errors import ParseError

if TYPE_CHECKING:
    from typing_extensions import Buffer

HEADER = Struct("!BBHHHBBH4s4s")
MIN_HEADER_LENGTH = 20  # octets
MAX_HEADER_LENGTH = 60  # octets: the header length field has four bits
MAX_TOTAL_LENGTH = 65535  # octets
MIN_MTU = 68  # octets every link must carry: the longest header and 8 octets, RFC 791 3.2

FLAG_RESERVED = 0x8000  # in the 16 bits of flags and fragment offset
FLAG_DONT_FRAGMENT = 0x4000
FLAG_MORE_FRAGMENTS = 0x2000
OFFSET_MASK = 0x1FFF  # units of 8 octets

ECN_MASK = 0x03  # of the traffic class, RFC 3168 5
ECN_NOT_ECT = 0
ECN_CE = 3


class Protocol(IntEnum):
    """IANA protocol numbers."""

    ICMP = 1
    IGMP = 2
    IPV4 = 4
    TCP = 6
    UDP = 17
    IPV6 = 41
    GRE = 47
    ESP = 50
    AH = 51
    IPV6_ICMP = 58
    SCTP = 132


class OptionType(IntEnum):
    """IANA IPv4 option numbers, as the whole first octet (copied flag, class, number)."""

    END = 0
    NOP = 1
    RECORD_ROUTE = 7
    TIMESTAMP = 68
    SECURITY = 130
    LOOSE_SOURCE_ROUTE = 131
    STREAM_ID = 136
    STRICT_SOURCE_ROUTE = 137
    ROUTER_ALERT = 148


OPTION_COPIED = 0x80  # the option goes into every fragment, RFC 791 3.1

_ROUTES = frozenset(
    (
        OptionType.RECORD_ROUTE,
        OptionType.LOOSE_SOURCE_ROUTE,
        OptionType.STRICT_SOURCE_ROUTE,
    )
)


class BadOption(ParseError):
    """An option that is no option; ``position`` is the faulty octet's index in the header."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


class IPv4Option(NamedTuple):
    """One option: its type octet, what follows the length octet, and its index in the header."""

    type: int
    data: bytes
    position: int


def parse_options(options: Buffer) -> list[IPv4Option]:
    """Return the options of a header, without END and NOP.

    ``options`` is what follows the 20 fixed octets. Nothing after END is looked at.

    Raises: BadOption for a length below 2 or beyond the header, and for a route or timestamp
    pointer that points nowhere (RFC 791 3.1).
    """
    view = memoryview(options).cast("B")
    found = []
    index = 0
    while index < len(view) and view[index] != OptionType.END:
        kind = view[index]
        if kind == OptionType.NOP:
            index += 1
            continue
        position = MIN_HEADER_LENGTH + index
        if index + 1 == len(view):
            raise BadOption(f"IPv4 option {kind} has no length", position)
        length = view[index + 1]
        if not 2 <= length <= len(view) - index:
            raise BadOption(f"IPv4 option {kind} has length {length}", position + 1)
        option = IPv4Option(kind, bytes(view[index + 2 : index + length]), position)
        _check_pointer(option)
        found.append(option)
        index += length
    return found


def _check_pointer(option: IPv4Option) -> None:
    # The pointer counts from the option's type octet, beginning with 1. One past the last octet
    # says that the list is used up.
    timestamp = option.type == OptionType.TIMESTAMP
    if not timestamp and option.type not in _ROUTES:
        return
    length = len(option.data) + 2
    first = 5 if timestamp else 4
    if length < first - 1:
        raise BadOption(f"IPv4 option {option.type} of {length} octets", option.position + 1)
    pointer = option.data[0]
    if not first <= pointer <= length + 1 or (pointer - first) % 4:
        message = f"IPv4 option {option.type} of {length} octets points to {pointer}"
        raise BadOption(message, option.position + 2)


class IPv4Header(NamedTuple):
    """The header of an IPv4 packet (RFC 791 3.1)::

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |Version|  IHL  |Type of Service|          Total Length         |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |         Identification        |Flags|      Fragment Offset    |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |  Time to Live |    Protocol   |         Header Checksum       |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                       Source Address                          |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                    Destination Address                        |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                    Options                    |    Padding    |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

    ``traffic_class`` is the second octet, DSCP and ECN today (RFC 2474, RFC 3168).
    ``fragment_offset`` counts octets, a multiple of 8. ``options`` includes the padding.
    """

    source: IPAddress
    destination: IPAddress
    protocol: int
    total_length: int
    traffic_class: int = 0
    identification: int = 0
    reserved: bool = False
    dont_fragment: bool = False
    more_fragments: bool = False
    fragment_offset: int = 0
    ttl: int = 64
    checksum: int = 0
    options: bytes = b""

    @classmethod
    def parse(cls, data: Buffer, *, truncated: bool = False) -> tuple[IPv4Header, memoryview]:
        """Return the header and the payload that the total length delimits.

        ``truncated``: ``data`` may end early, as in an ICMP error's quotation or a capture with a
        snap length; the payload is then what there is of it.

        Raises: ParseError.
        """
        view = memoryview(data).cast("B")
        if len(view) < MIN_HEADER_LENGTH:
            raise ParseError(f"an IPv4 packet of {len(view)} octets")
        (first, traffic_class, total_length, identification, fragment, ttl, protocol, checksum,
         source, destination) = HEADER.unpack_from(view)  # fmt: skip
        if first >> 4 != 4:
            raise ParseError(f"IP version {first >> 4}")
        header_length = (first & 0x0F) * 4
        if not MIN_HEADER_LENGTH <= header_length <= len(view):
            raise ParseError(f"an IPv4 header of {header_length} octets in {len(view)}")
        if total_length < header_length or (total_length > len(view) and not truncated):
            raise ParseError(f"IPv4 total length {total_length} in {len(view)} octets")
        header = cls(
            IPAddress(source),
            IPAddress(destination),
            protocol,
            total_length,
            traffic_class,
            identification,
            bool(fragment & FLAG_RESERVED),
            bool(fragment & FLAG_DONT_FRAGMENT),
            bool(fragment & FLAG_MORE_FRAGMENTS),
            (fragment & OFFSET_MASK) * 8,
            ttl,
            checksum,
            bytes(view[MIN_HEADER_LENGTH:header_length]),
        )
        return header, view[header_length:total_length]

    @property
    def header_length(self) -> int:
        """The header's octets, options included."""
        return MIN_HEADER_LENGTH + len(self.options)

    def build(self) -> bytes:
        """Return the header's octets; the length of ``options`` must be a multiple of 4."""
        fragment = (
            FLAG_RESERVED * self.reserved
            | FLAG_DONT_FRAGMENT * self.dont_fragment
            | FLAG_MORE_FRAGMENTS * self.more_fragments
            | self.fragment_offset >> 3
        )
        fixed = HEADER.pack(
            0x40 | self.header_length >> 2,
            self.traffic_class,
            self.total_length,
            self.identification,
            fragment,
            self.ttl,
            self.protocol,
            self.checksum,
            self.source.packed,
            self.destination.packed,
        )
        return fixed + self.options

    def with_checksum(self) -> IPv4Header:
        """Return a copy whose checksum covers the header (RFC 1071)."""
        return self._replace(checksum=internet_checksum(self._replace(checksum=0).build()))
