import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.core.checksum import internet_checksum
from netstack.core.errors import ParseError
from netstack.wire.icmpv4 import ERROR_TYPES, QUERY_TYPES, IcmpType, ICMPv4Header

headers = st.builds(
    ICMPv4Header,
    st.integers(0, 255),
    st.integers(0, 255),
    st.integers(0, 0xFFFFFFFF),
    st.integers(0, 0xFFFF),
)


@given(headers, st.binary(max_size=30))
def test_header_survives_build_and_parse(header, payload):
    parsed, rest = ICMPv4Header.parse(header.build() + payload)
    assert parsed == header
    assert bytes(rest) == payload


@given(headers, st.binary(max_size=31))
def test_checksum_covers_header_and_payload(header, payload):
    assert internet_checksum(header.with_checksum(payload).build() + payload) == 0


@pytest.mark.needs("dpkt")
def test_dpkt_reads_an_echo_request():
    import dpkt

    header = ICMPv4Header(IcmpType.ECHO_REQUEST, 0, 0x12345678).with_checksum(b"abc")
    other = dpkt.icmp.ICMP(header.build() + b"abc")
    assert (other.type, other.code, other.sum) == (8, 0, header.checksum)
    assert (other.data.id, other.data.seq, other.data.data) == (0x1234, 0x5678, b"abc")
    assert (header.identifier, header.sequence) == (0x1234, 0x5678)


def test_names_of_the_second_word():
    assert ICMPv4Header(3, 4, 1400).mtu == 1400
    assert ICMPv4Header(12, 0, 21 << 24).pointer == 21


def test_icm_01_fewer_than_8_octets_are_refused():
    for length in range(8):
        with pytest.raises(ParseError):
            ICMPv4Header.parse(bytes(length))
    ICMPv4Header.parse(bytes(8))


def test_every_type_is_either_an_error_or_a_query():
    assert set(IcmpType) == ERROR_TYPES | QUERY_TYPES
    assert not ERROR_TYPES & QUERY_TYPES
    assert ICMPv4Header(11, 0).is_error
    assert not ICMPv4Header(8, 0).is_error


@given(st.binary(max_size=64))
def test_random_octets_raise_nothing_but_parse_error(data):
    try:
        header, payload = ICMPv4Header.parse(data)
    except ParseError:
        assert len(data) < 8
        return
    assert header.build() + bytes(payload) == data
