"""TCP_INFO and TCP_CONGESTION: the kernel's sockets, which are the oracle, and ours."""

import socket as std
from types import SimpleNamespace

import pytest

from netstack.api import Network, run
from netstack.socket.tcp_info import LAYOUT, STATES
from netstack.stack import Stack

NAMES = """
    state ca_state retransmits probes backoff options scales flags rto ato snd_mss rcv_mss
    unacked sacked lost retrans fackets last_data_sent last_ack_sent last_data_recv
    last_ack_recv pmtu rcv_ssthresh rtt rttvar snd_ssthresh snd_cwnd advmss reordering rcv_rtt
    rcv_space total_retrans pacing_rate max_pacing_rate bytes_acked bytes_received segs_out
    segs_in notsent_bytes min_rtt data_segs_in data_segs_out delivery_rate busy_time
    rwnd_limited sndbuf_limited delivered delivered_ce bytes_sent bytes_retrans dsack_dups
    reord_seen rcv_ooopack snd_wnd rcv_wnd rehash total_rto total_rto_recoveries total_rto_time
"""


def info_of(sock):
    octets = sock.getsockopt(std.IPPROTO_TCP, std.TCP_INFO, 512)
    # An older kernel knows fewer fields at the end, a newer one more.
    values = LAYOUT.unpack(octets[: LAYOUT.size].ljust(LAYOUT.size, b"\0"))
    return SimpleNamespace(**dict(zip(NAMES.split(), values, strict=True)))


@pytest.fixture(params=["kernel", "netstack"])
def make(request):
    if request.param == "kernel":
        yield std.socket
        return
    with run(Stack("host", seed=1)) as host:
        yield host.socket


@pytest.fixture
def joined(make):
    with make(std.AF_INET, std.SOCK_STREAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(5)
        with make(std.AF_INET, std.SOCK_STREAM) as client:
            client.connect(listener.getsockname())
            server, _ = listener.accept()
            with server:
                yield SimpleNamespace(listener=listener, client=client, server=server)


def test_numbers_stand_where_linux_has_them(joined):
    joined.client.sendall(b"a" * 1000)
    assert len(joined.server.recv(1000, std.MSG_WAITALL)) == 1000
    joined.server.sendall(b"answer")
    assert joined.client.recv(100) == b"answer"
    info = info_of(joined.client)
    assert info.state == STATES["ESTABLISHED"]
    assert info.ca_state == 0
    assert info.options & 7 == 7  # timestamps, SACK, window scaling
    assert info.bytes_acked in (1000, 1001)  # Linux counts the SYN
    assert info.bytes_received == 6
    assert info.bytes_sent == 1000
    assert (info.unacked, info.sacked, info.lost, info.retrans, info.total_retrans) == (0,) * 5
    assert info.snd_cwnd >= 2  # of 64 KiB: RFC 6928
    assert info.snd_ssthresh == 0x7FFFFFFF
    assert info.reordering == 3
    assert 0 < info.rtt < 1_000_000
    assert 0 < info.rttvar < 1_000_000
    assert 200_000 <= info.rto < 1_300_000
    assert info.snd_wnd > 10_000
    assert info.snd_mss + 52 <= info.pmtu <= 65_536


def test_states_have_linux_numbers(joined):
    assert info_of(joined.server).state == STATES["ESTABLISHED"]
    joined.client.shutdown(std.SHUT_WR)
    assert joined.server.recv(1) == b""
    assert info_of(joined.server).state == STATES["CLOSE-WAIT"]
    # The kernel may still delay the ACK of the FIN.
    waits = STATES["FIN-WAIT-1"], STATES["FIN-WAIT-2"]
    assert info_of(joined.client).state in waits


def test_listener_tells_its_backlog(make, joined):
    info = info_of(joined.listener)
    assert (info.state, info.unacked, info.sacked) == (STATES["LISTEN"], 0, 5)
    with make(std.AF_INET, std.SOCK_STREAM) as second:
        second.connect(joined.listener.getsockname())
        assert info_of(joined.listener).unacked == 1


def test_fresh_socket_is_closed(make):
    with make(std.AF_INET, std.SOCK_STREAM) as sock:
        assert info_of(sock).state == STATES["CLOSED"]


def test_info_is_cut_to_what_was_asked_for(joined):
    assert len(joined.client.getsockopt(std.IPPROTO_TCP, std.TCP_INFO, 104)) == 104


def test_congestion_control_is_named_as_linux_names_it(make, joined):
    with make(std.AF_INET, std.SOCK_STREAM) as fresh:
        for sock in (fresh, joined.client, joined.server):
            sock.setsockopt(std.IPPROTO_TCP, std.TCP_CONGESTION, b"reno")
            name = sock.getsockopt(std.IPPROTO_TCP, std.TCP_CONGESTION, 16)
            assert name == b"reno".ljust(16, b"\0")
            with pytest.raises(FileNotFoundError):  # ENOENT
                sock.setsockopt(std.IPPROTO_TCP, std.TCP_CONGESTION, b"no such thing")


def test_congestion_control_chosen_before_connecting_is_the_connections():
    with Network(seed=1) as net:
        a, b = net.host("a", "10.0.0.1/24"), net.host("b", "10.0.0.2/24")
        net.link(a, b)
        with b.create_server(("", 80)) as listener, a.socket() as sock:
            listener.setsockopt(std.IPPROTO_TCP, std.TCP_CONGESTION, "newreno")
            sock.setsockopt(std.IPPROTO_TCP, std.TCP_CONGESTION, "newreno")
            sock.connect(("10.0.0.2", 80))
            accepted, _ = listener.accept()
            with accepted:
                assert [info.congestion for info in a.connections()] == ["newreno"]
                assert [info.congestion for info in b.connections()] == ["newreno"]


def test_delivery_rate_is_what_the_link_carries():
    with Network(seed=1) as net:
        a, b = net.host("a", "10.0.0.1/24"), net.host("b", "10.0.0.2/24")
        net.link(a, b, rate=10e6, delay=0.01)
        with b.create_server(("", 80)) as listener, a.socket() as sock:
            sock.connect(("10.0.0.2", 80))
            accepted, _ = listener.accept()
            reading = b.spawn(accepted.recv, 1_000_000, std.MSG_WAITALL)
            sock.sendall(bytes(1_000_000))
            assert len(reading.join()) == 1_000_000
            (info,) = a.connections()
            assert 8e6 < info.delivery_rate * 8 < 10.1e6
            assert info.srtt > 0.02
            accepted.close()
