from __future__ import annotations

import itertools

import pytest

from netstack.core.rng import Rng
from netstack.device.base import Capabilities, Device, Frame, Medium
from netstack.device.impair import ImpairDevice
from netstack.device.loopback import LoopbackDevice


class Wire(Device):
    """Keeps what is sent, gives what was put in; busy at will."""

    def __init__(self) -> None:
        super().__init__("wire", Capabilities(Medium.ETHERNET))
        self.sent: list[bytes] = []
        self.bursts: list[list[Frame]] = []
        self.busy = False
        self.closed = False

    def transmit(self, frame: Frame) -> bool:
        if not self.busy:
            self.sent.append(frame.octets())
        return not self.busy

    def receive_burst(self, limit: int = 64) -> list[Frame]:
        return self.bursts.pop(0) if self.bursts else []

    def pending(self) -> bool:
        return bool(self.bursts)

    def fileno(self) -> int:
        return 77

    def close(self) -> None:
        self.closed = True


def device(**chances) -> tuple[ImpairDevice, Wire]:
    wire = Wire()
    return ImpairDevice(wire, Rng(5), **chances), wire


def numbered(frames, count: int) -> list[bytes]:
    return [frames.wire(b"data", seq=at) for at in range(count)]


def test_device_without_impairment_passes_frames_by_reference(frames):
    impaired, wire = device()
    frame = frames.arriving(b"x")
    wire.bursts = [[frame]]
    assert impaired.receive_burst() == [frame]
    assert impaired.transmit(frames.going_down(b"x" * 300, gso_size=100))
    assert len(wire.sent) == 1


def test_loss_alone_passes_what_arrives_by_reference(frames):
    impaired, wire = device(loss=0.5)
    sent = [frames.arriving(octets) for octets in numbered(frames, 64)]
    wire.bursts = [sent]
    arrived = impaired.receive_burst()
    assert 16 < len(arrived) < 48
    assert [id(frame) for frame in arrived] == [id(each) for each in sent if each in arrived]
    counters = impaired.incoming.counters
    assert (counters.sent, counters.delivered) == (64, len(arrived))
    assert counters.lost == 64 - len(arrived)


def test_losses_are_as_frequent_and_as_independent_as_single_draws(frames):
    impaired, wire = device(loss=0.1)
    octets, fates = frames.wire(b"data"), []
    for size in [1, 2, 7, 64] * 600:
        sent = [octets + bytes((at,)) for at in range(size)]
        wire.bursts = [sent]
        arrived = set(impaired.receive_burst())
        fates += [each not in arrived for each in sent]
    lost = sum(fates)
    assert len(fates) * 0.094 < lost < len(fates) * 0.106
    after_a_loss = sum(second for first, second in itertools.pairwise(fates) if first)
    assert lost * 0.08 < after_a_loss < lost * 0.12
    counters = impaired.incoming.counters
    assert (counters.sent, counters.lost) == (len(fates), lost)


def test_loss_that_is_changed_holds_from_the_next_burst_on(frames):
    impaired, wire = device()
    sent = numbered(frames, 8)
    for loss, arrives in ((1.0, False), (0.0, True), (1.0, False), (1e-9, True), (1.0, False)):
        impaired.incoming.loss = loss
        wire.bursts = [list(sent)]
        assert impaired.receive_burst() == (sent if arrives else [])


def test_everything_else_is_the_inner_device(frames):
    impaired, wire = device(loss=0.5)
    notes: list[int] = []
    impaired.on_pending = lambda: notes.append(1)
    assert wire.on_pending is impaired.on_pending
    wire.on_pending()
    assert notes == [1]
    assert (impaired.fileno(), impaired.name) == (77, "wire")
    assert impaired.capabilities is wire.capabilities
    assert not impaired.pending()
    wire.bursts = [[]]
    assert impaired.pending()
    impaired.close()
    assert wire.closed


def test_wrapping_keeps_a_callback_that_was_set():
    loopback = LoopbackDevice()
    loopback.on_pending = print
    assert ImpairDevice(loopback, Rng(1)).on_pending is print


@pytest.mark.parametrize("chance", ["loss", "duplicate", "corrupt"])
def test_both_directions_suffer(frames, chance):
    impaired, wire = device(**{chance: 0.2})
    sent = numbered(frames, 300)
    for octets in sent:
        assert impaired.transmit(Frame(octets))
    wire.bursts = [[Frame(octets)] for octets in sent]
    received = [f.octets() for _ in sent for f in impaired.receive_burst()]
    for got, impairment in ((wire.sent, impaired.outgoing), (received, impaired.incoming)):
        counters = impairment.counters
        assert counters.sent == 300
        assert counters.delivered == len(got)
        assert 30 < counters.lost + counters.duplicated + counters.corrupted < 90
        assert got != sent
    assert wire.sent != received  # each direction draws for itself


def test_late_frames_are_overtaken_by_three_at_most(frames):
    impaired, wire = device(reorder=0.2)
    sent = numbered(frames, 300)
    for octets in sent:
        impaired.transmit(Frame(octets))
    impaired.receive_burst()
    assert sorted(wire.sent) == sorted(sent)
    assert wire.sent != sent
    places = [wire.sent.index(octets) - at for at, octets in enumerate(sent)]
    late = impaired.outgoing.counters.reordered
    assert 0 < max(places) <= 3 + late // 10
    assert not impaired.pending()


def test_late_frame_leaves_at_the_next_poll_if_nothing_passes_it(frames):
    impaired, wire = device(reorder=1.0)
    impaired.transmit(frames.arriving(b"down"))
    assert wire.sent == []
    assert impaired.pending()
    assert impaired.receive_burst() == []
    assert wire.sent == [frames.wire(b"down")]
    wire.bursts = [[frames.arriving(b"up")]]
    assert impaired.receive_burst() == []
    assert impaired.pending()
    assert [frame.octets() for frame in impaired.receive_burst()] == [frames.wire(b"up")]
    assert not impaired.pending()


def test_busy_device_loses_nothing(frames):
    impaired, wire = device(duplicate=1.0)
    wire.busy = True
    assert impaired.transmit(frames.going_down(b"x" * 300, gso_size=100))
    assert not impaired.transmit(frames.arriving(b"y"))
    assert impaired.pending()
    wire.busy = False
    impaired.receive_burst()
    assert len(wire.sent) == 6
    assert impaired.transmit(frames.arriving(b"y"))
    assert len(wire.sent) == 8


def test_burst_keeps_its_limit_when_frames_are_doubled(frames):
    impaired, wire = device(duplicate=1.0)
    wire.bursts = [[frames.arriving(bytes([at])) for at in range(4)]]
    assert len(impaired.receive_burst(5)) == 5
    assert impaired.pending()
    assert len(impaired.receive_burst(5)) == 3
    assert not impaired.pending()


def test_chances_may_be_changed_while_it_runs(frames):
    impaired, wire = device()
    impaired.outgoing.loss = 1.0
    assert impaired.transmit(frames.arriving())
    assert wire.sent == []
    assert impaired.outgoing.counters.lost == 1


def test_time_and_group_of_a_frame_survive(frames):
    impaired, wire = device(duplicate=1.0)
    frame = frames.arriving()
    frame.received_at, frame.group = 4.5, True
    wire.bursts = [[frame]]
    for copy in impaired.receive_burst():
        assert (copy.received_at, copy.group) == (4.5, True)


def test_cuts_pass_a_good_wire_at_once_and_a_bad_one_one_by_one(frames):
    impaired, wire = device()
    calls = []
    wire.transmit_cuts = lambda *cuts: calls.append(cuts) or 2
    octets = bytearray(frames.wire(b"a") + frames.wire(b"b"))
    step = len(octets) // 2
    assert impaired.transmit_cuts(octets, step, 0, 2) == 2
    assert calls == [(octets, step, 0, 2)]
    impaired.outgoing.loss = 1.0
    assert impaired.transmit_cuts(octets, step, 0, 2) == 2
    assert impaired.outgoing.counters.lost == 2
    assert len(calls) == 1


def test_cuts_wait_behind_what_a_busy_device_has_not_taken(frames):
    impaired, wire = device(duplicate=1.0)
    wire.busy = True
    assert impaired.transmit(frames.arriving(b"y"))
    impaired.outgoing.duplicate = 0.0
    octets = bytearray(frames.wire(b"a"))
    assert impaired.transmit_cuts(octets, len(octets), 0, 1) == 0
    wire.busy = False
    assert impaired.transmit_cuts(octets, len(octets), 0, 1) == 1
    assert wire.sent == [frames.wire(b"y")] * 2 + [bytes(octets)]


def test_octets_that_only_may_be_lost_stay_octets(frames):
    impaired, wire = device(loss=0.5)
    sent = numbered(frames, 64)
    wire.bursts = [list(sent)]
    received = impaired.receive_burst()
    counters = impaired.incoming.counters
    assert all(type(each) is bytes for each in received)
    assert received == [each for each in sent if each in received]
    assert (counters.sent, counters.delivered) == (64, len(received))
    assert 16 < counters.lost == 64 - len(received) < 48
