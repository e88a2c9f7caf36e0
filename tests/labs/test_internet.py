"""The built-in internet: what is where, and that it is the same for the same seed."""

import subprocess
import sys

import pytest

import netstack
from netstack.labs.internet import HOME_PAGE, REDIRECTING_PAGE, SETTLED_S, internet


@pytest.fixture
def network():
    with internet() as made:
        yield made


def test_public_name_is_this_internet():
    with netstack.internet(seed=3) as network:
        assert "client" in network.hosts


def test_hosts_have_announced_themselves_and_are_quiet(network):
    assert network.now == SETTLED_S
    before = dict(network.hosts["client"].counters())
    network.run(until=SETTLED_S + 1.0)
    assert dict(network.hosts["client"].counters()) == before


def test_client_fetches_the_home_page(network):
    response = netstack.fetch(HOME_PAGE, host=network.hosts["client"])
    assert response.status == 200
    assert "travelled" in response.text
    assert response.headers["content-type"].startswith("text/html")


def test_redirect_leads_to_another_host(network):
    response = netstack.fetch(REDIRECTING_PAGE, host=network.hosts["client"])
    assert response.url == "http://www.shop.example/"
    assert [earlier.status for earlier in response.history] == [302]


@pytest.mark.parametrize(
    ("name", "type", "expected"),
    [
        ("www.netstack.test", "A", ["203.0.113.80"]),
        ("www.shop.example", "A", ["203.0.113.81"]),
        ("netstack.test", "NS", ["ns.netstack.test."]),
        ("netstack.test", "TXT", ['"the network inside a Python process"']),
        ("80.113.0.203.in-addr.arpa", "PTR", ["web.netstack.test."]),
        ("a.nic.example", "A", ["203.0.113.21"]),
    ],
)
def test_names(network, name, type, expected):
    assert network.hosts["client"].resolve(name, type) == expected


@pytest.mark.parametrize("name", ["root", "test", "example", "ns", "web", "shop", "home", "core"])
def test_every_host_answers_the_client(network, name):
    address = str(network.hosts[name].stack.interfaces[1].addresses[0].address)
    assert network.hosts["client"].ping(address).address == address


def test_name_of_nobody_is_not_found(network):
    with pytest.raises(netstack.NameNotFound):
        network.hosts["client"].resolve("nobody.netstack.test")


PROGRAM = """
import hashlib, sys, netstack
with netstack.internet(seed=5) as network:
    network.record(sys.argv[1])
    netstack.fetch("http://www.netstack.test/shop", host=network.hosts["client"])
print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())
"""


def test_same_seed_gives_the_same_capture_in_every_process_and_build(tmp_path):
    digests = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM, str(tmp_path / f"{hash_seed}{pure}.pcapng")],
            env={"PYTHONHASHSEED": hash_seed, "NETSTACK_PURE": pure,
                 "PYTHONPATH": ":".join(sys.path)},
            capture_output=True, check=True, text=True, timeout=60,
        ).stdout
        for hash_seed in ("1", "2")
        for pure in ("0", "1")
    }  # fmt: skip
    assert len(digests) == 1
