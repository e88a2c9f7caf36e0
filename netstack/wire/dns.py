"""The DNS message (RFC 1035 4), with EDNS0 (RFC 6891) and opaque data (RFC 3597).

``Message.parse`` judges a whole message or raises ``ParseError``: what it returns can be used
without further checks. The OPT pseudo-record does not stand among the additional records but in
``Message.edns``, and the response code is the extended one of 12 bits. Names of the record types
of RFC 1035 are compressed when built. Transaction signatures are kept as opaque records, their
place checked, and not verified.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from netstack.core.errors import ParseError
from netstack.wire.dns_name import HEADER_SIZE, ROOT, Name, parse_name
from netstack.wire.dns_rdata import (
    RData,
    RecordClass,
    RecordType,
    parse_rdata,
    rdata_pieces,
    rdata_text,
    type_text,
)
from netstack.wire.reader import Reader

PORT = 53
MAX_MESSAGE = 65_535  # octets: the length prefix of a stream has 16 bits, RFC 1035 4.2.2
UDP_SIZE = 512  # octets of a datagram without EDNS, RFC 1035 4.2.1
MIN_QUESTION = 5  # octets: the root, type and class
MIN_RECORD = 11  # octets: the root, type, class, TTL and RDLENGTH

_HEADER = struct.Struct("!HHHHHH")
_QUESTION = struct.Struct("!HH")
_RECORD = struct.Struct("!HHIH")
_MAX_POINTER = 0x3FFF


class Opcode(IntEnum):
    """IANA's operation codes."""

    QUERY = 0
    IQUERY = 1
    STATUS = 2
    NOTIFY = 4
    UPDATE = 5


class Rcode(IntEnum):
    """IANA's response codes, as far as a resolver meets them."""

    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5
    BADVERS = 16


def rcode_text(number: int) -> str:
    """Return the name of a response code, ``RCODE9`` for one without."""
    try:
        return Rcode(number).name
    except ValueError:
        return f"RCODE{number}"


class Question(NamedTuple):
    """What is asked (RFC 1035 4.1.2)."""

    name: Name
    type: int
    class_: int = RecordClass.IN

    def __str__(self) -> str:
        return f"{self.name} {type_text(self.type)}"


#                                 1  1  1  1  1  1
#   0  1  2  3  4  5  6  7  8  9  0  1  2  3  4  5
# +--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+
# /                      NAME                     /
# +--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+
# |                      TYPE                     |
# |                     CLASS                     |
# |                      TTL                      |
# |                                               |
# |                   RDLENGTH                    |
# +--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+
# /                     RDATA                     /
# +--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+
class Record(NamedTuple):
    """A resource record (RFC 1035 4.1.3); ``ttl`` in seconds, as sent."""

    name: Name
    type: int
    ttl: int
    data: RData
    class_: int = RecordClass.IN

    def __str__(self) -> str:
        try:
            class_ = RecordClass(self.class_).name
        except ValueError:
            class_ = f"CLASS{self.class_}"
        return f"{self.name} {self.ttl} {class_} {type_text(self.type)} {rdata_text(self.data)}"


class Edns(NamedTuple):
    """The OPT pseudo-record (RFC 6891 6.1); ``payload`` is the datagram its sender can take."""

    payload: int = 1232
    version: int = 0
    dnssec_ok: bool = False
    options: tuple[tuple[int, bytes], ...] = ()


#                                 1  1  1  1  1  1
#   0  1  2  3  4  5  6  7  8  9  0  1  2  3  4  5
# +--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+
# |                      ID                       |
# |QR|   Opcode  |AA|TC|RD|RA| Z|AD|CD|   RCODE   |
# |                    QDCOUNT                    |
# |                    ANCOUNT                    |
# |                    NSCOUNT                    |
# |                    ARCOUNT                    |
# +--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+
class Message(NamedTuple):
    """A DNS message (RFC 1035 4.1.1; AD and CD: RFC 4035 3). The Z bit is ignored, and 0."""

    id: int
    response: bool = False
    opcode: int = Opcode.QUERY
    authoritative: bool = False
    truncated: bool = False
    recursion_desired: bool = False
    recursion_available: bool = False
    authentic_data: bool = False
    checking_disabled: bool = False
    rcode: int = Rcode.NOERROR
    question: tuple[Question, ...] = ()
    answer: tuple[Record, ...] = ()
    authority: tuple[Record, ...] = ()
    additional: tuple[Record, ...] = ()
    edns: Edns | None = None

    @classmethod
    def parse(cls, data: bytes | bytearray | memoryview) -> Message:
        """Return the message that the octets hold, all of them.

        Raises: ParseError.
        """
        view = memoryview(data)
        if len(view) > MAX_MESSAGE:
            raise ParseError("a DNS message has more than 65,535 octets")
        header = parse_header(view)
        parser = _Parser(view, header)
        questions = tuple([parser.question() for _ in range(header.questions)])
        answer = parser.section(header.answers, "answer")
        authority = parser.section(header.authorities, "authority")
        additional = parser.section(header.additionals, "additional")
        parser.reader.done()
        message = header.message._replace(
            question=questions,
            answer=answer,
            authority=authority,
            additional=additional,
            edns=parser.edns,
        )
        return message._replace(rcode=message.rcode | parser.extended_rcode << 4)

    def build(self) -> bytes:
        """Return the octets.

        Raises: ValueError if they exceed 65,535, or a response code over 15 lacks EDNS.
        """
        if self.rcode > 0xF and self.edns is None:
            raise ValueError(f"response code {self.rcode} needs EDNS")
        builder = _Builder()
        counts = (
            len(self.question),
            len(self.answer),
            len(self.authority),
            len(self.additional) + (self.edns is not None),
        )
        builder.octets += _HEADER.pack(self.id, self._flags(), *counts)
        for question in self.question:
            builder.name(question.name)
            builder.octets += _QUESTION.pack(question.type, question.class_)
        for record in (*self.answer, *self.authority):
            builder.record(record)
        # A signature stays last (RFC 8945 5.2), so EDNS comes first.
        if self.edns is not None:
            builder.edns(self.edns, self.rcode >> 4)
        for record in self.additional:
            builder.record(record)
        if len(builder.octets) > MAX_MESSAGE:
            raise ValueError("the DNS message would have more than 65,535 octets")
        return bytes(builder.octets)

    def _flags(self) -> int:
        return (
            self.response << 15
            | self.opcode << 11
            | self.authoritative << 10
            | self.truncated << 9
            | self.recursion_desired << 8
            | self.recursion_available << 7
            | self.authentic_data << 5
            | self.checking_disabled << 4
            | self.rcode & 0xF
        )


class Header(NamedTuple):
    """The first twelve octets: a message without its sections, and their announced counts."""

    message: Message
    questions: int
    answers: int
    authorities: int
    additionals: int


def parse_header(data: bytes | bytearray | memoryview) -> Header:
    """Return the header alone, so that a server can answer a message that is broken after it.

    Raises: ParseError for fewer than twelve octets.
    """
    if len(data) < HEADER_SIZE:
        raise ParseError(f"a DNS message has {HEADER_SIZE} octets at least, not {len(data)}")
    id, flags, *counts = _HEADER.unpack_from(data)
    message = Message(
        id,
        bool(flags & 0x8000),
        flags >> 11 & 0xF,
        bool(flags & 0x0400),
        bool(flags & 0x0200),
        bool(flags & 0x0100),
        bool(flags & 0x0080),
        bool(flags & 0x0020),
        bool(flags & 0x0010),
        flags & 0xF,
    )
    return Header(message, *counts)


class _Parser:
    """Reads the sections of one message in order; keeps what its pointers led to."""

    __slots__ = ("_known", "_signed", "edns", "extended_rcode", "reader")

    def __init__(self, data: memoryview, header: Header) -> None:
        records = header.answers + header.authorities + header.additionals
        # RFC 9267 6: counts that the octets cannot hold are a lie; no work for them.
        if HEADER_SIZE + header.questions * MIN_QUESTION + records * MIN_RECORD > len(data):
            raise ParseError("the DNS message is too short for the records it announces")
        self.reader = Reader(data, HEADER_SIZE)
        self._known: dict[int, tuple[bytes, ...]] = {}
        self._signed = False
        self.edns: Edns | None = None
        self.extended_rcode = 0

    def question(self) -> Question:
        name = parse_name(self.reader, self._known)
        return Question(name, self.reader.u16(), self.reader.u16())

    def section(self, count: int, where: str) -> tuple[Record, ...]:
        records = []
        for _ in range(count):
            record = self._record(where)
            if record is not None:
                records.append(record)
        return tuple(records)

    def _record(self, where: str) -> Record | None:
        """Return the next record; None if it was OPT."""
        if self._signed:
            raise ParseError("a TSIG record is not the last (RFC 8945 5.2)")
        reader = self.reader
        name = parse_name(reader, self._known)
        type, class_, ttl, length = _RECORD.unpack(reader.take(_RECORD.size))
        data = reader.restrict(length)
        if type in (RecordType.OPT, RecordType.TSIG) and where != "additional":
            raise ParseError(f"{type_text(type)} stands in the {where} section")
        if type == RecordType.OPT:
            self._take_opt(name, class_, ttl, data)
            return None
        self._signed = type == RecordType.TSIG
        return Record(name, type, ttl, parse_rdata(data, type, class_, self._known), class_)

    def _take_opt(self, name: Name, payload: int, flags: int, data: Reader) -> None:
        if self.edns is not None:
            raise ParseError("two OPT records (RFC 6891 6.1.1)")
        if name != ROOT:
            raise ParseError("an OPT record whose name is not the root (RFC 6891 6.1.2)")
        options = []
        while data.remaining:
            code = data.u16()
            options.append((code, bytes(data.take(data.u16()))))
        self.extended_rcode = flags >> 24
        self.edns = Edns(payload, flags >> 16 & 0xFF, bool(flags & 0x8000), tuple(options))


class _Builder:
    """Writes one message; compresses names against all written before."""

    __slots__ = ("_offsets", "octets")

    def __init__(self) -> None:
        self.octets = bytearray()
        # By exact spelling: a suffix in other letter case is written again, so case survives.
        self._offsets: dict[tuple[bytes, ...], int] = {}

    def name(self, name: Name) -> None:
        labels = name.labels
        for index in range(len(labels)):
            suffix = labels[index:]
            known = self._offsets.get(suffix)
            if known is not None:
                self.octets += (0xC000 | known).to_bytes(2, "big")
                return
            if len(self.octets) <= _MAX_POINTER:
                self._offsets[suffix] = len(self.octets)
            self.octets.append(len(labels[index]))
            self.octets += labels[index]
        self.octets.append(0)

    def record(self, record: Record) -> None:
        self.name(record.name)
        self.octets += _RECORD.pack(record.type, record.class_, record.ttl, 0)
        start = len(self.octets)
        for piece in rdata_pieces(record.data):
            if isinstance(piece, Name):
                self.name(piece)
            else:
                self.octets += piece
        self._set_length(start)

    def edns(self, edns: Edns, extended_rcode: int) -> None:
        flags = extended_rcode << 24 | edns.version << 16 | edns.dnssec_ok << 15
        self.octets += b"\0" + _RECORD.pack(RecordType.OPT, edns.payload, flags, 0)
        start = len(self.octets)
        for code, value in edns.options:
            self.octets += _QUESTION.pack(code, len(value)) + value
        self._set_length(start)

    def _set_length(self, start: int) -> None:
        length = len(self.octets) - start
        if length > 0xFFFF:
            raise ValueError(f"record data of {length} octets; 65,535 are the limit")
        self.octets[start - 2 : start] = length.to_bytes(2, "big")


def frame_message(message: bytes) -> bytes:
    """Return a message as a stream carries it, its length in front.  RFC 1035 4.2.2."""
    return len(message).to_bytes(2, "big") + message


class MessageReader:
    """Splits a stream into messages, in whatever pieces it comes.  RFC 7766 8."""

    __slots__ = ("_octets",)

    def __init__(self) -> None:
        self._octets = bytearray()

    def receive(self, data: bytes | bytearray | memoryview) -> list[bytes]:
        """Take octets of the stream; return the messages that are whole now.

        What is kept is less than one message. A message may be empty: the caller judges.
        """
        self._octets += data
        messages = []
        start = 0
        while len(self._octets) - start >= 2:
            end = start + 2 + int.from_bytes(self._octets[start : start + 2], "big")
            if end > len(self._octets):
                break
            messages.append(bytes(self._octets[start + 2 : end]))
            start = end
        del self._octets[:start]
        return messages
