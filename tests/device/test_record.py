from __future__ import annotations

import io
import json
import subprocess

import pytest

from netstack import capture
from netstack.api import tap
from netstack.capture import PcapngWriter, PcapWriter
from netstack.core.rng import Rng
from netstack.core.timers import EventHeap
from netstack.device.base import Checksum, Medium
from netstack.device.cable import Cable
from netstack.device.loopback import LoopbackDevice
from netstack.device.record import LinkRecorder, RecordDevice, Recording


class Full(io.BytesIO):
    """A file on a disk that is full after the header."""

    def write(self, data) -> int:
        if self.tell():
            raise OSError(28, "No space left on device")
        return super().write(data)


def recorded(file: io.BytesIO) -> list[tuple[int, bytes]]:
    packets = capture.read(io.BytesIO(file.getvalue()))
    return [(packet.time_ns, bytes(packet.data)) for packet in packets]


def test_both_directions_are_recorded_as_a_wire_carries_them(frames):
    file = io.BytesIO()
    times = iter([1.5, 2.0])
    recorder = LinkRecorder(PcapWriter(file, 101), epoch_ns=10**9)
    device = RecordDevice(LoopbackDevice(), recorder, lambda: next(times))
    frame = frames.going_down(b"x" * 250, gso_size=100, medium=Medium.IP)
    before = frame.octets()
    assert device.transmit(frame)
    assert device.pending()
    assert device.receive_burst() == [frame]
    assert device.receive_burst() == []
    assert frame.octets() == before
    assert frame.checksum is Checksum.PARTIAL
    packets = recorded(file)
    assert [time for time, _ in packets] == [2_500_000_000] * 3 + [3_000_000_000] * 3
    assert [len(octets) for _, octets in packets] == [140, 140, 90] * 2
    assert packets[2][1] == frames.wire(b"x" * 50, seq=1200, identification=9, medium=Medium.IP)


def test_raw_recording_keeps_super_segments(frames):
    file = io.BytesIO()
    device = RecordDevice(LoopbackDevice(), LinkRecorder(PcapWriter(file)), lambda: 0.0, raw=True)
    frame = frames.going_down(b"x" * 250, gso_size=100, medium=Medium.IP)
    device.transmit(frame)
    assert [octets for _, octets in recorded(file)] == [frame.octets()]


@pytest.mark.parametrize("suffix", ["pcap", "pcapng"])
def test_host_records_the_wire_and_what_its_device_is_given(frames, tmp_path, monkeypatch, suffix):
    device = LoopbackDevice()
    monkeypatch.setattr("netstack.device.tap.TapDevice", lambda name, mtu, offload: device)
    wire, raw = tmp_path / f"wire.{suffix}", tmp_path / f"raw.{suffix}"
    host = tap("lo", address="192.0.2.2/24", pcap=wire, pcap_raw=raw)
    frame = frames.going_down(b"x" * 250, gso_size=100, medium=Medium.IP)
    octets = frame.octets()
    (attached,) = (each for each in host.stack.devices if isinstance(each, RecordDevice))
    assert attached.transmit(frame)
    host.close()
    # What came back at once may stand between them.
    assert {len(packet.data) for packet in capture.read(wire)} == {140, 90}
    assert bytes(next(iter(capture.read(raw))).data) == octets


def test_frame_that_a_busy_device_refused_is_not_recorded(frames, monkeypatch):
    monkeypatch.setattr("netstack.device.loopback.MAX_QUEUED", 0)
    recorder = LinkRecorder(PcapWriter(io.BytesIO()))
    device = RecordDevice(LoopbackDevice(), recorder, lambda: 0.0)
    assert not device.transmit(frames.arriving())
    assert recorder.recorded == 0


def test_full_disk_ends_the_recording_and_not_the_network(frames):
    recorder = LinkRecorder(PcapWriter(Full()))
    device = RecordDevice(LoopbackDevice(), recorder, lambda: 0.0)
    assert device.transmit(frames.arriving())
    assert device.transmit(frames.arriving())
    assert recorder.error is not None
    assert recorder.recorded == 0


def test_what_passes_after_the_file_was_closed_is_not_recorded(frames, tmp_path):
    with Recording(tmp_path / "a.pcapng") as recording:
        link = recording.add_link("a-b")
        link.record(0.0, b"x")
        assert recording.error is None
    link.record(1.0, b"y")
    assert recording.recorded == 1
    assert recording.error is not None
    assert len(list(capture.read(tmp_path / "a.pcapng"))) == 1


def test_each_link_is_an_interface(tmp_path):
    path = tmp_path / "net.pcapng"
    with Recording(path) as recording:
        first = recording.add_link("a-b")
        first.record(0.0, b"1")
        recording.add_link("b-c", Medium.IP).record(1e-9, b"2")
        first.record(0.25, b"3", "lost")
    with capture.CaptureReader(path) as reader:
        packets = [(p.interface, p.linktype, p.time_ns % 10**9, p.comment) for p in reader]
        assert [interface.name for interface in reader.interfaces] == ["a-b", "b-c"]
    assert packets == [(0, 1, 0, None), (1, 101, 1, None), (0, 1, 250_000_000, "lost")]


@pytest.mark.needs("tshark")
def test_tshark_finds_nothing_wrong_with_a_recorded_link(frames, tmp_path):
    path = tmp_path / "link.pcapng"
    events = EventHeap()
    with Recording(path) as recording:
        cable = Cable(events, Rng(1), "a-b", loss=0.2, duplicate=0.2)
        cable.recorder = recording.add_link("a-b")
        cable.a.transmit(frames.going_down(b"x" * 20_000, gso_size=1460, pieces=5))
        cable.a.transmit(frames.going_down(b"y" * 333, seq=21_000, pieces=2))
    done = subprocess.run(
        ["tshark", "-r", str(path), "-T", "json", "-o", "tcp.check_checksum:TRUE", "-o",
         "ip.check_checksum:TRUE"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert "cut short" not in done.stderr
    packets = [packet["_source"]["layers"] for packet in json.loads(done.stdout)]
    assert len(packets) == recording.recorded >= 15
    for layers in packets:
        assert layers["ip"]["ip.checksum.status"] == "1"
        assert layers["tcp"]["tcp.checksum.status"] == "1"
        assert "_ws.malformed" not in layers


def test_pcapng_writer_takes_a_device_recorder_too(frames):
    file = io.BytesIO()
    writer = PcapngWriter(file)
    recorder = LinkRecorder(writer, interface=writer.add_interface("tap0"))
    RecordDevice(LoopbackDevice(), recorder, lambda: 0.0).transmit(frames.arriving(b"x"))
    assert [octets for _, octets in recorded(file)] == [frames.wire(b"x")]
