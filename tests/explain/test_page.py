"""The page of a run: well-formed, whole in itself, and no wire octet is ever markup."""

import re
from html.parser import HTMLParser

import pytest

from netstack.core.trace import Dropped, FrameReceived, FrameSent, Reason
from netstack.explain.narrative import Line, Narrative
from netstack.explain.page import DUMP_LIMIT, page

VOID = {"meta"}
HOSTILE = b'</pre><script>alert("1")</script><img src=x onerror=y>&amp;\x00\x1b[2J'


class Markup(HTMLParser):
    """Collects what a page consists of; every tag must be closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], []
        self.frames = 0
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes.extend(attributes)
        self.frames += tag == "details" and ("class", "frame") in attributes
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def whole(events, story=(), **options):
    return "".join(page(events, story, title="t", **options))


def hostile_frame(payload=HOSTILE, **changes):
    """A frame of an unknown type: all of it is data."""
    values = {"time": 0.0, "host": "h", "layer": "link", "interface": "eth0",
              "data": bytes(12) + b"\x88\xb5" + payload, "reason": None}  # fmt: skip
    return FrameSent(**{**values, **changes})


def test_every_frame_is_there_with_reason_and_octets(fetched):
    events, start = fetched
    text = whole(events, start=start)
    markup = Markup(text)
    sent = [event for event in events if isinstance(event, FrameSent)]
    received = [event for event in events if isinstance(event, FrameReceived)]
    assert markup.frames == len(sent) + len(received) > 10
    assert text.count("why: ") == len(sent)
    shown = "".join(markup.text)
    for reason in (Reason.SYN, Reason.ARP_REQUEST, Reason.NEW_DATA, Reason.DATAGRAM):
        assert reason.value in shown
    for each in (*sent, *received):
        assert each.data[:6].hex(" ") in shown
    for protocol in ("ARP: who has", "DNS: query", "HTTP: GET / HTTP/1.1", "TCP: port"):
        assert protocol in shown


def test_frames_seen_on_all_hosts_are_shown_once(fetched):
    events, _ = fetched
    sent = [event for event in events if isinstance(event, FrameSent)]
    assert Markup(whole(events, received=False)).frames == len(sent)


def test_story_is_on_top(fetched):
    events, start = fetched
    story = list(Narrative("client", start).tell(events))
    text = whole(events, story, start=start, outcome="HTTP/1.1 200 OK")
    Markup(text)
    place = text.index("Every frame")
    assert text.index("HTTP/1.1 200 OK") < text.index("SYN-ACK from") < place
    assert all(f'class="{line.kind}"' in text[:place] for line in story)


def test_page_needs_nothing_else(fetched):
    events, start = fetched
    text = whole(events, start=start)
    markup = Markup(text)
    assert not {"script", "link", "img", "iframe", "object", "base"} & set(markup.tags)
    assert not {"src", "href", "style"} & {name for name, _ in markup.attributes}
    assert not any(name.startswith("on") for name, _ in markup.attributes)
    assert "url(" not in text
    assert "@import" not in text
    assert "default-src 'none'" in text
    assert "prefers-color-scheme: dark" in text


def test_octets_from_the_wire_are_never_markup():
    names = {"host": "<b>&\"'\u202e", "interface": "<i>\x00\udc80"}
    story = [Line('"><script>', "<script>\x1b[2J")]
    events = [hostile_frame(**names), Dropped(0.0, "<u>", "x", "<s>")]
    text = "".join(page(events, story, title="</title><script>", outcome="<script>"))
    markup = Markup(text)
    assert not {"script", "img", "i", "u", "s"} & set(markup.tags)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
    text.encode("utf-8")
    assert r"\x1b[2J" in "".join(markup.text)


def test_header_field_of_a_hostile_server_is_text(fetched):
    events, _ = fetched
    response = next(
        event for event in events
        if isinstance(event, FrameReceived) and b"HTTP/1.1 200" in event.data
    )  # fmt: skip
    head = b"HTTP/1.1 200 OK"
    data = response.data.replace(head, b"HTTP/1.1 <b>200", 1)
    name = re.search(rb"\r\n([A-Za-z-]+): ", data)[1]
    data = data.replace(name, (b"<u>" + name)[: len(name)], 1)
    text = whole([FrameReceived(0.0, "h", "link", "eth0", data)])
    assert not {"u", "script"} & set(Markup(text).tags)
    assert "&lt;u&gt;" in text
    assert "&lt;b&gt;200" in text


def test_every_octet_has_its_place_in_the_dump():
    data = hostile_frame(bytes(range(256)))
    text = whole([data])
    assert "000e  00 01 02" in text
    assert re.search(r"^00fe  f0 f1 .* ff  \.{16}</pre>$", text, re.M)


def test_long_layer_is_cut_and_says_so():
    text = whole([hostile_frame(bytes(DUMP_LIMIT + 7), segments=3)])
    Markup(text)
    assert "... and 7 octets more" in text
    assert "3 wire frames" in text


@pytest.mark.parametrize("length", [0, 1, 13, 14, 20])
def test_broken_frame_is_shown_as_octets(length):
    text = whole([hostile_frame(data=b"\x45" * length)])
    assert Markup(text).frames == 1
