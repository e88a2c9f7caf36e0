"""Helpers of the HTTP tests: readers fed whole or octet by octet."""

from __future__ import annotations

import pytest

from netstack.app.http.messages import Data, EndOfMessage
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
