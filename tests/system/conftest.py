"""Small simulated worlds."""

from types import SimpleNamespace

import pytest

from netstack.api import Network


@pytest.fixture
def network(both_ways):
    with Network(seed=1) as network:
        yield network


@pytest.fixture
def pair(network):
    """Two hosts on one cable: a is 10.0.0.1, b is 10.0.0.2."""
    a, b = network.host("a", "10.0.0.1/24"), network.host("b", "10.0.0.2/24")
    link = network.link(a, b)
    return SimpleNamespace(network=network, a=a, b=b, link=link)


@pytest.fixture
def connected(pair):
    """A pair with a connection: ``client`` on a, ``server`` on b."""
    with pair.b.create_server(("", 80)) as listener:
        client = pair.a.create_connection(("10.0.0.2", 80))
        server, _ = listener.accept()
    with client, server:
        yield SimpleNamespace(**vars(pair), client=client, server=server)
