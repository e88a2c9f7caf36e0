"""Frames for device tests."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import subprocess
import threading
import uuid
from contextlib import contextmanager

import pytest

from netstack.core.checksum import internet_checksum, pseudo_header_sum
from netstack.device.base import HEADROOM, Checksum, Frame, GsoType, Medium

LINK = b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x08\0"
SOURCE, DESTINATION = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))


@pytest.fixture
def pair():
    """Two ends that keep the bounds of what is written, and never block."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    near.setblocking(False)
    far.setblocking(False)
    with near, far:
        yield near, far


class Frames:
    """Builds TCP frames as the stack makes them (going down) and as a wire carries them."""

    def headers(
        self,
        data_length: int,
        *,
        medium: Medium = Medium.ETHERNET,
        seq: int = 1000,
        ack: int = 5000,
        flags: int = 0x10,
        window: int = 4000,
        identification: int = 7,
        options: bytes = b"",
        tos: int = 0,
        ttl: int = 64,
        fragment: int = 0x4000,
        ports: tuple[int, int] = (40000, 80),
        ip_options: bytes = b"",
    ) -> bytes:
        """Return link, IP and TCP header; the TCP checksum holds the pseudo-header's sum."""
        ip_length = 20 + len(ip_options)
        length = 20 + len(options) + data_length
        total = ip_length + length
        ip = struct.pack(
            "!BBHHHBBH4s4s", 0x40 | ip_length >> 2, tos, total, identification, fragment, ttl, 6,
            0, SOURCE, DESTINATION,
        ) + ip_options  # fmt: skip
        ip = ip[:10] + struct.pack("!H", internet_checksum(ip)) + ip[12:]
        word = (20 + len(options)) << 10 | flags
        pseudo = pseudo_header_sum(SOURCE, DESTINATION, 6, length)
        tcp = struct.pack("!HHIIHHHH", *ports, seq, ack, word, window, pseudo, 0) + options
        return (LINK if medium is Medium.ETHERNET else b"") + ip + tcp

    def going_down(
        self, data: bytes, *, gso_size: int = 0, pieces: int = 1, options: bytes = b"", **fields
    ) -> Frame:
        """Return a PARTIAL frame with headroom, as it leaves the internet layer."""
        octets = self.headers(len(data), options=options, **fields)
        step = max(1, -(-len(data) // pieces))
        payload = [data[at : at + step] for at in range(0, len(data), step)]
        frame = Frame(bytearray(HEADROOM) + octets, payload, start=HEADROOM)
        frame.checksum = Checksum.PARTIAL
        frame.checksum_start = HEADROOM + len(octets) - 20 - len(options)
        frame.checksum_offset = 16
        if gso_size:
            frame.gso_size = gso_size
            frame.gso_type = GsoType.TCPV4
            frame.segments = -(-len(data) // gso_size)
        return frame

    def wire(self, data: bytes = b"", **fields) -> bytes:
        """Return the octets of a frame with complete checksums."""
        octets = bytearray(self.headers(len(data), **fields) + data)
        tcp = len(octets) - len(data) - 20 - len(fields.get("options", b""))
        octets[tcp + 16 : tcp + 18] = struct.pack("!H", internet_checksum(octets[tcp:]))
        return bytes(octets)

    def arriving(self, data: bytes = b"", **fields) -> Frame:
        """Return a frame as a device read it."""
        return Frame(self.wire(data, **fields))


@pytest.fixture
def frames() -> Frames:
    return Frames()


@pytest.fixture(scope="session")
def frames_factory() -> Frames:
    """For property tests, which may not use a function's fixture."""
    return Frames()


# ---- the kernel ----------------------------------------------------------------------------

_CLONE_NEWNET = 0x40000000


def _ip(*arguments):
    return subprocess.run(
        ["ip", *arguments], check=True, capture_output=True, text=True, timeout=30
    ).stdout


@pytest.fixture
def ip():
    """Run the command ``ip`` in the namespace of the calling thread."""
    return _ip


@pytest.fixture
def run_ethtool():
    """Run the command ``ethtool`` in the namespace of the calling thread."""

    def run(*arguments):
        subprocess.run(["ethtool", *arguments], check=True, capture_output=True, timeout=30)

    return run


@pytest.fixture
def name() -> str:
    """A name for an interface that nobody else uses."""
    return f"t{uuid.uuid4().hex[:10]}"


def _call(function, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, function)(*arguments):
        raise OSError(ctypes.get_errno(), function)


@pytest.fixture
def inside():
    """Run functions in a fresh network namespace: a thread's namespace is its own."""

    def run(function):
        outcome = []

        def enter():
            try:
                _call("unshare", _CLONE_NEWNET)
                outcome.append(function())
            except BaseException as error:
                outcome.append(error)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join(60)
        assert outcome, "the test hangs"
        if isinstance(outcome[0], BaseException):
            raise outcome[0]
        return outcome[0]

    return run


@pytest.fixture
def elsewhere():
    """A context: the calling thread is in a namespace beside its own, which it can name.

    ``with elsewhere(): ...`` the first time makes it; ``elsewhere.path`` is what ``ip link set
    ... netns`` takes.
    """

    class Elsewhere:
        descriptor = -1

        @contextmanager
        def __call__(self):
            here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                if self.descriptor < 0:
                    _call("unshare", _CLONE_NEWNET)
                    self.descriptor = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
                else:
                    _call("setns", self.descriptor, _CLONE_NEWNET)
                yield
            finally:
                _call("setns", here, _CLONE_NEWNET)
                os.close(here)

        @property
        def path(self):
            return f"/proc/{os.getpid()}/fd/{self.descriptor}"

    place = Elsewhere()
    yield place
    if place.descriptor >= 0:
        os.close(place.descriptor)
