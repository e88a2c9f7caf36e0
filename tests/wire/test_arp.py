"""ARP packets."""

from __future__ import annotations

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.l2 import ARP

from netstack.core.errors import ParseError
from netstack.wire.arp import ArpHeader, ArpOperation

MAC = st.binary(min_size=6, max_size=6)
IP = st.binary(min_size=4, max_size=4)
HEADERS = st.builds(ArpHeader, st.integers(0, 0xFFFF), MAC, IP, MAC, IP)
SAMPLE = ArpHeader(
    ArpOperation.REQUEST, b"\x02\0\0\0\0\x01", b"\x0a\0\0\x01", bytes(6), b"\x0a\0\0\x02"
)


@given(HEADERS, st.binary(max_size=18))
def test_parse_inverts_build_and_leaves_the_padding(header, padding):
    assert ArpHeader.parse(header.build() + padding) == (header, padding)


@given(st.binary(max_size=64))
def test_random_octets_parse_or_raise_parse_error(data):
    try:
        header, padding = ArpHeader.parse(data)
    except ParseError:
        return
    assert header.build() + bytes(padding) == data


@given(st.binary(min_size=20, max_size=40))
def test_random_bodies_behind_a_legal_start_parse_unless_truncated(data):
    octets = bytes.fromhex("0001080006040001") + data
    header, padding = ArpHeader.parse(octets)
    assert header.build() + bytes(padding) == octets


@pytest.mark.parametrize("length", range(28))
def test_arp_07_a_truncated_body_is_a_parse_error(length):
    with pytest.raises(ParseError):
        ArpHeader.parse(SAMPLE.build()[:length])


@pytest.mark.parametrize(
    ("offset", "legal"), [(0, b"\0\x01"), (2, b"\x08\0"), (4, b"\x06"), (5, b"\x04")]
)
def test_arp_07_any_other_type_or_length_is_a_parse_error(offset, legal):
    maximum = (1 << 8 * len(legal)) - 1
    for value in {0, 1, int.from_bytes(legal) - 1, int.from_bytes(legal) + 1, maximum}:
        octets = value.to_bytes(len(legal))
        if octets == legal:
            continue
        data = bytearray(SAMPLE.build())
        data[offset : offset + len(legal)] = octets
        with pytest.raises(ParseError):
            ArpHeader.parse(data)


@given(HEADERS)
def test_scapy_and_dpkt_read_what_build_wrote(header):
    data = header.build()
    scapy = ARP(data)
    assert (scapy.hwtype, scapy.ptype, scapy.hwlen, scapy.plen) == (1, 0x0800, 6, 4)
    assert scapy.op == header.operation
    assert bytes.fromhex(scapy.hwsrc.replace(":", "")) == header.sender_mac
    assert scapy.pdst == ".".join(str(octet) for octet in header.target_ip)
    other = dpkt.arp.ARP(data)
    assert (other.op, other.sha, other.spa, other.tha, other.tpa) == header


def test_parse_reads_what_scapy_wrote():
    data = bytes(ARP(op="is-at", hwsrc="02:00:00:00:00:01", psrc="10.0.0.1", pdst="10.0.0.2"))
    header, _ = ArpHeader.parse(data)
    assert header.operation == ArpOperation.REPLY
    assert header.sender_ip == b"\x0a\0\0\x01"


def test_a_probe_is_a_request_without_sender_address():
    assert SAMPLE._replace(sender_ip=bytes(4)).is_probe
    assert not SAMPLE.is_probe
    assert not SAMPLE._replace(sender_ip=bytes(4), operation=ArpOperation.REPLY).is_probe
