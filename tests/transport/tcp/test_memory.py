"""What all connections of a host hold together: counted in full, bounded, and fairly cut."""

import gc
import random
import tracemalloc

import pytest

from netstack import Network
from netstack.core.address import parse_address
from netstack.core.buffer import ReceiveBuffer, SendBuffer
from netstack.core.config import Config, TcpConfig
from netstack.transport.tcp.limits import FLOOR, LARGE_FLOOR
from netstack.wire.ipv4 import IPv4Header
from netstack.wire.tcp import TcpHeader, build_syn_options

OURS = parse_address("10.0.0.1")


class Crowd:
    """Many peers of one stack, each with one connection to it."""

    def __init__(self, peer):
        self.peer = peer.listen(1 << 16)
        self.stack = peer.stack
        self.iss = {}

    def inject(self, who, flags, seq, ack, data=b"", options=b""):
        """Let ``who``, an address and a port, send a segment; nothing is polled."""
        address, port = parse_address(who[0]), who[1]
        header = TcpHeader(
            port, 80, 5_000 + seq, ack, flags, 65_535, options=options
        ).with_checksum(address.packed, OURS.packed, data)  # fmt: skip
        octets = header.build() + data
        packet = IPv4Header(
            source=address, destination=OURS, protocol=6, total_length=20 + len(octets)
        ).with_checksum()
        self.stack.receive(self.peer.device, [packet.build() + octets], self.peer.now)

    def establish(self, who):
        self.inject(who, 2, 0, 0, options=build_syn_options(1460, 7, None))
        self.peer.poll()
        sent = TcpHeader.parse(IPv4Header.parse(self.peer.device.sent.pop())[1])[0]
        self.iss[who] = sent.seq
        self.inject(who, 16, 1, sent.seq + 1 & 0xFFFFFFFF)
        return self.peer.listener.accept()

    def data(self, who, seq, data):
        self.inject(who, 24, seq, self.iss[who] + 1 & 0xFFFFFFFF, data)


def total(stack):
    return sum(connection.held for connection in stack.tcp.connections.values())


@pytest.mark.parametrize(
    ("count", "limit"), [(400, 2 << 20), pytest.param(10_000, 32 << 20, marks=pytest.mark.soak)]
)
def test_tcp_57_queues_of_all_connections_stay_below_the_limit(make_peer, count, limit):
    peer = make_peer(memory_limit=limit)
    crowd = Crowd(peer)
    peers = {(f"10.0.0.{1 + n % 200 + 1}", 1000 + n): None for n in range(count)}
    for who in peers:
        peers[who] = crowd.establish(who)
    memory = peer.stack.tcp.memory
    floor = len(peers) * 3 * FLOOR
    taken = 0
    for round_ in range(12):
        for who, connection in peers.items():
            crowd.data(who, 1 + 1460 * round_, bytes(1460))
            taken += connection.send(bytes(50_000), peer.now)
        peer.poll()
        peer.device.sent.clear()
        assert memory.used == total(peer.stack) <= limit + floor
    assert memory.full
    assert peer.counter("tcp.memory_refused")
    assert taken < len(peers) * 50_000 * 12
    # Room for new data comes back with what is taken.
    for connection in peers.values():
        connection.receive(1 << 20, peer.now)
        connection.abort(peer.now)
    assert memory.used == 0
    assert not memory.tight


def test_tcp_57_established_flows_finish_under_pressure():
    limit = 300_000
    network = Network(seed=3)
    config = Config(tcp=TcpConfig(memory_limit=limit))
    server = network.host("server", "10.0.0.1/24", config=config)
    client = network.host("client", "10.0.0.2/24")
    network.link(server, client, delay=0.005, rate=50e6)
    stream = random.Random(1).randbytes(150_000)
    listener = server.create_server(("", 80))
    peak = 0

    def read(sock, host):
        data = bytearray()
        while len(data) < len(stream):
            nonlocal peak
            peak = max(peak, server.stack.tcp.memory.used)
            host.sleep(0.02)  # slower than the network
            data += sock.recv(8_192)
        return bytes(data)

    def serve():
        sock, _ = listener.accept()
        with sock:
            writing = server.spawn(sock.sendall, stream)
            got = read(sock, server)
            writing.join()
            return got

    def ask():
        with client.create_connection(("10.0.0.1", 80)) as sock:
            writing = client.spawn(sock.sendall, stream)
            got = read(sock, client)
            writing.join()
            return got

    count = 12
    tasks = [server.spawn(serve) for _ in range(count)] + [client.spawn(ask) for _ in range(count)]
    assert all(task.join() == stream for task in tasks)
    assert limit * 3 // 4 < peak <= limit + count * 3 * FLOOR
    network.run(until=200)
    assert server.stack.tcp.memory.used == 0


def test_tcp_24_the_peer_with_the_most_goes_first(make_peer):
    peer = make_peer(memory_limit=400_000)
    crowd = Crowd(peer)
    modest = ("10.0.0.3", 1000)
    greedy = [("10.0.0.4", 1000 + n) for n in range(4)]
    honest = crowd.establish(modest)
    others = [crowd.establish(who) for who in greedy]
    crowd.data(modest, 1 + 1460, b"m" * 1460)
    for index in range(200):
        for who in greedy:
            crowd.data(who, 11 + 2 * index, b"g")  # a hole before each octet
    assert peer.counter("tcp.out_of_order_pruned")
    assert honest.receiver.out_of_order
    assert peer.stack.tcp.memory.used < 400_000
    crowd.data(modest, 1, b"m" * 1460)
    assert len(honest.receive(10_000, peer.now)) == 2920
    # What was pruned is taken again when it is sent again.
    crowd.data(greedy[0], 1, bytes(1000))
    assert len(others[0].receive(10_000, peer.now)) >= 1000


def test_tcp_24_text_out_of_order_beyond_the_bound_is_a_counted_drop(make_peer):
    peer = make_peer(receive_buffer=4_000).established()
    for index in range(400):
        peer.inject("A", seq=3_600 - 2 * index, ack=1, data=b"x")
    peer.segments()
    refused = peer.counter("tcp.out_of_order_refused")
    assert refused
    assert peer.counter("tcp.out_of_order") == 400 - refused
    peer.inject("A", seq=2, ack=1, data=b"x")
    peer.expect("A", ack=1)  # with an answer, as everything that is not taken
    peer.inject("PA", seq=1, ack=1, data=b"y" * 1_460)
    assert peer.connection.receive(4_000, peer.now)[:1_460] == b"y" * 1_460


def test_pruning_stops_when_enough_is_free(make_peer):
    peer = make_peer(memory_limit=200_000)
    crowd = Crowd(peer)
    peers = [(f"10.0.0.{n}", 1000) for n in range(3, 13)]
    connections = [crowd.establish(who) for who in peers]
    for index in range(40):
        for who in peers:
            crowd.data(who, 11 + 2 * index, b"g")
    held = [bool(connection.receiver.out_of_order) for connection in connections]
    assert any(held)
    assert 200_000 // 2 < peer.stack.tcp.memory.used < 200_000


def test_window_closes_to_a_floor_when_memory_is_short(make_peer):
    peer = make_peer(memory_limit=100_000)
    crowd = Crowd(peer)
    hog, other = ("10.0.0.3", 1000), ("10.0.0.4", 1000)
    crowd.establish(hog)
    connection = crowd.establish(other)
    for index in range(55):
        crowd.data(hog, 1 + 1460 * index, bytes(1460))
    assert peer.stack.tcp.memory.tight
    assert connection.receiver.free() <= LARGE_FLOOR
    assert connection.sender.room() <= 100_000 - peer.stack.tcp.memory.used + FLOOR
    assert connection.send(bytes(100_000), peer.now) > 0


def test_refused_text_is_answered_and_sent_again(make_peer):
    peer = make_peer(memory_limit=10_000)
    crowd = Crowd(peer)
    who = ("10.0.0.3", 1000)
    connection = crowd.establish(who)
    for index in range(10):
        crowd.data(who, 1 + 1460 * index, bytes(1460))
    received = connection.received
    assert received < 14_600
    assert peer.counter("tcp.memory_refused") == 10 - received // 1460
    peer.poll()
    assert peer.device.sent
    assert len(connection.receive(20_000, peer.now)) == received
    crowd.data(who, 1 + received, bytes(1460))
    assert connection.received == received + 1460


# ---- the count is true ---------------------------------------------------------------------


def traced(build):
    """Return what ``build`` makes and the memory that it takes."""
    build()
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        made = build()
        return made, tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [1, 100, 600, 1460, 5_000, 60_000])
def test_send_buffer_holds_no_more_than_it_says(size):
    def build():
        buffer = SendBuffer()
        for _ in range(120_000 // max(size, 100)):
            buffer.append(random.Random(1).randbytes(size), size)
        return buffer

    buffer, used = traced(build)
    assert used <= buffer.held * 1.1 + 2_000


@pytest.mark.parametrize("size", [1, 100, 600, 1460, 5_000, 60_000])
@pytest.mark.parametrize("pinned", [1, 3, 8])
def test_receive_buffer_holds_no_more_than_it_says(size, pinned):
    def build():
        buffer = ReceiveBuffer()
        for _ in range(120_000 // max(size, 100)):
            buffer.append([memoryview(bytes(size * pinned))[:size]])
        return buffer

    buffer, used = traced(build)
    assert used <= buffer.held * 1.1 + 2_000
    while buffer.length:
        buffer.take(777)
    assert buffer.held == 0


def test_send_buffer_counts_nothing_once_all_is_acknowledged():
    buffer = SendBuffer()
    buffer.append(bytes(10_000), 10_000)
    buffer.append(b"x" * 10, 10)
    assert buffer.held > 10_010
    buffer.release(10_010)
    assert buffer.held == 0


# ---- what an idle connection costs ---------------------------------------------------------


def test_idle_connection_with_its_socket_takes_at_most_2500_octets():
    network = Network(seed=1)
    client = network.host("client", "10.0.0.1/24")
    server = network.host("server", "10.0.0.2/24")
    network.link(client, server)
    listener = server.create_server(("", 80), backlog=1000)
    ends = []

    def connect(count):
        for _ in range(count):
            ends.append(client.create_connection(("10.0.0.2", 80)))
            ends.append(listener.accept()[0])

    def idle():
        client.sleep(1.0)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    connect(20)  # what hosts and paths take once
    tracemalloc.start()
    try:
        before = idle()
        connect(300)
        cost = (idle() - before) / 600
    finally:
        tracemalloc.stop()
    assert cost <= 2500
    assert not ends[-1]._connection.sender.queue


def test_what_waits_in_time_wait_is_no_longer_counted(make_peer):
    peer = make_peer().fin_wait_2()
    peer.inject("A", seq=1, ack=2, data=b"unread")
    assert peer.stack.tcp.memory.used
    peer.inject("FA", seq=7, ack=2)
    assert peer.state == "TIME_WAIT"
    assert peer.stack.tcp.memory.used == 0
    assert peer.connection.receive(10, peer.now) == b"unread"
    assert peer.stack.tcp.memory.used == 0
