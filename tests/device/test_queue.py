from __future__ import annotations

import pytest

from netstack.device.base import Frame, Medium
from netstack.device.loopback import LoopbackDevice
from netstack.device.queue import QueueDevice


@pytest.mark.parametrize(("medium", "kind"), [("ip", Medium.IP), ("ethernet", Medium.ETHERNET)])
def test_queue_device_says_what_it_carries(medium, kind):
    device = QueueDevice(medium=medium, mtu=1400, gso_max_size=9000)
    assert device.capabilities.medium is kind
    assert (device.capabilities.mtu, device.capabilities.gso_max_size) == (1400, 9000)


def test_queue_device_of_unknown_medium_is_refused():
    with pytest.raises(KeyError):
        QueueDevice(medium="token ring")


def test_packets_in_are_copied_and_come_up_as_one_burst():
    device = QueueDevice()
    notes: list[int] = []
    device.on_pending = lambda: notes.append(1)
    packet = bytearray(b"packet")
    device.receive(packet)
    packet[:] = b"reused"
    device.receive(memoryview(b"second"))
    assert device.pending()
    assert notes == [1, 1]
    assert [frame.octets() for frame in device.receive_burst()] == [b"packet", b"second"]
    assert not device.pending()


def test_packets_in_are_bounded_and_drops_counted(monkeypatch):
    monkeypatch.setattr("netstack.device.queue.MAX_QUEUED", 2)
    device = QueueDevice()
    for _ in range(5):
        device.receive(b"x")
    assert device.dropped == 3
    assert len(device.receive_burst(1)) == 1
    assert len(device.receive_burst()) == 1


def test_packets_out_are_complete_and_taken_once(frames):
    device = QueueDevice(medium="ethernet")
    assert device.transmit(frames.going_down(b"data"))
    assert device.transmit(frames.going_down(b"x" * 300, gso_size=100))
    packets = device.transmitted()
    assert packets[0] == frames.wire(b"data")
    assert [len(packet) for packet in packets] == [58, 154, 154, 154]
    assert device.transmitted() == []


def test_super_segments_come_out_whole_if_asked_for(frames):
    device = QueueDevice(medium="ethernet", gso_max_size=65_535)
    device.transmit(frames.going_down(b"x" * 300, gso_size=100))
    assert [len(packet) for packet in device.transmitted()] == [354]


def test_packets_out_are_bounded_and_the_stack_is_told_when_there_is_room(monkeypatch):
    monkeypatch.setattr("netstack.device.queue.MAX_QUEUED", 2)
    device = QueueDevice()
    notes: list[int] = []
    device.on_pending = lambda: notes.append(1)
    assert [device.transmit(Frame(b"x")) for _ in range(3)] == [True, True, False]
    assert notes == []
    assert len(device.transmitted()) == 2
    assert notes == [1]
    assert device.transmit(Frame(b"x"))


def test_loopback_gives_frames_back_later_as_they_are(frames):
    device = LoopbackDevice()
    notes: list[int] = []
    device.on_pending = lambda: notes.append(1)
    frame = frames.going_down(b"x" * 300, gso_size=100, medium=Medium.IP)
    assert device.transmit(frame)
    assert notes == [1]
    assert device.pending()
    assert device.receive_burst() == [frame]
    assert not device.pending()
    assert device.receive_burst() == []


def test_loopback_is_busy_when_full(monkeypatch):
    monkeypatch.setattr("netstack.device.loopback.MAX_QUEUED", 2)
    device = LoopbackDevice()
    assert [device.transmit(Frame(b"x")) for _ in range(3)] == [True, True, False]
    assert len(device.receive_burst(1)) == 1
    assert device.transmit(Frame(b"x"))
