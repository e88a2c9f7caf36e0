"""A program that uses every public name the way the contract spells it.

It runs here, and mypy reads it (``make lint``): what it does must also be what the types allow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import netstack
from netstack import (
    Closed,
    Config,
    Connected,
    Host,
    Link,
    Network,
    QueueDevice,
    Refused,
    Response,
    Stack,
    TcpConfig,
    TimedOut,
    Unreachable,
    capture,
    fetch,
    internet,
)
from netstack.app import services

if TYPE_CHECKING:
    from pathlib import Path

    from netstack import Connection, Datagrams, Incoming, Listener, TraceEvent


def test_sans_io_surface() -> None:
    client = Stack("client", seed=1, config=Config(tcp=TcpConfig()))
    server = Stack(name="server", seed=2)
    near, far = QueueDevice(medium="ip", mtu=1500, gso_max_size=0), QueueDevice()
    client.attach(near, "192.0.2.1/24", gateway="192.0.2.2")
    server.attach(far, "192.0.2.2/24")
    listener: Listener = server.listen(("", 80), backlog=16)
    seen: list[TraceEvent] = []
    with client.trace(seen.append):
        connection: Connection = client.connect(("192.0.2.2", 80), 0.0, local=("", 4000))
        for step in range(9):
            now = step / 100
            client.poll(now)
            server.receive(far, near.transmitted(), now)
            server.poll(now)
            for packet in far.transmitted():
                near.receive(packet)
    deadline: float | None = client.next_deadline()
    assert deadline is None or deadline >= 0
    event = client.next_event()
    assert isinstance(event, Connected)
    assert event.source is connection
    assert seen
    accepted = listener.accept()
    assert accepted is not None
    assert connection.send(b"hello", 1.0) == 5
    assert connection.receive(100, 1.0) is None
    connection.shutdown_write(1.0)
    connection.close(1.0)
    accepted.abort(1.0)
    datagrams: Datagrams = client.datagrams(("", 0))
    assert datagrams.send(b"x", 1.0, ("192.0.2.2", 9)) == 1
    offered: list[Incoming] = []
    server.forward_tcp(offered.append)
    counters = client.counters()
    assert counters["tcp.segments_sent"] > 0
    assert [info.state for info in client.connections()]


def test_simulated_world(tmp_path: Path) -> None:
    path = tmp_path / "world.pcapng"
    with Network(seed=1, max_time=3600.0) as network:
        a = network.host("a", "192.0.2.1/24", gateway="192.0.2.254", dns="198.51.100.1")
        b = network.host("b", "198.51.100.1/24", gateway="198.51.100.254", dns=["198.51.100.1"])
        router = network.router("r", "192.0.2.254/24", "198.51.100.254/24")
        switch = network.switch("s")
        link: Link = network.link(
            a, switch, delay=1e-3, jitter=1e-4, rate=1e8, queue=100, mtu=1500,
            loss=0.0, reorder=0.0, duplicate=0.0, corrupt=0.0,
        )  # fmt: skip
        network.link(switch, router)
        network.link(router, b)
        recorder = network.record(path)
        b.serve(services.echo(), 7)
        b.serve(services.http({"/": b"hello"}), 80, address="198.51.100.1")

        def talk(times: int, *, word: bytes) -> bytes:
            with a.create_connection(("198.51.100.1", 7), timeout=10.0) as socket:
                socket.sendall(word * times)
                return socket.recv(100)

        task = a.spawn(talk, 2, word=b"ab")
        assert task.join() == b"abab"
        response: Response = fetch("http://198.51.100.1/", host=a, max_size=100)
        assert (response.status, response.text, response.history) == (200, "hello", ())
        response.raise_for_status()
        timings = response.timings
        assert timings.resolved <= timings.connected <= timings.sent <= timings.first_octet
        assert timings.first_octet <= timings.done
        assert response.headers.get_all("content-length") == ["5"]

        link.set(up=False, toward=switch)
        with pytest.raises(TimeoutError):
            fetch("http://198.51.100.1/", host=a, timeout=1.0)
        link.set(up=True, loss=0.1)
        a.sleep(1.0)
        network.run(until=network.now + 1.0)
        recorder.close()
        assert network.hosts["a"] is a
        assert a.now == network.now
    packets = list(capture.read(path))
    first = next(packet.tcp for packet in packets if packet.tcp is not None)
    assert (first.destination_port, first.ack) == (7, 0)
    assert all(packet.captured <= packet.length for packet in packets)


def test_embedded_internet() -> None:
    with internet(seed=3) as world:
        host: Host = world.hosts["client"]
        addresses: list[str] = host.resolve("www.netstack.test", "A", timeout=5.0)
        assert addresses
        with pytest.raises(ConnectionRefusedError):
            host.create_connection((addresses[0], 1))


def test_link_settings_change_toward_one_end_only() -> None:
    with Network() as network:
        a, b = network.host("a", "192.0.2.1/24"), network.host("b", "192.0.2.2/24")
        link = network.link(a, b)
        link.set(loss=1.0, toward=b)
        link.set(delay=0.5)
        assert link.cable.a.outgoing.settings.loss == 1.0
        assert link.cable.b.outgoing.settings.loss == 0.0
        assert link.cable.b.outgoing.settings.delay == 0.5
        with pytest.raises(ValueError, match="not an end of a-b"):
            link.set(loss=0.5, toward=network.host("c", "192.0.2.3/24"))


def test_errors_are_also_the_matching_builtin() -> None:
    assert issubclass(Refused, ConnectionRefusedError)
    assert issubclass(TimedOut, TimeoutError)
    assert issubclass(Unreachable, OSError)
    assert issubclass(netstack.Reset, ConnectionResetError)
    assert issubclass(netstack.DeviceError, OSError)
    assert issubclass(netstack.ParseError, ValueError)
    for error in (netstack.Deadlock, netstack.Livelock, netstack.NameNotFound):
        assert issubclass(error, netstack.NetstackError)
        assert not issubclass(error, OSError)
    assert Closed(None).error is None
