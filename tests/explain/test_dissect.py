"""Frames taken apart: names, values and places; and no octets make it raise."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.core.address import parse_address, parse_mac
from netstack.explain.dissect import dissect, first_line, flag_text
from netstack.wire.arp import ArpHeader, ArpOperation
from netstack.wire.dns import Message, Question
from netstack.wire.dns_name import Name
from netstack.wire.dns_rdata import RecordType
from netstack.wire.ethernet import EthernetHeader, EtherType
from netstack.wire.icmpv4 import IcmpType, ICMPv4Header
from netstack.wire.ipv4 import IPv4Header, Protocol
from netstack.wire.tcp import TcpFlag, TcpHeader, build_syn_options
from netstack.wire.udp import UdpHeader

A, B = parse_address("192.0.2.1"), parse_address("192.0.2.2")
MAC_A, MAC_B = parse_mac("02:00:00:00:00:01"), parse_mac("02:00:00:00:00:02")


def ethernet(payload, ethertype=EtherType.IPV4):
    return EthernetHeader(MAC_B, MAC_A, ethertype).build() + payload


def packet(payload, protocol):
    header = IPv4Header(A, B, protocol, 20 + len(payload)).with_checksum()
    return ethernet(header.build() + payload)


def tcp(payload=b"", flags=TcpFlag.ACK, options=b"", port=80):
    header = TcpHeader(40000, port, 1, 2, flags, 65535, options=options)
    return packet(header.build() + payload, Protocol.TCP)


def udp(payload, port=53):
    return packet(UdpHeader(40000, port, 8 + len(payload)).build() + payload, Protocol.UDP)


def query():
    question = Question(Name.from_text("web.example."), RecordType.A)
    return Message(7, question=(question,)).build()


def arp():
    header = ArpHeader(ArpOperation.REQUEST, MAC_A, A.packed, bytes(6), B.packed)
    return ethernet(header.build(), EtherType.ARP)


FRAMES = {
    "arp": arp(),
    "icmp": packet(ICMPv4Header(IcmpType.ECHO_REQUEST, 0, 7).build() + b"ping", Protocol.ICMP),
    "udp": udp(b"hello", 9),
    "dns": udp(query()),
    "tcp": tcp(flags=TcpFlag.SYN, options=build_syn_options(1460, 7, (1, 0))),
    "http": tcp(b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n", TcpFlag.ACK | TcpFlag.PSH),
    "tls": tcp(b"\x16\x03\x01\x00\x05hello", port=443),
    "padded": arp() + bytes(18),
}
NAMES = {
    "arp": ["Ethernet", "ARP"],
    "icmp": ["Ethernet", "IPv4", "ICMP", "data"],
    "udp": ["Ethernet", "IPv4", "UDP", "data"],
    "dns": ["Ethernet", "IPv4", "UDP", "DNS"],
    "tcp": ["Ethernet", "IPv4", "TCP"],
    "http": ["Ethernet", "IPv4", "TCP", "HTTP"],
    "tls": ["Ethernet", "IPv4", "TCP", "TLS"],
    "padded": ["Ethernet", "ARP", "padding"],
}


@pytest.mark.parametrize("kind", FRAMES)
def test_layers_are_named_outermost_first(kind):
    assert [layer.name for layer in dissect(FRAMES[kind])] == NAMES[kind]


@pytest.mark.parametrize("kind", FRAMES)
def test_layers_and_their_fields_tile_the_frame(kind):
    data = FRAMES[kind]
    end = 0
    for layer in dissect(data):
        assert layer.offset == end
        end += layer.length
        places = [field for field in layer.fields if field.length]
        for field in places:
            assert layer.offset <= field.offset <= field.offset + field.length <= end
        for earlier, later in pairwise(places):
            assert earlier.offset + earlier.length == later.offset
    assert end == len(data)


def test_fields_say_what_the_octets_hold():
    fields = {
        field.name: field.value for layer in dissect(FRAMES["tcp"]) for field in layer.fields
    }
    assert fields["source port"] == "40000"
    assert fields["flags"] == "SYN"
    assert fields["options"].startswith("MSS 1460, window scale 7")
    assert fields["protocol"] == "6 (TCP)"
    assert fields["time to live"] == "64"


def test_http_line_and_headers_are_shown():
    http = dissect(FRAMES["http"])[-1]
    assert http.summary == "GET / HTTP/1.1"
    assert [(field.name, field.value) for field in http.fields] == [("Host", "web.example")]


def test_dns_question_is_shown():
    assert "web.example" in dissect(FRAMES["dns"])[-1].summary


def test_packet_without_link_header():
    assert [layer.name for layer in dissect(FRAMES["udp"][14:], "ip")] == ["IPv4", "UDP", "data"]


@pytest.mark.parametrize("kind", FRAMES)
def test_truncation_at_every_length_is_shown_not_raised(kind):
    for length in range(len(FRAMES[kind])):
        layers = dissect(FRAMES[kind][:length])
        assert sum(layer.length for layer in layers) == length


@given(st.binary(max_size=200), st.sampled_from(["ethernet", "ip"]))
def test_no_octets_make_it_raise(data, medium):
    dissect(data, medium)


@given(st.sampled_from(sorted(FRAMES)), st.integers(0, 2000), st.integers(1, 255))
def test_no_changed_octet_makes_it_raise(kind, place, change):
    data = bytearray(FRAMES[kind])
    data[place % len(data)] ^= change
    dissect(bytes(data))


def test_flags_read_as_in_the_rfc():
    assert flag_text(TcpFlag.SYN | TcpFlag.ACK) == "SYN|ACK"
    assert flag_text(0) == "none"


def test_first_line_is_text_or_nothing():
    assert first_line(b"HTTP/1.1 200 OK\r\nx") == "HTTP/1.1 200 OK"
    assert first_line(b"no end") is None
    assert first_line(b"\x16\x03\r\n") is None
