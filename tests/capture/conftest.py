"""Capture files made by hand, in every variant."""

from __future__ import annotations

import struct

import pytest

Record = tuple[int, bytes]  # nanoseconds, octets


class Files:
    """Builds capture files octet by octet, without the writers under test."""

    def pcap(
        self, records: list[Record], *, magic=0xA1B2C3D4, order="<", linktype=1, snaplen=65535
    ) -> bytes:
        tick = 1 if magic == 0xA1B23C4D else 1000
        extra = bytes(8) if magic == 0xA1B2CD34 else b""
        out = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, snaplen, linktype)
        for time_ns, data in records:
            seconds, rest = divmod(time_ns, 10**9)
            out += struct.pack(order + "IIII", seconds, rest // tick, len(data), len(data))
            out += extra + data
        return out

    def block(self, kind: int, body: bytes, order="<") -> bytes:
        body += bytes(-len(body) % 4)
        length = struct.pack(order + "I", len(body) + 12)
        return struct.pack(order + "I", kind) + length + body + length

    def option(self, code: int, value: bytes, order="<") -> bytes:
        return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)

    def section(self, order="<", length=-1, major=1) -> bytes:
        return self.block(
            0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, major, 0, length), order
        )

    def interface(self, order="<", linktype=1, snaplen=0, options=b"") -> bytes:
        return self.block(1, struct.pack(order + "HHI", linktype, 0, snaplen) + options, order)

    def packet(self, ticks: int, data: bytes, order="<", interface=0, options=b"") -> bytes:
        head = struct.pack(
            order + "IIIII", interface, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data)
        )
        return self.block(6, head + data + bytes(-len(data) % 4) + options, order)

    def pcapng(self, records: list[Record], *, order="<") -> bytes:
        options = self.option(9, b"\x09", order)
        out = self.section(order) + self.interface(order, options=options)
        return out + b"".join(self.packet(time, data, order) for time, data in records)


@pytest.fixture(scope="session")
def files() -> Files:
    return Files()
