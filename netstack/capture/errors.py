"""What can be wrong with a capture file."""

from __future__ import annotations

from netstack.core.errors import ParseError


class TruncatedError(ParseError):
    """The file ends within a record; every whole packet was delivered before."""


class UnknownLinkType(ParseError):
    """The layers of a packet were asked for, and its link type isn't one that is known here."""
