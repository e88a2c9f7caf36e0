"""Resource record data (RFC 1035 3.3, RFC 3596, RFC 3597): octets, text and values.

A and AAAA data are an ``IPAddress``; CNAME, NS and PTR data a ``Name``; SOA, MX and TXT have a
tuple each. Everything else, and A or AAAA outside the Internet class, stays ``bytes``
(RFC 3597 3). Only the types of RFC 1035 that are known here may hold compressed names
(RFC 3597 4). DNSSEC is left out.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from netstack.core.address import IPAddress, parse_address
from netstack.wire.dns_name import Name, parse_name, unescape
from netstack.wire.reader import Reader


class RecordType(IntEnum):
    """IANA's resource record types, those with a meaning here."""

    A = 1
    NS = 2
    CNAME = 5
    SOA = 6
    PTR = 12
    MX = 15
    TXT = 16
    AAAA = 28
    SRV = 33
    OPT = 41
    TSIG = 250
    IXFR = 251
    AXFR = 252
    ANY = 255


class RecordClass(IntEnum):
    """IANA's classes."""

    IN = 1
    CH = 3
    NONE = 254
    ANY = 255


class Soa(NamedTuple):
    """The start of a zone of authority (RFC 1035 3.3.13); times in seconds."""

    primary: Name
    mailbox: Name
    serial: int
    refresh: int
    retry: int
    expire: int
    minimum: int


class Mx(NamedTuple):
    """A mail exchange (RFC 1035 3.3.9)."""

    preference: int
    exchange: Name


class Txt(NamedTuple):
    """Character strings of at most 255 octets each (RFC 1035 3.3.14)."""

    strings: tuple[bytes, ...]


RData = IPAddress | Name | Soa | Mx | Txt | bytes

_SOA_NUMBERS = struct.Struct("!IIIII")
_ADDRESS_SIZES: dict[int, int] = {RecordType.A: 4, RecordType.AAAA: 16}
_NAME_TYPES = frozenset((RecordType.CNAME, RecordType.NS, RecordType.PTR))


def type_number(text: str) -> int:
    """Return the record type that ``text`` names, as ``MX`` or ``TYPE15`` (RFC 3597 5).

    Raises: ValueError.
    """
    upper = text.upper()
    if upper in RecordType.__members__:
        return RecordType[upper]
    digits = upper.removeprefix("TYPE")
    plain = digits != upper and digits.isascii() and digits.isdigit() and len(digits) <= 5
    if not plain or int(digits) > 0xFFFF:
        raise ValueError(f"{text!r} is no record type")
    return int(digits)


def type_text(number: int) -> str:
    """Return the name of a record type, ``TYPE123`` for one without."""
    try:
        return RecordType(number).name
    except ValueError:
        return f"TYPE{number}"


def parse_rdata(
    reader: Reader, type: int, class_: int, known: dict[int, tuple[bytes, ...]]
) -> RData:
    """Return the value of a record's data, all that the reader holds.

    Raises: ParseError unless the octets are exactly what the type demands.  RFC 9267 5.
    """
    value: RData
    if type in _ADDRESS_SIZES and class_ == RecordClass.IN:
        value = IPAddress(bytes(reader.take(_ADDRESS_SIZES[type])))
    elif type in _NAME_TYPES:
        value = parse_name(reader, known)
    elif type == RecordType.SOA:
        primary, mailbox = parse_name(reader, known), parse_name(reader, known)
        value = Soa(primary, mailbox, *[reader.u32() for _ in range(5)])
    elif type == RecordType.MX:
        value = Mx(reader.u16(), parse_name(reader, known))
    elif type == RecordType.TXT:
        strings = [bytes(reader.take(reader.u8()))]
        while reader.remaining:
            strings.append(bytes(reader.take(reader.u8())))
        value = Txt(tuple(strings))
    else:
        value = bytes(reader.take(reader.remaining))
    reader.done()
    return value


def rdata_pieces(data: RData) -> list[bytes | Name]:
    """Return the octets of record data in order, names whole: they may be compressed."""
    if isinstance(data, Name):
        return [data]
    if isinstance(data, IPAddress):
        return [data.packed]
    if isinstance(data, Soa):
        return [data.primary, data.mailbox, _SOA_NUMBERS.pack(*data[2:])]
    if isinstance(data, Mx):
        return [data.preference.to_bytes(2, "big"), data.exchange]
    if isinstance(data, Txt):
        return [bytes((len(string),)) + string for string in data.strings]
    return [data]


def rdata_text(data: RData) -> str:
    """Return record data as a master file shows it.  RFC 1035 5.1, RFC 3597 5."""
    if isinstance(data, Soa):
        return " ".join([str(field) for field in data])
    if isinstance(data, Mx):
        return f"{data.preference} {data.exchange}"
    if isinstance(data, Txt):
        return " ".join([_quoted(string) for string in data.strings])
    if isinstance(data, bytes):
        return f"\\# {len(data)} {data.hex()}".rstrip()
    return str(data)


def _quoted(string: bytes) -> str:
    characters = ['"']
    for octet in string:
        if octet in b'"\\':
            characters.append(f"\\{octet:c}")
        elif 0x20 <= octet <= 0x7E:
            characters.append(chr(octet))
        else:
            characters.append(f"\\{octet:03d}")
    return "".join([*characters, '"'])


def rdata_from_text(type: int, fields: list[str], origin: Name | None = None) -> RData:
    r"""Return the record data that a master file's fields spell.

    Quotes around a string are gone already, its escapes are not. ``\#`` begins the generic
    form of any type.  Raises: ValueError.  RFC 1035 5.1, RFC 3597 5.
    """
    if fields[:1] == ["\\#"]:
        return _generic(type, fields[1:])
    if type == RecordType.TXT:
        strings = [unescape_string(field) for field in fields]
        if not strings or any(len(string) > 255 for string in strings):
            raise ValueError("TXT needs strings of at most 255 octets")
        return Txt(tuple(strings))
    counts: dict[int, int] = {RecordType.SOA: 7, RecordType.MX: 2}
    if type not in counts and type not in _NAME_TYPES and type not in _ADDRESS_SIZES:
        raise ValueError(f"{type_text(type)} data needs the generic form, \\# LENGTH HEX")
    count = counts.get(type, 1)
    if len(fields) != count:
        raise ValueError(f"{type_text(type)} takes {count} fields, not {len(fields)}")
    if type == RecordType.SOA:
        primary, mailbox = (Name.from_text(field, origin) for field in fields[:2])
        serial = _number(fields[2], 32)
        return Soa(primary, mailbox, serial, *[parse_ttl(field) for field in fields[3:]])
    if type == RecordType.MX:
        return Mx(_number(fields[0], 16), Name.from_text(fields[1], origin))
    if type in _NAME_TYPES:
        return Name.from_text(fields[0], origin)
    address = parse_address(fields[0])
    if len(address.packed) != _ADDRESS_SIZES[type] or address.zone:
        raise ValueError(f"{fields[0]!r} is no {type_text(type)} data")
    return address


def _generic(type: int, fields: list[str]) -> RData:
    octets = bytes.fromhex("".join(fields[1:]))
    if not fields or _number(fields[0], 16) != len(octets):
        raise ValueError(f"\\# announces {' '.join(fields[:1])} octets, not {len(octets)}")
    return parse_rdata(Reader(octets), type, RecordClass.IN, {})


def _number(text: str, bits: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 10) or int(text) >> bits:
        raise ValueError(f"{text!r} is no number of {bits} bits")
    return int(text)


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
MAX_TTL = 0x7FFF_FFFF  # seconds, RFC 2181 8


def parse_ttl(text: str) -> int:
    """Return the seconds of ``3600`` or, as BIND writes it, ``1h30m``.

    Raises: ValueError, also past 2^31 - 1 seconds.  RFC 2181 8.
    """
    if text.isascii() and text.isdigit() and len(text) <= 10:
        total = int(text)
    else:
        total, digits = 0, ""
        for character in text.lower():
            if character.isascii() and character.isdigit() and len(digits) < 10:
                digits += character
            elif digits and character in _UNITS:
                total += int(digits) * _UNITS[character]
                digits = ""
            else:
                raise ValueError(f"{text!r} is no time to live")
        if digits or not text:
            raise ValueError(f"{text!r} is no time to live")
    if total > MAX_TTL:
        raise ValueError(f"{text!r} is more than {MAX_TTL} seconds")
    return total


def unescape_string(text: str) -> bytes:
    """Return the octets of a master file's character string.

    Raises: ValueError for a bad escape or other than ASCII.  RFC 1035 5.1.
    """
    if not text.isascii():
        raise ValueError(f"{text[:64]!r} is not ASCII")
    octets = bytearray()
    position = 0
    while position < len(text):
        if text[position] == "\\":
            octet, position = unescape(text, position)
            octets.append(octet)
        else:
            octets.append(ord(text[position]))
            position += 1
    return bytes(octets)
