"""Addresses as values: strict text, prefixes, broadcast rules."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.core.address import (
    BROADCAST_MAC,
    IPAddress,
    Prefix,
    format_mac,
    parse_address,
    parse_cidr,
    parse_mac,
    parse_prefix,
    prefix_of,
)


@given(st.binary(min_size=4, max_size=4))
def test_ipv4_text_round_trips_and_equals_the_standard_library(packed):
    address = IPAddress(packed)
    assert str(address) == str(IPv4Address(packed))
    assert parse_address(str(address)) == address
    assert address.version == 4
    assert int(address) == int(IPv4Address(packed))


@given(st.binary(min_size=16, max_size=16))
def test_ipv6_text_round_trips_and_equals_the_standard_library(packed):
    address = IPAddress(packed)
    assert str(address) == str(IPv6Address(packed))
    assert parse_address(str(address)) == address
    assert address.version == 6


@given(st.text(max_size=20))
def test_parse_address_raises_nothing_but_value_error(text):
    try:
        address = parse_address(text)
    except ValueError:
        return
    assert str(parse_address(str(address))) == str(address)


@pytest.mark.parametrize(
    "text",
    ["", "1.2.3", "1.2.3.4.5", "01.2.3.4", "256.0.0.1", "1.2.3.-4", "1.2.3.4 ", "0x1.2.3.4",
     "1.2.3.1000", "1..2.3", "\u0661.2.3.4", "fe80::1%", ":::", "1:2:3:4:5:6:7:8:9"],
)  # fmt: skip
def test_loose_spellings_are_refused(text):
    with pytest.raises(ValueError, match=r"is not an IPv|empty zone"):
        parse_address(text)


def test_zone_is_part_of_the_value():
    address = parse_address("fe80::1%eth0")
    assert address.zone == "eth0"
    assert str(address) == "fe80::1%eth0"
    assert address != parse_address("fe80::1")


def test_kinds_of_addresses():
    assert parse_address("127.9.9.9").is_loopback
    assert parse_address("::1").is_loopback
    assert not parse_address("128.0.0.1").is_loopback
    assert parse_address("224.0.0.1").is_multicast
    assert parse_address("239.255.255.255").is_multicast
    assert not parse_address("240.0.0.1").is_multicast
    assert parse_address("ff02::1").is_multicast
    assert parse_address("0.0.0.0").is_unspecified
    assert parse_address("::").is_unspecified
    assert parse_address("255.255.255.255").is_limited_broadcast


@given(st.integers(0, 2**32 - 1), st.integers(0, 32), st.integers(0, 2**32 - 1))
def test_prefix_holds_what_the_standard_library_says(base, length, probe):
    address = IPAddress(base.to_bytes(4, "big"))
    prefix = prefix_of(address, length)
    network = ip_network((base, length), strict=False)
    assert str(prefix) == str(network)
    assert (IPAddress(probe.to_bytes(4, "big")) in prefix) == (IPv4Address(probe) in network)
    assert address in prefix


@given(st.integers(0, 2**32 - 1), st.integers(0, 30))
def test_directed_broadcast_is_the_last_address(base, length):
    prefix = prefix_of(IPAddress(base.to_bytes(4, "big")), length)
    assert str(prefix.broadcast) == str(IPv4Network(str(prefix)).broadcast_address)


@pytest.mark.parametrize("text", ["192.0.2.0/31", "192.0.2.1/32", "2001:db8::/64"])
def test_point_to_point_and_ipv6_prefixes_have_no_broadcast(text):
    assert parse_cidr(text).prefix.broadcast is None


def test_prefix_never_holds_the_other_version_or_another_type():
    assert parse_address("::1") not in parse_prefix("0.0.0.0/0")
    assert "10.0.0.1" not in parse_prefix("0.0.0.0/0")


def test_cidr_keeps_host_bits_and_prefix_apart():
    interface = parse_cidr("192.0.2.17/28")
    assert str(interface) == "192.0.2.17/28"
    assert interface.prefix == Prefix(parse_address("192.0.2.16"), 28)


@pytest.mark.parametrize("text", ["192.0.2.1", "192.0.2.1/", "192.0.2.1/33", "192.0.2.1/-1",
                                  "192.0.2.1/ 8", "::/129", "192.0.2.1/0x8"])  # fmt: skip
def test_bad_prefix_lengths_are_refused_with_an_example(text):
    with pytest.raises(ValueError, match="needs a prefix length"):
        parse_cidr(text)


def test_prefix_with_host_bits_is_refused():
    with pytest.raises(ValueError, match=r"the network is 192\.0\.2\.0/24"):
        parse_prefix("192.0.2.1/24")


@given(st.binary(min_size=6, max_size=6))
def test_mac_round_trips(mac):
    assert parse_mac(format_mac(mac)) == mac


@pytest.mark.parametrize("text", ["", "02:00:00:00:00", "02-00-00-00-00-01", "2:0:0:0:0:1",
                                  "02:00:00:00:00:0g", "02:00:00:00:00:01:02"])  # fmt: skip
def test_bad_macs_are_refused_with_an_example(text):
    with pytest.raises(ValueError, match="02:00:00:00:00:01"):
        parse_mac(text)


def test_broadcast_mac_is_all_ones():
    assert format_mac(BROADCAST_MAC) == "ff:ff:ff:ff:ff:ff"
