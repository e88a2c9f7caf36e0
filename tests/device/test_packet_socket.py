"""Packet sockets on veth, against the kernel, in network namespaces of the test's own."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from netstack.core.errors import DeviceError
from netstack.device.base import Checksum, Medium
from netstack.device.offload import wire_octets
from netstack.device.packet_socket import PacketSocketDevice

pytestmark = pytest.mark.needs("tap", "netns", "ip", "ethtool")
ONE = "02:00:00:00:00:01"  # where the kernel beside us, and our device, are
TWO = "02:00:00:00:00:02"  # where the other kernel is


@pytest.fixture
def pair(inside, ip, name, elsewhere):
    """Run ``body(interface)`` on one end of a veth pair, the other end being elsewhere."""

    def run(body):
        def there():
            with elsewhere():
                ip("link", "set", "lo", "up")
            far = f"{name}f"
            ip("link", "add", name, "address", ONE, "type", "veth",
               "peer", "name", far, "address", TWO, "netns", elsewhere.path)  # fmt: skip
            Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")
            with elsewhere():
                Path(f"/proc/sys/net/ipv6/conf/{far}/disable_ipv6").write_text("1")
                ip("addr", "add", "10.0.0.2/24", "dev", far)
                ip("link", "set", far, "up")
                ip("neigh", "add", "10.0.0.1", "lladdr", ONE, "dev", far)
            _bring_up(ip, elsewhere, name)
            body(name)

        inside(there)

    return run


def _bring_up(ip, elsewhere, name):
    """Bring our end up, and wait until both kernels know: what is sent before is lost."""
    ip("link", "set", name, "up")
    end = time.monotonic() + 30
    while True:
        ours = ip("-o", "link", "show", name)
        with elsewhere():
            other = ip("-o", "link", "show", f"{name}f")
        if "state UP" in ours and "state UP" in other:
            return
        assert time.monotonic() < end, ours + other
        time.sleep(0.01)


def _frames(device, count=1, seconds=5.0):
    poll = select.poll()
    poll.register(device.fileno(), select.POLLIN)
    got = []
    while len(got) < count and poll.poll(seconds * 1000):
        got += device.receive_burst()
    return got


def _udp(elsewhere, data=b"hello", to="10.0.0.1"):
    with elsewhere(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(data, (to, 9))


def test_frames_arrive_with_what_is_left_of_their_checksums(pair, elsewhere):
    def body(name):
        device = PacketSocketDevice(name)
        assert device.capabilities.medium is Medium.ETHERNET
        assert (device.capabilities.mtu, device.capabilities.gso_max_size) == (1500, 65_535)
        _udp(elsewhere)
        (frame,) = _frames(device)
        assert frame.checksum is Checksum.PARTIAL
        assert bytes(frame.header[:6]).hex(":") == ONE
        assert bytes(frame.header).endswith(b"hello")
        device.close()
        device.close()
        assert device.fileno() == -1

    pair(body)


def test_without_offload_frames_are_complete(pair, elsewhere, frames):
    def body(name):
        device = PacketSocketDevice(name, offload=False)
        found = device.capabilities
        assert (found.tx_checksum, found.rx_checksum, found.gso_max_size) == (False, False, 0)
        with closing(PacketSocketDevice(name)) as beside:
            _udp(elsewhere)
            (complete,), (left,) = _frames(device), _frames(beside)
        assert complete.checksum is Checksum.UNKNOWN
        assert [complete.octets()] == wire_octets(left)
        device.close()

    pair(body)


def test_what_this_host_sends_is_not_seen(pair, elsewhere, frames):
    def body(name):
        with (
            closing(PacketSocketDevice(name)) as device,
            closing(PacketSocketDevice(name)) as beside,
        ):
            assert device.transmit(frames.going_down(bytes(3000), gso_size=1000))
            _udp(elsewhere)
            for each in (device, beside):  # the other kernel resets what it doesn't know
                sources = {bytes(frame.header[6:12]).hex(":") for frame in _frames(each, 2)}
                assert sources == {TWO}
            assert device.errors == 0

    pair(body)


def test_frames_for_other_stations_arrive_in_promiscuous_mode_which_ends(pair, ip, elsewhere):
    def body(name):
        assert "promiscuity 0" in ip("-o", "-d", "link", "show", name)
        device = PacketSocketDevice(name)
        assert "promiscuity 1" in ip("-o", "-d", "link", "show", name)
        with elsewhere():
            ip("neigh", "replace", "10.0.0.7", "lladdr", "02:00:00:00:00:07", "dev", f"{name}f")
        _udp(elsewhere, to="10.0.0.7")
        (frame,) = _frames(device)
        assert bytes(frame.header[:6]).hex(":") == "02:00:00:00:00:07"
        device.close()
        assert "promiscuity 0" in ip("-o", "-d", "link", "show", name)
        plain = PacketSocketDevice(name, promiscuous=False)
        assert "promiscuity 0" in ip("-o", "-d", "link", "show", name)
        plain.close()

    pair(body)


def test_tagged_frames_are_not_handed_over_without_their_tag(pair, elsewhere):
    def body(name):
        far = f"{name}f"
        with closing(PacketSocketDevice(name)) as device:
            with elsewhere(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sender:
                sender.bind((far, 0))
                addresses = bytes.fromhex(f"{ONE}{TWO}".replace(":", ""))
                sender.send(addresses + b"\x81\x00\x00\x05\x08\x00" + bytes(60))
            _udp(elsewhere, b"plain")
            assert [bytes(each.header)[-5:] for each in _frames(device)] == [b"plain"]

    pair(body)


def test_interface_that_goes_down_and_comes_up_is_used_on(pair, ip, elsewhere, frames):
    def body(name):
        with closing(PacketSocketDevice(name)) as device:
            ip("link", "set", name, "down")
            assert _frames(device) == []
            told = []
            device.on_drop = lambda reason, segments: told.append((reason, segments))
            assert device.transmit(frames.going_down(bytes(3000), gso_size=1000))
            assert told == [("link.refused", 3)]
            _bring_up(ip, elsewhere, name)
            _udp(elsewhere)
            assert len(_frames(device)) == 1

    pair(body)


def test_overrun_is_told(pair, elsewhere):
    def body(name):
        with closing(PacketSocketDevice(name)) as device:
            assert device.overrun() == 0
            size = socket.SOL_SOCKET, 33, 4096  # SO_RCVBUFFORCE
            device._socket.setsockopt(*size)
            for _ in range(20):
                _udp(elsewhere, bytes(1400))
            arrived = len(_frames(device, 20, 0.2))
            assert device.overrun() == 20 - arrived > 0
            assert device.overrun() == 0

    pair(body)


def test_messages_say_what_is_wrong(inside, name):
    def body():
        with pytest.raises(DeviceError, match="no such interface"):
            PacketSocketDevice(name)
        with pytest.raises(DeviceError, match="MTU of 68"):
            PacketSocketDevice("lo", mtu=67)

    inside(body)


def test_without_privilege_the_message_says_so():
    program = (
        "import fcntl, os, socket\n"
        "from netstack.core.errors import DeviceError\n"
        "from netstack.device.packet_socket import PacketSocketDevice\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "try: PacketSocketDevice('lo')\n"
        "except DeviceError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30
    )
    assert "CAP_NET_RAW" in done.stdout, done.stderr


def test_sys_07_opening_and_failing_leaks_no_descriptor(pair, name):
    def body(interface):
        before = os.listdir("/proc/self/fd")
        for _ in range(50):
            PacketSocketDevice(interface).close()
            with pytest.raises(DeviceError):
                PacketSocketDevice(interface, mtu=1501)
            with pytest.raises(DeviceError):
                PacketSocketDevice("absent0")
        assert len(os.listdir("/proc/self/fd")) == len(before)

    pair(body)
