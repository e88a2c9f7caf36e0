"""What the explainers are given: the trace of a page's fetch in the built-in internet."""

import pytest

import netstack


@pytest.fixture
def fetched():
    events = []
    with netstack.internet() as network:
        client = network.hosts["client"]
        start = client.now
        with client.trace(events.append):
            netstack.fetch("http://www.netstack.test/", host=client)
    return events, start
