"""A host on a TAP device, with the kernel at the other end."""

import os
import socket as std
import threading

import pytest

from netstack.api import tap
from netstack.capture import read
from netstack.core.errors import DeviceError

pytestmark = pytest.mark.needs("tap")


@pytest.fixture
def name():
    return f"ns{os.getpid() % 10_000_000}"


def test_client_and_server_against_the_kernel(name, tmp_path):
    pcap, raw = tmp_path / "tap.pcap", tmp_path / "raw.pcapng"
    with tap(
        name, address="10.231.77.2/24", gateway="10.231.77.1", hosts={"kernel": "10.231.77.1"},
        pcap=pcap, pcap_raw=raw,
    ) as host, std.create_server(("10.231.77.1", 0)) as kernel:  # fmt: skip
        port = kernel.getsockname()[1]
        with host.create_connection(("kernel", port), timeout=10.0) as client:
            peer, _ = kernel.accept()
            with peer:
                client.sendall(b"x" * 100_000)
                got = 0
                while got < 100_000:
                    got += len(peer.recv(65_536))
                peer.sendall(b"thanks")
                assert client.recv(10) == b"thanks"
        assert host.ping("10.231.77.1", timeout=5.0).size == 56
        with host.create_server(("", 80)) as listener:
            listener.settimeout(10.0)
            outside = std.create_connection(("10.231.77.2", 80), timeout=10.0)
            inside, peer_address = listener.accept()
            assert peer_address[0] == "10.231.77.1"
            with outside, inside:
                outside.sendall(b"hello")
                assert inside.recv(10) == b"hello"
    packets = list(read(pcap))
    assert sum(len(p.payload) for p in packets if p.tcp is not None) >= 100_000
    assert sum(len(p.payload) for p in read(raw) if p.tcp is not None) >= 100_000
    assert not os.path.exists(f"/sys/class/net/{name}")


def test_close_wakes_a_blocked_thread_and_leaves_no_other(name):
    before = threading.active_count()
    host = tap(name, address="10.231.77.2/24")
    listener = host.create_server(("", 80))
    errors = []

    def accept():
        try:
            listener.accept()
        except OSError as error:
            errors.append(error.errno)

    thread = threading.Thread(target=accept)
    thread.start()
    host.close(0.1)
    thread.join(10.0)
    assert errors == [9]
    assert threading.active_count() <= before + 1


def test_what_is_wrong_is_said(name):
    with pytest.raises(ValueError, match="prefix length"):
        tap(name, address="10.231.77.2")
    assert not os.path.exists(f"/sys/class/net/{name}")
    with pytest.raises(DeviceError, match="no name"):
        tap("a/b", address="10.231.77.2/24")
