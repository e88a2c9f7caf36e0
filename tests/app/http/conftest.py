"""Helpers of the HTTP tests: readers fed whole or octet by octet."""

from __future__ import annotations

import pytest

from netstack.app.http.messages import Data, EndOfMessage, ResponseHead
from netstack.app.http.reader import RequestReader, ResponseReader
from netstack.core.errors import NameNotFound, Refused, Reset, TimedOut


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


# -- a host without a network, in virtual time ---------------------------------------------------


class Script:
    """A server that does what a list says after each request: (delay, octets | close | reset)."""

    abort = False
    finished = False

    def __init__(self, *replies):
        self._replies = list(replies)
        self._steps = []
        self._out = b""
        self._next = None
        self.requests = []
        self.request = b""
        self.eof = False

    def receive(self, data, now):
        if not data:
            self.eof = True
            return
        self.request += data
        head, end, content = self.request.partition(b"\r\n\r\n")
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        if end and len(content) >= length:
            self.requests.append(self.request)
            self.request = b""
            self._begin(now)

    def _begin(self, now):
        reply = self._replies.pop(0) if self._replies else ()
        self._steps = [(0.0, reply)] if isinstance(reply, bytes) else list(reply)
        self._plan(now)

    def _plan(self, now):
        self._next = now + self._steps[0][0] if self._steps else None
        if self._steps and not self._steps[0][0]:
            self.handle_timers(now)

    def outgoing(self, limit):
        data, self._out = self._out[:limit], self._out[limit:]
        return data

    def next_deadline(self):
        return self._next

    def handle_timers(self, now):
        if self._next is None or now < self._next:
            return
        action = self._steps.pop(0)[1]
        if action == "close":
            self.finished = True
        elif action == "reset":
            self.abort = True
        else:
            self._out += action
        self._plan(now)

    def close(self):
        pass


class FakeSocket:
    def __init__(self, host, session):
        self._host = host
        self._session = session
        self._timeout = None
        self.closed = False

    def settimeout(self, timeout):
        assert timeout is None or timeout > 0
        self._timeout = timeout

    def sendall(self, data):
        assert not self.closed
        if self._session.abort or self._session.finished:
            raise BrokenPipeError(32, "Broken pipe")
        self._session.receive(bytes(data), self._host.now)

    def recv(self, limit):
        assert not self.closed
        host, session = self._host, self._session
        end = None if self._timeout is None else host.now + self._timeout
        while True:
            data = bytes(session.outgoing(min(limit, host.segment)))
            if data:
                return data
            if session.abort:
                raise Reset("connection reset by peer")
            if session.finished:
                return b""
            due = session.next_deadline()
            if end is not None and (due is None or due > end):
                host.now = end
                raise TimeoutError("timed out")
            assert due is not None, "this would wait for ever"
            host.now = max(host.now, due)
            session.handle_timers(host.now)

    def close(self):
        if not self.closed:
            self.closed = True
            self._session.close()


class FakeHost:
    """Names and servers in memory; connecting takes 0.5 s, resolving 0.25 s."""

    def __init__(self, names=None):
        self.now = 100.0
        self.names = {"www.example.test": ["192.0.2.80"], **(names or {})}
        self.listening = {}
        self.segment = 1 << 30
        self.sockets = []
        self.resolved = []
        self.connected = []

    def serve(self, make, port=80, address="192.0.2.80"):
        self.listening[address, port] = make

    def _spend(self, seconds, timeout):
        if timeout is not None and seconds > timeout:
            self.now += timeout
            raise TimedOut("timed out")
        self.now += seconds

    def resolve(self, name, type="A", *, timeout=10.0):
        self.resolved.append(name)
        addresses = self.names.get(name)
        if addresses is None:
            raise NameNotFound(f"{name} does not exist")
        self._spend(addresses if isinstance(addresses, float) else 0.25, timeout)
        return addresses

    def create_connection(self, address, timeout=None):
        self.connected.append(address)
        make = self.listening.get(address)
        if make == "silent":
            self._spend(1e9, timeout)
        self._spend(0.5, timeout)
        if make is None:
            raise Refused("connection refused")
        self.sockets.append(FakeSocket(self, make(self)))
        return self.sockets[-1]


@pytest.fixture
def fake_host():
    return FakeHost


@pytest.fixture
def script():
    return Script
