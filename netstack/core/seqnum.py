"""Arithmetic on TCP sequence numbers, modulo 2**32 (RFC 9293 section 3.4).

Two numbers less than 2**31 apart have an order; the functions here are the only place that
knows how it is computed.
"""

from __future__ import annotations

MASK = 0xFFFFFFFF
_HALF = 0x80000000


def add(seq: int, octets: int) -> int:
    """Return ``seq`` advanced by ``octets`` (may be negative)."""
    return (seq + octets) & MASK


def diff(a: int, b: int) -> int:
    """Return the signed distance ``a - b``, in -2**31 .. 2**31 - 1."""
    return ((a - b + _HALF) & MASK) - _HALF


def lt(a: int, b: int) -> bool:
    """Return whether ``a`` comes before ``b``."""
    return (a - b) & MASK >= _HALF


def unwrap(seq: int, near: int) -> int:
    """Return the unbounded number closest to ``near`` whose low 32 bits are ``seq``.

    Connections count with such numbers, so that order is the order of integers, and put only
    the low 32 bits on the wire.
    """
    return near + ((seq - near + _HALF) & MASK) - _HALF
