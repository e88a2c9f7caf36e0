"""A TAP with super-segments: what the kernel makes of ours, and how one is opened and left.

The kernel forwards what it gets to a second namespace, over an interface without any offload:
what arrives there is what it cut and summed by itself.
"""

from __future__ import annotations

import errno
import os
import select
import socket
from pathlib import Path

import pytest

from netstack.core.checksum import internet_sum, pseudo_header_sum
from netstack.device import bursts, tap
from netstack.device.base import Checksum, Frame, GsoType, as_frame
from netstack.device.offload import segment, wire_octets

pytestmark = pytest.mark.needs("tap", "netns", "ip", "ethtool")
PORT = 9
FIN, PSH, ACK, ECE, CWR = 0x01, 0x08, 0x10, 0x40, 0x80
TIMESTAMPS = bytes.fromhex("0101080a0000000100000002")


def _readable(descriptor, seconds):
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _udp_frame(device, size=100):
    """Return the frame with which a datagram of the kernel's arrives."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        for _ in range(50):  # a TAP opened anew is not ready at once
            sender.sendto(bytes(size), ("10.0.0.255", PORT))
            while _readable(device.fileno(), 0.1):
                for frame in map(as_frame, device.receive_burst()):
                    if bytes(frame.header[12:14]) == b"\x08\x00" and frame.header[23] == 17:
                        return frame
    raise AssertionError("nothing arrived")


def _checksum_holds(octets):
    ip = octets[14:]
    length = int.from_bytes(ip[2:4], "big")
    pseudo = pseudo_header_sum(ip[12:16], ip[16:20], ip[9], length - 20)
    return internet_sum(ip[:20]) == 0xFFFF and internet_sum(ip[20:length], pseudo) == 0xFFFF


@pytest.fixture
def router(inside, ip, name, elsewhere, run_ethtool):
    """Run ``body(device, wire)`` beside a kernel that forwards 10.0.0.1 -> 10.0.0.2.

    ``device`` is our end, ``wire()`` returns what arrived at the far end, in octets.
    """

    def run(body):
        def there():
            with elsewhere():
                ip("link", "set", "lo", "up")
            device = tap.TapDevice(name, offload=True)
            near, far = f"{name}n", f"{name}f"
            ip("link", "set", name, "address", "02:00:00:00:00:02")
            ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", elsewhere.path)
            run_ethtool("-K", near, "tx", "off", "tso", "off", "gso", "off", "gro", "off")
            with elsewhere():
                ip("link", "set", far, "up")
                listener = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
                listener.setblocking(False)
                listener.bind((far, 3))
            tap.configure_kernel_side(name, "10.0.0.254", 24)
            ip("link", "set", near, "up")
            ip("route", "add", "10.0.0.2/32", "dev", near)
            ip("neigh", "add", "10.0.0.2", "lladdr", "02:00:00:00:00:77", "dev", near)
            Path("/proc/sys/net/ipv4/ip_forward").write_text("1")

            def wire():
                got = []
                while _readable(listener.fileno(), 1.0 if not got else 0.1):
                    octets = listener.recv(65_536)
                    if octets[12:14] == b"\x08\x00" and octets[23] == 6:
                        got.append(octets)
                return got

            with listener:
                body(device, wire)
            assert device.errors == 0
            device.close()

        inside(there)

    return run


def _as_forwarded(octets):
    """Return the packet one hop on: the link's header is another, the TTL one less."""
    ip = bytearray(octets[14:])
    ip[8] -= 1
    ip[10:12] = b"\0\0"
    ip[10:12] = (~internet_sum(ip[:20]) & 0xFFFF).to_bytes(2, "big")
    return bytes(ip)


@pytest.mark.parametrize(
    ("size", "fields"),
    [
        (4000, {"gso_size": 1448, "options": TIMESTAMPS, "flags": ACK | PSH | FIN}),
        (4000, {"gso_size": 1460, "flags": ACK | CWR | PSH, "tos": 2}),
        (4000, {"gso_size": 1460, "flags": ACK | ECE, "seq": 0xFFFFFC00}),
        (2920, {"gso_size": 1460, "identification": 0xFFFF, "pieces": 16}),
        (5000, {"gso_size": 88, "pieces": 3}),
        (65_000, {"gso_size": 1448, "options": TIMESTAMPS, "pieces": 16}),
        (65_495, {"gso_size": 1460, "flags": ACK | PSH}),
    ],
)
def test_kernel_cuts_super_segments_as_we_would(router, frames, size, fields):
    frame = frames.going_down(os.urandom(size), **fields)
    expected = [_as_forwarded(octets) for octets in wire_octets(frame)]

    def body(device, wire):
        assert device.transmit(frame)
        assert [octets[14:] for octets in wire()] == expected

    router(body)


def test_kernel_completes_a_checksum_and_takes_a_complete_one(router, frames):
    left, complete = frames.going_down(b"abc"), frames.arriving(b"defg", seq=1003)
    expected = [_as_forwarded(octets) for octets in (*wire_octets(left), complete.octets())]

    def body(device, wire):
        assert device.transmit(left)
        assert device.transmit(complete)
        # Short frames are not padded on veth.
        assert [octets[14:] for octets in wire()] == expected

    router(body)


def test_frame_in_more_pieces_than_one_call_takes_is_joined(router, frames):
    frame = frames.going_down(bytes(range(200)) * 10, gso_size=1000, pieces=2000)
    expected = [_as_forwarded(octets) for octets in wire_octets(frame)]

    def body(device, wire):
        assert len(frame.payload) == 2000
        assert device.transmit(frame)
        assert [octets[14:] for octets in wire()] == expected

    router(body)


def test_cut_frames_go_as_well_as_whole_ones(router, frames):
    frame = frames.going_down(os.urandom(3000), gso_size=1000)
    expected = [_as_forwarded(octets) for octets in wire_octets(frame)]

    def body(device, wire):
        for cut in segment(frame, partial=True):
            assert device.transmit(cut)
        assert [octets[14:] for octets in wire()] == expected

    router(body)


def test_kernel_leaves_checksums_to_us_and_they_can_be_completed(inside, name):
    def body():
        device = tap.TapDevice(name, offload=True)
        tap.configure_kernel_side(name, "10.0.0.254", 24)
        frame = _udp_frame(device)
        assert frame.checksum is Checksum.PARTIAL
        assert not _checksum_holds(frame.octets())
        assert _checksum_holds(wire_octets(frame)[0])
        device.close()

    inside(body)


def test_capabilities_say_what_was_asked_for_and_granted(inside, name):
    def body():
        with_offload = tap.TapDevice(name, offload=True)
        found = with_offload.capabilities
        assert (found.tx_checksum, found.rx_checksum, found.gso_max_size) == (True, True, 65_535)
        with_offload.close()
        without = tap.TapDevice(name)
        found = without.capabilities
        assert (found.tx_checksum, found.rx_checksum, found.gso_max_size) == (False, False, 0)
        without.close()

    inside(body)


@pytest.mark.parametrize("orderly", [True, False])
def test_persistent_tap_is_plain_again_for_the_next_program(inside, ip, name, orderly):
    def body():
        ip("tuntap", "add", "dev", name, "mode", "tap")
        tap.configure_kernel_side(name, "10.0.0.254", 24)
        first = tap.TapDevice(name, offload=True)
        if orderly:
            first.close()
        else:
            os.close(first.fileno())  # killed
        for offload in (False, True, False):
            device = tap.TapDevice(name, offload=offload)
            frame = _udp_frame(device)
            assert (frame.checksum is Checksum.PARTIAL) == offload
            assert _checksum_holds(wire_octets(frame)[0])
            device.close()
        ip("link", "del", name)

    inside(body)


@pytest.mark.parametrize("known", [0, 1, 2, 3])
def test_older_kernels_give_what_they_have(inside, name, monkeypatch, known):
    import fcntl

    real = fcntl.ioctl

    def older(descriptor, code, argument=0, *rest):
        if code == 0x400454D0 and argument & ~known:  # TUNSETOFFLOAD
            raise OSError(errno.EINVAL, "unknown offload")
        return real(descriptor, code, argument, *rest)

    def body():
        monkeypatch.setattr(fcntl, "ioctl", older)
        device = tap.TapDevice(name, offload=True)
        tap.configure_kernel_side(name, "10.0.0.254", 24)
        assert device.capabilities.rx_checksum == bool(known & 1)
        assert device.capabilities.gso_max_size == 65_535  # it cuts ours without being asked
        frame = _udp_frame(device)
        assert (frame.checksum is Checksum.PARTIAL) == bool(known & 1)
        device.close()

    inside(body)


def test_kernel_without_the_header_gives_a_plain_tap(inside, name, monkeypatch):
    import fcntl

    real = fcntl.ioctl

    def older(descriptor, code, argument=0, *rest):
        if code == 0x800454CF:  # TUNGETFEATURES
            raise OSError(errno.EINVAL, "unknown request")
        return real(descriptor, code, argument, *rest)

    def body():
        monkeypatch.setattr(fcntl, "ioctl", older)
        device = tap.TapDevice(name, offload=True)
        tap.configure_kernel_side(name, "10.0.0.254", 24)
        assert not device.capabilities.tx_checksum
        assert device.capabilities.gso_max_size == 0
        assert _checksum_holds(_udp_frame(device).octets())
        device.close()

    inside(body)


def test_refused_frames_are_counted_in_wire_frames(inside, frames, name):
    def body():
        device = tap.TapDevice(name, offload=True)
        told = []
        device.on_drop = lambda reason, segments: told.append((reason, segments))
        assert device.transmit(frames.going_down(bytes(3000), gso_size=1000))  # down: EIO
        assert told == [("link.refused", 3)]
        assert device.errors == 1
        device.close()

    inside(body)


def test_device_that_reads_nonsense_drops_it(inside, name, monkeypatch):
    def body():
        device = tap.TapDevice(name, offload=True)
        tap.configure_kernel_side(name, "10.0.0.254", 24)
        told = []
        device.on_drop = lambda reason, segments: told.append(reason)
        _udp_frame(device)
        real = bursts.read_frame

        def damaged(descriptor, buffer, front, small):
            got = real(descriptor, buffer, front, small)
            buffer[0:2] = b"\x01\x01"  # a super-segment, in pieces of nothing
            return got

        monkeypatch.setattr(bursts, "read_frame", damaged)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            sender.sendto(bytes(99), ("10.0.0.255", PORT))
        assert device.receive_burst() == []
        monkeypatch.setattr(bursts, "read_frame", real)
        assert told == ["link.bad_offload"] or told == ["link.unknown_offload"]
        assert _udp_frame(device).gso_size == 0
        device.close()

    inside(body)


def test_sys_07_opening_with_offloads_and_failing_leaks_no_descriptor(inside, name):
    def body():
        before = os.listdir("/proc/self/fd")
        for _ in range(50):
            device = tap.TapDevice(name, offload=True)
            with pytest.raises(tap.DeviceError):
                tap.TapDevice(name, offload=True)
            device.close()
        assert len(os.listdir("/proc/self/fd")) == len(before)

    inside(body)


def test_forwarded_merge_of_complete_segments_is_cut_again(router, frames):
    """A frame that a card had merged, complete, goes on over a TAP."""
    merged = frames.going_down(os.urandom(3000), gso_size=1000)
    expected = [_as_forwarded(octets) for octets in wire_octets(merged)]
    merged.checksum = Checksum.VALID
    assert merged.gso_type is GsoType.TCPV4

    def body(device, wire):
        assert device.transmit(Frame(b"\xff" * 60))
        assert device.transmit(merged)
        assert [octets[14:] for octets in wire()] == expected

    router(body)
