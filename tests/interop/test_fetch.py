"""Pages of a real nginx, found by a real dnsmasq, octet for octet."""

from __future__ import annotations

import errno
import hashlib
import os

import pytest

import netstack
from netstack.core.errors import NameNotFound, TimedOut
from netstack.ssl import TlsError

pytestmark = pytest.mark.needs("tap", "netns", "ip", "nginx", "dnsmasq", "openssl", "tshark")

PAGE = b"<h1>It works</h1>\n"
FULL = "TCP window specified by the receiver is now completely full"
BUSY = {
    FULL: "a sender that uses the whole window",
    "TCP Zero Window segment": "a reader that was slower than the network for a while",
}
RANDOM = ("tcp.port==80", "tcp.port==443")
SOAK = [pytest.mark.soak, pytest.mark.timeout(1800)]
SIZES = [
    pytest.param(10_000_000, id="10MB"),
    pytest.param(200_000_000, id="200MB", marks=SOAK),
]


def test_page_is_fetched_by_name(lan):
    with lan.host() as host:
        response = netstack.fetch(f"http://www.{lan.site.domain}/", host=host)
    assert (response.status, response.body) == (200, PAGE)
    assert response.headers["Server"].startswith("nginx")


def test_page_is_fetched_over_tls_by_name(lan):
    with lan.host() as host:
        response = netstack.fetch(f"https://www.{lan.site.domain}/", host=host, cacert=lan.site.ca)
    assert (response.status, response.body) == (200, PAGE)


def test_certificate_of_another_name_or_authority_is_not_accepted(lan):
    with lan.host() as host:
        with pytest.raises(TlsError, match="certificate not accepted"):
            netstack.fetch(f"https://www.{lan.site.domain}/", host=host)
        with pytest.raises(TlsError, match="certificate not accepted"):
            netstack.fetch(f"https://{lan.site.address}/", host=host, cacert=lan.site.ca)


def test_name_that_does_not_exist_is_not_found(lan):
    with lan.host() as host, pytest.raises(NameNotFound):
        netstack.fetch(f"http://nowhere.{lan.site.domain}/", host=host)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_download_has_the_sha256_of_the_file(lan, size, scheme):
    body = os.urandom(size)
    (lan.site.root / "big").write_bytes(body)
    with lan.host(expected=BUSY, opaque=RANDOM) as host:
        url = f"{scheme}://www.{lan.site.domain}/big"
        response = netstack.fetch(url, host=host, cacert=lan.site.ca, timeout=600)
    assert response.status == 200
    assert hashlib.sha256(response.body).digest() == hashlib.sha256(body).digest()


@pytest.mark.parametrize("size", SIZES)
def test_upload_arrives_with_equal_sha256(lan, size):
    body = os.urandom(size)
    with lan.host(expected=BUSY, opaque=RANDOM) as host:
        url = f"http://www.{lan.site.domain}/upload/big"
        response = netstack.fetch(url, host=host, method="PUT", body=body, timeout=600)
    assert response.status in (201, 204)
    with (lan.site.uploads / "big").open("rb") as file:
        assert hashlib.file_digest(file, "sha256").digest() == hashlib.sha256(body).digest()


def test_200_connections_at_once_all_get_their_page(lan):
    count = 200
    request = b"GET / HTTP/1.1\r\nHost: www\r\nConnection: close\r\n\r\n"
    with lan.host() as host:
        sockets = [host.socket() for _ in range(count)]
        for opened in sockets:
            opened.setblocking(False)
            assert opened.connect_ex((lan.site.address, 80)) in (errno.EINPROGRESS, 0)
        for opened in sockets:
            opened.settimeout(30)
            assert opened.connect_ex((lan.site.address, 80)) in (errno.EISCONN, 0)
        for opened in sockets:
            opened.sendall(request)
        for opened in sockets:
            answer = b""
            while piece := opened.recv(65_536):
                answer += piece
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert answer.endswith(PAGE)
            opened.close()


def test_200_connections_by_as_many_threads_all_get_their_page(lan):
    with lan.host() as host:
        url = f"http://{lan.site.address}/"
        tasks = [host.spawn(netstack.fetch, url, host=host) for _ in range(200)]
        bodies = [task.join().body for task in tasks]
    assert bodies == [PAGE] * 200


def test_fetch_from_a_host_that_is_not_there_times_out(lan):
    with lan.host() as host, pytest.raises((TimedOut, OSError)):
        netstack.fetch(f"http://{lan.net}.77/", host=host, timeout=0.5)
