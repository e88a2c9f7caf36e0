"""DNS codec: dnspython as the oracle both ways, and every limit of the RFCs by attack id."""

from __future__ import annotations

import struct
import time

import dns.message
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.reversename
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netstack.core.address import IPAddress, parse_address
from netstack.core.errors import ParseError
from netstack.wire.dns import (
    Edns,
    Message,
    MessageReader,
    Opcode,
    Question,
    Rcode,
    Record,
    frame_message,
    parse_header,
)
from netstack.wire.dns_name import ROOT, Name, host_name, parse_name, reverse_name
from netstack.wire.dns_rdata import (
    Mx,
    RecordClass,
    RecordType,
    Soa,
    Txt,
    parse_ttl,
    rdata_from_text,
    rdata_pieces,
    rdata_text,
    type_number,
    type_text,
)
from netstack.wire.reader import Reader


def name(text: str) -> Name:
    return Name.from_text(text)


def header(questions=0, answers=0, authorities=0, additionals=0, flags=0x8180) -> bytes:
    return struct.pack("!HHHHHH", 0x1234, flags, questions, answers, authorities, additionals)


SOA = Soa(name("ns1.Example.test."), name("hostmaster.example.test."), 7, 3600, 900, 604800, 300)

MESSAGE = Message(
    0xBEEF,
    response=True,
    authoritative=True,
    recursion_desired=True,
    question=(Question(name("www.example.test."), RecordType.A),),
    answer=(
        Record(name("www.example.test."), RecordType.CNAME, 60, name("web.example.test.")),
        Record(name("web.example.test."), RecordType.A, 60, parse_address("192.0.2.7")),
        Record(name("web.example.test."), RecordType.AAAA, 60, parse_address("2001:db8::7")),
        Record(name("example.test."), RecordType.MX, 60, Mx(10, name("mail.example.test."))),
        Record(name("example.test."), RecordType.TXT, 60, Txt((b"v=1", b"", b'"\\\xff'))),
        Record(name("example.test."), 4242, 60, b"\x00\x01opaque"),
    ),
    authority=(
        Record(name("example.test."), RecordType.NS, 60, name("ns1.example.test.")),
        Record(name("example.test."), RecordType.SOA, 60, SOA),
    ),
    additional=(
        Record(name("7.2.0.192.in-addr.arpa."), RecordType.PTR, 60, name("web.example.test.")),
    ),
    edns=Edns(1232, dnssec_ok=True, options=((10, b"cookie00"), (3, b""))),
)


# names -----------------------------------------------------------------------------------------


def test_names_compare_without_case_and_keep_it():
    mixed = name("WwW.ExAmple.TEST.")
    assert mixed == name("www.example.test.")
    assert hash(mixed) == hash(name("www.example.test."))
    assert str(mixed) == "WwW.ExAmple.TEST."
    assert mixed != "WwW.ExAmple.TEST."


def test_only_ascii_letters_fold():
    assert Name((b"\xc4",)) != Name((b"\xe4",))


def test_ancestry():
    www = name("www.example.test.")
    assert www.is_subdomain_of(name("EXAMPLE.test."))
    assert www.is_subdomain_of(www)
    assert www.is_subdomain_of(ROOT)
    assert not name("notexample.test.").is_subdomain_of(name("example.test."))
    assert not name("test.").is_subdomain_of(www)
    assert [str(ancestor) for ancestor in www.ancestors()] == [
        "www.example.test.",
        "example.test.",
        "test.",
        ".",
    ]
    assert www.parent == name("example.test.")
    assert (www.plain, ROOT.plain) == ("www.example.test", ".")
    assert ROOT.parent == ROOT


label_octets = st.binary(min_size=1, max_size=63)


@given(st.lists(label_octets, max_size=4))
def test_name_text_round_trip_and_equal_to_dnspython(labels):
    value = Name(tuple(labels))
    oracle = dns.name.Name((*labels, b""))
    assert str(value) == oracle.to_text()
    assert Name.from_text(str(value)) == value
    assert Name.from_text(str(value)).labels == value.labels
    assert value.build() == oracle.to_wire()


def test_master_file_names_relative_to_origin():
    origin = name("example.test.")
    assert Name.from_text("@", origin) == origin
    assert Name.from_text("www", origin) == name("www.example.test.")
    assert Name.from_text(r"a\.b\032c", origin).labels[0] == b"a.b c"
    for bad in ("www", "", "..", ".a", "a..b.", "a\\", "a\\25", "a\\256.", "ä."):
        with pytest.raises(ValueError):  # noqa: PT011
            Name.from_text(bad)


def test_reverse_names():
    assert str(reverse_name(parse_address("192.0.2.7"))) == "7.2.0.192.in-addr.arpa."
    oracle = dns.reversename.from_address("2001:db8::7")
    assert str(reverse_name(parse_address("2001:db8::7"))) == str(oracle)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "..",
        ".com",
        "a..b",
        "a.b..",
        "a" * 64 + ".test",
        ".".join(["a" * 49] * 6),
        "x" * 254,
        "192.0.2.1",
        "host.123",
        "1.",
        "a b.test",
        "a\0.test",
        "a\\.test",
        "a\nb.test",
        "a.test\n",
        "\N{ONE DOT LEADER}.test",
        "ü" * 100 + ".test",
        "ü" * 300,
        "\N{IDEOGRAPHIC FULL STOP}",
        "\ud800.test",
    ],
)
def test_dns_33_name_refused_locally(text):
    with pytest.raises(ValueError, match=r"."):
        host_name(text)


def test_dns_33_accepted_names():
    assert host_name("www.example.test") == host_name("www.example.test.")
    assert host_name(".") == ROOT
    assert host_name("_srv._tcp.x-1.test").labels[0] == b"_srv"
    assert host_name("Bücher.test").labels[0] == b"xn--bcher-kva"
    longest = ".".join(["a" * 63] * 3 + ["b" * 61])
    assert len(host_name(longest).build()) == 255
    assert host_name(longest + ".") == host_name(longest)


@given(st.text(max_size=300))
def test_dns_33_text_gives_a_legal_name_or_value_error(text):
    try:
        value = host_name(text)
    except ValueError:
        return
    octets = Message(1, question=(Question(value, RecordType.A),)).build()
    assert Message.parse(octets).question[0].name == value
    assert (
        dns.message.from_wire(octets).question[0].name == dns.name.from_wire(value.build(), 0)[0]
    )


# messages --------------------------------------------------------------------------------------


def test_message_round_trip_keeps_everything():
    assert Message.parse(MESSAGE.build()) == MESSAGE
    # Equality ignores case; the spelling survives too.
    parsed = Message.parse(MESSAGE.build())
    assert [str(r) for r in parsed.authority] == [str(r) for r in MESSAGE.authority]
    assert "ns1.Example.test." in str(parsed.authority[1])


def test_message_means_the_same_to_dnspython():
    oracle = dns.message.from_wire(MESSAGE.build())
    assert oracle.id == 0xBEEF
    assert oracle.flags == 0x8500
    assert oracle.payload == 1232
    assert [option.otype for option in oracle.options] == [10, 3]
    for section, records in (
        (oracle.answer, MESSAGE.answer),
        (oracle.authority, MESSAGE.authority),
        (oracle.additional, MESSAGE.additional),
    ):
        theirs = [
            (rrset.name.to_text(), rrset.ttl, int(rrset.rdtype), rdata.to_generic().data)
            for rrset in section
            for rdata in rrset
        ]
        ours = []
        for record in records:
            octets = b"".join(
                piece.build() if isinstance(piece, Name) else piece
                for piece in rdata_pieces(record.data)
            )
            ours.append((str(record.name), record.ttl, record.type, octets))
        assert theirs == ours


def test_dnspython_message_is_read_and_rebuilt_alike():
    text = """id 4660
opcode QUERY
rcode NXDOMAIN
flags QR AA RD RA AD CD
edns 0
payload 4096
;QUESTION
Missing.example.test. IN MX
;ANSWER
example.test. 300 IN MX 10 a.mx.example.test.
example.test. 300 IN MX 20 b.mx.example.test.
example.test. 300 IN TXT "hello world" "again"
_x._tcp.example.test. 300 IN SRV 1 2 53 ns.example.test.
;AUTHORITY
example.test. 300 IN SOA ns.example.test. h.example.test. 1 2 3 4 5
;ADDITIONAL
ns.example.test. 300 IN A 192.0.2.53
ns.example.test. 300 IN AAAA 2001:db8::53
"""
    wire = dns.message.from_text(text).to_wire()
    message = Message.parse(wire)
    assert message.rcode == Rcode.NXDOMAIN
    assert message.authentic_data
    assert message.checking_disabled
    assert message.edns is not None
    assert message.edns.payload == 4096
    assert Mx(10, name("a.mx.example.test.")) in [record.data for record in message.answer]
    assert message.answer[3].type == RecordType.SRV
    assert dns.message.from_wire(message.build()) == dns.message.from_wire(wire)


def test_names_are_compressed():
    plain = sum(len(record.name.build()) for record in MESSAGE.answer)
    assert len(MESSAGE.build()) < plain + 300
    twice = Message(1, question=(Question(name("a.test."), 1),) * 2).build()
    assert twice[-6:] == b"\xc0\x0c\x00\x01\x00\x01"


def test_names_past_the_reach_of_pointers_are_written_whole():
    filler = Record(name("f.test."), 4242, 1, bytes(0x4000))
    late = Record(name("late.example."), RecordType.NS, 1, name("ns.late.example."))
    message = Message(1, answer=(filler, late, late))
    assert Message.parse(message.build()) == message


def test_extended_response_code_needs_edns():
    message = Message(1, response=True, rcode=Rcode.BADVERS, edns=Edns())
    assert Message.parse(message.build()).rcode == Rcode.BADVERS
    with pytest.raises(ValueError, match="needs EDNS"):
        message._replace(edns=None).build()


def test_too_large_a_message_is_not_built():
    records = tuple(Record(name("a.test."), 4242, 1, bytes(30_000)) for _ in range(3))
    with pytest.raises(ValueError, match="65,535"):
        Message(1, answer=records).build()
    with pytest.raises(ValueError, match="65,535"):
        Message(1, answer=(Record(ROOT, 4242, 1, bytes(70_000)),)).build()


def test_header_alone_is_readable():
    head = parse_header(header(1, flags=0x2800))
    assert head.message.opcode == Opcode.UPDATE
    assert head.questions == 1
    with pytest.raises(ParseError):
        parse_header(header()[:11])


def test_signature_stays_last():
    tsig = Record(name("key."), RecordType.TSIG, 0, b"opaque", RecordClass.ANY)
    message = MESSAGE._replace(additional=(tsig,))
    assert Message.parse(message.build()) == message


records = st.builds(
    Record,
    st.lists(label_octets, max_size=3).map(lambda labels: Name(tuple(labels))),
    st.sampled_from([1, 28, 65280, 65400, 65534]),
    st.integers(0, 2**31 - 1),  # dnspython takes no larger TTL
    st.binary(max_size=40),
    st.just(1),
).map(
    lambda record: (
        record._replace(data=IPAddress(record.data.ljust(16, b"\0")[:4]))
        if record.type == 1
        else record._replace(data=IPAddress(record.data.ljust(16, b"\0")[:16]))
        if record.type == 28
        else record
    )
)


@given(st.lists(records, max_size=6), st.integers(0, 0xFFFF), st.booleans())
def test_any_legal_message_survives_both_codecs(answer, id, aa):
    message = Message(id, response=True, authoritative=aa, answer=tuple(answer))
    octets = message.build()
    assert Message.parse(octets) == message
    oracle = dns.message.from_wire(octets, one_rr_per_rrset=True)
    assert len(oracle.answer) == len(answer)
    assert Message.parse(oracle.to_wire(max_size=65_535)) == message


# hostile octets --------------------------------------------------------------------------------


@pytest.mark.parametrize("octets", [MESSAGE.build(), MESSAGE._replace(edns=None).build()])
def test_truncation_at_every_length_is_refused(octets):
    for length in range(len(octets)):
        with pytest.raises(ParseError):
            Message.parse(octets[:length])
    with pytest.raises(ParseError):
        Message.parse(octets + b"\0")


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_random_octets_give_a_message_or_parse_error(data):
    for octets in (data, header(1, 1, 1, 1) + data, header(0, 2, 0, 0) + data):
        try:
            message = Message.parse(octets)
        except ParseError:
            continue
        message.build()


@settings(max_examples=300)
@given(st.integers(0, len(MESSAGE.build()) - 1), st.integers(0, 255))
def test_one_changed_octet_gives_a_message_or_parse_error(position, value):
    octets = bytearray(MESSAGE.build())
    octets[position] = value
    try:
        message = Message.parse(octets)
    except ParseError:
        return
    assert Message.parse(message.build()) == message


def question_at_end(pointer: int) -> bytes:
    return header(1) + struct.pack("!HHH", 0xC000 | pointer, 1, 1)


def test_dns_01_pointer_to_itself():
    with pytest.raises(ParseError, match="backwards"):
        Message.parse(question_at_end(12))


def test_dns_03_sweep_of_all_pointers():
    # Message: header, question "ab.", and a second question that is the pointer at offset 20.
    first = header(2) + b"\x02ab\x00" + struct.pack("!HH", 1, 1)
    legal = []
    for pointer in range(0x4000):
        octets = first + struct.pack("!HHH", 0xC000 | pointer, 1, 1)
        try:
            legal.append((pointer, str(Message.parse(octets).question[1].name)))
        except ParseError:
            continue
    # 12: the name; 15, 16, 18: octets of zero; 17 and 19: a label "\0" or "\1" that runs on.
    assert [entry for entry in legal if entry[0] in (12, 15)] == [(12, "ab."), (15, ".")]
    assert all(12 <= pointer < 20 for pointer, _ in legal)


def chain_of_pointers(count: int) -> tuple[bytes, int]:
    """Return opaque data with a name and a chain of pointers behind it, and the last's offset."""
    start = 12 + 11  # header and the fixed part of a record whose name is the root
    data = b"\x01a\x00"
    last = start
    for _ in range(count):
        position = start + len(data)
        data += struct.pack("!H", 0xC000 | last)
        last = position
    return data, last


def test_dns_04_long_chain_of_pointers_is_refused_and_recursion_free():
    data, last = chain_of_pointers(8_170)
    record = b"\0" + struct.pack("!HHIH", 4242, 1, 0, len(data)) + data
    second = struct.pack("!HHHIH", 0xC000 | last, 1, 1, 0, 4) + b"\x01\x02\x03\x04"
    started = time.perf_counter()
    with pytest.raises(ParseError, match="too many"):
        Message.parse(header(0, 2) + record + second)
    assert time.perf_counter() - started < 0.25
    data, last = chain_of_pointers(125)
    record = b"\0" + struct.pack("!HHIH", 4242, 1, 0, len(data)) + data
    second = struct.pack("!HHHIH", 0xC000 | last, 1, 1, 0, 4) + b"\x01\x02\x03\x04"
    assert Message.parse(header(0, 2) + record + second).answer[1].name == name("a.")


def test_dns_04_message_full_of_pointers_takes_linear_time():
    long = Name(tuple([b"a"] * 127)).build()
    octets = header(0, 5001) + long + struct.pack("!HHIH", 1, 1, 0, 4) + bytes(4)
    octets += (struct.pack("!HHHIH", 0xC00C, 4242, 1, 0, 0)) * 5000
    started = time.perf_counter()
    message = Message.parse(octets)
    assert time.perf_counter() - started < 1.0
    assert len(message.answer) == 5001


def test_dns_06_name_length_limits():
    def question(octets: bytes) -> bytes:
        return header(1) + octets + struct.pack("!HH", 1, 1)

    longest = (b"\x3f" + b"a" * 63) * 3 + b"\x3d" + b"b" * 61 + b"\0"
    assert len(Message.parse(question(longest)).question[0].name.build()) == 255
    too_long = (b"\x3f" + b"a" * 63) * 3 + b"\x3e" + b"b" * 62 + b"\0"
    with pytest.raises(ParseError, match="255"):
        Message.parse(question(too_long))
    with pytest.raises(ParseError, match="reserved"):
        Message.parse(question(b"\x40" + b"a" * 64 + b"\0"))
    with pytest.raises(ParseError, match="left"):
        Message.parse(question(b"\x3f" + b"a" * 10))
    # Through compression: 130 octets of labels in front of 130 known ones.
    half = (b"\x3f" + b"a" * 63) * 2
    first = half + b"\0" + struct.pack("!HH", 1, 1)
    second = half + struct.pack("!HHH", 0xC00C, 1, 1)
    with pytest.raises(ParseError, match="255"):
        Message.parse(header(2) + first + second)
    # The same through a pointer followed before.
    third = struct.pack("!HHH", 0xC00C, 1, 1)
    with pytest.raises(ParseError, match="255"):
        Message.parse(header(3) + first + third + second)


def test_dns_07_name_without_zero_at_the_end():
    for octets in (b"\x01a", b"\x01a\x01b\x01c", b"\xc0"):
        with pytest.raises(ParseError):
            parse_name(Reader(bytes(12) + octets, 12), {})


@pytest.mark.parametrize(
    ("type", "legal"),
    [
        (RecordType.A, b"\x01\x02\x03\x04"),
        (RecordType.AAAA, bytes(16)),
        (RecordType.MX, b"\x00\x0a\x01m\x00"),
        (RecordType.NS, b"\x01n\x00"),
        (RecordType.CNAME, b"\x01n\x00"),
        (RecordType.PTR, b"\x01n\x00"),
        (RecordType.SOA, b"\x01n\x00\x01h\x00" + bytes(20)),
    ],
)
def test_dns_09_rdlength_must_fit_the_type(type, legal):
    def message(length: int) -> bytes:
        data = (legal + bytes(64))[: min(length, 64)]
        return header(0, 1) + b"\0" + struct.pack("!HHIH", type, 1, 0, length) + data

    assert Message.parse(message(len(legal))).answer[0].type == type
    for length in (*range(65), 255, 256, 1_000, 0x7FFF, 0xFFFF):
        if length != len(legal):
            with pytest.raises(ParseError):
                Message.parse(message(length))


def test_dns_09_sweep_of_rdlength_beyond_the_message():
    octets = bytearray(header(0, 1) + b"\0" + struct.pack("!HHIH", 4242, 1, 0, 4) + bytes(4))
    for length in range(0, 0x10000, 7):
        struct.pack_into("!H", octets, 21, length)
        with pytest.raises(ParseError):
            Message.parse(octets)


def test_dns_09_txt_string_past_its_record():
    for data in (b"", b"\x05abc", b"\x01a\x01"):
        octets = header(0, 1) + b"\0" + struct.pack("!HHIH", 16, 1, 0, len(data)) + data
        with pytest.raises(ParseError):
            Message.parse(octets)


def test_dns_10_counts_that_lie():
    started = time.perf_counter()
    for _ in range(100):
        with pytest.raises(ParseError):
            Message.parse(header(65535, 65535, 65535, 65535))
    assert time.perf_counter() - started < 0.25
    octets = bytearray(MESSAGE.build())
    for field in (4, 6, 8, 10):
        for count in (0, 0xFFFF):
            forged = bytearray(octets)
            struct.pack_into("!H", forged, field, count)
            with pytest.raises(ParseError):
                Message.parse(forged)


def opt(payload=1232, flags=0, data=b"", owner=b"\0") -> bytes:
    return owner + struct.pack("!HHIH", 41, payload, flags, len(data)) + data


def test_dns_12_opt_and_tsig_in_the_wrong_places():
    tsig = b"\0" + struct.pack("!HHIH", 250, 255, 0, 3) + b"sig"
    assert Message.parse(header(0, 0, 0, 1) + opt()).edns == Edns(1232)
    for octets in (
        header(0, 0, 0, 2) + opt() + opt(),
        header(0, 1) + opt(),
        header(0, 0, 1) + opt(),
        header(0, 0, 0, 1) + opt(owner=b"\x01a\x00"),
        header(0, 0, 0, 1) + opt(data=b"\x00\x0a\x00"),
        header(0, 0, 0, 1) + opt(data=b"\x00\x0a\x00\x09abc"),
        header(0, 0, 0, 2) + tsig + opt(),
        header(0, 0, 0, 2) + tsig + tsig,
        header(0, 1) + tsig,
    ):
        with pytest.raises(ParseError):
            Message.parse(octets)


def test_dns_34_unknown_types_and_classes_stay_opaque():
    for number in (*range(0, 0x10000, 251), 255, 65535):
        if number in (2, 5, 6, 12, 15, 16, 41, 250):
            continue
        for class_ in (0, 3, 254, 255, 65535):
            octets = header(0, 1) + b"\x01a\x00" + struct.pack("!HHIH", number, class_, 9, 3)
            octets += b"\xc0\x0c\x07"
            message = Message.parse(octets)
            assert message.answer[0].data == b"\xc0\x0c\x07"
            assert message.build() == octets


def test_dns_27_stream_is_split_whole_and_octet_by_octet():
    messages = [MESSAGE.build(), b"", bytes(65_535), b"x"]
    stream = b"".join(frame_message(message) for message in messages)
    assert MessageReader().receive(stream) == messages
    short = b"".join(frame_message(message) for message in (MESSAGE.build(), b"", b"x"))
    reader = MessageReader()
    taken = []
    for position in range(len(short)):
        taken += reader.receive(short[position : position + 1])
    assert taken == [MESSAGE.build(), b"", b"x"]


# text of record data ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type", "text"),
    [
        ("A", "192.0.2.1"),
        ("AAAA", "2001:db8::1"),
        ("NS", "ns.example.test."),
        ("MX", "10 mail.example.test."),
        ("SOA", "ns.test. host.test. 1 7200 3600 1209600 300"),
        ("TYPE4242", "\\# 3 010203"),
        ("TYPE4242", "\\# 0"),
    ],
)
def test_record_data_text_round_trip_and_oracle(type, text):
    data = rdata_from_text(type_number(type), text.split())
    assert rdata_text(data) == text
    oracle = dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.from_text(type), text)
    record = Record(ROOT, type_number(type), 0, data)
    octets = Message(0, answer=(record,)).build()
    assert dns.message.from_wire(octets).answer[0][0] == oracle


def test_txt_text_is_quoted():
    data = Txt((b'a"b\\c', b"\x00\xff "))
    assert rdata_text(data) == '"a\\"b\\\\c" "\\000\\255 "'


@pytest.mark.parametrize(
    ("type", "fields"),
    [
        ("A", []),
        ("A", ["192.0.2.1", "192.0.2.2"]),
        ("A", ["2001:db8::1"]),
        ("AAAA", ["192.0.2.1"]),
        ("AAAA", ["fe80::1%eth0"]),
        ("MX", ["65536", "a."]),
        ("MX", ["a."]),
        ("SOA", ["a.", "b.", "4294967296", "1", "1", "1", "1"]),
        ("TXT", []),
        ("TXT", ["x" * 256]),
        ("SRV", ["1", "2", "3", "a."]),
        ("SRV", ["\\#", "2", "00"]),
        ("SRV", ["\\#"]),
        ("A", ["\\#", "1", "00"]),
        ("NS", ["a..b."]),
    ],
)
def test_bad_record_data_text_is_refused(type, fields):
    with pytest.raises(ValueError, match=r"."):
        rdata_from_text(type_number(type), fields)


def test_type_names():
    assert type_number("mx") == 15
    assert type_number("type65535") == 65535
    assert type_text(4242) == "TYPE4242"
    for bad in ("", "TYPE", "TYPE65536", "TYPE-1", "BOGUS", "TYPE1_0"):
        with pytest.raises(ValueError, match="no record type"):
            type_number(bad)


def test_ttl_text():
    assert parse_ttl("3600") == 3600
    assert parse_ttl("1h30m") == 5400
    assert parse_ttl("1W") == 604_800
    for bad in ("", "h", "1h2", "-1", "1.5", "2147483648", "4000w", "٣"):
        with pytest.raises(ValueError, match=r"."):
            parse_ttl(bad)
