"""TLS over a stream in memory; the server's half is the interpreter's own ``ssl``."""

from __future__ import annotations

import contextlib
import ssl
from pathlib import Path

import pytest

from netstack.app.http.fetch import fetch
from netstack.core.errors import RemoteProtocolError, TimedOut
from netstack.ssl import TlsError, TlsSocket, client_context, wrap

DATA = Path(__file__).parent / "app" / "http" / "tls"
CA = DATA / "ca.pem"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


class TlsServer:
    """The other end of a transport: answers each piece of clear text by ``reply``."""

    def __init__(self, reply, *, close=None, piece=1 << 30):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(DATA / "server.pem")
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=True)
        self._reply = reply
        self._close = close
        self._piece = piece
        self._ended = False
        self.received = b""
        self.closed = False

    def settimeout(self, timeout):
        pass

    def sendall(self, data):
        self._in.write(bytes(data))
        try:
            while True:
                clear = self._tls.read(65_536)
                if not clear:
                    break
                self.received += clear
                self._answer()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            self._ended = True

    def _answer(self):
        reply = self._reply(self.received)
        if reply:
            self._tls.write(reply)
            if self._close == "alert":
                with contextlib.suppress(ssl.SSLWantReadError):
                    self._tls.unwrap()
            self._ended = self._close is not None

    def recv(self, limit):
        data = self._out.read(min(limit, self._piece))
        assert data or self._ended, "this would wait for ever"
        return data

    def close(self):
        self.closed = True


class TlsHost:
    now = 0.0

    def __init__(self, server):
        self.server = server
        self.connected = []

    def resolve(self, name, type="A", *, timeout=10.0):
        return ["192.0.2.80"]

    def create_connection(self, address, timeout=None):
        self.connected.append(address)
        return self.server


def when_complete(answer):
    return lambda received: answer if received.endswith(b"\r\n\r\n") else b""


@pytest.mark.parametrize("piece", [1, 1 << 30])
def test_echo_through_tls_however_cut(piece):
    server = TlsServer(lambda received: received[-5:], piece=piece)
    secured = wrap(server, "www.example.test", client_context(cacert=CA))
    assert secured.version() in ("TLSv1.2", "TLSv1.3")
    secured.settimeout(1.0)
    secured.sendall(b"hello")
    assert secured.recv(3) == b"hel"
    assert secured.recv(100) == b"lo"
    secured.close()
    assert server.closed


def test_large_data_pass_both_ways():
    server = TlsServer(lambda received: received if len(received) == 300_000 else b"")
    secured = wrap(server, "www.example.test", client_context(cacert=CA))
    secured.sendall(bytes(300_000))
    received = b""
    while len(received) < 300_000:
        received += secured.recv(100_000)
    assert received == bytes(300_000)


@pytest.mark.parametrize(
    ("name", "verify", "cacert", "words"),
    [
        ("other.example.test", True, CA, "mismatch"),
        ("www.example.test", True, None, "certificate not accepted"),
        ("192.0.2.99", True, CA, "mismatch"),
    ],
)
def test_certificates_that_do_not_fit_are_refused(name, verify, cacert, words):
    server = TlsServer(lambda received: b"")
    with pytest.raises(TlsError, match=words):
        wrap(server, name, client_context(verify=verify, cacert=cacert))
    assert isinstance(TlsError(""), RemoteProtocolError)


def test_without_verification_any_certificate_will_do():
    wrap(TlsServer(lambda received: b""), "other.test", client_context(verify=False))
    wrap(TlsServer(lambda received: b""), "192.0.2.80", client_context(cacert=CA))


class Plain:
    """A server that does not speak TLS."""

    def __init__(self, answer):
        self._answer = answer

    def sendall(self, data):
        pass

    def recv(self, limit):
        answer, self._answer = self._answer[:limit], b""
        return answer

    def settimeout(self, timeout):
        pass

    def close(self):
        pass


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", b"\x15\x03\x03"])
def test_peer_without_tls_is_an_error(answer):
    with pytest.raises(TlsError):
        wrap(Plain(answer), "www.example.test", client_context(cacert=CA))


def test_end_with_and_without_the_closing_alert():
    for close, ragged in (("alert", False), ("cut", True)):
        secured = wrap(
            TlsServer(lambda r: b"all", close=close), "www.example.test", client_context(cacert=CA)
        )
        secured.sendall(b"x")
        assert secured.recv(100) == b"all"
        assert secured.recv(100) == b""
        assert secured.recv(100) == b""
        assert secured.ragged_eof is ragged
        secured.close()


def test_broken_record_is_an_error():
    server = TlsServer(lambda received: b"")
    secured = wrap(server, "www.example.test", client_context(cacert=CA))
    server._out.read()
    server._out.write(b"\x17\x03\x03\x00\x20" + bytes(32))
    with pytest.raises(TlsError):
        secured.recv(10)


def test_server_side_of_the_same_class():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(DATA / "server.pem")
    with pytest.raises(TlsError, match="closed the connection in the handshake"):
        TlsSocket(Plain(b""), context, server_side=True).do_handshake()


# -- https ---------------------------------------------------------------------------------------


def test_https_page():
    host = TlsHost(TlsServer(when_complete(OK)))
    response = fetch("https://www.example.test/x", host=host, cacert=CA)
    assert response.body == b"hi"
    assert host.connected == [("192.0.2.80", 443)]
    assert host.server.closed
    assert host.server.received.startswith(b"GET /x HTTP/1.1\r\nHost: www.example.test\r\n")


def test_https_with_the_wrong_name_says_so():
    host = TlsHost(TlsServer(when_complete(OK)))
    with pytest.raises(RemoteProtocolError, match=r"wrong\.test: certificate not accepted"):
        fetch("https://wrong.test/", host=host, cacert=CA)
    assert host.server.closed
    assert fetch(
        "https://wrong.test/", host=TlsHost(TlsServer(when_complete(OK))), verify=False
    ).body


def test_close_delimited_body_that_was_cut_is_incomplete():
    body = b"HTTP/1.1 200 OK\r\n\r\nall of it"
    whole = TlsHost(TlsServer(when_complete(body), close="alert"))
    assert fetch("https://www.example.test/", host=whole, cacert=CA).body == b"all of it"
    cut = TlsHost(TlsServer(when_complete(body), close="cut"))
    with pytest.raises(RemoteProtocolError, match="within a message"):
        fetch("https://www.example.test/", host=cut, cacert=CA)


def test_time_out_in_the_handshake():
    host = TlsHost(Plain(b""))

    def stall(limit):
        host.now += 5.0
        raise TimeoutError("timed out")

    host.server.recv = stall
    with pytest.raises(TimedOut, match="timed out after 5 s while in the TLS handshake with www"):
        fetch("https://www.example.test/", host=host, cacert=CA, timeout=5)
