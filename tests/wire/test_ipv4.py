import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.core.address import IPAddress, parse_address
from netstack.core.errors import ParseError
from netstack.wire.ipv4 import (
    BadOption,
    IPv4Header,
    IPv4Option,
    OptionType,
    Protocol,
    parse_options,
)

A = parse_address("192.0.2.1")
B = parse_address("198.51.100.7")

headers = st.builds(
    lambda options, extra, **fields: IPv4Header(
        total_length=20 + len(options) + extra, options=options, **fields
    ),
    st.integers(0, 10).flatmap(lambda n: st.binary(min_size=4 * n, max_size=4 * n)),
    st.integers(0, 200),
    source=st.binary(min_size=4, max_size=4).map(IPAddress),
    destination=st.binary(min_size=4, max_size=4).map(IPAddress),
    protocol=st.integers(0, 255),
    traffic_class=st.integers(0, 255),
    identification=st.integers(0, 65535),
    reserved=st.booleans(),
    dont_fragment=st.booleans(),
    more_fragments=st.booleans(),
    fragment_offset=st.integers(0, 8191).map(lambda n: n * 8),
    ttl=st.integers(0, 255),
    checksum=st.integers(0, 65535),
)


@given(headers)
def test_header_survives_build_and_parse(header):
    payload = bytes(header.total_length - header.header_length)
    parsed, rest = IPv4Header.parse(header.build() + payload + b"padding")
    assert parsed == header
    assert bytes(rest) == payload


@pytest.mark.needs("dpkt")
@given(headers)
def test_dpkt_reads_what_is_built(header):
    import dpkt

    payload = bytes(header.total_length - header.header_length)
    other = dpkt.ip.IP(header.with_checksum().build() + payload)
    assert (other.src, other.dst) == (header.source.packed, header.destination.packed)
    assert (other.tos, other.len, other.id) == header[4:5] + header[3:4] + header[5:6]
    assert (other.ttl, other.p) == (header.ttl, header.protocol)
    assert (other.rf, other.df, other.mf) == (
        header.reserved,
        header.dont_fragment,
        header.more_fragments,
    )
    assert other.offset * 8 == header.fragment_offset
    assert other.opts == header.options


def test_checksum_is_the_one_of_rfc_1071():
    # The example header that textbooks use.
    header, _ = IPv4Header.parse(
        bytes.fromhex("45000073000040004011b861c0a80001c0a800c7"), truncated=True
    )
    assert header.with_checksum().checksum == 0xB861
    assert header.protocol == Protocol.UDP


def test_ip4_01_short_header_at_every_length():
    whole = IPv4Header(A, B, 17, 28).build() + bytes(8)
    for length in range(28):
        with pytest.raises(ParseError):
            IPv4Header.parse(whole[:length])
    IPv4Header.parse(whole)


def test_truncated_allows_a_missing_payload_but_no_missing_header():
    header = IPv4Header(A, B, 17, 1500, options=bytes(8))
    data = header.build() + b"abcdefgh"
    assert IPv4Header.parse(data, truncated=True) == (header, b"abcdefgh")
    for length in range(28):
        with pytest.raises(ParseError):
            IPv4Header.parse(data[:length], truncated=True)


def test_ip4_03_total_length_at_its_extremes():
    data = bytearray(IPv4Header(A, B, 17, 28, options=bytes(4)).build() + bytes(10))
    for total in (0, 1, 19, 20, 23, 35, 36, 1500, 65535):
        data[2:4] = total.to_bytes(2, "big")
        with pytest.raises(ParseError):
            IPv4Header.parse(data)
    for total in (24, 34):
        data[2:4] = total.to_bytes(2, "big")
        assert len(IPv4Header.parse(data)[1]) == total - 24


def test_ip4_04_every_version_but_4_is_refused():
    data = bytearray(IPv4Header(A, B, 17, 20).build())
    for version in range(16):
        data[0] = version << 4 | 5
        if version == 4:
            IPv4Header.parse(data)
        else:
            with pytest.raises(ParseError):
                IPv4Header.parse(data)


def test_header_lengths_below_5_words_or_beyond_the_packet_are_refused():
    data = bytearray(IPv4Header(A, B, 17, 60).build() + bytes(40))
    for words in range(16):
        data[0] = 0x40 | words
        if words < 5:
            with pytest.raises(ParseError):
                IPv4Header.parse(data)
        else:
            header, payload = IPv4Header.parse(data)
            assert header.header_length + len(payload) == 60


@given(st.binary(max_size=80), st.booleans())
def test_random_octets_raise_nothing_but_parse_error(data, truncated):
    try:
        header, payload = IPv4Header.parse(data, truncated=truncated)
    except ParseError:
        return
    assert header.build() + bytes(payload) == data[: header.header_length + len(payload)]


@given(st.binary(max_size=40))
def test_random_options_raise_nothing_but_bad_option(data):
    try:
        options = parse_options(data)
    except BadOption as bad:
        position = bad.position
        options = None
    if options is None:
        assert 20 <= position < 60
        return
    assert sum(len(option.data) + 2 for option in options) <= len(data)


def test_options_are_listed_up_to_the_end_option():
    data = bytes((1, 1, 148, 4, 0, 0, 0, 7, 99, 4))
    assert parse_options(data) == [IPv4Option(OptionType.ROUTER_ALERT, b"\0\0", 22)]


@pytest.mark.parametrize("data", ["8200", "0701", "4400", "0101ff01", "94"])
def test_ip4_06_option_length_0_or_1_is_no_endless_loop(data):
    with pytest.raises(BadOption):
        parse_options(bytes.fromhex(data))


@pytest.mark.parametrize("kind", [7, 68, 131, 137])
def test_ip4_07_pointer_and_length_sweep(kind):
    first = 5 if kind == 68 else 4
    for length in range(2, 41):
        for pointer in range(256):
            data = bytes((kind, length, pointer)) + bytes(37)
            legal = (
                length >= first - 1
                and first <= pointer <= length + 1
                and (pointer - first) % 4 == 0
            )
            if legal:
                assert len(parse_options(data)) == 1
            else:
                with pytest.raises(BadOption):
                    parse_options(data)


def test_ip4_07_option_length_beyond_the_header():
    for length in range(41, 256):
        with pytest.raises(BadOption) as raised:
            parse_options(bytes((130, length)) + bytes(38))
        assert raised.value.position == 21
