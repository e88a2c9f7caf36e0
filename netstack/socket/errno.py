"""From the stack's errors to the errno values of Linux: the one translation table.

Errors of the stack that already are OSErrors (Refused, Reset, TimedOut, Unreachable,
DeviceError) carry their errno and pass as they are, so that both ``except netstack.Reset`` and
``except ConnectionResetError`` work. Everything else that a socket raises is
``OSError(errno, strerror)``, which Python turns into the matching builtin.
"""

from __future__ import annotations

import errno
import os

from netstack.core.errors import LocalProtocolError, NetstackError, ParseError

TABLE: dict[type[NetstackError], int] = {
    LocalProtocolError: errno.EPIPE,  # the only such error of a connection: send after FIN
    ParseError: errno.EINVAL,
}


def os_error(code: int) -> OSError:
    """Return the OSError of ``code``, as the subclass that belongs to it."""
    return OSError(code, os.strerror(code))


def translate(error: NetstackError) -> Exception:
    """Return what a socket raises for an error of the stack."""
    if isinstance(error, OSError):
        return error
    code = TABLE.get(type(error))
    return error if code is None else os_error(code)
