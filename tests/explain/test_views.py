"""The story and the layer view, from traces of real runs in virtual time."""

from netstack.core.trace import Dropped, FrameSent, NameStep, Reason, StateChanged
from netstack.explain.layers import explain, medium_of
from netstack.explain.narrative import Narrative


def test_story_has_each_step_in_order(fetched):
    events, start = fetched
    narrative = Narrative("client", start)
    lines = [*narrative.tell(events), *narrative.end()]
    words = [line.text.split()[2] for line in lines[:-1]]
    assert words == ["neighbour", *["resolve"] * 3, *["connect"] * 3, "request", "response",
                     *words[9:]]  # fmt: skip
    assert "total" in lines[-1].text


def test_story_is_of_one_host_only():
    step = NameStep(0.0, "other", "naming", "a.test", "A", "10.0.0.1", "answer")
    assert list(Narrative("client").tell([step])) == []


def test_verbose_story_tells_states(fetched):
    change = StateChanged(1.5, "client", "tcp", "a-b", "SYN_SENT", "ESTABLISHED")
    assert list(Narrative("client").tell([change])) == []
    (line,) = Narrative("client", 1.0, verbose=True).tell([change])
    assert "500.000 ms" in line.text
    assert "SYN_SENT -> ESTABLISHED" in line.text


def test_drops_are_warnings():
    (line,) = Narrative("c").tell([Dropped(0.0, "c", "ipv4", "ipv4.bad_checksum")])
    assert line.kind == "warning"
    assert "ipv4.bad_checksum" in line.text


def test_every_sent_frame_is_shown_with_its_reason(fetched):
    events, start = fetched
    text = "\n".join(explain(events, start=start))
    sent = [event for event in events if isinstance(event, FrameSent)]
    assert text.count("client sends") == len(sent)
    assert all(event.reason is not None for event in sent)
    assert text.count("  why: ") == len(sent)
    for reason in (Reason.SYN, Reason.ARP_REQUEST, Reason.NEW_DATA, Reason.DATAGRAM):
        assert reason.value in text


def test_frames_are_shown_where_they_are_sent_only_if_asked(fetched):
    events, start = fetched
    assert not any("receives" in line for line in explain(events, received=False, start=start))


def test_no_frame_of_a_real_run_is_malformed(fetched):
    events, start = fetched
    assert "malformed" not in "\n".join(explain(events, start=start))


def test_medium_is_seen_from_the_octets():
    packet = bytes.fromhex("4500001400000000400000000a0000010a000002")
    assert medium_of(packet) == "ip"
    assert medium_of(bytes(14) + packet) == "ethernet"
    assert medium_of(b"") == "ethernet"
