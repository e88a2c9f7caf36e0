"""Capture files: reading and writing pcap and pcapng; needs no stack.

::

    from netstack import capture

    for packet in capture.read("trace.pcapng"):
        if packet.tcp is not None:
            print(packet.time, packet.ipv4, packet.tcp, len(packet.payload))
"""

from __future__ import annotations

from netstack.capture.errors import TruncatedError, UnknownLinkType
from netstack.capture.layers import LinkType
from netstack.capture.packet import Packet
from netstack.capture.pcap import PcapWriter
from netstack.capture.pcapng import CaptureInterface
from netstack.capture.pcapng_writer import PcapngWriter
from netstack.capture.reader import CaptureReader, read

__all__ = [
    "CaptureInterface",
    "CaptureReader",
    "LinkType",
    "Packet",
    "PcapWriter",
    "PcapngWriter",
    "TruncatedError",
    "UnknownLinkType",
    "read",
]
