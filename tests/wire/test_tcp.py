"""TCP headers and options, as values and as the segments that connections work on."""

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP

from netstack.core.checksum import pseudo_header_sum, sum_pieces
from netstack.core.errors import ParseError
from netstack.wire.tcp import (
    TcpHeader,
    build_fast_open,
    build_syn_options,
    build_timestamps,
    pack_header,
    parse_segment,
)

U16 = st.integers(0, 0xFFFF)
U32 = st.integers(0, 0xFFFFFFFF)
OPTIONS = st.integers(0, 10).flatmap(lambda n: st.binary(min_size=4 * n, max_size=4 * n))
HEADERS = st.builds(
    TcpHeader, U16, U16, U32, U32, st.integers(0, 255), U16, U16, U16, OPTIONS, st.integers(0, 15)
)
SOURCE, DESTINATION = b"\x0a\0\0\x01", b"\x0a\0\0\x02"


def padded(options):
    return options + bytes(-len(options) % 4)


def segment_with(options, payload=b""):
    data = TcpHeader(1, 2, 3, 4, 0x10, 5, options=padded(options)).build() + payload
    return parse_segment(data, 0, len(data))


@given(HEADERS, st.binary(max_size=64))
def test_parse_inverts_build(header, payload):
    assert TcpHeader.parse(header.build() + payload) == (header, payload)


@given(HEADERS, st.binary(max_size=64))
def test_segment_agrees_with_the_header(header, payload):
    data = header.build() + payload
    segment = parse_segment(b"front" + data, 5, len(data))
    assert (segment.seq, segment.ack) == (header.seq, header.ack)
    assert (segment.flags, segment.window) == (header.flags, header.window)
    assert segment.urgent_pointer == header.urgent_pointer
    assert segment.length == len(payload)
    assert b"".join(segment.payload) == payload


@given(st.binary(max_size=80))
def test_random_octets_parse_or_raise_parse_error(data):
    try:
        header, payload = TcpHeader.parse(data)
    except ParseError:
        with pytest.raises(ParseError):
            parse_segment(data, 0, len(data))
        return
    segment = parse_segment(data, 0, len(data))
    assert b"".join(segment.payload) == payload
    assert segment.seq == header.seq


@pytest.mark.parametrize("length", range(20))
def test_tcp_01_a_truncated_header_is_a_parse_error(length):
    data = TcpHeader(1, 2, 3, 4, 5, 6).build()[:length]
    with pytest.raises(ParseError):
        TcpHeader.parse(data)
    with pytest.raises(ParseError):
        parse_segment(data, 0, length)


@pytest.mark.parametrize("offset", range(16))
@pytest.mark.parametrize("length", [20, 23, 24, 59, 60])
def test_tcp_01_a_data_offset_below_5_or_beyond_the_segment_is_a_parse_error(offset, length):
    data = bytearray(length)
    data[12] = offset << 4
    good = 20 <= offset * 4 <= length
    for parse in (TcpHeader.parse, lambda data: parse_segment(data, 0, length)):
        if good:
            parse(bytes(data))
        else:
            with pytest.raises(ParseError):
                parse(bytes(data))


@pytest.mark.parametrize("claimed", [40, 41, 1000, 65_535])
def test_a_length_beyond_the_octets_there_is_a_parse_error(claimed):
    data = TcpHeader(1, 2, 3, 4, 5, 6).build() + b"payload"
    with pytest.raises(ParseError):
        parse_segment(data, 0, claimed)
    with pytest.raises(ParseError):
        parse_segment(data, 0, claimed, [b"x" * 3])


@pytest.mark.parametrize("field", ["source_port", "destination_port", "window", "urgent_pointer"])
@pytest.mark.parametrize("value", [0, 1, 0x7FFF, 0x8000, 0xFFFF])
def test_16_bit_fields_hold_their_extremes(field, value):
    header = TcpHeader(1, 2, 3, 4, 5, 6)._replace(**{field: value})
    assert getattr(TcpHeader.parse(header.build())[0], field) == value


@pytest.mark.parametrize("options", [b"x", b"123", bytes(44)])
def test_options_that_fit_no_header_are_a_value_error(options):
    with pytest.raises(ValueError, match="multiple of 4"):
        TcpHeader(1, 2, 3, 4, 5, 6, options=options).build()


# ---- payload ------------------------------------------------------------------------------------


@given(
    st.lists(st.binary(max_size=20), max_size=5), st.binary(max_size=10), st.binary(max_size=30)
)
def test_padding_behind_the_segment_is_no_payload(pieces, begun, padding):
    """Zeros that fill a short Ethernet frame follow the last buffer, or are one themselves."""
    header = TcpHeader(1, 2, 3, 4, 5, 6).build()
    text = begun + b"".join(pieces)
    for buffers in ([*pieces, padding], [*pieces[:-1], b"".join(pieces[-1:]) + padding]):
        segment = parse_segment(header + begun, 0, len(header) + len(text), buffers)
        assert b"".join(segment.payload) == text
        assert segment.length == len(text)
    segment = parse_segment(header + text + padding, 0, len(header) + len(text))
    assert b"".join(segment.payload) == text


# ---- options ------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1])
@pytest.mark.parametrize("kind", range(2, 256))
def test_tcp_03_option_length_0_or_1_ends_the_options(kind, length):
    segment = segment_with(bytes((2, 4, 5, 0xB4, kind, length, 2, 4, 1, 1)))
    assert segment.mss == 1460


@pytest.mark.parametrize("length", [*range(2, 41), 255])
@pytest.mark.parametrize("kind", [*range(9), 14, 19, 28, 29, 30, 34, 69, 253, 254, 255])
def test_tcp_04_option_of_any_length_is_survived_and_what_came_before_counts(kind, length):
    segment = segment_with(bytes((2, 4, 5, 0xB4, kind, length)) + b"\xff" * 10, b"text")
    assert segment.mss == 1460 or (kind == 2 and length == 4)
    assert b"".join(segment.payload) == b"text"


def test_tcp_04_forty_octets_of_nop():
    segment = segment_with(b"\x01" * 40, b"text")
    assert segment.mss is None
    assert segment.length == 4


@given(st.binary(min_size=40, max_size=40))
def test_random_options_never_raise(options):
    segment = segment_with(options)
    assert segment.window_scale is None or 0 <= segment.window_scale <= 255
    assert len(segment.sack_blocks) <= 4


def test_options_behind_the_end_mark_are_ignored():
    assert segment_with(b"\x00\x02\x04\x05\xb4").mss is None


def test_unknown_options_are_skipped():
    assert segment_with(b"\xfd\x04\x00\x00\x02\x04\x05\xb4").mss == 1460


@given(U16, st.one_of(st.none(), st.integers(0, 14)), st.one_of(st.none(), st.tuples(U32, U32)))
def test_syn_options_are_read_back_by_three_parsers(mss, scale, stamps):
    options = build_syn_options(mss, scale, stamps)
    assert len(options) % 4 == 0
    segment = segment_with(options)
    assert (segment.mss, segment.window_scale) == (mss, scale)
    assert segment.ts_val == (stamps[0] if stamps else None)
    header = TcpHeader(1, 2, 3, 4, 2, 6, options=options)
    seen = dict(TCP(header.build()).options)
    assert seen["MSS"] == mss
    assert seen.get("WScale") == scale
    assert seen.get("Timestamp") == stamps
    other = dict(dpkt.tcp.parse_opts(dpkt.tcp.TCP(header.build()).opts))
    assert other[2] == mss.to_bytes(2, "big")


@given(U32, U32)
def test_timestamps_are_read_back_aligned_or_not(value, echo):
    for options in (build_timestamps(value, echo), build_timestamps(value, echo)[2:] + b"\1\1"):
        segment = segment_with(options)
        assert (segment.ts_val, segment.ts_ecr) == (value, echo)


@given(st.lists(st.tuples(U32, U32), min_size=1, max_size=4))
def test_sack_blocks_are_read(blocks):
    value = b"".join(left.to_bytes(4, "big") + right.to_bytes(4, "big") for left, right in blocks)
    segment = segment_with(bytes((5, 2 + len(value))) + value)
    assert segment.sack_blocks == tuple(blocks)


def test_sack_permitted_is_read():
    assert segment_with(b"\x04\x02\x01\x01").sack_permitted
    assert not segment_with(b"\x04\x03\x00\x01").sack_permitted


# ---- against others -----------------------------------------------------------------------------


@given(U16, U16, U32, U32, st.integers(0, 255), U16, st.binary(max_size=64))
def test_checksum_agrees_with_scapy_and_sums_to_all_ones(a, b, seq, ack, flags, window, payload):
    header = TcpHeader(a, b, seq, ack, flags, window).with_checksum(SOURCE, DESTINATION, payload)
    octets = header.build() + payload
    initial = pseudo_header_sum(SOURCE, DESTINATION, 6, len(octets))
    assert sum_pieces([octets], initial) == 0xFFFF
    other = TCP(sport=a, dport=b, seq=seq, ack=ack, flags=flags, window=window)
    assert bytes(IP(src="10.0.0.1", dst="10.0.0.2") / other / payload)[20:] == octets


@given(HEADERS)
def test_dpkt_reads_the_same_fields(header):
    other = dpkt.tcp.TCP(header.build())
    assert (other.sport, other.dport) == (header.source_port, header.destination_port)
    assert (other.seq, other.ack, other.win) == (header.seq, header.ack, header.window)
    assert (other.sum, other.urp, other.opts) == (
        header.checksum, header.urgent_pointer, header.options,
    )  # fmt: skip
    assert other.off == 5 + len(header.options) // 4


@given(HEADERS)
def test_packing_in_place_gives_the_same_octets(header):
    header = header._replace(reserved=0, urgent_pointer=0)
    octets = header.build()
    buffer = bytearray(10 + len(octets))
    pack_header(
        buffer, 10, octets[:4], header.seq, header.ack, header.flags, header.window,
        header.checksum, header.options,
    )  # fmt: skip
    assert buffer[10:] == octets
    assert not any(buffer[:10])


@pytest.mark.parametrize("length", range(40 - 20 - 4))
def test_fast_open_cookies_have_4_to_16_octets_an_even_number(length):
    cookie = bytes(range(1, length + 1))
    option = bytes((34, 2 + length)) + cookie
    option += bytes(-len(option) % 4)
    header = TcpHeader(1, 2, 3, 4, 2, 5, options=option).build()
    segment = parse_segment(header, 0, len(header))
    good = length == 0 or (4 <= length <= 16 and length % 2 == 0)
    assert segment.fast_open == (cookie if good else None)
    if not good:
        with pytest.raises(ValueError, match="cookie"):
            build_fast_open(cookie)
        return
    built = build_fast_open(cookie)
    assert len(built) % 4 == 0
    header = TcpHeader(1, 2, 3, 4, 2, 5, options=built).build()
    assert parse_segment(header, 0, len(header)).fast_open == cookie
