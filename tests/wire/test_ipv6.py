from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.core.address import IPAddress
from netstack.core.errors import ParseError
from netstack.wire.ipv6 import IPv6Header, skip_extensions

addresses = st.binary(min_size=16, max_size=16).map(IPAddress)


@given(
    st.builds(
        IPv6Header,
        addresses,
        addresses,
        st.integers(0, 255),
        st.integers(0, 20),
        st.integers(0, 255),
        st.integers(0, 255),
        st.integers(0, 0xFFFFF),
    )
)
def test_parsing_what_was_built_gives_the_header_back(header):
    parsed, payload = IPv6Header.parse(header.build() + bytes(30))
    assert parsed == header
    assert len(payload) == header.payload_length


@given(st.binary(max_size=60))
def test_random_octets_raise_parse_errors_only(data):
    try:
        header, payload = IPv6Header.parse(data, truncated=True)
    except ParseError:
        return
    with suppress(ParseError):
        skip_extensions(header.next_header, payload)


def test_payload_length_beyond_the_data_is_refused_unless_truncated():
    header = IPv6Header(IPAddress(bytes(16)), IPAddress(bytes(16)), 59, 5)
    with pytest.raises(ParseError, match="payload length 5 in 4"):
        IPv6Header.parse(header.build() + b"four")
    assert bytes(IPv6Header.parse(header.build() + b"four", truncated=True)[1]) == b"four"


def test_extension_headers_lead_to_the_transport_header():
    hop = b"\x2b\x01" + bytes(14)  # next: routing, 16 octets
    routing = b"\x33\x00" + bytes(6)  # next: authentication
    authentication = b"\x2c\x04" + bytes(22)  # next: fragment, 24 octets
    fragment = b"\x06\x00\x00\x01" + bytes(4)  # next: TCP, the first fragment
    octets = memoryview(hop + routing + authentication + fragment + b"tcp")
    assert skip_extensions(0, octets) == (6, b"tcp", 0)


def test_walk_ends_behind_a_later_fragment():
    fragment = memoryview(b"\x00\x00\x00\x09" + bytes(4) + b"rest")
    assert skip_extensions(44, fragment) == (0, b"rest", 8)


def test_endless_extension_headers_are_refused():
    with pytest.raises(ParseError, match="more than 16"):
        skip_extensions(60, memoryview((b"\x3c" + bytes(7)) * 300))


def test_extension_header_that_is_cut_off_is_refused():
    with pytest.raises(ParseError, match="extension header of 16 octets in 8"):
        skip_extensions(60, memoryview(b"\x06\x01" + bytes(6)))
