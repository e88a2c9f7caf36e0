from __future__ import annotations

import io
import os
import struct
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack import capture
from netstack.capture import CaptureReader, TruncatedError
from netstack.core.errors import ParseError

if TYPE_CHECKING:
    from collections.abc import Iterator

MICROSECOND = 1000
RECORDS = [(1_500_000_000 * 10**9 + 7 * MICROSECOND, b"first"), (10**9, b""), (5000, b"third one")]
PCAP_MAGICS = [0xA1B2C3D4, 0xA1B23C4D, 0xA1B2CD34]


def read_lazily(octets: bytes) -> Iterator[tuple[int, bytes]]:
    return ((packet.time_ns, bytes(packet.data)) for packet in capture.read(io.BytesIO(octets)))


def read(octets: bytes) -> list[tuple[int, bytes]]:
    return list(read_lazily(octets))


def read_until_error(octets: bytes) -> tuple[list[tuple[int, bytes]], ParseError | None]:
    packets: list[tuple[int, bytes]] = []
    try:
        packets.extend(read_lazily(octets))
    except ParseError as error:
        return packets, error
    return packets, None


class Pipe(io.RawIOBase):
    """A file that gives one octet a read."""

    def __init__(self, octets: bytes) -> None:
        self._inner = io.BytesIO(octets)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._inner.read(min(size, 1))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("magic", PCAP_MAGICS)
def test_pcp_01_every_pcap_variant_reads_the_same(files, magic, order):
    assert read(files.pcap(RECORDS, magic=magic, order=order)) == RECORDS


@pytest.mark.parametrize("order", ["<", ">"])
def test_pcapng_reads_the_same_in_both_octet_orders(files, order):
    assert read(files.pcapng(RECORDS, order=order)) == RECORDS


@pytest.mark.parametrize("size", range(24))
def test_pcp_01_short_file_names_the_offset(files, size):
    with pytest.raises(TruncatedError, match=f"file cut at octet {size}:"):
        read(files.pcap(RECORDS)[:size])


def test_pcp_01_unknown_magic_is_named():
    with pytest.raises(ParseError, match="magic number 25504446 at octet 0"):
        read(b"%PDF-1.4" + bytes(100))


def test_pcap_of_another_version_is_refused(files):
    octets = bytearray(files.pcap(RECORDS))
    octets[4] = 3
    with pytest.raises(ParseError, match=r"pcap version 3\.4 at octet 4"):
        read(bytes(octets))


@pytest.mark.parametrize("snaplen", [0, 0xFFFFFFFF])
def test_pcp_03_extreme_snap_lengths_of_the_header_limit_nothing(files, snaplen):
    assert read(files.pcap(RECORDS, snaplen=snaplen)) == RECORDS


def test_pcp_03_more_captured_than_sent_is_flagged(files):
    octets = bytearray(files.pcap([(0, b"data")]))
    octets[36:40] = struct.pack("<I", 3)
    (packet,) = capture.read(io.BytesIO(octets))
    assert packet.inconsistent
    assert (packet.captured, packet.length) == (4, 3)


def test_pcp_03_impossible_capture_length_is_refused_before_reading(files):
    octets = files.pcap(RECORDS[:1]) + struct.pack("<IIII", 0, 0, 0x7FFFFFFF, 60)
    packets, error = read_until_error(octets)
    assert packets == RECORDS[:1]
    assert "record at octet 45 says 2147483647 octets" in str(error)


@pytest.mark.parametrize("form", ["pcap", "pcapng"])
def test_pcp_04_cut_at_each_octet_gives_all_whole_packets_then_one_error(files, form):
    whole = getattr(files, form)(RECORDS)
    sizes = [len(getattr(files, form)(RECORDS[:count])) for count in range(len(RECORDS) + 1)]
    for size in range(4, len(whole) + 1):
        packets, error = read_until_error(whole[:size])
        assert packets == RECORDS[: sum(end <= size for end in sizes[1:])]
        # pcapng may also end between its two first blocks.
        boundary = size in sizes or (form == "pcapng" and size == len(files.section()))
        assert (error is None) == boundary
        assert boundary or isinstance(error, TruncatedError)


def test_pcp_06_fcs_bits_are_masked_off_the_link_type(files):
    (packet,) = capture.read(io.BytesIO(files.pcap([(0, b"x")], linktype=0x24000001)))
    assert packet.linktype == 1


@pytest.mark.parametrize("length", [0, 1, 4, 8, 11, 13, 14, 15, (16 << 20) + 4, 0xFFFFFFFC])
@pytest.mark.parametrize("kind", [0x0A0D0D0A, 1, 6, 0x0BAD])
def test_pcp_07_impossible_block_length_is_refused(files, kind, length):
    prefix = b"" if kind == 0x0A0D0D0A else files.pcapng(RECORDS)
    bad = struct.pack("<III", kind, length, 0x1A2B3C4D) + bytes(64)
    packets, error = read_until_error(prefix + bad)
    assert packets == (RECORDS if prefix else [])
    assert f"pcapng block at octet {len(prefix)}: total length {length}" in str(error)


def test_pcp_07_other_length_at_the_end_is_refused(files):
    octets = bytearray(files.pcapng(RECORDS[:1]))
    octets[-4:] = struct.pack("<I", 1000)
    with pytest.raises(ParseError, match="is another one at its end"):
        read(bytes(octets))


@pytest.mark.parametrize("length", [-1, 0, 5, 1 << 60])
def test_pcp_09_new_section_has_its_own_order_and_interfaces(files, length):
    octets = files.pcapng(RECORDS) + files.section(">", length)
    second = files.interface(">", options=files.option(9, b"\x00", ">"))
    assert read(octets + second + files.packet(7, b"late", ">")) == [
        *RECORDS,
        (7 * 10**9, b"late"),
    ]
    with pytest.raises(ParseError, match="interface 0 of 0"):
        read(octets + files.packet(7, b"late", ">"))


def test_pcp_09_unknown_interface_is_an_error(files):
    with pytest.raises(ParseError, match="interface 3 of 1"):
        read(files.pcapng([]) + files.packet(0, b"x", interface=3))


def test_pcp_09_interfaces_are_bounded(files):
    with pytest.raises(ParseError, match="more than 4096 interfaces"):
        read(files.section() + files.interface() * 65_000)


def test_pcapng_of_another_version_or_without_order_is_refused(files):
    with pytest.raises(ParseError, match=r"version 2\.0"):
        read(files.section(major=2))
    with pytest.raises(ParseError, match="byte-order magic 00000000"):
        read(files.section()[:8] + bytes(20))


def test_pcp_10_simple_packets_are_cut_at_the_snap_length(files):
    octets = files.section() + files.interface(snaplen=4)
    octets += files.block(3, struct.pack("<I", 9) + b"nine")
    octets += files.block(3, struct.pack("<I", 2) + b"2.")
    packets = list(capture.read(io.BytesIO(octets)))
    assert [(bytes(p.data), p.length, p.time_ns) for p in packets] == [
        (b"nine", 9, 0), (b"2.", 2, 0),
    ]  # fmt: skip
    with pytest.raises(ParseError, match="100 octets captured, 4 there"):
        read(
            files.section() + files.interface() + files.block(3, struct.pack("<I", 100) + b"abcd")
        )


def test_pcp_10_obsolete_packet_block_is_read(files):
    body = struct.pack("<HHIIII", 0, 5, 0, 1_000_000, 3, 3) + b"old"
    assert read(files.section() + files.interface() + files.block(2, body)) == [(10**9, b"old")]


def test_blocks_of_other_types_are_skipped(files):
    octets = files.section() + files.block(4, b"names") + files.block(0x0BAD, bytes(500))
    assert read(octets) == []


@pytest.mark.parametrize(
    ("resolution", "ticks", "time_ns"),
    [
        (b"\x00", 3, 3 * 10**9), (b"\x06", 1, 1000), (b"\x09", 1, 1), (b"\x0c", 5001, 5),
        (b"\x80", 2, 2 * 10**9), (b"\x81", 1, 500_000_000), (b"\xff", 1 << 63, 0),
        (b"\x7f", 1 << 63, 0),
    ],
)  # fmt: skip
def test_time_resolution_of_the_interface_counts(files, resolution, ticks, time_ns):
    interface = files.interface(options=files.option(9, resolution))
    assert read(files.section() + interface + files.packet(ticks, b"")) == [(time_ns, b"")]


def test_time_offset_of_the_interface_counts(files):
    options = files.option(9, b"\x09") + files.option(14, struct.pack("<q", -2))
    octets = files.section() + files.interface(options=options) + files.packet(3 * 10**9, b"")
    assert read(octets) == [(10**9, b"")]


def test_comments_are_read(files):
    options = files.option(1, "früh".encode()) + files.option(2, b"1234") + files.option(1, b"two")
    octets = files.section() + files.interface() + files.packet(0, b"x", options=options)
    (packet,) = capture.read(io.BytesIO(octets))
    assert packet.comment == "früh\ntwo"


def test_option_longer_than_its_block_is_refused(files):
    bad = struct.pack("<HH", 1, 5000)
    with pytest.raises(ParseError, match="option 1 of 5000 octets"):
        read(files.section() + files.interface(options=bad))
    with pytest.raises(ParseError, match="option 1 of 5000 octets"):
        read(files.pcapng([]) + files.packet(0, b"x", options=bad))


def test_packet_that_captured_more_than_its_block_holds_is_refused(files):
    body = struct.pack("<IIIII", 0, 0, 0, 500, 500) + b"abcd"
    with pytest.raises(ParseError, match="500 octets captured, 4 there"):
        read(files.section() + files.interface() + files.block(6, body))


@pytest.mark.parametrize("form", ["pcap", "pcapng"])
def test_pcp_12_pipe_that_gives_one_octet_a_read_gives_the_same_packets(files, form):
    octets = getattr(files, form)(RECORDS)
    packets = capture.read(Pipe(octets))
    assert [(packet.time_ns, bytes(packet.data)) for packet in packets] == RECORDS


def test_pcp_12_fifo_is_read_as_it_is_written(files, tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    octets = files.pcap(RECORDS)

    def write() -> None:
        with open(path, "wb", buffering=0) as fifo:
            for at in range(0, len(octets), 7):
                fifo.write(octets[at : at + 7])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        packets = [(packet.time_ns, bytes(packet.data)) for packet in capture.read(path)]
    finally:
        writer.join()
    assert packets == RECORDS


def test_reader_names_format_and_interfaces(files, tmp_path):
    path = tmp_path / "any name"
    path.write_bytes(files.pcap(RECORDS, linktype=101))
    with CaptureReader(path) as reader:
        assert reader.format == "pcap"
        assert reader.interfaces[0].linktype == 101
        assert len(list(reader)) == 3
    path.write_bytes(files.section() + files.interface(options=files.option(2, b"eth0")))
    with CaptureReader(str(path)) as reader:
        assert list(reader) == []
        assert reader.format == "pcapng"
        assert reader.interfaces[0].name == "eth0"


def test_sys_07_reading_leaves_no_file_open(files, tmp_path):
    path = tmp_path / "bad"
    path.write_bytes(b"junk")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with pytest.raises(ParseError):
            list(capture.read(path))
    assert len(os.listdir("/proc/self/fd")) == before


@given(st.binary(max_size=300), st.sampled_from(["", "pcap", "pcapng"]))
def test_random_octets_end_in_a_parse_error_or_at_the_end(files, octets, form):
    prefix = getattr(files, form)(RECORDS) if form else b""
    packets, _ = read_until_error(prefix + octets)
    assert packets[: len(RECORDS)] == (RECORDS if form else [])[: len(packets)]


@given(st.data())
def test_changed_octet_is_never_worse_than_a_parse_error(files, data):
    form = data.draw(st.sampled_from(["pcap", "pcapng"]))
    octets = bytearray(getattr(files, form)(RECORDS))
    octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    read_until_error(bytes(octets))
