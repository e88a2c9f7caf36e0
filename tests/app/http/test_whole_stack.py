"""The web server and ``fetch`` at the two ends of a simulated cable."""

from __future__ import annotations

import hashlib
import os
import ssl
from pathlib import Path

import pytest

from netstack import Network
from netstack.app import services
from netstack.app.http.answer import Answer, BytesBody, redirect_answer
from netstack.app.http.fetch import fetch
from netstack.app.http.site import Pages
from netstack.core.errors import NetstackError, RemoteProtocolError, Reset, TimedOut
from netstack.ssl import TlsSocket

TLS = Path(__file__).parent / "tls"
BASE = "http://192.0.2.80"


@pytest.fixture
def world():
    with Network(seed=7) as network:
        client = network.host("client", "192.0.2.1/24")
        server = network.host("server", "192.0.2.80/24")
        network.link(client, server, delay=0.001)
        yield network, client, server


def test_file_arrives_whole_and_by_parts(world, tmp_path):
    _, client, server = world
    data = os.urandom(300_000)
    (tmp_path / "data.bin").write_bytes(data)
    server.serve(services.http(tmp_path), 80)
    response = fetch(f"{BASE}/data.bin", host=client)
    assert hashlib.sha256(response.body).digest() == hashlib.sha256(data).digest()
    part = fetch(f"{BASE}/data.bin", host=client, headers={"Range": "bytes=-10"})
    assert (part.status, part.body) == (206, data[-10:])
    since = {"If-Modified-Since": response.headers["Last-Modified"]}
    assert fetch(f"{BASE}/data.bin", host=client, headers=since).status == 304
    assert "data.bin" in fetch(BASE, host=client).text
    timings = response.timings
    assert 0.002 <= timings.connected <= timings.sent < timings.first_octet < timings.done


def test_redirects_use_one_connection(world):
    _, client, server = world
    opened = []

    def handler(request):
        number = int(request.target[1:] or 0)
        if number < 5:
            return redirect_answer(302, f"/{number + 1}")
        return Pages({"/5": b"end"})(request)

    class Counting(type(services.http(handler))):
        def open(self, peer, local, now):
            opened.append(peer)
            return super().open(peer, local, now)

    server.serve(Counting(handler, None), 80)
    response = fetch(BASE, host=client)
    assert response.body == b"end"
    expected = [f"{BASE}/", *(f"{BASE}/{number}" for number in range(1, 5))]
    assert [past.url for past in response.history] == expected
    assert len(opened) == 1


def test_htt_40_truncated_file_is_no_whole_answer(world, tmp_path):
    _, client, server = world
    (tmp_path / "big").write_bytes(bytes(5_000_000))
    server.serve(services.http(tmp_path), 80)

    def shorten(piece):
        os.truncate(tmp_path / "big", 0)

    with pytest.raises((Reset, RemoteProtocolError)):
        fetch(f"{BASE}/big", host=client, on_body=shorten)


def test_htt_40_fifo_blocks_nobody(world, tmp_path):
    _, client, server = world
    os.mkfifo(tmp_path / "fifo")
    server.serve(services.http(tmp_path), 80)
    assert fetch(f"{BASE}/fifo", host=client).status == 403


def test_htt_27_slow_clients_keep_nobody_waiting(world):
    _, client, server = world
    running = server.serve(services.http({"/": b"home"}), 80)
    slow = [client.create_connection(("192.0.2.80", 80)) for _ in range(50)]
    for start in range(3):
        for sock in slow if start < 2 else ():
            sock.sendall(b"GET / HTTP/1.1\r\n"[start : start + 1])
        response = fetch(BASE, host=client)
        assert response.timings.done < 0.1
        client.sleep(10.0)
    for sock in slow:
        answer = b""
        while data := sock.recv(1000):
            answer += data
        sock.close()
        assert answer.startswith(b"HTTP/1.1 408 ")
    client.sleep(1.0)
    assert running.connections == 0


def test_server_that_never_answers_times_out_on_the_virtual_clock(world):
    _, client, server = world
    server.serve(services.discard(), 80)
    start = client.now
    with pytest.raises(TimedOut, match="while waiting for"):
        fetch(BASE, host=client, timeout=12)
    assert client.now - start == pytest.approx(12)


def test_chargen_is_not_http_and_endless_bodies_end(world):
    _, client, server = world
    server.serve(services.chargen(), 80)
    with pytest.raises(RemoteProtocolError, match="not a status line"):
        fetch(BASE, host=client)

    class Endless(BytesBody):
        length = 1 << 62

        def read(self, limit):
            return bytes(limit)

    server.serve(services.http(lambda request: Answer(200, (), Endless())), 8080)
    with pytest.raises(NetstackError):
        fetch(f"{BASE}:8080/", host=client, max_size=1_000_000)


def test_wsgi_application_in_tasks(world):
    _, client, server = world

    def application(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield environ["REQUEST_METHOD"].encode() + b" "
        yield environ["wsgi.input"].read()

    server.serve(services.wsgi(application), 80)
    body = os.urandom(200_000)
    assert fetch(BASE, host=client, method="POST", body=body).body == b"POST " + body
    assert fetch(BASE, host=client).body == b"GET "


class HttpsService:
    """One page over TLS, in a task."""

    def handle(self, connection):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(TLS / "server.pem")
        secured = TlsSocket(connection, context, server_side=True)
        secured.do_handshake()
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            request += secured.recv(1000)
        secured.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(100_000))
        secured.close()


def test_https_over_the_stack(world):
    _, client, server = world
    server.serve(HttpsService(), 443)
    response = fetch(
        "https://www.example.test/",
        host=client,
        resolve={"www.example.test": "192.0.2.80"},
        cacert=TLS / "ca.pem",
    )
    assert response.body == bytes(100_000)
    assert response.timings.secured > response.timings.connected
