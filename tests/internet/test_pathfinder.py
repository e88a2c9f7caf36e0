"""Routes, source selection, and when a path has to be asked for again."""

import errno

import pytest

from netstack.core.address import parse_address, parse_cidr, parse_prefix
from netstack.core.checksum import internet_sum
from netstack.core.errors import Unreachable


def _path(world, destination, source=None, interface=None):
    return world.internet.path(
        parse_address(destination), source and parse_address(source), interface
    )


def test_path_to_a_neighbour(world):
    path = _path(world, "192.0.2.9")
    assert str(path.source) == "192.0.2.1"
    assert path.next_hop == path.destination == parse_address("192.0.2.9")
    assert path.interface is world.eth
    assert (path.mtu, path.header_size) == (1500, 20)
    assert path.pseudo_header_sum == internet_sum(path.source.packed + path.destination.packed)
    assert (path.gso_max_size, path.tx_checksum) == (0, False)
    assert path.generation == world.internet.generation
    assert path.room("flow") == 1000
    assert "192.0.2.9" in repr(path)


def test_longest_prefix_wins(router):
    internet = router.internet
    internet.add_route(parse_prefix("0.0.0.0/0"), parse_address("192.0.2.254"))
    internet.add_route(parse_prefix("10.0.0.0/8"), parse_address("192.0.2.10"))
    internet.add_route(parse_prefix("10.1.0.0/16"), parse_address("198.51.100.9"))
    internet.add_route(parse_prefix("10.1.1.1/32"), None, router.eth)
    hops = {
        "203.0.113.1": "192.0.2.254",
        "10.2.0.1": "192.0.2.10",
        "10.1.0.1": "198.51.100.9",
        "10.1.1.1": "10.1.1.1",
    }
    for destination, next_hop in hops.items():
        assert str(_path(router, destination).next_hop) == next_hop
    assert str(_path(router, "10.1.0.1").source) == "198.51.100.1"
    assert str(_path(router, "10.2.0.1").source) == "192.0.2.1"


def test_route_of_an_interface_that_is_down_is_passed_over(router):
    router.internet.add_route(parse_prefix("0.0.0.0/0"), parse_address("192.0.2.254"))
    router.internet.add_route(parse_prefix("0.0.0.0/0"), parse_address("198.51.100.254"))
    assert _path(router, "203.0.113.1").interface is router.eth
    router.eth.up = False
    router.eth.on_change()
    assert _path(router, "203.0.113.1").interface is router.eth1


def test_gateway_must_be_a_neighbour(world):
    for gateway in ("203.0.113.1", None):
        address = gateway and parse_address(gateway)
        with pytest.raises(Unreachable):
            world.internet.add_route(parse_prefix("0.0.0.0/0"), address)


def test_source_shares_the_link_or_else_the_longest_prefix(world):
    for text in ("10.0.0.1/8", "10.1.0.1/16", "192.0.2.129/25"):
        world.internet.add_address(world.eth, parse_cidr(text))
    assert str(_path(world, "10.1.2.3").source) == "10.1.0.1"
    assert str(_path(world, "10.2.2.3").source) == "10.0.0.1"
    assert str(_path(world, "192.0.2.200").source) == "192.0.2.129"
    assert str(_path(world, "192.0.2.5").source) == "192.0.2.1"


def test_interface_without_address_borrows_one(world):
    tunnel = world.add("tun0")
    world.internet.add_route(parse_prefix("10.0.0.0/8"), None, tunnel)
    assert str(_path(world, "10.0.0.1").source) == "192.0.2.1"


def test_no_address_at_all_is_an_error(make_world):
    world = make_world()
    world.internet.remove_interface(world.eth)
    tunnel = world.add("tun0")
    world.internet.add_route(parse_prefix("10.0.0.0/8"), None, tunnel)
    with pytest.raises(Unreachable, match="no address"):
        _path(world, "10.0.0.1")
    with pytest.raises(Unreachable, match="no interface"):
        _path(world, "255.255.255.255")


def test_given_source_and_interface_are_used(router):
    assert str(_path(router, "192.0.2.9", "198.51.100.1").source) == "198.51.100.1"
    assert _path(router, "255.255.255.255", None, router.eth1).interface is router.eth1
    with pytest.raises(Unreachable):
        _path(router, "192.0.2.9", None, router.eth1)


@pytest.mark.parametrize(
    ("destination", "source", "code"),
    [
        ("203.0.113.1", None, errno.ENETUNREACH),
        ("0.0.0.0", None, errno.EADDRNOTAVAIL),
        ("2001:db8::1", None, errno.EAFNOSUPPORT),
        ("192.0.2.9", "192.0.2.77", errno.EADDRNOTAVAIL),
        ("192.0.2.9", "127.0.0.1", errno.EINVAL),
    ],
)
def test_impossible_paths_say_why(world, destination, source, code):
    with pytest.raises(Unreachable) as raised:
        _path(world, destination, source)
    assert raised.value.errno == code


@pytest.mark.parametrize(
    ("destination", "source"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.8.8.8", "127.0.0.1"),
        ("192.0.2.1", "192.0.2.1"),
    ],
)
def test_own_addresses_are_reached_through_loopback(world, destination, source):
    path = _path(world, destination)
    assert path.interface is world.lo
    assert str(path.source) == source
    assert path.mtu == 65535  # no IPv4 packet is longer, whatever the interface takes


def test_without_loopback_interface_own_addresses_are_unreachable(make_world):
    world = make_world()
    world.internet.remove_interface(world.lo)
    with pytest.raises(Unreachable, match="loopback"):
        _path(world, "127.0.0.1")
    assert not world.internet.is_local(parse_address("127.0.0.1"))


def test_broadcast_and_multicast_leave_through_the_first_outer_interface(world):
    for destination in ("255.255.255.255", "224.0.0.1", "192.0.2.255"):
        path = _path(world, destination)
        assert path.interface is world.eth
        assert path.next_hop == path.destination
        assert str(path.source) == "192.0.2.1"


def test_paths_are_shared_until_something_changes(world):
    first = _path(world, "192.0.2.9")
    assert _path(world, "192.0.2.9") is first
    changes = [
        lambda: world.internet.add_address(world.eth, parse_cidr("10.0.0.1/8")),
        lambda: world.internet.add_route(parse_prefix("0.0.0.0/0"), parse_address("10.0.0.2")),
        lambda: world.eth.on_change(),
        lambda: world.internet.remove_interface(world.add("eth9")),
    ]
    for change in changes:
        before = world.internet.generation
        change()
        assert world.internet.generation > before
        assert _path(world, "192.0.2.9") is not first


def test_remembered_paths_are_bounded(world):
    world.internet.add_route(parse_prefix("0.0.0.0/0"), parse_address("192.0.2.254"))
    for number in range(5000):
        _path(world, f"203.0.{number >> 8}.{number & 255}")
    assert len(world.internet._paths._paths) <= 4096
    assert len(world.internet._paths._identifications._counters) == 4096


def test_mtu_of_the_interface_is_read_again_after_a_change(world):
    assert _path(world, "192.0.2.9").mtu == 1500
    world.eth.mtu = 1400
    world.eth.on_change()
    assert _path(world, "192.0.2.9").mtu == 1400


def test_removed_interface_takes_its_routes_and_addresses_along(router):
    router.internet.remove_interface(router.eth1)
    assert not router.internet.is_local(parse_address("198.51.100.1"))
    assert router.eth1.handlers == {}
    with pytest.raises(Unreachable):
        _path(router, "198.51.100.9")
    assert {route.interface for route in router.internet.routes} == {router.lo, router.eth}


def test_questions_about_addresses(world):
    internet = world.internet
    assert internet.is_local(parse_address("192.0.2.1"))
    assert internet.is_local(parse_address("127.3.2.1"))
    assert not internet.is_local(parse_address("192.0.2.2"))
    for text in ("255.255.255.255", "192.0.2.255"):
        assert internet.is_broadcast(parse_address(text).packed)
    assert not internet.is_broadcast(parse_address("192.0.2.1").packed)


def test_point_to_point_links_have_no_broadcast_address(make_world):
    world = make_world()
    world.internet.add_address(world.eth, parse_cidr("10.0.0.1/31"))
    assert not world.internet.is_broadcast(parse_address("10.0.0.1").packed)
    assert str(_path(world, "10.0.0.0").source) == "10.0.0.1"


@pytest.mark.parametrize(
    "text", ["0.0.0.0/0", "224.0.0.1/24", "255.255.255.255/32", "192.0.2.255/24"]
)
def test_addresses_that_no_host_may_have_are_refused(world, text):
    with pytest.raises(ValueError, match="no address of a host"):
        world.internet.add_address(world.eth, parse_cidr(text))
