from __future__ import annotations

import io

import pytest

from netstack import capture
from netstack.core.address import parse_address
from netstack.core.rng import Rng
from netstack.core.timers import EventHeap
from netstack.device.base import Checksum, Frame, Medium, as_frame
from netstack.device.cable import Cable
from netstack.device.record import Recording
from netstack.wire.ipv4 import IPv4Header


class Line:
    """A cable, its heap, and what arrived at b: (time, octets)."""

    def __init__(self, *, seed: int = 1, **settings) -> None:
        self.events = EventHeap()
        settings.setdefault("delay", 0.0)
        self.cable = Cable(self.events, Rng(seed), "a-b", **settings)
        self.arrived: list[tuple[float, bytes]] = []
        self.frames: list[Frame] = []
        self.cable.b.on_pending = self.fetch

    def fetch(self) -> None:
        for frame in map(as_frame, self.cable.b.receive_burst()):
            self.frames.append(frame)
            self.arrived.append((self.events.now, frame.octets()))

    @property
    def counters(self):
        return self.cable.a.outgoing.counters

    def send(self, *frames: Frame | bytes) -> None:
        for frame in frames:
            assert self.cable.a.transmit(Frame(frame) if isinstance(frame, bytes) else frame)

    def run(self) -> None:
        while self.events.next_time() is not None:
            self.events.run_next()


def numbered(frames, count: int, size: int = 100) -> list[bytes]:
    return [frames.wire(at.to_bytes(4, "big") * (size // 4), seq=at) for at in range(count)]


def test_frame_arrives_after_the_delay_and_never_at_once(frames):
    line = Line(delay=0.25)
    octets = frames.wire(b"data")
    line.send(octets)
    assert not line.cable.b.pending()
    line.run()
    assert line.arrived == [(0.25, octets)]
    assert (line.counters.sent, line.counters.delivered) == (1, 1)


def test_cable_without_delay_still_delivers_in_a_later_step(frames):
    line = Line()
    line.send(frames.wire())
    assert line.arrived == []
    line.run()
    assert len(line.arrived) == 1


def test_directions_have_their_own_settings(frames):
    line = Line(delay=0.1)
    line.cable.set(toward=line.cable.a, delay=0.5)
    line.send(frames.wire())
    line.cable.b.transmit(frames.arriving())
    line.run()
    assert line.arrived[0][0] == 0.1
    assert line.events.now == 0.5
    assert len(line.cable.a.receive_burst()) == 1
    assert not line.cable.a.pending()


def test_rate_counts_all_that_occupies_an_ethernet(frames):
    line = Line(rate=1e6)
    line.send(bytes(60 - 14), bytes(1500 + 14))  # a short frame is padded on the wire
    line.run()
    assert [time for time, _ in line.arrived] == pytest.approx([84 * 8e-6, (84 + 1538) * 8e-6])


def test_rate_of_a_cable_for_ip_counts_the_packet_only():
    line = Line(rate=1e6, medium=Medium.IP)
    line.send(bytes(100))
    line.run()
    assert line.arrived[0][0] == pytest.approx(800e-6)


def test_full_queue_drops_the_last_and_counts_it(frames):
    line = Line(rate=1e6, queue=2)
    sent = numbered(frames, 5)
    line.send(*sent)  # one on the wire, two waiting, two too many
    line.run()
    assert [octets for _, octets in line.arrived] == sent[:3]
    assert (line.counters.queue_drops, line.counters.delivered) == (2, 3)
    line.send(sent[4])
    line.run()
    assert line.counters.delivered == 4


def test_jitter_never_reorders(frames):
    line = Line(delay=0.01, jitter=0.01)
    sent = numbered(frames, 200)
    line.send(*sent)
    line.run()
    assert [octets for _, octets in line.arrived] == sent
    assert len({time for time, _ in line.arrived}) > 3
    assert all(0 <= time <= 0.02 for time, _ in line.arrived)


@pytest.mark.parametrize("settings", [{}, {"rate": 1e6}, {"delay": 0.03, "jitter": 0.001}])
def test_reordered_frames_are_overtaken(frames, settings):
    line = Line(reorder=0.1, **settings)
    sent = numbered(frames, 300)
    line.send(*sent)
    line.run()
    got = [octets for _, octets in line.arrived]
    assert sorted(got) == sorted(sent)
    assert got != sent
    assert 10 < line.counters.reordered < 60


def test_loss_is_a_probability_and_counted(frames):
    line = Line(loss=0.2)
    line.send(*numbered(frames, 1000))
    line.run()
    assert 140 < line.counters.lost < 260
    assert line.counters.lost + len(line.arrived) == 1000


def test_duplicates_arrive_twice_as_frames_of_their_own(frames):
    line = Line(duplicate=1.0)
    line.send(frames.wire(b"x"))
    line.run()
    assert len(line.arrived) == 2
    assert line.arrived[0] == line.arrived[1]
    assert line.frames[0] is not line.frames[1]
    assert (line.counters.duplicated, line.counters.delivered) == (1, 2)


@pytest.mark.parametrize("medium", [Medium.ETHERNET, Medium.IP])
def test_corruption_flips_exactly_one_bit_inside_the_ip_packet(frames, medium):
    line = Line(corrupt=1.0, medium=medium)
    link = 14 if medium is Medium.ETHERNET else 0
    sent = frames.wire(b"data", medium=medium)
    padding = bytes(10)
    bits = set()
    for _ in range(6000):
        line.send(sent + padding)
    line.run()
    for _, octets in line.arrived:
        difference = int.from_bytes(octets, "big") ^ int.from_bytes(sent + padding, "big")
        assert difference.bit_count() == 1
        bits.add(len(octets) * 8 - difference.bit_length())
    assert bits == set(range(link * 8, len(sent) * 8))
    assert line.counters.corrupted == 6000


def test_arp_is_never_corrupted():
    line = Line(corrupt=1.0)
    arp = b"\xff" * 12 + b"\x08\x06" + bytes(46)
    line.send(arp)
    line.run()
    assert line.arrived[0][1] == arp
    assert line.counters.corrupted == 0


def test_corruption_comes_after_the_checksums_are_complete(frames):
    line = Line(corrupt=1.0)
    line.send(frames.going_down(b"data"))
    line.run()
    complete = frames.wire(b"data")
    difference = int.from_bytes(line.arrived[0][1], "big") ^ int.from_bytes(complete, "big")
    assert difference.bit_count() == 1
    assert line.frames[0].checksum is Checksum.UNKNOWN


def test_super_segment_is_cut_on_entry(frames):
    line = Line(loss=0.0, rate=1e9)
    line.send(frames.going_down(b"x" * 3000, gso_size=1000))
    line.run()
    assert [len(octets) for _, octets in line.arrived] == [1054] * 3
    assert line.counters.sent == 3


def test_super_segment_passes_by_reference_only_while_nothing_happens_to_it(frames):
    line = Line(gso_max_size=65_535)
    frame = frames.going_down(b"x" * 3000, gso_size=1000)
    line.send(frame)
    line.run()
    assert line.frames == [frame]
    assert frame.checksum is Checksum.PARTIAL
    assert (line.counters.sent, line.counters.delivered) == (3, 3)
    line.cable.set(loss=0.0, rate=1e9)
    line.send(frames.going_down(b"x" * 3000, gso_size=1000))
    line.run()
    assert len(line.frames) == 4
    line.cable.set(rate=None)
    with Recording(io.BytesIO()) as recording:
        line.cable.recorder = recording.add_link("a-b")
        line.send(frames.going_down(b"x" * 3000, gso_size=1000))
        line.run()
    assert len(line.frames) == 7
    assert recording.recorded == 3


def test_receiver_gets_octets_of_its_own(frames):
    line = Line()
    frame = frames.going_down(b"data")
    line.send(frame)
    line.run()
    frame.header[frame.start] ^= 0xFF
    assert line.frames[0].octets() == frames.wire(b"data")
    assert line.frames[0].checksum is Checksum.UNKNOWN


def test_black_hole_swallows_large_packets_only(frames):
    line = Line(black_hole=1000)
    line.send(frames.wire(bytes(960)), frames.wire(bytes(961)))
    line.run()
    assert [len(octets) for _, octets in line.arrived] == [1014]
    assert line.counters.too_big == 1


def test_link_that_is_down_loses_what_is_sent_and_what_is_under_way(frames):
    line = Line(delay=1.0)
    line.send(frames.wire())
    line.cable.set(up=False)
    line.send(frames.wire())
    line.run()
    assert line.arrived == []
    assert line.counters.lost == 2
    line.cable.set(up=True)
    line.send(frames.wire())
    line.run()
    assert len(line.arrived) == 1


@pytest.mark.parametrize(
    "settings",
    [{"loss": 1.1}, {"corrupt": -0.1}, {"rate": 0}, {"queue": -1}, {"delay": -1}, {"jitter": -1}],
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError, match=r"probability|negative|rate|queue"):
        Line(**settings)
    line = Line()
    with pytest.raises(ValueError, match=r"probability|negative|rate|queue"):
        line.cable.set(**settings)


BAD = {
    "loss": 0.1,
    "reorder": 0.1,
    "duplicate": 0.1,
    "corrupt": 0.1,
    "delay": 0.01,
    "jitter": 0.005,
}


def run_bad(frames, seed, **changes) -> list[tuple[float, bytes]]:
    line = Line(seed=seed, **(BAD | changes))
    line.send(*numbered(frames, 200))
    line.run()
    return line.arrived


def test_same_seed_gives_the_same_arrivals_and_another_seed_others(frames):
    assert run_bad(frames, 7) == run_bad(frames, 7)
    assert run_bad(frames, 7) != run_bad(frames, 8)


def test_changing_one_chance_does_not_change_what_another_does(frames):
    lossy = {octets for _, octets in run_bad(frames, 3, corrupt=0, duplicate=0, reorder=0)}
    worse = {octets for _, octets in run_bad(frames, 3, corrupt=0)}
    assert lossy == worse


def test_recorder_sees_each_wire_frame_with_its_fate(frames):
    file = io.BytesIO()
    recording = Recording(file)
    line = Line(record=recording.add_link("left-right"), delay=0.5, rate=1e5, queue=1)
    sent = numbered(frames, 5, 400)
    line.send(sent[0], sent[1], sent[2])
    line.run()
    line.cable.set(queue=None, rate=None, loss=1.0)
    line.send(sent[3])
    line.cable.set(loss=0.0, duplicate=1.0)
    line.send(sent[4])
    line.cable.set(up=False)
    line.send(sent[4])
    line.cable.set(up=True, black_hole=100)
    line.send(sent[4])
    packets = list(capture.read(io.BytesIO(file.getvalue())))
    assert [packet.comment for packet in packets] == [
        None, None, "dropped: the queue is full", "lost", "duplicated", "duplicate",
        "lost: the link is down", "dropped: larger than 100 octets",
    ]  # fmt: skip
    assert [bytes(packet.data) for packet in packets[:5]] == sent
    assert packets[0].time == 1_577_836_800.0
    assert [packet.time_ns for packet in packets] == sorted(p.time_ns for p in packets)


def test_recorder_sees_a_corrupted_frame_as_it_arrives(frames):
    file = io.BytesIO()
    line = Line(corrupt=1.0, record=Recording(file).add_link("a-b"))
    line.send(frames.wire(b"data"))
    line.run()
    (packet,) = capture.read(io.BytesIO(file.getvalue()))
    assert packet.data == line.arrived[0][1]
    assert packet.comment.startswith("corrupted: bit ")


def test_inbox_is_bounded(frames, monkeypatch):
    monkeypatch.setattr("netstack.device.cable.MAX_INBOX", 3)
    line = Line()
    line.cable.b.on_pending = None
    line.send(*numbered(frames, 5))
    line.run()
    assert len(line.cable.b.receive_burst()) == 3
    assert (line.counters.delivered, line.counters.queue_drops) == (3, 2)


def test_burst_has_a_limit(frames):
    line = Line()
    line.cable.b.on_pending = None
    line.send(*numbered(frames, 5))
    line.run()
    assert len(line.cable.b.receive_burst(2)) == 2
    assert line.cable.b.pending()


def test_queue_marks_what_is_ecn_capable_beyond_its_threshold(frames):
    line = Line(rate=1e6, mark_above=2)
    capable, other = (
        IPv4Header(
            source=parse_address("10.0.0.1"), destination=parse_address("10.0.0.2"), protocol=6,
            total_length=20, traffic_class=traffic_class,
        ).with_checksum().build()
        for traffic_class in (2, 0)
    )  # fmt: skip
    link = frames.wire()[:14]
    line.send(*[link + capable] * 3, link + other, link + capable)
    line.run()
    packets = [IPv4Header.parse(octets[14:])[0] for _, octets in line.arrived]
    assert [packet.traffic_class & 3 for packet in packets] == [2, 2, 2, 0, 3]
    assert packets[4] == packets[4].with_checksum()
