import pytest

from netstack.core.address import parse_address
from netstack.core.errors import LocalProtocolError, Unreachable
from netstack.internet.echo import MAX_QUEUED, EchoError, EchoReply
from netstack.internet.errors import ErrorKind
from netstack.wire.icmpv4 import ICMPv4Header
from netstack.wire.ipv4 import IPv4Header

REMOTE = parse_address("192.0.2.9")


def _reply(packet, icmp, endpoint, sequence, payload=b"ping", **fields):
    fields.setdefault("protocol", 1)
    return packet(icmp(0, 0, endpoint.identifier << 16 | sequence, payload), **fields)


def test_request_goes_out_and_its_reply_comes_back(world, packet, icmp):
    endpoint = world.internet.open_echo()
    ready = []
    endpoint.on_ready = lambda: ready.append(True)
    endpoint.send(REMOTE, 1, b"ping", hop_limit=5)
    header, message = IPv4Header.parse(world.eth.take()[0])
    request, payload = ICMPv4Header.parse(message)
    assert header.ttl == 5
    assert (request.type, request.identifier, request.sequence) == (8, endpoint.identifier, 1)
    assert bytes(payload) == b"ping"
    assert endpoint.receive() is None
    world.advance(0.25)
    world.inject(_reply(packet, icmp, endpoint, 1, ttl=61))
    assert endpoint.readable
    assert endpoint.receive() == EchoReply(REMOTE, 1, b"ping", 61, 0.25)
    assert not endpoint.readable
    assert ready == [True]


def test_request_to_ourselves_is_answered_through_loopback(world):
    endpoint = world.internet.open_echo()
    endpoint.send(parse_address("127.0.0.1"), 7, b"me")
    for _ in range(2):
        for data in world.lo.take():
            world.inject(data, world.lo)
    reply = endpoint.receive()
    assert (str(reply.source), reply.sequence, reply.payload) == ("127.0.0.1", 7, b"me")


def test_each_endpoint_gets_its_own_replies(world, packet, icmp):
    first, second = world.internet.open_echo(), world.internet.open_echo()
    assert first.identifier != second.identifier
    world.inject(_reply(packet, icmp, second, 3))
    assert first.receive() is None
    assert second.receive().sequence == 3


def test_reply_that_nobody_asked_for_is_counted(world, packet, icmp):
    endpoint = world.internet.open_echo()
    endpoint.close()
    endpoint.close()
    world.inject(_reply(packet, icmp, endpoint, 1))
    assert endpoint.receive() is None
    assert world.counters["icmpv4.no_endpoint"] == 1
    with pytest.raises(LocalProtocolError):
        endpoint.send(REMOTE, 1, b"")


def test_queue_is_bounded_in_replies_and_octets(world, packet, icmp):
    endpoint = world.internet.open_echo()
    for _ in range(MAX_QUEUED + 5):
        world.inject(_reply(packet, icmp, endpoint, 1))
    assert world.counters["icmpv4.receive_queue_full"] == 5
    for _ in range(MAX_QUEUED):
        endpoint.receive()
    big = EchoReply(REMOTE, 1, bytes(65_000), 64, 0.0)
    assert sum(endpoint.queue(big) for _ in range(20)) == 16


@pytest.mark.parametrize(
    ("type_", "code", "kind"),
    [(3, 1, ErrorKind.HOST_UNREACHABLE), (11, 0, ErrorKind.TIME_EXCEEDED)],
)
def test_error_about_a_request_is_received(world, packet, icmp, type_, code, kind):
    endpoint = world.internet.open_echo()
    endpoint.send(REMOTE, 4, b"x" * 20)
    request = world.eth.take()[0]
    message = icmp(type_, code, 0, request)
    world.inject(packet(message, source="192.0.2.254", protocol=1))
    assert endpoint.receive() == EchoError(
        kind, REMOTE, 4, parse_address("192.0.2.254"), world.context.now
    )


def test_error_about_a_request_never_sent_is_not_believed(world, packet, icmp):
    endpoint = world.internet.open_echo()
    endpoint.send(REMOTE, 4, b"")
    request = bytearray(world.eth.take()[0])
    request[27] ^= 1  # another sequence number
    world.inject(packet(icmp(3, 1, 0, bytes(request)), protocol=1))
    reply = packet(icmp(0, 0, 0x10001), source="192.0.2.1", destination="192.0.2.9", protocol=1)
    world.inject(packet(icmp(3, 1, 0, reply), protocol=1))
    assert endpoint.receive() is None
    assert world.counters["icmpv4.error_not_believed"] == 1
    assert world.counters["icmpv4.bad_quote"] == 1


def test_silent_neighbour_is_an_error_without_reporter(world):
    endpoint = world.internet.open_echo()
    endpoint.send(REMOTE, 9, b"")
    (frame,) = world.eth.sent
    world.eth.on_unresolved(REMOTE, frame, frame.start)
    assert endpoint.receive() == EchoError(ErrorKind.HOST_UNREACHABLE, REMOTE, 9, None, 0.0)


def test_longest_payload_goes_out_in_fragments_and_a_longer_one_is_refused(world):
    endpoint = world.internet.open_echo()
    endpoint.send(REMOTE, 1, bytes(65_507))
    assert len(world.eth.take()) == 45
    with pytest.raises(LocalProtocolError):
        endpoint.send(REMOTE, 1, bytes(65_508))


def test_no_route_is_raised_and_remembered_requests_are_bounded(world):
    endpoint = world.internet.open_echo()
    with pytest.raises(Unreachable):
        endpoint.send(parse_address("203.0.113.1"), 1, b"")
    for sequence in range(2000):
        endpoint.send(REMOTE, sequence, b"")
    assert endpoint.knows(1999, REMOTE.packed)
    assert not endpoint.knows(10, REMOTE.packed)
