"""UDP with the kernel's sockets on the other side."""

from __future__ import annotations

import socket

import pytest

pytestmark = pytest.mark.needs("tap", "netns", "ip", "nginx", "dnsmasq", "openssl", "tshark")


@pytest.fixture
def kernel(lan):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.settimeout(10)
        opened.bind(("", 0))
        lan.opaque.add(f"udp.port=={opened.getsockname()[1]}")
        yield opened


def _address(lan, kernel):
    return lan.kernel, kernel.getsockname()[1]


SIZES = [0, 1, 1472, 1473, 30_000, 65_507]


def test_datagrams_of_all_sizes_arrive_both_ways(lan, kernel):
    with lan.host() as host, host.socket(type=socket.SOCK_DGRAM) as ours:
        kernel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        ours.settimeout(10)
        for size in SIZES:
            sent = bytes(n * 7 & 0xFF for n in range(size))
            ours.sendto(sent, _address(lan, kernel))
            received, sender = kernel.recvfrom(65_536)
            assert received == sent
            kernel.sendto(received, sender)
            assert ours.recvfrom(65_536) == (sent, _address(lan, kernel))


def test_closed_port_of_the_kernel_refuses_a_connected_socket(lan, kernel):
    with lan.host() as host, host.socket(type=socket.SOCK_DGRAM) as ours:
        address = _address(lan, kernel)
        kernel.close()
        ours.settimeout(10)
        ours.connect(address)
        ours.send(b"anybody?")
        with pytest.raises(ConnectionRefusedError):
            ours.recv(100)


def test_closed_port_of_ours_refuses_a_socket_of_the_kernel(lan, kernel):
    with lan.host():
        kernel.connect((lan.ours, 4321))
        kernel.send(b"anybody?")
        with pytest.raises(ConnectionRefusedError):
            kernel.recv(100)


def test_checksum_that_the_kernel_left_out_is_not_checked(lan, kernel):
    so_no_check = 11
    with lan.host() as host, host.socket(type=socket.SOCK_DGRAM) as ours:
        ours.bind(("", 4000))
        ours.settimeout(10)
        kernel.setsockopt(socket.SOL_SOCKET, so_no_check, 1)
        kernel.sendto(b"unchecked", (lan.ours, 4000))
        assert ours.recv(100) == b"unchecked"


def test_broadcast_of_the_kernel_reaches_the_port(lan, kernel):
    with lan.host() as host, host.socket(type=socket.SOCK_DGRAM) as ours:
        ours.bind(("", 4001))
        ours.settimeout(10)
        kernel.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        kernel.sendto(b"all of you", (f"{lan.net}.255", 4001))
        assert ours.recv(100) == b"all of you"
