"""Offloads: which are on, of a kernel interface or one of our devices, and turning them off."""

from __future__ import annotations

import array
import socket
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from netstack.device.base import Capabilities

_SIOCETHTOOL: Final = 0x8946  # <linux/sockios.h>
_COMMANDS: Final = {"tx_checksum": 0x16, "tso": 0x1E, "gso": 0x23, "gro": 0x2B}  # ETHTOOL_G...
_SETTERS: Final = {"tso": 0x1F, "gso": 0x24, "gro": 0x2C}  # ETHTOOL_S...
SEGMENTATION: Final = tuple(_SETTERS)
"""What makes a frame larger than the wire carries: with these off, each loss is of one segment."""


def of_interface(name: str) -> list[str]:
    """Return the offloads that are on for a kernel interface of this network namespace."""
    return [offload for offload, command in _COMMANDS.items() if _ethtool(name, command)]


def turn_off(name: str, offloads: Iterable[str] = SEGMENTATION) -> None:
    """Turn offloads of a kernel interface of this network namespace off."""
    for offload in offloads:
        _ethtool(name, _SETTERS[offload])


def _ethtool(name: str, command: int) -> int:
    """Return the value that ``command`` gets, or set it to 0."""
    import fcntl  # not everywhere

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        value = array.array("I", (command, 0))  # struct ethtool_value
        request = struct.pack("16sP16x", name.encode(), value.buffer_info()[0])
        fcntl.ioctl(asker.fileno(), _SIOCETHTOOL, request)
    return value[1]


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
