"""Master files: dnspython reads the same zones; what makes no zone is refused by line."""

from __future__ import annotations

import dns.name
import dns.zone
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.app.dns.zone import Zone, parse_zone
from netstack.core.errors import ParseError
from netstack.wire.dns_name import Name
from netstack.wire.dns_rdata import RecordType, Txt, rdata_pieces

ZONE = r"""
$ORIGIN example.test.
$TTL 1h
@       IN SOA ns1 hostmaster.example.test. (
            2024010101 ; serial
            2h         ; refresh
            900 1w     ; retry, expire
            300 )      ; minimum
        IN NS  ns1
        IN NS  ns2.example.test.
        MX 10 mail
        TXT ( "v=spf1 -all" plain "semi;colon \"quoted\" \065\; )" )
ns1     A 192.0.2.1
ns2     300 IN A 192.0.2.2
        IN 600 AAAA 2001:db8::2
www     CNAME web
web     60 A 192.0.2.80
web     A 192.0.2.81
*.wild  TXT wild
a\.b    A 192.0.2.9
deep.empty A 192.0.2.10
odd     TYPE65280 \# 4 01 0203 04
$ORIGIN sub
@       NS ns.sub.example.test.
ns      A 192.0.2.99
$ORIGIN 2.0.192.in-addr.example.test.
1       PTR ns1.example.test.
"""


def flat(zone: Zone):
    return {
        (
            str(record.name).lower(),
            record.ttl,
            record.type,
            b"".join(
                piece.build() if isinstance(piece, Name) else piece
                for piece in rdata_pieces(record.data)
            ),
        )
        for node in zone.nodes.values()
        for records in node.values()
        for record in records
    }


def oracle(text: str, origin: str):
    zone = dns.zone.from_text(
        text.replace("$ORIGIN sub", "$ORIGIN sub.example.test."), origin, relativize=False
    )
    return {
        (name.to_text().lower(), ttl, int(rdata.rdtype), rdata.to_generic().data)
        for name, ttl, rdata in zone.iterate_rdatas()
    }


def test_zone_is_read_as_dnspython_reads_it():
    zone = parse_zone(ZONE)
    assert zone.origin == Name.from_text("example.test.")
    assert flat(zone) == oracle(ZONE, "example.test.")


def test_details_of_the_master_file():
    zone = parse_zone(ZONE)
    origin = zone.origin
    txt = zone.nodes[origin][RecordType.TXT][0].data
    assert txt == Txt((b"v=spf1 -all", b"plain", b'semi;colon "quoted" A; )'))
    # The records of a set live equally long.
    web = zone.nodes[Name.from_text("web.example.test.")][RecordType.A]
    assert [record.ttl for record in web] == [60, 60]
    assert Name((b"a.b", *origin.labels)) in zone.nodes
    # A name between others exists, without records.
    assert zone.nodes[Name.from_text("empty.example.test.")] == {}


def test_origin_argument_and_dos_line_ends():
    text = "@ 60 SOA ns h 1 2 3 4 5\r\n  NS ns\r\nns A 192.0.2.1\r\n"
    zone = parse_zone(text, "Example.TEST")
    assert str(zone.origin) == "Example.TEST."
    assert flat(zone) == oracle(text, "Example.TEST.")


def test_record_set_keeps_one_of_equal_records():
    zone = parse_zone("@ 60 SOA ns h 1 2 3 4 5\n NS ns\nns A 192.0.2.1\nNS A 192.0.2.1\n", "t.")
    assert len(zone.nodes[Name.from_text("ns.t.")][RecordType.A]) == 1


GOOD = "$TTL 60\n@ SOA ns h 1 2 3 4 5\n@ NS ns\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "one SOA"),
        (GOOD + "@ SOA ns h 1 2 3 4 5\n@ SOA ns h 2 2 3 4 5\n", "one SOA"),
        ("$TTL 60\n@ SOA ns h 1 2 3 4 5\n", "no NS"),
        (GOOD + "other.example. A 192.0.2.1\n", "outside"),
        (GOOD + "a CNAME b\na A 192.0.2.1\n", "alias"),
        (GOOD + "a CNAME b\na CNAME c\n", "alias"),
        (GOOD + "a A 192.0.2.256\n", "line 4: "),
        (GOOD + "a A\n", "line 4: "),
        (GOOD + "a 60\n", "line 4: a record without type"),
        (GOOD + "a BOGUS x\n", "line 4: "),
        (GOOD + "a CH A 192.0.2.1\n", "line 4: class"),
        (GOOD + "a..b A 192.0.2.1\n", "line 4: "),
        (GOOD + "\u0663 A 192.0.2.1\n", "line 4: "),
        (GOOD + 'a TXT "open\n', "line 4: a quoted string"),
        (GOOD + "a TXT ( x\n", "line 4: a parenthesis"),
        (GOOD + "a TXT x )\n", "line 4: a parenthesis"),
        (GOOD + "$INCLUDE other\n", "line 4: "),
        (GOOD + "$TTL\n", "line 4: "),
        (GOOD + "$TTL x\n", "line 4: "),
        (GOOD + "a 2147483648 A 192.0.2.1\n", "line 4: "),
        (" SOA ns h 1 2 3 4 5\n", "line 1: the first record"),
        ("@ NS ns\n", "line 1: the NS record has no TTL"),
    ],
)
def test_what_is_no_zone_is_refused_by_line(text, message):
    with pytest.raises(ParseError, match=message):
        parse_zone(text, "example.test")


def test_relative_name_without_origin_is_refused():
    with pytest.raises(ParseError, match="line 1"):
        parse_zone("www 60 A 192.0.2.1\n")


@given(st.text(alphabet=' \t\n\\"();@$.aIN0A69SOTX', max_size=80))
def test_random_text_gives_a_zone_or_parse_error(text):
    try:
        parse_zone(GOOD + text, "t.")
    except ParseError:
        return
