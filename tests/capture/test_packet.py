from __future__ import annotations

import struct

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether

from netstack.capture import LinkType, Packet, UnknownLinkType

MACS = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}


def packet(octets, linktype: int = LinkType.ETHERNET, length: int | None = None) -> Packet:
    octets = bytes(octets)
    view = memoryview(octets)
    return Packet(0, view, len(octets) if length is None else length, linktype=linktype)


def tcp4():
    return IP(src="10.0.0.1", dst="10.0.0.2") / TCP(sport=5, dport=80, seq=9, ack=7) / b"data"


def test_layers_of_a_tcp_frame():
    ours = packet(Ether(**MACS) / tcp4())
    assert ours.ethernet.ethertype == 0x0800
    assert str(ours.ipv4.source) == "10.0.0.1"
    assert (ours.tcp.source_port, ours.tcp.destination_port) == (5, 80)
    assert (ours.tcp.seq, ours.tcp.ack, ours.tcp.flags) == (9, 7, 2)
    assert bytes(ours.payload) == b"data"
    assert ours.udp is None
    assert ours.ipv6 is None


def test_layers_of_a_udp_datagram_over_ipv6():
    ours = packet(Ether(**MACS) / IPv6(src="fd00::1") / IPv6ExtHdrDestOpt() / UDP() / b"?")
    assert ours.ipv4 is None
    assert str(ours.ipv6.source) == "fd00::1"
    assert ours.udp.destination_port == 53
    assert bytes(ours.payload) == b"?"


def test_padding_is_no_payload():
    assert bytes(packet(bytes(Ether(**MACS) / tcp4()) + bytes(6)).payload) == b"data"


def test_what_is_no_ip_has_no_layers_above_the_link():
    ours = packet(b"\xff" * 12 + b"\x08\x06" + bytes(28))
    assert (ours.ipv4, ours.ipv6, ours.tcp, ours.udp) == (None,) * 4
    assert len(ours.payload) == 28


@pytest.mark.parametrize(
    ("linktype", "link"),
    [
        (LinkType.RAW, b""), (LinkType.RAW_BSD, b""), (LinkType.RAW_OPENBSD, b""),
        (LinkType.IPV4, b""), (LinkType.NULL, b"\2\0\0\0"), (LinkType.NULL, b"\0\0\0\2"),
        (LinkType.LOOP, b"\0\0\0\2"), (LinkType.LINUX_SLL, bytes(14) + b"\x08\0"),
        (LinkType.LINUX_SLL2, b"\x08\0" + bytes(18)),
    ],
)  # fmt: skip
def test_pcp_06_known_link_types_are_decoded(linktype, link):
    ours = packet(link + bytes(tcp4()), linktype)
    assert ours.tcp.seq == 9
    assert ours.ethernet is None


@pytest.mark.parametrize("linktype", [LinkType.RAW, LinkType.IPV6])
def test_pcp_06_link_types_with_ipv6_are_decoded(linktype):
    assert packet(IPv6() / TCP(seq=4), linktype).tcp.seq == 4


@pytest.mark.parametrize("linktype", [2, 105, 147, 65535])
def test_pcp_06_unknown_link_type_is_a_typed_error(linktype):
    with pytest.raises(UnknownLinkType, match=f"link type {linktype}"):
        _ = packet(b"x" * 100, linktype).ipv4


@pytest.mark.parametrize("linktype", list(LinkType))
@pytest.mark.parametrize("size", [0, 1, 3, 4, 13, 14, 15, 16, 19, 20, 21, 40])
def test_short_packets_of_every_link_type_have_no_transport(linktype, size):
    for fill in (b"\x00", b"\x45", b"\x60", b"\xff"):
        ours = packet(fill * size, linktype)
        assert ours.tcp is None
        assert ours.udp is None


def test_arp_03_vlan_tags_are_walked_and_nesting_is_bounded():
    tagged = Ether(**MACS) / Dot1AD(vlan=7) / Dot1Q(vlan=5) / tcp4()
    assert packet(tagged).tcp.seq == 9
    assert packet(tagged).ethernet.ethertype == 0x88A8
    deep = b"\2" * 12 + b"\x81\0\0\1" * 300 + b"\x08\0" + bytes(tcp4())
    assert packet(deep).ipv4 is None
    assert packet(b"\2" * 12 + b"\x81\0").ipv4 is None


def test_packet_cut_by_the_snap_length_keeps_the_headers_it_holds():
    octets = bytes(Ether(**MACS) / tcp4())
    ours = packet(octets[:56], length=len(octets))
    assert ours.tcp.seq == 9
    assert bytes(ours.payload) == b"da"
    ours = packet(octets[:40], length=len(octets))
    assert ours.tcp is None
    assert len(ours.payload) == 6


def test_udp_datagram_cut_by_the_snap_length_keeps_its_header():
    octets = bytes(IP() / UDP(dport=9) / bytes(100))
    ours = packet(octets[:30], LinkType.RAW, length=len(octets))
    assert ours.udp.destination_port == 9
    assert len(ours.payload) == 2


def test_ip_length_beyond_a_whole_frame_is_unreadable():
    octets = bytes(tcp4())
    assert packet(octets[:-1], LinkType.RAW).ipv4 is None


def test_only_the_first_fragment_has_a_transport_header():
    whole = bytes(UDP(dport=9) / bytes(100))
    first = packet(IP(flags="MF", proto=17) / whole[:48], LinkType.RAW)
    assert first.udp.length == 108
    assert len(first.payload) == 40
    later = packet(IP(frag=6, proto=17) / whole[48:], LinkType.RAW)
    assert later.udp is None
    assert len(later.payload) == 60
    first = packet(IPv6() / IPv6ExtHdrFragment(m=1, nh=17) / whole[:48], LinkType.RAW)
    assert first.udp.length == 108
    later = packet(IPv6() / IPv6ExtHdrFragment(offset=6, nh=17) / whole[48:], LinkType.RAW)
    assert later.udp is None


def test_udp_length_of_zero_leaves_no_payload():
    octets = bytearray(bytes(IP() / UDP() / b"data"))
    octets[24:26] = struct.pack("!H", 3)
    assert packet(octets, LinkType.RAW).udp is None
    assert bytes(packet(octets, LinkType.RAW, length=999).payload) == b""


@given(st.sampled_from(list(LinkType)), st.binary(max_size=120), st.sampled_from([0, 50, 9000]))
def test_random_octets_never_raise(linktype, octets, missing):
    ours = packet(octets, linktype, length=len(octets) + missing)
    assert len(ours.payload) <= len(octets)


@given(st.data())
def test_layers_agree_with_dpkt(data):
    octets = bytearray(bytes(Ether(**MACS) / tcp4()))
    octets[data.draw(st.integers(12, len(octets) - 1))] = data.draw(st.integers(0, 255))
    ours = packet(octets)
    if ours.tcp is None:
        return
    theirs = dpkt.ethernet.Ethernet(bytes(octets)).data
    if isinstance(theirs, dpkt.ip.IP) and isinstance(theirs.data, dpkt.tcp.TCP):
        assert theirs.data.seq == ours.tcp.seq
        assert theirs.data.flags == ours.tcp.flags
