"""Ethernet headers."""

from __future__ import annotations

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.l2 import Ether

from netstack.core.errors import ParseError
from netstack.wire.ethernet import EthernetHeader, EtherType

MAC = st.binary(min_size=6, max_size=6)
HEADERS = st.builds(EthernetHeader, MAC, MAC, st.integers(0, 0xFFFF))


@given(HEADERS, st.binary(max_size=80))
def test_parse_inverts_build(header, payload):
    assert EthernetHeader.parse(header.build() + payload) == (header, payload)


@given(st.binary(max_size=80))
def test_random_octets_parse_or_raise_parse_error(data):
    try:
        header, payload = EthernetHeader.parse(data)
    except ParseError:
        assert len(data) < 14
    else:
        assert header.build() + bytes(payload) == data


@pytest.mark.parametrize("length", range(14))
def test_arp_01_a_truncated_header_is_a_parse_error(length):
    with pytest.raises(ParseError):
        EthernetHeader.parse(bytes(length))


@given(HEADERS)
def test_scapy_and_dpkt_read_what_build_wrote(header):
    data = header.build()
    ether = Ether(data)
    assert bytes.fromhex(ether.dst.replace(":", "")) == header.destination
    assert bytes.fromhex(ether.src.replace(":", "")) == header.source
    if header.ethertype > 1536 and header.ethertype not in (0x8100, 0x88A8, 0x9100):
        frame = dpkt.ethernet.Ethernet(data)
        assert (frame.dst, frame.src, frame.type) == header


def test_parse_reads_what_scapy_wrote():
    data = bytes(Ether(dst="ff:ff:ff:ff:ff:ff", src="02:00:00:00:00:01", type=0x86DD) / b"hello")
    header, payload = EthernetHeader.parse(data)
    assert header == (b"\xff" * 6, b"\x02\0\0\0\0\x01", EtherType.IPV6)
    assert header.is_group
    assert payload == b"hello"
    assert str(header) == "02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff type 0x86dd"


@pytest.mark.parametrize(("first", "group"), [(0x00, False), (0x01, True), (0xFF, True)])
def test_group_bit_is_the_lowest_of_the_first_octet(first, group):
    assert EthernetHeader(bytes([first]) + bytes(5), bytes(6), 0).is_group is group
