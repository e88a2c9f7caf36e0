"""A queue that marks instead of dropping (RFC 3168): full speed, and nothing lost."""

import pytest

from netstack.core.config import Config, TcpConfig

DATA = bytes(range(251)) * 8000


@pytest.mark.parametrize("ecn", ["on", "off"])
def test_marking_queue_costs_no_retransmission(network, ecn):
    config = Config(tcp=TcpConfig(ecn=ecn))
    a = network.host("a", "10.0.0.1/24", config=config)
    b = network.host("b", "10.0.0.2/24")
    link = network.link(a, b, delay=0.005, rate=20e6, queue=60)
    link.cable.set(mark_above=20)
    with b.create_server(("", 80)) as listener:
        client = a.create_connection(("10.0.0.2", 80))
        server, _ = listener.accept()
    with client, server:
        sending = a.spawn(client.sendall, DATA)
        received = bytearray()
        while len(received) < len(DATA):
            received += server.recv(65_536)
        sending.join()
    assert received == DATA
    drops = link.cable.a.outgoing.counters.queue_drops
    assert (drops == 0) == (ecn == "on")
    if ecn == "on":
        assert a.counters()["tcp.ecn_reductions"] >= 1
        assert len(DATA) * 8 / network.now > 0.8 * 20e6
