"""TLS over any stream with ``recv`` and ``sendall``, through ``ssl.MemoryBIO``.

The interpreter's OpenSSL does the cryptography; the octets travel through the stack. Left out:
session resumption, client certificates (give a context of your own), renegotiation.
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from netstack.core.errors import RemoteProtocolError

if TYPE_CHECKING:
    from pathlib import Path

RECORD = 65_536  # octets read from the stream at a time; a TLS record holds 16,384


class Transport(Protocol):
    """What TLS needs of a socket."""

    def recv(self, limit: int, /) -> bytes:
        """Return what has arrived, at least one octet; ``b""`` at the end."""

    def sendall(self, data: bytes, /) -> None:
        """Send all of ``data``."""

    def settimeout(self, timeout: float | None, /) -> None:
        """Bound each blocking call, in seconds."""

    def close(self) -> None:
        """Close the stream."""


class TlsError(RemoteProtocolError):
    """The handshake failed, a certificate was not accepted, or a record was broken."""


def client_context(*, verify: bool = True, cacert: str | Path | None = None) -> ssl.SSLContext:
    """Return a context for clients: the system's certificates, or those in ``cacert`` alone.

    ``verify=False`` accepts any certificate.
    Raises: OSError if ``cacert`` cannot be read.
    """
    context = ssl.create_default_context(cafile=None if cacert is None else str(cacert))
    context.set_alpn_protocols(["http/1.1"])
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class TlsSocket:
    """The inside of a TLS connection: octets in clear, blocking as the transport does."""

    def __init__(
        self,
        transport: Transport,
        context: ssl.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
    ) -> None:
        self._transport = transport
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_side,
            server_hostname=server_hostname,
        )
        self.ragged_eof = False
        """Whether the stream ended without the closing alert: someone may have cut it."""

    def do_handshake(self) -> None:
        """Agree on keys and check the peer's certificate.

        Raises: TlsError; what the transport raises.
        """
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                if not self._fill():
                    raise TlsError("the peer closed the connection in the handshake") from None
            except ssl.SSLError as error:
                self._flush()
                raise TlsError(_message(error)) from error
            else:
                self._flush()
                return

    def recv(self, limit: int) -> bytes:
        """Return at least one octet in clear, at most ``limit``; ``b""`` at the end.

        Raises: TlsError; what the transport raises.
        """
        while True:
            try:
                return self._tls.read(limit)
            except ssl.SSLWantReadError:
                self._flush()
                if not self._fill():
                    self.ragged_eof = True
                    return b""
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLEOFError:
                self.ragged_eof = True
                return b""
            except ssl.SSLError as error:
                raise TlsError(_message(error)) from error

    def sendall(self, data: bytes | memoryview) -> None:
        """Send all of ``data``.

        Raises: TlsError; what the transport raises.
        """
        view = memoryview(data)
        while view:
            try:
                view = view[self._tls.write(view[:RECORD]) :]
            except ssl.SSLWantReadError:
                self._flush()
                if not self._fill():
                    raise TlsError("the peer closed the connection") from None
            except ssl.SSLError as error:
                raise TlsError(_message(error)) from error
            self._flush()

    def settimeout(self, timeout: float | None) -> None:
        """Bound each blocking call of the transport, in seconds."""
        self._transport.settimeout(timeout)

    def version(self) -> str | None:
        """Return the protocol agreed on, such as ``TLSv1.3``."""
        return self._tls.version()

    def close(self) -> None:
        """Say goodbye without waiting for the answer, and close the transport."""
        with suppress(ssl.SSLError):
            # The answer is not waited for; after a failed handshake there is no goodbye.
            self._tls.unwrap()
        try:
            with suppress(OSError):
                self._flush()
        finally:
            self._transport.close()

    def _fill(self) -> bool:
        data = self._transport.recv(RECORD)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        return bool(data)

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._transport.sendall(self._outgoing.read())


def wrap(transport: Transport, hostname: str, context: ssl.SSLContext | None = None) -> TlsSocket:
    """Return ``transport`` secured, the handshake done and ``hostname`` verified.

    Raises: TlsError; what the transport raises. The transport is left open then.
    """
    context = client_context() if context is None else context
    socket = TlsSocket(transport, context, server_hostname=hostname)
    socket.do_handshake()
    return socket


def _message(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate not accepted: {error.verify_message}"
    return f"TLS failed: {(error.reason or str(error)).lower().replace('_', ' ')}"
