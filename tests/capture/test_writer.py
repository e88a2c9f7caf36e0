from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.utils import RawPcapNgReader, RawPcapReader

from netstack import capture
from netstack.capture import CaptureInterface, PcapngWriter, PcapWriter, TruncatedError
from netstack.capture.stream import RecordOutput
from netstack.core.errors import LocalProtocolError

ETHERNET = CaptureInterface("eth0", 1)
records = st.lists(
    st.tuples(st.integers(0, 2**32 * 10**9 - 1), st.binary(max_size=200)), max_size=8
)


def pcapng(target) -> PcapngWriter:
    return PcapngWriter(target, [ETHERNET])


WRITERS = pytest.mark.parametrize("writer", [PcapWriter, pcapng], ids=["pcap", "pcapng"])


def written(writer, packets) -> bytes:
    file = io.BytesIO()
    with writer(file) as output:
        for time_ns, data in packets:
            output.write(time_ns, data)
    return file.getvalue()


def read(octets: bytes) -> list[tuple[int, bytes]]:
    return [(packet.time_ns, bytes(packet.data)) for packet in capture.read(io.BytesIO(octets))]


@WRITERS
@given(packets=records)
def test_pcp_15_reading_what_was_written_gives_the_packets_back(writer, packets):
    assert read(written(writer, packets)) == packets


@given(packets=records)
def test_pcp_15_dpkt_reads_the_same(packets):
    for reader, writer in [(dpkt.pcap.Reader, PcapWriter), (dpkt.pcapng.Reader, pcapng)]:
        theirs = list(reader(io.BytesIO(written(writer, packets))))
        assert [data for _, data in theirs] == [data for _, data in packets]
        for (time, _), (time_ns, _) in zip(theirs, packets, strict=True):
            assert abs(float(time) - time_ns / 1e9) < 1e-5


@given(packets=records)
def test_pcp_15_scapy_reads_the_same(packets):
    theirs = list(RawPcapReader(io.BytesIO(written(PcapWriter, packets))))
    assert [data for data, _ in theirs] == [data for _, data in packets]
    times = [meta.sec * 10**9 + meta.usec for _, meta in theirs]
    assert times == [time_ns for time_ns, _ in packets]
    theirs = list(RawPcapNgReader(io.BytesIO(written(pcapng, packets))))
    assert [data for data, _ in theirs] == [data for _, data in packets]


def test_comments_lengths_and_interfaces_survive(tmp_path):
    path = tmp_path / "two.pcapng"
    with PcapngWriter(path) as writer:
        assert writer.add_interface("a-b") == 0
        writer.write(1, b"abc", 0, comment="lost: grün")
        assert writer.add_interface("b-c", linktype=101) == 1
        writer.write(2, b"defg", 1, original_length=1500)
    first, second = capture.read(path)
    assert (first.comment, first.interface, first.linktype) == ("lost: grün", 0, 1)
    assert (second.length, second.interface, second.linktype) == (1500, 1, 101)
    assert second.comment is None


def test_long_comment_is_cut_between_characters():
    file = io.BytesIO()
    pcapng(file).write(0, b"", comment="a" + "ü" * 40_000)
    (packet,) = capture.read(io.BytesIO(file.getvalue()))
    assert packet.comment == "a" + "ü" * 2047


@pytest.mark.parametrize(
    ("time_ns", "size", "interface"),
    [(-1, 0, 0), (2**64, 0, 0), (0, 262_145, 0), (0, 0, 1), (0, 0, -1)],
)
@WRITERS
def test_what_the_format_cannot_hold_is_refused_and_leaves_the_file_whole(
    writer, time_ns, size, interface
):
    file = io.BytesIO()
    output = writer(file)
    output.write(1, b"before")
    with pytest.raises(LocalProtocolError):
        output.write(time_ns, bytes(size), interface)
    output.write(2, b"after")
    assert read(file.getvalue()) == [(1, b"before"), (2, b"after")]


def test_interfaces_are_bounded():
    writer = PcapngWriter(io.BytesIO(), [ETHERNET] * 4096)
    with pytest.raises(LocalProtocolError):
        writer.add_interface("one more")


def test_file_says_nothing_of_the_machine():
    octets = written(pcapng, [(0, b"x")])
    assert octets == written(pcapng, [(0, b"x")])
    assert b"netstack" in octets
    assert os.uname().nodename.encode() not in octets


class Disk(io.RawIOBase):
    """A file that takes few octets a call, and is full after ``room``."""

    def __init__(self, room: int) -> None:
        self.octets = bytearray()
        self.room = room

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        if len(self.octets) >= self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = bytes(data)[: min(5, self.room - len(self.octets))]
        self.octets += taken
        return len(taken)

    def seek(self, offset: int, whence: int = 0) -> int:
        self.position = offset
        return offset

    def truncate(self, size: int | None = None) -> int:
        del self.octets[self.position :]
        return self.position


@pytest.mark.parametrize("room", range(24, 120))
def test_pcp_13_full_disk_takes_the_cut_record_back(tmp_path, room, monkeypatch):
    disk = Disk(room)
    monkeypatch.setattr("builtins.open", lambda *_, **__: disk)
    writer = PcapWriter("capture.pcap")
    monkeypatch.undo()
    done = []

    def fill() -> None:
        for time_ns in range(100):
            writer.write(time_ns, b"packet")
            done.append((time_ns, b"packet"))

    with pytest.raises(OSError, match="No space left"):
        fill()
    assert read(bytes(disk.octets)) == done


_KILLED = """
import itertools, sys
from netstack.capture import CaptureInterface, PcapngWriter, PcapWriter
path = sys.argv[1]
if path.endswith("ng"):
    writer = PcapngWriter(path, [CaptureInterface("eth0", 1)])
else:
    writer = PcapWriter(path)
for number in itertools.count():
    writer.write(number, number.to_bytes(4, "big") * (number % 300))
    if number == 1000:
        print("going on", flush=True)
"""


@pytest.mark.parametrize("name", ["killed.pcap", "killed.pcapng"])
def test_pcp_13_killed_process_leaves_whole_records(tmp_path, name):
    path = tmp_path / name
    with subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    packets = []
    # A kill may cut even a single write, between two pages: of the last record, no more.
    with suppress(TruncatedError):
        packets.extend(capture.read(path))
    assert len(packets) > 1000
    for number, packet in enumerate(packets):
        assert packet.time_ns == number
        assert packet.data == number.to_bytes(4, "big") * (number % 300)


def test_sys_07_writers_leave_no_file_open(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with PcapWriter(tmp_path / "a") as writer:
            writer.write(0, b"x")
            writer.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_file_of_the_caller_stays_open_and_is_flushed(tmp_path):
    with open(tmp_path / "buffered", "wb") as file:
        output = RecordOutput(file)
        output.write(b"record")
        assert (tmp_path / "buffered").read_bytes() == b"record"
        output.close()
        assert not file.closed


@pytest.mark.needs("tshark")
@pytest.mark.parametrize("name", ["t.pcap", "t.pcapng"])
def test_pcp_15_tshark_reads_the_same(tmp_path, name):
    path = tmp_path / name
    frame = bytes(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / IP() / TCP() / b"data")
    times = [1_577_836_800_000_000_001, 1_577_836_801_123_456_789]
    with PcapWriter(path) if name == "t.pcap" else PcapngWriter(path, [ETHERNET]) as writer:
        for time_ns in times:
            writer.write(time_ns, frame, comment="a comment")
    done = subprocess.run(
        ["tshark", "-r", str(path), "-T", "json", "-o", "tcp.check_checksum:TRUE", "-o",
         "ip.check_checksum:TRUE"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert "cut short" not in done.stderr
    layers = [packet["_source"]["layers"] for packet in json.loads(done.stdout)]
    epochs = [layer["frame"]["frame.time_epoch"] for layer in layers]
    if epochs[0].startswith("2020"):  # newer versions print an ISO time
        assert epochs == ["2020-01-01T00:00:00.000000001Z", "2020-01-01T00:00:01.123456789Z"]
    else:
        assert epochs == ["1577836800.000000001", "1577836801.123456789"]
    assert layers[0]["tcp"]["tcp.checksum.status"] == "1"
    if name == "t.pcapng":
        assert "a comment" in json.dumps(layers[0])
        assert layers[0]["frame"]["frame.interface_id_tree"]["frame.interface_name"] == "eth0"
