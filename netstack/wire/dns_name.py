"""Domain names (RFC 1034 3.1, RFC 1035 2.3 and 4.1.4): octets, text and comparison.

A name is a sequence of labels, the root's empty one left out. Letter case is kept and ignored
in comparison (RFC 4343). ``parse_name`` follows compression pointers, which must lead strictly
backwards; ``Name.from_text`` reads the text of master files with its escapes; ``host_name``
accepts what a person or program may ask for, and nothing that could harm a message.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from netstack.core.errors import ParseError
from netstack.wire.reader import Reader

if TYPE_CHECKING:
    from netstack.core.address import IPAddress

MAX_NAME = 255  # octets with length octets and the root's zero, RFC 1035 2.3.4
MAX_LABEL = 63  # octets, RFC 1035 2.3.4
MAX_TEXT = 253  # characters that 255 octets can spell without a trailing dot
MAX_JUMPS = 126  # pointers worth following: each can add one label, and 127 fill a name
HEADER_SIZE = 12  # octets; no name begins inside the message header
POINTER = 0xC0  # the two high bits of a length octet that is a pointer

_HOST_LABEL = re.compile(r"[A-Za-z0-9_-]{1,63}\Z", re.ASCII)
_ESCAPED = frozenset(b'."\\;()@$')


class Name:
    """An absolute domain name; equal to every spelling of it in another letter case.

    Raises: ValueError for a label of 0 or more than 63 octets, or more than 255 octets in all.
    """

    __slots__ = ("key", "labels")

    def __init__(self, labels: tuple[bytes, ...] = ()) -> None:
        size = 1
        for label in labels:
            if not 1 <= len(label) <= MAX_LABEL:
                raise ValueError(f"a label has {len(label)} octets; 1 to 63 are legal")
            size += len(label) + 1
        if size > MAX_NAME:
            raise ValueError(f"a name has {size} octets; 255 are the limit")
        self.labels = labels
        self.key = tuple([label.lower() for label in labels])
        """The labels in lower case: what comparison goes by (RFC 4343)."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Name) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __len__(self) -> int:
        """Return the number of labels; the root has none."""
        return len(self.labels)

    def __str__(self) -> str:
        return "".join(f"{_label_text(label)}." for label in self.labels) or "."

    def __repr__(self) -> str:
        return f"Name({str(self)!r})"

    @property
    def plain(self) -> str:
        """The name as people write it, without the final dot."""
        return str(self)[:-1] or "."

    @property
    def parent(self) -> Name:
        """The name without its first label; the root is its own parent."""
        return Name(self.labels[1:])

    def is_subdomain_of(self, other: Name) -> bool:
        """Return whether this name is ``other`` or lies below it."""
        count = len(other.key)
        return count == 0 or self.key[-count:] == other.key

    def ancestors(self) -> list[Name]:
        """Return this name, its parent and so on up to the root."""
        return [Name(self.labels[start:]) for start in range(len(self.labels) + 1)]

    def build(self) -> bytes:
        """Return the uncompressed octets, the root's zero included."""
        return b"".join([bytes((len(label),)) + label for label in self.labels]) + b"\0"

    @classmethod
    def from_text(cls, text: str, origin: Name | None = None) -> Name:
        r"""Return the name that master file text spells, ``\X`` and ``\DDD`` resolved.

        ``@`` is the origin, and a name without a final dot is relative to it.
        Raises: ValueError, also for a relative name without an origin.  RFC 1035 5.1.
        """
        if text == "@" and origin is not None:
            return origin
        if text == ".":
            return ROOT
        labels, absolute = _split_text(text)
        if absolute:
            return cls(tuple(labels))
        if origin is None:
            raise ValueError(f"{text!r} is relative, and no origin is known")
        return cls((*labels, *origin.labels))


ROOT = Name()
"""The root, written ``.``."""


def _label_text(label: bytes) -> str:
    characters = []
    for octet in label:
        if octet in _ESCAPED:
            characters.append(f"\\{octet:c}")
        elif 0x21 <= octet <= 0x7E:
            characters.append(chr(octet))
        else:
            characters.append(f"\\{octet:03d}")
    return "".join(characters)


def _split_text(text: str) -> tuple[list[bytes], bool]:
    """Return the labels of escaped text, and whether it ended with a dot."""
    if not text.isascii():
        raise ValueError(f"{text[:64]!r} is not ASCII")
    labels: list[bytes] = []
    label = bytearray()
    position = 0
    absolute = False
    while position < len(text):
        character = text[position]
        if character == ".":
            if not label:
                raise ValueError(f"{text[:64]!r} has an empty label")
            labels.append(bytes(label))
            label.clear()
            absolute = position + 1 == len(text)
            position += 1
        elif character == "\\":
            octet, position = unescape(text, position)
            label.append(octet)
        else:
            label.append(ord(character))
            position += 1
    if label:
        labels.append(bytes(label))
    if not labels:
        raise ValueError("an empty name")
    return labels, absolute


def unescape(text: str, position: int) -> tuple[int, int]:
    r"""Return the octet of the escape at ``position``, and the position after it.

    Raises: ValueError if neither ``\X`` nor ``\DDD`` up to 255 stands there.  RFC 1035 5.1.
    """
    digits = text[position + 1 : position + 4]
    if digits[:1].isdigit():
        if len(digits) == 3 and digits.isdigit() and int(digits) <= 255:
            return int(digits), position + 4
        raise ValueError(f"{text[:64]!r} has an escape that is not three digits up to 255")
    if not digits or ord(digits[0]) > 0x7E:
        raise ValueError(f"{text[:64]!r} ends with a lone backslash")
    return ord(digits[0]), position + 2


def host_name(text: str) -> Name:
    """Return the absolute name that an application asks for.

    Letters, digits, hyphen and underscore make a label; a final dot changes nothing; ``.`` is
    the root; other scripts pass through IDNA (RFC 3490). All is judged here, so that nothing
    malformed can reach the wire.
    Raises: ValueError for an empty name or label, more than 253 characters, other characters,
    and a last label of digits only (an address, or a slip in one).  RFC 1123 2.1.
    """
    if text == ".":
        return ROOT
    # The length comes first: IDNA takes quadratic time over its input.
    bare = text[:-1] if text.endswith(".") else text
    if not 1 <= len(bare) <= MAX_TEXT:
        raise ValueError(f"a name has 1 to {MAX_TEXT} characters, not {len(bare)}")
    if not bare.isascii():
        try:
            bare = bare.encode("idna").decode("ascii")
        except UnicodeError as error:
            raise ValueError(f"{text!r} is no internationalized name: {error}") from None
    labels = bare.split(".")
    for label in labels:
        if not _HOST_LABEL.match(label):
            raise ValueError(f"{text!r} has the label {label!r}, which no host name can have")
    if labels[-1].isdigit():
        raise ValueError(f"{text!r} ends with a number, as no name does")
    return Name(tuple([label.encode("ascii") for label in labels]))


def reverse_name(address: IPAddress) -> Name:
    """Return the name whose PTR record names the host.  RFC 1035 3.5, RFC 3596 2.5."""
    if address.version == 4:
        parts = [str(octet) for octet in reversed(address.packed)]
        return Name.from_text(".".join(parts) + ".in-addr.arpa.")
    return Name.from_text(".".join(reversed(address.packed.hex())) + ".ip6.arpa.")


def parse_name(reader: Reader, known: dict[int, tuple[bytes, ...]]) -> Name:
    """Read the name at the reader's place.

    ``reader.data`` is the whole message; the name's own octets must end within the reader's
    range. ``known`` belongs to the message and remembers what pointers led to, so that a
    message full of pointers takes time in proportion to its length.
    Raises: ParseError if a pointer does not lead strictly backwards to octets behind the
    header, or a limit is passed.  RFC 1035 4.1.4, RFC 9267 2 and 3.
    """
    labels: list[bytes] = []
    followed: list[tuple[int, int]] = []  # pointer targets, and the labels before them
    run = reader  # the stretch of labels being read; the name goes on where a pointer leads
    begin = run.offset
    size = 1
    while length := run.u8():
        if length & POINTER == POINTER:
            target = _target(length, run.u8(), begin)
            if target in known:
                labels.extend(known[target])
                break
            followed.append((target, len(labels)))
            if len(followed) > MAX_JUMPS:
                raise ParseError("a DNS name has too many compression pointers")
            # A prior name lies before this stretch, and so does its end.
            run = Reader(reader.data, target, begin)
            begin = target
            continue
        if length & POINTER:
            raise ParseError("a DNS label has a reserved type")
        size += length + 1
        if size > MAX_NAME:
            raise ParseError("a DNS name has more than 255 octets")
        labels.append(bytes(run.take(length)))
    try:
        name = Name(tuple(labels))
    except ValueError as error:
        raise ParseError(f"DNS: {error}") from None
    for target, count in followed:
        known[target] = name.labels[count:]
    return name


def _target(high: int, low: int, begin: int) -> int:
    target = (high & 0x3F) << 8 | low
    if target < HEADER_SIZE:
        raise ParseError("a DNS compression pointer leads into the header")
    if target >= begin:
        raise ParseError("a DNS compression pointer does not lead backwards")
    return target
