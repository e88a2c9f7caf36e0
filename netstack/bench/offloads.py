"""Which offloads are on: of a kernel interface, and of one of our devices."""

from __future__ import annotations

import array
import socket
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from netstack.device.base import Capabilities

_SIOCETHTOOL: Final = 0x8946  # <linux/sockios.h>
_COMMANDS: Final = {"tx_checksum": 0x16, "tso": 0x1E, "gso": 0x23, "gro": 0x2B}  # ETHTOOL_G...


def of_interface(name: str) -> list[str]:
    """Return the offloads that are on for a kernel interface of this network namespace."""
    import fcntl  # not everywhere

    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        for offload, command in _COMMANDS.items():
            value = array.array("I", (command, 0))  # struct ethtool_value
            request = struct.pack("16sP16x", name.encode(), value.buffer_info()[0])
            fcntl.ioctl(asker.fileno(), _SIOCETHTOOL, request)
            if value[1]:
                found.append(offload)
    return found


def of_device(capabilities: Capabilities) -> list[str]:
    """Return the offloads of one of our devices."""
    found = []
    if capabilities.tx_checksum:
        found.append("tx_checksum")
    if capabilities.rx_checksum:
        found.append("rx_checksum")
    if capabilities.gso_max_size:
        found.append("super_segments")
    return found
