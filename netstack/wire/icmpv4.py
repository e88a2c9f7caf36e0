"""The Internet Control Message Protocol for IPv4 (RFC 792, RFC 950, RFC 1191, RFC 1812).

All messages have four octets in common; what the next four mean depends on the type, and the
properties of the header give them their names.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from netstack.core.checksum import sum_pieces
from netstack.core.errors import ParseError

if TYPE_CHECKING:
    from typing_extensions import Buffer

HEADER = Struct("!BBHI")
HEADER_LENGTH = 8  # octets


class IcmpType(IntEnum):
    """IANA ICMP type numbers."""

    ECHO_REPLY = 0
    DESTINATION_UNREACHABLE = 3
    SOURCE_QUENCH = 4
    REDIRECT = 5
    ECHO_REQUEST = 8
    ROUTER_ADVERTISEMENT = 9
    ROUTER_SOLICITATION = 10
    TIME_EXCEEDED = 11
    PARAMETER_PROBLEM = 12
    TIMESTAMP = 13
    TIMESTAMP_REPLY = 14
    INFORMATION_REQUEST = 15
    INFORMATION_REPLY = 16
    ADDRESS_MASK_REQUEST = 17
    ADDRESS_MASK_REPLY = 18


ERROR_TYPES = frozenset(
    (
        IcmpType.DESTINATION_UNREACHABLE,
        IcmpType.SOURCE_QUENCH,
        IcmpType.REDIRECT,
        IcmpType.TIME_EXCEEDED,
        IcmpType.PARAMETER_PROBLEM,
    )
)
"""Messages about another packet, which they quote (RFC 1122 3.2.2)."""

QUERY_TYPES = frozenset(IcmpType) - ERROR_TYPES


class UnreachableCode(IntEnum):
    """IANA codes of destination unreachable."""

    NETWORK = 0
    HOST = 1
    PROTOCOL = 2
    PORT = 3
    FRAGMENTATION_NEEDED = 4
    SOURCE_ROUTE_FAILED = 5
    NETWORK_UNKNOWN = 6
    HOST_UNKNOWN = 7
    SOURCE_HOST_ISOLATED = 8
    NETWORK_PROHIBITED = 9
    HOST_PROHIBITED = 10
    NETWORK_TOS = 11
    HOST_TOS = 12
    COMMUNICATION_PROHIBITED = 13
    HOST_PRECEDENCE_VIOLATION = 14
    PRECEDENCE_CUTOFF = 15


class TimeExceededCode(IntEnum):
    """IANA codes of time exceeded."""

    TTL = 0
    REASSEMBLY = 1


class ParameterProblemCode(IntEnum):
    """IANA codes of parameter problem."""

    POINTER = 0
    MISSING_OPTION = 1
    BAD_LENGTH = 2


class ICMPv4Header(NamedTuple):
    """The header of an ICMP message (RFC 792)::

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |     Type      |     Code      |          Checksum             |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |  Identifier and Sequence Number | Unused and MTU | Pointer... |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

    ``rest`` is the second word as a number.
    """

    type: int
    code: int
    rest: int = 0
    checksum: int = 0

    @classmethod
    def parse(cls, data: Buffer) -> tuple[ICMPv4Header, memoryview]:
        """Return the header and what follows it.

        Raises: ParseError below 8 octets.
        """
        view = memoryview(data).cast("B")
        if len(view) < HEADER_LENGTH:
            raise ParseError(f"an ICMP message of {len(view)} octets")
        kind, code, checksum, rest = HEADER.unpack_from(view)
        return cls(kind, code, rest, checksum), view[HEADER_LENGTH:]

    @property
    def identifier(self) -> int:
        """Whose echo request this is or answers (RFC 792, echo)."""
        return self.rest >> 16

    @property
    def sequence(self) -> int:
        """Which of the echo requests."""
        return self.rest & 0xFFFF

    @property
    def mtu(self) -> int:
        """The next hop's MTU in octets if fragmentation is needed; 0 = not said (RFC 1191 4)."""
        return self.rest & 0xFFFF

    @property
    def pointer(self) -> int:
        """The index of the faulty octet, of a parameter problem."""
        return self.rest >> 24

    @property
    def is_error(self) -> bool:
        """Whether this is about another packet, and so never itself answered by an error."""
        return self.type in ERROR_TYPES

    def build(self) -> bytes:
        """Return the header's 8 octets."""
        return HEADER.pack(self.type, self.code, self.checksum, self.rest)

    def with_checksum(self, payload: Buffer = b"") -> ICMPv4Header:
        """Return a copy whose checksum covers the header and ``payload``."""
        total = sum_pieces([self._replace(checksum=0).build(), payload])
        return self._replace(checksum=~total & 0xFFFF)
