"""A Linux TAP device: the kernel's network on its other end.

Opening one needs CAP_NET_ADMIN (root, or a user namespace), or a TAP that its administrator made
for this user (``ip tuntap add dev NAME mode tap user USER``). A TAP that this program creates
goes away with the descriptor; an existing one is left as it is.

Frames go one a system call. With offloads each has a virtio-net header (``vnet``): TCP's
super-segments of up to 64 KB pass whole both ways, and checksums are left to whoever first has
to know them. Without, or where the kernel has none, frames are wire-sized and complete.
Linux only; importing this module is fine anywhere.
"""

from __future__ import annotations

import errno
import os
import struct
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from netstack.core.address import parse_address
from netstack.core.errors import DeviceError
from netstack.device import bursts, vnet
from netstack.device.base import Capabilities, Device, Frame, Medium
from netstack.device.io import write_burst
from netstack.device.pool import BufferPool

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Sequence

PATH: Final = "/dev/net/tun"
MAX_NAME: Final = 15  # octets, IFNAMSIZ without its NUL
MIN_MTU: Final = 68  # octets, RFC 791 3.2
MAX_MTU: Final = 65_535 - 14  # octets, the kernel's limit for a TAP
MAX_SUPER_SEGMENT: Final = 65_535  # octets of an IPv4 packet, the kernel's limit for one skb

# <linux/if_tun.h>
_TUNSETIFF: Final = 0x400454CA
_TUNGETFEATURES: Final = 0x800454CF
_TUNSETOFFLOAD: Final = 0x400454D0
_TUNSETVNETHDRSZ: Final = 0x400454D8
_TUNSETVNETLE: Final = 0x400454DC
_IFF_TAP: Final = 0x0002
_IFF_NO_PI: Final = 0x1000
_IFF_VNET_HDR: Final = 0x4000
_TUN_F_CSUM: Final = 0x01
_TUN_F_TSO4: Final = 0x02
_TUN_F_TSO_ECN: Final = 0x08
_OFFLOADS: Final = (
    _TUN_F_CSUM | _TUN_F_TSO4 | _TUN_F_TSO_ECN,
    _TUN_F_CSUM | _TUN_F_TSO4,
    _TUN_F_CSUM,
)
"""What is asked of the kernel, best first; it refuses a set that it doesn't know as a whole."""

# <linux/sockios.h>, <linux/if.h>
_SIOCGIFFLAGS: Final = 0x8913
_SIOCSIFFLAGS: Final = 0x8914
_SIOCSIFADDR: Final = 0x8916
_SIOCSIFNETMASK: Final = 0x891C
_SIOCGIFMTU: Final = 0x8921
_SIOCSIFMTU: Final = 0x8922
_SIOCGIFHWADDR: Final = 0x8927
_IFF_UP: Final = 0x0001

_DONE: Final = 0

_INT = struct.Struct("i")
_FLAGS = struct.Struct("16sH22x")  # struct ifreq with ifr_flags
_NUMBER = struct.Struct("16si20x")  # with ifr_mtu
_ADDRESS = struct.Struct("16sHH4s16x")  # with a sockaddr_in
_AF_INET: Final = 2


def exists(name: str) -> bool:
    """Return whether the kernel has an interface of that name in this network namespace."""
    try:
        _ask(name, _SIOCGIFFLAGS)
    except DeviceError as error:
        if error.errno == errno.ENODEV:
            return False
        raise
    return True


def kernel_mac(name: str) -> bytes:
    """Return the MAC address of the kernel's side: the stack's side must have another."""
    return _ask(name, _SIOCGIFHWADDR)[18:24]


def kernel_mtu(name: str) -> int:
    """Return the MTU of the kernel's side in octets of an IP packet."""
    return int(_NUMBER.unpack(_ask(name, _SIOCGIFMTU))[1])


def set_kernel_mtu(name: str, mtu: int) -> None:
    """Set the MTU of the kernel's side.

    Raises: DeviceError, if only for want of CAP_NET_ADMIN.
    """
    _request(name, _SIOCSIFMTU, _NUMBER.pack(_checked(name), mtu), f"set its MTU to {mtu}")


def configure_kernel_side(name: str, address: str, prefix_length: int) -> None:
    """Give the kernel's side an IPv4 address and bring it up.

    Raises: DeviceError, if only for want of CAP_NET_ADMIN; ValueError for text that is no
    address.
    """
    parsed = parse_address(address)
    if len(parsed.packed) != 4 or not 0 <= prefix_length <= 32:
        raise ValueError(f"{address}/{prefix_length} is no IPv4 address with prefix length")
    mask = (0xFFFFFFFF << (32 - prefix_length) & 0xFFFFFFFF).to_bytes(4, "big")
    what = f"give the kernel's side {address}/{prefix_length}"
    ifname = _checked(name)
    _request(name, _SIOCSIFADDR, _ADDRESS.pack(ifname, _AF_INET, 0, parsed.packed), what)
    _request(name, _SIOCSIFNETMASK, _ADDRESS.pack(ifname, _AF_INET, 0, mask), what)
    bring_up(name)


def bring_up(name: str) -> None:
    """Bring the kernel's side up."""
    flags = _FLAGS.unpack(_ask(name, _SIOCGIFFLAGS))[1]
    _request(name, _SIOCSIFFLAGS, _FLAGS.pack(_checked(name), flags | _IFF_UP), "bring it up")


def _checked(name: str) -> bytes:
    octets = name.encode()
    if not 0 < len(octets) <= MAX_NAME or b"/" in octets or octets.split() != [octets]:
        raise DeviceError(f"{name!r} is no name for an interface", errno.EINVAL)
    if name in (".", "..") or b"%" in octets:  # the kernel numbers "tap%d" by itself
        raise DeviceError(f"{name!r} is no name for an interface", errno.EINVAL)
    return octets


def _ask(name: str, code: int) -> bytes:
    return _request(name, code, struct.pack("16s24x", _checked(name)), "look at it")


def _request(name: str, code: int, request: bytes, what: str) -> bytes:
    """Make an interface request; ``what`` completes "cannot ..."."""
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        return _ioctl(asker.fileno(), code, request, name, what)


def _ioctl(descriptor: int, code: int, request: bytes, name: str, what: str) -> bytes:
    if fcntl is None:
        raise DeviceError("TAP devices need Linux", errno.ENOSYS)
    try:
        return fcntl.ioctl(descriptor, code, request)
    except OSError as error:
        raise _explained(error, name, what) from error


def _explained(error: OSError, name: str, what: str) -> DeviceError:
    reasons = {
        errno.EPERM: (
            "not permitted: run as root or with CAP_NET_ADMIN, or have root make it for you: "
            f"ip tuntap add dev {name} mode tap user $USER"
        ),
        errno.EBUSY: "another program has it open",
        errno.EINVAL: "there is an interface of that name that is no such TAP",
        errno.ENODEV: "there is no such interface",
    }
    code = error.errno or errno.EIO
    reason = reasons.get(code) or error.strerror
    return DeviceError(f"cannot {what} ({name}): {reason}", code)


def _open_control() -> int:
    try:
        return os.open(PATH, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except AttributeError:
        raise DeviceError("TAP devices need Linux", errno.ENOSYS) from None
    except OSError as error:
        code = error.errno or errno.EIO
        if code in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
            message = f"{PATH} is missing: TAP devices need Linux with the tun module loaded"
        elif code in (errno.EACCES, errno.EPERM):
            message = f"{PATH} may not be opened: run as root or with CAP_NET_ADMIN"
        else:
            message = f"{PATH}: {error.strerror}"
        raise DeviceError(message, code) from error


class TapDevice(Device):
    """A TAP by name, created unless it exists; Ethernet frames, non-blocking.

    ``mtu`` is what the stack may send, and what a TAP created here gets on the kernel's side; of
    an existing one the kernel's MTU is the limit. ``created`` tells which it was. ``offload``
    asks for super-segments and unfinished checksums; ``capabilities`` say what the kernel gave.

    Raises: DeviceError, with what to do about it.
    """

    def __init__(
        self, name: str, *, mtu: int = 1500, create: bool = True, offload: bool = False
    ) -> None:
        ifname = _checked(name)
        if not MIN_MTU <= mtu <= MAX_MTU:
            raise DeviceError(f"an MTU of {MIN_MTU} to {MAX_MTU} octets, not {mtu}", errno.EINVAL)
        self._descriptor = -1
        self.created = not exists(name)
        if self.created and not create:
            raise DeviceError(f"there is no interface {name}", errno.ENODEV)
        self._descriptor = _open_control()
        try:
            what = "create the TAP" if self.created else "open the TAP"
            self._vnet = offload and self._take(name, _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR)
            if not self._vnet:
                flags = _FLAGS.pack(ifname, _IFF_TAP | _IFF_NO_PI)
                _ioctl(self._descriptor, _TUNSETIFF, flags, name, what)
            granted = _set_offloads(self._descriptor, name, wanted=self._vnet)
            if self.created:
                set_kernel_mtu(name, mtu)
            limit = kernel_mtu(name)
        except BaseException:
            self.close()
            raise
        checksums = bool(granted & _TUN_F_CSUM)
        Device.__init__(  # no super(): C has none
            self,
            name,
            Capabilities(
                Medium.ETHERNET,
                min(mtu, limit),
                # The kernel completes and cuts what it is given whatever it may give itself.
                tx_checksum=self._vnet,
                rx_checksum=checksums,
                gso_max_size=MAX_SUPER_SEGMENT if self._vnet else 0,
            ),
        )
        self._reader = _make_reader(limit)
        self._pool = BufferPool()
        self.errors = 0
        """Frames that the kernel refused, and reads that failed; not counted: busy."""

    def _take(self, name: str, flags: int) -> bool:
        """Try to get the TAP with a virtio-net header; False if this kernel doesn't know it."""
        request = _FLAGS.pack(_checked(name), flags)
        try:
            (features,) = _INT.unpack(
                fcntl.ioctl(self._descriptor, _TUNGETFEATURES, bytes(_INT.size))
            )
            if not features & _IFF_VNET_HDR:
                return False
            fcntl.ioctl(self._descriptor, _TUNSETIFF, request)
        except OSError:
            return False  # what else is wrong is said of the attempt without it
        return True

    @property
    def mtu(self) -> int:
        """The kernel's MTU, which may have been changed since."""
        return kernel_mtu(self.name)

    def set_mtu(self, mtu: int) -> None:
        """Set the MTU, the kernel's side included; interfaces attached keep theirs."""
        if not MIN_MTU <= mtu <= MAX_MTU:
            raise DeviceError(f"an MTU of {MIN_MTU} to {MAX_MTU} octets, not {mtu}", errno.EINVAL)
        set_kernel_mtu(self.name, mtu)
        self.capabilities = replace(self.capabilities, mtu=mtu)
        self._reader = _make_reader(mtu)

    def transmit(self, frame: Frame) -> bool:
        """Write one frame; False while the kernel's queue is full."""
        try:
            if self._vnet:
                return bursts.write_vnet(self._descriptor, frame)
            return bursts.write_plain(self._descriptor, frame)
        except OSError:
            # EIO: the interface is down. EINVAL: shorter than an Ethernet header.
            self.errors += 1
            self.drop("link.refused", frame.segments)
            return True

    def transmit_cuts(self, octets: bytearray, step: int, first: int, last: int) -> int:
        """Write wire frames that lie end to end; return how many: fewer = the queue is full."""
        header = vnet.LENGTH if self._vnet else 0
        number = first
        while number < last:
            written, code = write_burst(self._descriptor, octets, step, number, last, header)
            number += written
            if code in bursts.BUSY:
                break
            if code not in (_DONE, errno.EINTR):
                self.errors += 1  # as in transmit
                self.drop("link.refused")
                number += 1
        return number - first

    def receive_burst(self, limit: int = 64) -> Sequence[Frame | bytes]:
        """Read what waits, up to ``limit`` frames.

        Raises: OSError if the TAP was deleted under us.
        """
        try:
            if self._vnet:
                return bursts.read_vnet(self._descriptor, self._pool, limit, self.drop)
            return self._reader.read(self._descriptor, limit)  # type: ignore[return-value]
        except OSError:
            self.errors += 1
            raise

    def fileno(self) -> int:
        """Return the descriptor, -1 after ``close``."""
        return self._descriptor

    def close(self) -> None:
        """Close the descriptor: a TAP created here goes away with it, another is plain again."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            if not self.created:
                _make_plain(descriptor)
            os.close(descriptor)


def _make_reader(mtu: int) -> bursts.BurstReader:
    # A VLAN tag on top; the kernel truncates what doesn't fit.
    return bursts.BurstReader(max(mtu + 18, 2048))


def _set_offloads(descriptor: int, name: str, *, wanted: bool) -> int:
    """Say what may be handed to us; return what the kernel agreed to.

    The state outlives the descriptor of whoever had a persistent TAP open before: a plain one
    that was not reset might get super-segments with unfinished checksums.
    """
    if wanted:
        # The form of the header may be what the last program wanted, too.
        with suppress(OSError):
            fcntl.ioctl(descriptor, _TUNSETVNETHDRSZ, _INT.pack(vnet.LENGTH))
        with suppress(OSError):
            fcntl.ioctl(descriptor, _TUNSETVNETLE, _INT.pack(0))
        for offloads in _OFFLOADS:
            with suppress(OSError):
                fcntl.ioctl(descriptor, _TUNSETOFFLOAD, offloads)
                return offloads
    try:
        fcntl.ioctl(descriptor, _TUNSETOFFLOAD, 0)
    except OSError as error:
        raise _explained(error, name, "reset the offloads") from error
    return 0


def _make_plain(descriptor: int) -> None:
    """Leave a TAP that stays behind as a program without offloads expects it."""
    with suppress(OSError):
        fcntl.ioctl(descriptor, _TUNSETOFFLOAD, 0)
