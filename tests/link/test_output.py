"""The output queue: turns, bounds, cuts, checksums."""

from __future__ import annotations

import sys

import pytest
from scapy.layers.inet import TCP
from scapy.layers.l2 import Ether

from netstack.core.trace import FrameSent
from netstack.device.base import Checksum
from netstack.link.output import MAX_FLOW_OCTETS, MAX_FRAMES

PAYLOAD = bytes(range(256)) * 40  # 10,240 octets


@pytest.fixture
def ready(bench):
    bench.resolve()
    return bench


def flows(bench):
    """Return the first payload octet of each frame sent, which the tests use as the flow."""
    return [payload[20] for _, payload in bench.sent()]


def judged(octets):
    """Return scapy's view of a TCP frame, after it agreed with both checksums."""
    frame = Ether(octets)
    again = frame.copy()
    del again["IP"].chksum
    del again[TCP].chksum
    again = Ether(bytes(again))
    assert (again["IP"].chksum, again[TCP].chksum) == (frame["IP"].chksum, frame[TCP].chksum)
    return frame


def test_flows_take_turns_and_keep_their_own_order(ready):
    for flow, count in ((1, 4), (2, 2), (3, 1)):
        for number in range(count):
            ready.send(payload=bytes([flow * 16 + number]) * 40, flow=flow)
    assert flows(ready) == [0x10, 0x20, 0x30, 0x11, 0x21, 0x12, 0x13]


def test_busy_device_keeps_everything_in_order(ready):
    for number in range(6):
        ready.send(payload=bytes([number]) * 40, flow=number % 2)
    ready.device.room = 1
    assert not ready.interface.flush()
    assert ready.interface.queued == 5
    ready.device.room = 100
    assert flows(ready) == [0, 1, 2, 3, 4, 5]
    assert ready.interface.queued == 0


def test_flush_ends_at_its_limit_and_says_that_more_waits(ready):
    for _ in range(5):
        ready.send()
    assert not ready.interface.flush(3)
    assert len(ready.device.sent) == 3
    assert ready.interface.flush(3)
    assert ready.interface.flush(3)


def test_flow_has_room_for_128_kib_and_is_then_refused(ready):
    room = ready.interface.room("flow")
    assert room == MAX_FLOW_OCTETS == 128 * 1024
    while ready.interface.room("flow"):
        assert ready.send(payload=bytes(1400), flow="flow")
    assert not ready.send(payload=bytes(1400), flow="flow")
    assert ready.counters["link.queue_full"] == 1
    assert ready.send(flow="other")
    assert ready.interface.room("other") > 100_000
    ready.sent()
    assert ready.interface.room("flow") == room


def test_queue_is_bounded_over_all_flows(ready):
    for number in range(MAX_FRAMES + 10):
        ready.send(payload=b"", flow=number)
    assert ready.interface.queued == MAX_FRAMES
    assert ready.counters["link.queue_full"] == 10
    assert ready.interface.room("another") == 0


def test_super_segment_is_cut_for_a_device_that_takes_wire_frames(ready, make_super):
    ready.interface.send_packet(ready.peer, make_super(PAYLOAD, 1448, options=b"\1" * 12))
    ready.interface.flush()
    frames = [judged(frame.octets()) for frame in ready.device.sent]
    assert [len(frame[TCP].payload) for frame in frames] == [1448] * 7 + [104]
    assert b"".join(bytes(frame[TCP].payload) for frame in frames) == PAYLOAD
    assert {(frame.src, frame.dst) for frame in frames} == {
        (ready.mac.hex(":"), ready.peer_mac.hex(":"))
    }
    assert ready.counters["link.frames_sent"] == 2 + 8
    assert ready.counters["link.octets_sent"] == 120 + len(PAYLOAD) + 8 * (14 + 20 + 32)
    assert "link.super_segments_sent" not in ready.counters


def test_short_last_cut_is_padded_with_zeros(ready, make_super):
    ready.interface.send_packet(ready.peer, make_super(b"\xff" * 1001, 1000))
    ready.interface.flush()
    octets = ready.device.sent[-1].octets()
    assert octets[54:] == b"\xff" + bytes(5)
    judged(octets)


def test_each_of_many_short_cuts_is_padded_with_zeros(ready, make_super):
    ready.interface.send_packet(ready.peer, make_super(b"\xff" * 7, 3))
    ready.interface.flush()
    sent = [frame.octets() for frame in ready.device.sent[-3:]]
    padded = [b"\xff" * length + bytes(6 - length) for length in (3, 3, 1)]
    assert [octets[54:] for octets in sent] == padded
    for octets in sent:
        judged(octets)


def test_device_busy_within_a_super_segment_leaves_the_rest_first_in_line(ready, make_super):
    ready.interface.send_packet(ready.peer, make_super(PAYLOAD, 1000), "flow")
    ready.interface.send_packet(ready.peer, make_super(b"last" * 20, 1000), "flow")
    ready.device.room = 3
    assert not ready.interface.flush()
    ready.send(payload=b"\xee" * 40, flow="other")
    assert ready.interface.queued == 3
    assert ready.interface.room("flow") < MAX_FLOW_OCTETS - len(PAYLOAD)
    ready.device.room = 4
    assert not ready.interface.flush(2)
    assert not ready.interface.flush()
    ready.device.room = 100
    assert ready.interface.flush()
    frames = [Ether(frame.octets()) for frame in ready.device.sent]
    cuts = [bytes(frame[TCP].payload) for frame in frames if TCP in frame]
    assert b"".join(cuts) == PAYLOAD + b"last" * 20
    assert [TCP in frame for frame in frames] == [True] * 11 + [False, True]
    assert ready.interface.room("flow") == MAX_FLOW_OCTETS


def test_super_segment_goes_whole_to_a_device_that_takes_it(make_bench, make_super):
    bench = make_bench(gso_max_size=65_535, tx_checksum=True)
    bench.resolve()
    frame = make_super(PAYLOAD, 1000)
    bench.interface.send_packet(bench.peer, frame)
    bench.interface.flush()
    assert bench.device.sent == [frame]
    assert frame.checksum is Checksum.PARTIAL
    assert bench.counters["link.frames_sent"] == 2 + 11
    assert bench.counters["link.super_segments_sent"] == 1
    assert bench.counters["link.octets_sent"] == 120 + len(PAYLOAD) + 11 * 54


def test_super_segment_above_the_largest_size_is_cut(make_bench, make_super):
    bench = make_bench(gso_max_size=len(PAYLOAD) + 39, tx_checksum=True)
    bench.resolve()
    bench.interface.send_packet(bench.peer, make_super(PAYLOAD, 1000))
    bench.interface.flush()
    assert len(bench.device.sent) == 11
    assert {frame.checksum for frame in bench.device.sent} == {Checksum.PARTIAL}


def test_partial_checksum_is_completed_for_a_device_that_cannot(ready, make_super):
    ready.interface.send_packet(ready.peer, make_super(PAYLOAD[:1001], 1460))
    ready.interface.flush()
    judged(ready.device.sent[0].octets())


def test_mtu_counts_the_wire_frames_of_a_super_segment(ready, make_super):
    assert ready.interface.send_packet(ready.peer, make_super(PAYLOAD, 1460))
    assert not ready.interface.send_packet(ready.peer, make_super(PAYLOAD, 1461))
    assert not ready.interface.send_packet(
        ready.peer, make_super(PAYLOAD, 1449, options=b"\1" * 12)
    )
    assert ready.counters["link.too_big"] == 8 + 8


def test_each_frame_handed_over_is_traced_once(ready, make_super):
    ready.trace()
    ready.interface.send_packet(ready.peer, make_super(PAYLOAD, 1000))
    ready.device.room = 3
    ready.interface.flush()
    ready.device.room = 100
    ready.interface.flush()
    ready.context.deliver_trace()
    sent = [event for event in ready.events if isinstance(event, FrameSent)]
    assert [event.data for event in sent] == [frame.octets() for frame in ready.device.sent]
    assert len(sent) == 11


class Interrupted(BaseException):
    pass


@pytest.mark.needs("sources")  # lines are cut
def test_queue_works_on_after_a_step_was_cut_anywhere(ready, make_bench):
    """Cut ``send`` and ``flush`` at each line in turn; nothing sticks and nothing leaks."""

    def cut_at(line, function):
        left = [line]

        def tracer(frame, event, _):
            if frame.f_code.co_filename.endswith("output.py"):
                left[0] -= event == "line"
                if not left[0]:
                    raise Interrupted
            return tracer

        sys.settrace(tracer)
        try:
            function()
        except Interrupted:
            return True
        finally:
            sys.settrace(None)
        return False

    def step(bench):
        bench.send(payload=b"one", flow=1)
        bench.send(payload=b"two", flow=1)
        bench.interface.flush()

    line, cut = 0, True
    while cut:
        line += 1
        bench = make_bench()
        bench.resolve()
        cut = cut_at(line, lambda bench=bench: step(bench))
        bench.sent()
        for flow in (1, 2):
            bench.send(payload=b"next", flow=flow)
        assert len(bench.sent()) >= 2
        bench.interface.flush()
        assert bench.interface.queued == 0
        assert bench.interface.room(1) == MAX_FLOW_OCTETS
    assert line > 30
