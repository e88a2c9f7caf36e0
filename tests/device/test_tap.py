"""TAP devices, against the kernel, in a network namespace of the test's own."""

from __future__ import annotations

import errno
import os
import select
import subprocess
import sys

import pytest

from netstack.core.errors import DeviceError
from netstack.device import tap
from netstack.device.base import Frame, Medium

pytestmark = pytest.mark.needs("tap", "netns", "ip")


def _arp_request(source: bytes, sender: bytes, target: bytes) -> bytes:
    body = b"\0\1\x08\0\6\4\0\1" + source + sender + bytes(6) + target
    return b"\xff" * 6 + source + b"\x08\x06" + body


def _wait(device, seconds=5.0):
    poll = select.poll()
    poll.register(device.fileno(), select.POLLIN)
    assert poll.poll(seconds * 1000), "nothing arrived"


def test_created_tap_has_the_mtu_and_goes_with_its_descriptor(inside, name):
    def body():
        assert not tap.exists(name)
        device = tap.TapDevice(name, mtu=1400)
        assert device.created
        assert device.capabilities.medium is Medium.ETHERNET
        assert device.capabilities.mtu == tap.kernel_mtu(name) == device.mtu == 1400
        device.set_mtu(9000)
        assert device.capabilities.mtu == device.mtu == 9000
        assert tap.exists(name)
        device.close()
        device.close()
        assert device.fileno() == -1
        assert not tap.exists(name)

    inside(body)


def test_existing_tap_is_left_as_it_is(inside, ip, name):
    def body():
        ip("tuntap", "add", "dev", name, "mode", "tap")
        ip("link", "set", name, "mtu", "1300")
        device = tap.TapDevice(name, mtu=1500, create=False)
        assert not device.created
        assert device.capabilities.mtu == tap.kernel_mtu(name) == 1300
        device.close()
        assert tap.exists(name)
        ip("link", "del", name)

    inside(body)


def test_kernel_answers_arp_through_it_and_reads_both_forms_of_a_frame(inside, ip, name):
    def body():
        device = tap.TapDevice(name)
        tap.configure_kernel_side(name, "192.0.2.1", 24)
        assert "192.0.2.1/24" in ip("-o", "addr", "show", name)
        mine = b"\x02\0\0\0\0\x09"
        request = _arp_request(mine, bytes((192, 0, 2, 9)), bytes((192, 0, 2, 1)))
        whole = Frame(bytearray(4) + request, start=4)
        split = Frame(request[:20], (request[20:30], request[30:]))
        for frame in (whole, split):
            assert device.transmit(frame) is True
            answers = []
            while not answers:
                _wait(device)
                burst = device.receive_burst()
                answers = [octets for octets in burst if octets[12:14] == b"\x08\x06"]
            assert answers[0][6:12] == tap.kernel_mac(name)
            assert answers[0][:6] == mine
        assert device.errors == 0
        device.close()

    inside(body)


def test_burst_is_bounded_and_empty_reads_are_no_error(inside, name):
    def body():
        device = tap.TapDevice(name)
        tap.configure_kernel_side(name, "192.0.2.1", 24)
        import socket

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            for _ in range(100):
                sender.sendto(b"x", ("192.0.2.255", 9))
        assert len(device.receive_burst(64)) == 64
        while device.receive_burst(64):
            pass
        assert len(device.receive_burst(64)) == 0
        assert device.errors == 0
        device.close()

    inside(body)


def test_refused_frames_are_counted_and_not_kept(inside, name):
    def body():
        device = tap.TapDevice(name)
        assert device.transmit(Frame(bytes(60))) is True  # down: EIO
        assert device.transmit(Frame(b"short")) is True
        assert device.errors == 2
        device.close()

    inside(body)


def test_deleted_tap_fails_instead_of_spinning(inside, ip, name):
    def body():
        device = tap.TapDevice(name)
        ip("link", "del", name)
        with pytest.raises(OSError, match="File descriptor"):
            device.receive_burst()
        assert device.errors == 1
        device.close()

    inside(body)


def test_messages_say_what_to_do(inside, name):
    def body():
        with pytest.raises(DeviceError, match=f"no interface {name}"):
            tap.TapDevice(name, create=False)
        device = tap.TapDevice(name)
        with pytest.raises(DeviceError, match="another program has it open") as caught:
            tap.TapDevice(name)
        assert caught.value.errno == errno.EBUSY
        device.close()
        with pytest.raises(DeviceError, match="no such TAP"):
            tap.TapDevice("lo")
        for wrong in ("", "a" * 16, "a b", "a/b", "tap%d"):
            with pytest.raises(DeviceError, match="no name"):
                tap.TapDevice(wrong)
        with pytest.raises(DeviceError, match="MTU of 68"):
            tap.TapDevice(name, mtu=67)
        with pytest.raises(ValueError, match="prefix length"):
            tap.configure_kernel_side(name, "192.0.2.1", 33)

    inside(body)


def test_missing_device_node_is_named(monkeypatch):
    monkeypatch.setattr(tap, "PATH", "/dev/net/none")
    with pytest.raises(DeviceError, match="tun module loaded") as caught:
        tap.TapDevice("absent0")
    assert caught.value.errno == errno.ENOENT


def test_without_privilege_the_message_says_how(name):
    program = (
        "import fcntl, os, socket, sys\n"
        "from netstack.core.errors import DeviceError\n"
        "from netstack.device.tap import TapDevice\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "try: TapDevice(sys.argv[1])\n"
        "except DeviceError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, name], capture_output=True, text=True, timeout=30
    )
    assert "CAP_NET_ADMIN" in done.stdout, done.stderr


def test_sys_07_opening_and_failing_leaks_no_descriptor(inside, name):
    def body():
        before = os.listdir("/proc/self/fd")
        for _ in range(50):
            device = tap.TapDevice(name)
            with pytest.raises(DeviceError):
                tap.TapDevice(name)
            device.close()
        assert len(os.listdir("/proc/self/fd")) == len(before)

    inside(body)


def test_import_needs_no_fcntl():
    program = (
        "import sys; sys.modules['fcntl'] = None\n"
        "from netstack.device import tap\n"
        "try: tap.TapDevice('x')\n"
        "except tap.DeviceError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True
    )
    assert "need Linux" in done.stdout
