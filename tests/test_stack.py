"""A whole stack by itself and two of them in a loop: what its caller may rely on."""

import pytest

from netstack.core.config import Config, Ipv4Config, TcpConfig
from netstack.core.errors import Aborted, Unreachable
from netstack.core.timers import Timer
from netstack.device.base import Capabilities, Device, Frame, Medium
from netstack.device.queue import QueueDevice
from netstack.stack import Stack
from netstack.transport.tcp.receiver import Receiver


class Pair:
    """Two stacks, a queue device each, in a plain loop with its own clock."""

    def __init__(self, **options):
        self.now = 0.0
        self.a, self.b = Stack("a", seed=1), Stack("b", seed=2)
        self.near, self.far = QueueDevice(**options), QueueDevice(**options)
        self.a.attach(self.near, "10.0.0.1/24")
        self.b.attach(self.far, "10.0.0.2/24")

    def step(self):
        for stack in (self.a, self.b):
            stack.poll(self.now)
        moved = False
        for source, target in ((self.near, self.far), (self.far, self.near)):
            for packet in source.transmitted():
                target.receive(packet)
                moved = True
        return moved

    def run(self, seconds):
        end = self.now + seconds
        while True:
            while self.step():
                pass
            deadlines = [stack.next_deadline() for stack in (self.a, self.b)]
            due = min((when for when in deadlines if when is not None), default=None)
            if due is None or due > end:
                break
            self.now = max(self.now, due)
        self.now = end

    def connect(self):
        listener = self.b.listen(("", 80))
        client = self.a.connect(("10.0.0.2", 80), self.now)
        self.run(0.1)
        return client, listener.accept()


@pytest.fixture(params=["ip", "ethernet"])
def pair(request):
    return Pair(medium=request.param)


class BusyDevice(Device):
    """Takes nothing until ``free``."""

    def __init__(self):
        super().__init__("busy", Capabilities(Medium.IP, 1500))
        self.free = False
        self.sent = []

    def transmit(self, frame):
        if self.free:
            self.sent.append(frame.octets())
        return self.free

    def receive_burst(self, limit=64):
        return []


def events(stack):
    taken = []
    while (event := stack.next_event()) is not None:
        taken.append(event)
    return taken


def test_two_stacks_in_a_plain_loop_move_a_megabyte(pair):
    client, server = pair.connect()
    data = bytes(range(256)) * 4096
    sent, got = 0, bytearray()
    while len(got) < len(data):
        sent += client.send(data[sent : sent + 100_000], pair.now)
        pair.run(0.01)
        while piece := server.receive(1 << 20, pair.now):
            got += piece
    assert got == data
    client.close(pair.now)
    pair.run(0.1)
    assert server.receive(1, pair.now) == b""
    server.close(pair.now)
    pair.run(120)
    assert not pair.a.connections()
    assert not pair.b.connections()
    assert pair.a.next_deadline() is None or pair.a.next_deadline() > pair.now


def test_a_thousand_stacks_live_in_one_process():
    stacks = [Stack(f"host{index}", seed=index) for index in range(1_000)]
    for index, stack in enumerate(stacks):
        listener = stack.listen(("", 80))
        client = stack.connect(("127.0.0.1", 80), 0.0)
        while (deadline := stack.next_deadline()) is not None and deadline <= 0.0:
            stack.poll(0.0)
        server = listener.accept()
        client.send(str(index).encode(), 0.0)
        stack.poll(0.0)
        stack.poll(0.0)
        assert server.receive(10, 0.0) == str(index).encode()


# ---- next_deadline ------------------------------------------------------------------------------


def test_an_idle_stack_needs_no_poll():
    stack = Stack()
    stack.attach(QueueDevice(), "10.0.0.1/24")
    stack.poll(5.0)
    assert stack.next_deadline() is None


def test_what_a_device_holds_is_due_at_once():
    stack, device = Stack(), QueueDevice()
    stack.attach(device, "10.0.0.1/24")
    stack.poll(5.0)
    device.receive(b"anything")
    assert stack.next_deadline() <= 5.0
    stack.poll(5.0)
    assert stack.next_deadline() is None
    assert sum(stack.counters().values()) > 0


def test_loopback_traffic_is_due_until_it_is_over():
    stack = Stack(seed=1)
    listener = stack.listen(("127.0.0.1", 80))
    client = stack.connect(("127.0.0.1", 80), 1.0)
    polls = 0
    while stack.next_deadline() is not None and stack.next_deadline() <= 1.0:
        stack.poll(1.0)
        polls += 1
    assert polls < 20
    assert client.state.name == "ESTABLISHED"
    assert listener.accept() is not None
    assert stack.next_deadline() is None or stack.next_deadline() > 1.0


def test_a_busy_device_is_not_polled_in_a_loop():
    stack, device = Stack(seed=1), BusyDevice()
    stack.attach(device, "10.0.0.1/24")
    stack.connect(("10.0.0.2", 80), 0.0)
    stack.poll(0.0)
    assert stack.next_deadline() > 0.0  # the retransmission timer
    device.free = True
    stack.poll(0.5)
    assert len(device.sent) == 1


def test_data_behind_a_busy_device_is_given_up_in_time():
    config = Config(tcp=TcpConfig(r2_timeout=60.0, syn_timeout=60.0))
    stack, device = Stack(seed=1, config=config), BusyDevice()
    stack.attach(device, "10.0.0.1/24")
    connection = stack.connect(("10.0.0.2", 80), 0.0)
    now = 0.0
    for _ in range(1_000):
        stack.poll(now)
        deadline = stack.next_deadline()
        if deadline is None:
            break
        assert deadline > now
        now = deadline
    assert connection.state.name == "CLOSED"
    assert 60 <= now < 200


def test_output_resumes_when_a_queue_drained_within_the_poll():
    """More than a flow may queue: nothing else would wake a connection that waited for room."""
    pair = Pair()
    client, server = pair.connect()
    client.sender.congestion.cwnd = 1 << 20
    client.sender.snd_wnd = 1 << 20
    client.set_option("send_buffer", 1 << 20)
    client.send(bytes(600_000), pair.now)
    pair.a.poll(pair.now)
    assert sum(map(len, pair.near.transmitted())) > 600_000
    assert server is not None


def test_time_never_goes_back():
    stack = Stack(seed=1)
    stack.poll(10.0)
    stack.poll(3.0)
    assert stack.context.now == 10.0
    stack.connect(("127.0.0.1", 80), 4.0)
    assert stack.next_deadline() == 10.0


# ---- receive ------------------------------------------------------------------------------------


class Broken(Receiver):
    """A receiver that fails as a bug in it would."""

    def __init__(self, receiver):
        super().__init__(receiver.buffer_size)
        for name in Receiver.__slots__:
            setattr(self, name, getattr(receiver, name))

    def take_text(self, seq, pieces, length):
        raise ZeroDivisionError("injected")


def test_an_internal_error_costs_only_the_connection_concerned():
    pair = Pair()
    listener = pair.b.listen(("", 80))
    clients = [pair.a.connect(("10.0.0.2", 80), 0.0) for _ in range(3)]
    pair.run(0.1)
    servers = [listener.accept() for _ in clients]
    order = {server.remote[1]: server for server in servers}
    victim = order[clients[1].local[1]]
    victim.receiver = Broken(victim.receiver)
    for client in clients:
        client.send(b"hello", pair.now)
    pair.a.poll(pair.now)
    burst = pair.near.transmitted()
    assert len(burst) == 3
    pair.b.receive(pair.far, burst, pair.now)  # in one burst, and nothing raises
    assert pair.b.counters()["stack.internal_error"] == 1
    assert isinstance(pair.b.last_error, ZeroDivisionError)
    for index in (0, 2):
        assert order[clients[index].local[1]].receive(10, pair.now) == b"hello"
    with pytest.raises(Aborted):
        victim.receive(10, pair.now)


def test_an_internal_error_in_a_timer_leaves_the_other_timers():
    pair = Pair()
    pair.connect()
    stack = pair.a
    fired = []

    def fail(now):
        raise ZeroDivisionError("injected")

    for callback in (fired.append, fail, fired.append, fired.append):
        stack.context.timers.arm(Timer(callback), pair.now + 1)
    stack.poll(pair.now + 1)
    while stack.next_deadline() is not None and stack.next_deadline() <= pair.now + 1:
        stack.poll(pair.now + 1)
    assert len(fired) == 3
    assert stack.counters()["stack.internal_error"] == 1


@pytest.mark.parametrize("medium", ["ip", "ethernet"])
@pytest.mark.parametrize("length", [0, 1, 13, 14, 19, 20, 33, 34, 60])
def test_junk_of_any_length_is_dropped_and_counted(medium, length):
    stack, device = Stack(seed=1), QueueDevice(medium=medium)
    stack.attach(device, "10.0.0.1/24")
    for octet in (0, 0x45, 0xFF):
        stack.receive(device, [bytes([octet]) * length, Frame(bytes(length))], 0.0)
    assert stack.counters().get("stack.internal_error", 0) == 0
    assert stack.counters()["link.frames_received"] == 6


def test_frames_of_an_unknown_device_are_dropped_and_counted():
    stack = Stack()
    stack.receive(QueueDevice(), [b"x"], 0.0)
    assert stack.counters()["stack.unknown_device"] == 1


# ---- attach and detach --------------------------------------------------------------------------


def test_a_device_is_attached_once_and_can_come_back():
    stack, device = Stack(), QueueDevice()
    stack.attach(device, "10.0.0.1/24", gateway="10.0.0.254")
    with pytest.raises(ValueError, match="already"):
        stack.attach(device, "10.0.0.1/24")
    stack.detach(device)
    assert device not in stack.devices
    with pytest.raises(Unreachable):
        stack.connect(("10.0.0.2", 80), 0.0)
    stack.attach(device, "10.0.0.1/24")
    stack.connect(("10.0.0.2", 80), 0.0)


@pytest.mark.parametrize("bad", ["10.0.0.1", "10.0.0.1/33", "nonsense", "10.0.0.1/24/24"])
def test_text_that_is_no_address_leaves_nothing_attached(bad):
    stack, device = Stack(), QueueDevice()
    with pytest.raises(ValueError):  # noqa: PT011 - the message is the parser's
        stack.attach(device, bad)
    assert device not in stack.devices


def test_a_detached_device_lets_its_connections_end():
    pair = Pair()
    client, _ = pair.connect()
    client.send(b"x", pair.now)
    pair.a.detach(pair.near)
    for _ in range(200):
        pair.a.poll(pair.now)
        deadline = pair.a.next_deadline()
        if deadline is None:
            break
        pair.now = max(deadline, pair.now)
    assert client.state.name == "CLOSED"
    with pytest.raises(Unreachable):
        client.receive(1, pair.now)


# ---- events -------------------------------------------------------------------------------------


def test_events_nobody_pulls_stay_bounded():
    pair = Pair()
    client, server = pair.connect()
    for _ in range(500):
        client.send(b"x", pair.now)
        pair.run(0.05)
        assert server.receive(10, pair.now) == b"x"
    assert len(events(pair.b)) <= 5
    assert len(events(pair.a)) <= 5


def test_a_stack_that_forwards_still_serves_itself():
    router = Stack("router", seed=3, config=Config(ipv4=Ipv4Config(forwarding=True)))
    device = QueueDevice()
    router.attach(device, "10.0.0.1/24")
    listener = router.listen(("", 80))
    client = Stack("client", seed=4)
    other = QueueDevice()
    client.attach(other, "10.0.0.2/24")
    client.connect(("10.0.0.1", 80), 0.0)
    for _ in range(4):
        client.poll(0.0)
        for packet in other.transmitted():
            device.receive(packet)
        router.poll(0.0)
        for packet in device.transmitted():
            other.receive(packet)
    assert listener.accept() is not None
