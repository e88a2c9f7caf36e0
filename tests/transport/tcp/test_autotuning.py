"""Buffers that follow the path: they fill it, and a slow reader's stay small."""

import socket as std
from contextlib import suppress

import pytest

from netstack import Network
from netstack.core.config import Config, TcpConfig
from netstack.transport.tcp.autotuning import INITIAL_SIZE

RTT, RATE, MTU = 0.1, 100e6, 9000
BDP_FRAMES = int(RATE / 8 * RTT / MTU)


class LongPath:
    """Two hosts, 100 ms and 100 Mb/s apart; the first sends as much as it can."""

    def __init__(self, **tcp):
        self.network = Network(seed=1)
        config = Config(tcp=TcpConfig(**tcp))
        self.sending = self.network.host("sending", "10.0.0.1/24", config=config)
        self.receiving = self.network.host("receiving", "10.0.0.2/24", config=config)
        self.network.link(
            self.sending, self.receiving, delay=RTT / 2, rate=RATE, mtu=MTU, queue=BDP_FRAMES
        )
        self.listener = self.receiving.create_server(("", 80))
        self.client = self.sending.create_connection(("10.0.0.2", 80))
        self.socket, _ = self.listener.accept()
        self.sending.spawn(self._send)

    def _send(self):
        data = bytes(1 << 20)
        with suppress(OSError):  # the reader ends it, one way or the other
            while True:
                self.client.sendall(data)

    @property
    def receiver(self):
        (connection,) = self.receiving.stack.tcp.connections.values()
        return connection.receiver

    @property
    def sender(self):
        (connection,) = self.sending.stack.tcp.connections.values()
        return connection.sender

    def read_until(self, end):
        """Take what comes; return how many octets those were."""
        total = 0
        while self.receiving.stack.context.now < end:
            total += len(self.socket.recv(65_536))
        return total


@pytest.mark.slow
@pytest.mark.parametrize("timestamps", [True, False])
def test_buffers_grow_until_a_long_path_is_full(timestamps):
    path = LongPath(timestamps=timestamps)
    path.read_until(2.0)
    assert path.read_until(3.0) * 8 >= 0.9 * RATE
    assert path.receiver.buffer_size >= RATE / 8 * RTT
    assert path.sender.buffer_size >= RATE / 8 * RTT
    assert path.receiver.buffer_size <= path.receiver.buffer_limit == 6 << 20
    assert path.sender.buffer_size <= path.sender.buffer_limit == 4 << 20


def test_fixed_buffers_stay_as_they_are_given():
    path = LongPath(send_buffer=100_000, receive_buffer=90_000)
    taken = path.read_until(2.0)
    assert (path.sender.buffer_size, path.receiver.buffer_size) == (100_000, 90_000)
    assert path.receiver.tuner is None
    assert taken <= 90_000 * (2.0 / RTT)  # a window a round trip


def test_buffers_grow_no_further_than_the_configuration_says():
    path = LongPath(send_buffer_max=300_000, receive_buffer_max=200_000)
    path.read_until(2.0)
    assert (path.sender.buffer_size, path.receiver.buffer_size) == (300_000, 200_000)


def test_socket_options_fix_the_sizes():
    path = LongPath()
    path.socket.setsockopt(std.SOL_SOCKET, std.SO_RCVBUF, 150_000)
    path.client.setsockopt(std.SOL_SOCKET, std.SO_SNDBUF, 140_000)
    path.read_until(2.0)
    assert path.socket.getsockopt(std.SOL_SOCKET, std.SO_RCVBUF) == 150_000
    assert (path.sender.buffer_size, path.receiver.buffer_size) == (140_000, 150_000)


@pytest.mark.parametrize("timestamps", [True, False])
def test_slow_reader_keeps_a_small_buffer(timestamps):
    path = LongPath(timestamps=timestamps)
    for _ in range(100):
        path.receiving.sleep(0.05)
        path.socket.recv(10_000)
    assert path.receiver.buffer_size <= 2 * INITIAL_SIZE
    assert path.receiver.buffer.length <= path.receiver.buffer_size * 9 // 8


def test_reader_that_stops_has_no_more_than_the_window_buffered():
    path = LongPath()
    path.read_until(1.0)
    size = path.receiver.buffer_size
    path.receiving.sleep(5.0)
    assert path.receiver.buffer_size == size
    assert path.receiver.buffer.length <= size * 9 // 8  # the window is told rounded up
    assert path.sender.snd_wnd == 0


def test_idle_connection_keeps_the_size_that_it_had():
    path = LongPath()
    path.read_until(1.0)
    size, edge = path.receiver.buffer_size, path.receiver.rcv_adv
    path.socket.settimeout(0.0)
    path.receiving.sleep(1.0)
    assert path.receiver.buffer_size == size
    assert path.receiver.rcv_adv >= edge


# ---- scripted ------------------------------------------------------------------------------


def window_scale(options):
    index = options.index(b"\x03\x03")
    return options[index + 2]


@pytest.mark.parametrize(
    ("options", "scale"),
    [
        ({}, 7),  # 6 MiB
        ({"receive_buffer_max": 65_535}, 0),
        ({"receive_buffer_max": 65_536}, 1),
        ({"receive_buffer": 1000}, 0),
        ({"receive_buffer": 1 << 20}, 5),
    ],
)
def test_window_scale_is_that_of_the_largest_buffer(make_peer, options, scale):
    peer = make_peer(**options)
    peer.connection = peer.stack.connect(("10.0.0.2", peer.port), peer.now)
    peer.poll()
    assert window_scale(peer.expect("S").header.options) == scale


def test_size_set_before_the_syn_leaves_chooses_the_scale(make_peer):
    peer = make_peer()
    peer.connection = peer.stack.connect(("10.0.0.2", peer.port), peer.now)
    peer.connection.set_option("receive_buffer", 300_000)
    peer.poll()
    assert window_scale(peer.expect("S").header.options) == 3


def test_size_set_after_the_syn_leaves_the_scale_alone(peer):
    peer.syn_sent()
    peer.connection.set_option("receive_buffer", 300_000)
    assert peer.connection.receiver.shift == 7


def test_send_buffer_follows_the_congestion_window(make_peer):
    peer = make_peer().established()
    peer.connection.send(bytes(1 << 20), peer.now)
    assert peer.connection.sent == INITIAL_SIZE
    peer.poll()
    sender = peer.connection.sender
    sender.congestion.cwnd = 200_000
    peer.inject("A", seq=1, ack=1461)
    assert 400_000 <= sender.buffer_size <= 2 * sender.congestion.cwnd
    sender.congestion.cwnd = 10_000_000
    peer.inject("A", seq=1, ack=2921)
    assert sender.buffer_size == peer.config.send_buffer_max
    sender.congestion.cwnd = 10_000
    peer.inject("A", seq=1, ack=4381)
    assert sender.buffer_size == peer.config.send_buffer_max  # never shrinks


def fill_window(peer, seq):
    """Send segments up to the right edge of the window; return the next sequence number."""
    receiver = peer.connection.receiver
    while (room := receiver.rcv_adv - receiver.rcv_nxt) > 0:
        data = bytes(min(room, 1460))
        peer.inject("A", seq=seq, ack=1, data=data)
        seq += len(data)
    return seq


def test_peer_learns_at_once_that_a_full_buffer_was_drained(make_peer):
    peer = make_peer().listen()
    peer.inject("S", seq=0, options=bytes((2, 4, 5, 180, 1, 3, 3, 7)))
    peer.expect("SA")
    peer.inject("A", seq=1, ack=1)
    peer.connection, peer.scale = peer.listener.accept(), 7
    fill_window(peer, 1)
    peer.advance(1)
    assert peer.segments()[-1].window == 0
    peer.connection.receive(1 << 20, peer.now)
    peer.poll()
    assert peer.expect("A").window >= INITIAL_SIZE


def test_without_scaling_the_buffer_stays(make_peer):
    peer = make_peer().established()
    seq = 1
    for _ in range(20):
        seq = fill_window(peer, seq)
        peer.connection.receive(1 << 20, peer.now)
        peer.advance(0.01)
    assert peer.connection.receiver.buffer_size == INITIAL_SIZE
    assert peer.connection.receiver.tuner is None
