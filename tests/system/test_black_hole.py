"""Paths that swallow large packets without a word (RFC 2923 2.1): transfers complete."""

import pytest

from netstack.core.config import Config, TcpConfig

DATA = bytes(range(251)) * 4000


@pytest.mark.parametrize("super_segments", [True, False])
@pytest.mark.parametrize("limit", [1400, 1000, 576])
def test_icm_10_transfer_through_a_black_hole_completes(network, limit, super_segments):
    config = Config(tcp=TcpConfig(super_segments=super_segments))
    a = network.host("a", "10.0.0.1/24", config=config)
    b = network.host("b", "10.0.0.2/24", config=config)
    link = network.link(a, b, delay=0.005)
    with b.create_server(("", 80)) as listener:
        client = a.create_connection(("10.0.0.2", 80))
        server, _ = listener.accept()
    with client, server:
        link.cable.set(black_hole=limit)
        sending = a.spawn(client.sendall, DATA)
        received = bytearray()
        while len(received) < len(DATA):
            received += server.recv(65_536)
        sending.join()
    assert received == DATA
    assert network.now < 5
    assert a.counters()["tcp.black_holes"] == (1 if limit > 1064 else 2)
    # Nothing but the first segment had to wait for the timer: probes are missed by what follows.
    assert a.counters()["tcp.retransmission_timer"] <= 4
