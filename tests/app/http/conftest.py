"""Helpers of the HTTP tests: readers fed whole or octet by octet."""

from __future__ import annotations

import pytest

from netstack.app.http.messages import Data, EndOfMessage, ResponseHead
from netstack.app.http.reader import RequestReader, ResponseReader


def _events(reader, data, step):
    """Feed and pull; return events with neighbouring Data joined."""
    events = []

    def pull():
        while (event := reader.next_event()) is not None:
            if isinstance(event, Data) and events and isinstance(events[-1], Data):
                events[-1] = Data(events[-1].data + event.data)
            else:
                events.append(event)

    for start in range(0, len(data), step):
        reader.receive(data[start : start + step])
        pull()
    return events, pull


@pytest.fixture(params=["whole", "octets"])
def step(request):
    return 1 << 30 if request.param == "whole" else 1


@pytest.fixture
def read_requests(step):
    """Return the events of requests; the end of the stream is not told."""

    def read(data, limits=None):
        return _events(RequestReader(limits), data, step)[0]

    return read


@pytest.fixture
def read_responses(step):
    """Return the events of responses; ``eof`` tells the end of the stream."""

    def read(data, methods=("GET",), *, eof=False, clean=True, limits=None):
        reader = ResponseReader(limits)
        for method in methods:
            reader.expect(method)
        events, pull = _events(reader, data, step)
        if eof:
            reader.receive_eof(clean=clean)
            pull()
        return events

    return read


@pytest.fixture
def body_of():
    def body(events):
        assert isinstance(events[-1], EndOfMessage)
        return b"".join(event.data for event in events if isinstance(event, Data))

    return body


class Talk:
    """A client's view of a server session, in virtual time."""

    def __init__(self, session, step=1 << 30):
        self.session = session
        self.step = step
        self.now = 0.0
        self.received = bytearray()
        self.closed = None

    def send(self, data):
        for start in range(0, len(data), self.step):
            if self.closed is None:
                self.session.receive(data[start : start + self.step], self.now)
                self.pump()
        return self

    def eof(self):
        self.session.receive(b"", self.now)
        return self.pump()

    def pump(self, limit=5000):
        while not self.session.abort:
            piece = bytes(self.session.outgoing(min(limit, self.step)))
            assert len(piece) <= limit
            if not piece:
                break
            self.received += piece
        if self.session.abort:
            self.closed = "abort"
        elif self.session.finished:
            self.closed = "close"
        if self.closed:
            self.session.close()
        return self

    def wait(self, seconds):
        """Let time pass; fire the session's timers when they are due."""
        end = self.now + seconds
        while self.closed is None:
            deadline = self.session.next_deadline()
            if deadline is None or deadline > end:
                break
            self.now = max(self.now, deadline)
            self.session.handle_timers(self.now)
            self.pump()
        self.now = end
        return self

    def responses(self, *methods):
        """Return (head, body) of each response received."""
        reader = ResponseReader()
        for method in methods or ("GET",) * 1000:
            reader.expect(method)
        reader.receive(bytes(self.received))
        found = []
        while (event := reader.next_event()) is not None:
            if isinstance(event, ResponseHead):
                found.append((event, bytearray()))
            elif isinstance(event, Data):
                found[-1][1].extend(event.data)
        assert not reader.in_message
        return [(head, bytes(body)) for head, body in found]

    def response(self, method="GET"):
        ((head, body),) = self.responses(method)
        return head, body


@pytest.fixture
def talk():
    return Talk
