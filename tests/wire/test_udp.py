"""UDP headers."""

from __future__ import annotations

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP

from netstack.core.checksum import pseudo_header_sum, sum_pieces
from netstack.core.errors import ParseError
from netstack.wire.udp import UdpHeader

PORT = st.integers(0, 0xFFFF)


@given(PORT, PORT, PORT, st.binary(max_size=64), st.binary(max_size=8))
def test_parse_inverts_build_and_cuts_the_payload_to_its_length(a, b, checksum, payload, rest):
    header = UdpHeader(a, b, 8 + len(payload), checksum)
    assert UdpHeader.parse(header.build() + payload + rest) == (header, payload)


@given(st.binary(max_size=64))
def test_random_octets_parse_or_raise_parse_error(data):
    try:
        header, payload = UdpHeader.parse(data)
    except ParseError:
        return
    assert header.length == 8 + len(payload) <= len(data)


@pytest.mark.parametrize("length", range(8))
def test_a_truncated_header_is_a_parse_error(length):
    with pytest.raises(ParseError):
        UdpHeader.parse(UdpHeader(1, 2, 8).build()[:length])


@pytest.mark.parametrize("length", [0, 1, 7, 13, 0xFFFF])
def test_a_length_below_8_or_beyond_the_packet_is_a_parse_error(length):
    with pytest.raises(ParseError):
        UdpHeader.parse(UdpHeader(1, 2, length).build() + b"data")


@pytest.mark.parametrize("value", [0, 1, 0x7FFF, 0x8000, 0xFFFF])
def test_ports_and_checksum_hold_their_extremes(value):
    header = UdpHeader(value, value, 8, value)
    assert UdpHeader.parse(header.build())[0] == header


@given(st.binary(max_size=64), PORT, PORT)
def test_checksum_agrees_with_scapy_and_sums_to_all_ones(payload, source, destination):
    header = UdpHeader(source, destination, 8 + len(payload))
    header = header.with_checksum(b"\x0a\0\0\x01", b"\x0a\0\0\x02", payload)
    pseudo = pseudo_header_sum(b"\x0a\0\0\x01", b"\x0a\0\0\x02", 17, header.length)
    assert sum_pieces([header.build(), payload], pseudo) == 0xFFFF
    packet = IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=source, dport=destination) / payload
    assert bytes(packet)[20:] == header.build() + payload
    other = dpkt.udp.UDP(header.build() + payload)
    assert (other.sport, other.dport, other.ulen, other.sum) == header


def test_a_checksum_that_comes_to_zero_is_sent_as_all_ones():
    # RFC 768: the pseudo-header, ports and data are chosen so that the sum is all ones.
    bare = UdpHeader(0, 0, 10).with_checksum(b"\x0a\0\0\x01", b"\x0a\0\0\x02", b"\0\0")
    payload = bare.checksum.to_bytes(2)
    header = UdpHeader(0, 0, 10).with_checksum(b"\x0a\0\0\x01", b"\x0a\0\0\x02", payload)
    assert header.checksum == 0xFFFF
