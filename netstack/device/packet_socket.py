"""A Linux packet socket: a stack of our own on a real interface, or one end of a veth pair.

The kernel's stack goes on using the interface, and sees the same frames. So this stack needs a
MAC address of its own (``Stack.attach`` makes one) and an IP address that the kernel does not
have: else both answer, and the kernel resets what it doesn't know. The interface is switched to
promiscuous mode as long as the device is open, since its filter knows the kernel's MAC address
only. What this host's kernel sends on the interface is not seen here, and does not see what is
sent here: the two talk through another machine, or over a TAP.

Opening one needs CAP_NET_RAW. Each frame has a virtio-net header (``vnet``): super-segments pass
whole both ways, cut by the interface or just above it. What arrives cannot be had otherwise: an
interface may merge what it received, and a veth pair leaves checksums to whoever looks; so
without offloads the device cuts and completes for itself. Frames with a VLAN tag are not for us;
the kernel would hand them over without it. Linux only; importing this module is fine anywhere.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from netstack.core.errors import DeviceError
from netstack.device import bursts
from netstack.device.base import Capabilities, Checksum, Device, Frame, Medium
from netstack.device.offload import wire_octets
from netstack.device.pool import BufferPool
from netstack.device.tap import MAX_SUPER_SEGMENT, MIN_MTU, kernel_mtu

if TYPE_CHECKING:
    from socket import socket

# <linux/if_packet.h>
_SOL_PACKET: Final = 263
_PACKET_ADD_MEMBERSHIP: Final = 1
_PACKET_STATISTICS: Final = 6
_PACKET_VNET_HDR: Final = 15
_PACKET_MR_PROMISC: Final = 1
_PACKET_OUTGOING: Final = 4
_MEMBERSHIP: Final = struct.Struct("iHH8s")  # struct packet_mreq
_STATISTICS: Final = struct.Struct("II")  # struct tpacket_stats

_ETH_P_ALL: Final = 0x0003
_SO_ATTACH_FILTER: Final = 26
_SO_SNDBUFFORCE: Final = 32
_SO_RCVBUFFORCE: Final = 33
_BUFFER: Final = 4 * 1024 * 1024  # octets, each way: some 30 super-segments with their overhead

# <linux/filter.h>: classic BPF, and where it reads what is not in the frame.
_LOAD_OCTET, _LOAD_WORD, _JUMP_EQUAL, _RETURN = 0x30, 0x20, 0x15, 0x06
_PACKET_TYPE, _VLAN_PRESENT = 0xFFFFF000 + 4, 0xFFFFF000 + 48
_FILTER: Final = (
    (_LOAD_OCTET, 0, 0, _PACKET_TYPE),
    (_JUMP_EQUAL, 3, 0, _PACKET_OUTGOING),
    (_LOAD_WORD, 0, 0, _VLAN_PRESENT),
    (_JUMP_EQUAL, 0, 1, 0),
    (_RETURN, 0, 0, 0x40000),
    (_RETURN, 0, 0, 0),
)
"""Takes frames that arrived, untagged; leaves those that this host sent."""


class PacketSocketDevice(Device):
    """An Ethernet interface of the kernel's, by name; non-blocking.

    ``mtu`` may lower the interface's. ``promiscuous``: see the module; without it only frames
    for the interface's own MAC address arrive. Without ``offload`` the stack sends and gets
    wire-sized frames with complete checksums.

    Raises: DeviceError, with what to do about it.
    """

    def __init__(
        self,
        name: str,
        *,
        mtu: int | None = None,
        promiscuous: bool = True,
        offload: bool = True,
    ) -> None:
        self._socket: socket | None = None
        self._socket = opened = _open(name)
        try:
            limit = kernel_mtu(name)
            if mtu is not None and not MIN_MTU <= mtu <= limit:
                raise DeviceError(f"{name}: an MTU of {MIN_MTU} to {limit} octets, not {mtu}")
            _prepare(opened, name, promiscuous=promiscuous)
        except OSError as error:  # DeviceError is one
            self.close()
            if isinstance(error, DeviceError):
                raise
            raise _explained(error, name) from error
        super().__init__(
            name,
            Capabilities(
                Medium.ETHERNET,
                limit if mtu is None else mtu,
                tx_checksum=offload,
                rx_checksum=offload,
                gso_max_size=MAX_SUPER_SEGMENT if offload else 0,
            ),
        )
        self._descriptor = opened.fileno()
        self._offload = offload
        self._pool = BufferPool()
        self.errors = 0
        """Frames that the kernel refused, and reads that failed; not counted: busy."""

    def set_mtu(self, mtu: int) -> None:
        """Send packets of up to ``mtu`` octets; the interface's own is the limit."""
        limit = kernel_mtu(self.name)
        if not MIN_MTU <= mtu <= limit:
            raise DeviceError(f"{self.name}: an MTU of {MIN_MTU} to {limit} octets, not {mtu}")
        self.capabilities = replace(self.capabilities, mtu=mtu)

    def overrun(self) -> int:
        """Return how many frames the kernel had no room for since the last call."""
        if self._socket is None:
            return 0
        octets = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, _STATISTICS.size)
        return int(_STATISTICS.unpack(octets)[1])

    def transmit(self, frame: Frame) -> bool:
        """Write one frame; False while the interface's queue is full."""
        try:
            return bursts.write_vnet(self._descriptor, frame)
        except OSError:
            # ENETDOWN: the interface is down. EMSGSIZE: its MTU became smaller.
            self.errors += 1
            self.drop("link.refused", frame.segments)
            return True

    def receive_burst(self, limit: int = 64) -> list[Frame]:
        """Read what waits, up to ``limit`` frames.

        Raises: OSError if the interface was deleted under us.
        """
        try:
            frames = bursts.read_vnet(self._descriptor, self._pool, limit, self.drop)
        except OSError as error:
            self.errors += 1
            # ENETDOWN is told once when the interface goes down; it may come up again.
            if error.errno != errno.ENETDOWN:
                raise
            return []
        return frames if self._offload else _wire_frames(frames)

    def fileno(self) -> int:
        """Return the descriptor, -1 after ``close``."""
        return self._descriptor

    def close(self) -> None:
        """Close the socket; promiscuous mode ends with it."""
        opened, self._socket = self._socket, None
        self._descriptor = -1
        if opened is not None:
            opened.close()


def _wire_frames(frames: list[Frame]) -> list[Frame]:
    """Return what a wire would have carried."""
    cut: list[Frame] = []
    for frame in frames:
        if frame.gso_size or frame.checksum is Checksum.PARTIAL:
            cut.extend(map(Frame, wire_octets(frame)))
        else:
            cut.append(frame)
    return cut


def _open(name: str) -> socket:
    import socket

    if not hasattr(socket, "AF_PACKET"):
        raise DeviceError("packet sockets need Linux", errno.ENOSYS)
    try:
        # Protocol 0: nothing arrives before the filter stands and the interface is chosen.
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    except OSError as error:
        raise _explained(error, name) from error
    opened.setblocking(False)
    return opened


def _prepare(opened: socket, name: str, *, promiscuous: bool) -> None:
    """Set filter, buffers and mode, then bind. Raises: OSError."""
    import socket

    opened.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
    _attach_filter(opened)
    buffers = ((_SO_SNDBUFFORCE, socket.SO_SNDBUF), (_SO_RCVBUFFORCE, socket.SO_RCVBUF))
    for option, plain in buffers:
        try:
            opened.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
        except PermissionError:  # beyond the system's limit only with CAP_NET_ADMIN
            opened.setsockopt(socket.SOL_SOCKET, plain, _BUFFER)
    opened.bind((name, _ETH_P_ALL))
    if promiscuous:
        index = socket.if_nametoindex(name)
        request = _MEMBERSHIP.pack(index, _PACKET_MR_PROMISC, 0, bytes(8))
        opened.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, request)


def _attach_filter(opened: socket) -> None:
    import socket

    code = b"".join(struct.pack("HBBI", *each) for each in _FILTER)
    octets = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HL", len(_FILTER), ctypes.addressof(octets))  # struct sock_fprog
    opened.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def _explained(error: OSError, name: str) -> DeviceError:
    code = error.errno or errno.EIO
    reasons = {
        errno.EPERM: "not permitted: run as root or with CAP_NET_RAW",
        errno.ENOPROTOOPT: "this kernel's packet sockets have no virtio-net header",
        errno.ENODEV: "there is no such interface",
        errno.ENXIO: "there is no such interface",
    }
    return DeviceError(f"cannot open {name}: {reasons.get(code) or os.strerror(code)}", code)
