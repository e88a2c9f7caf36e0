"""The authoritative server, asked and judged through dnspython."""

from __future__ import annotations

import struct

import dns.edns
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netstack.app.dns.server import AuthoritativeServer
from netstack.app.dns.zone import parse_zone

STREAM = 65_535
ZONE = """
$ORIGIN example.test.
$TTL 3600
@ SOA ns1 hostmaster 1 7200 900 604800 300
@ NS ns1
@ NS ns2
@ MX 10 mail
ns1 A 192.0.2.1
ns2 A 192.0.2.2
ns2 AAAA 2001:db8::2
mail A 192.0.2.25
web A 192.0.2.80
www CNAME web
away CNAME www.elsewhere.invalid.
other CNAME host.other.test.
hole CNAME nothing
half CNAME ns1
into CNAME www.sub
loop1 CNAME loop2
loop2 CNAME loop1
self CNAME self
*.wild A 192.0.2.77
*.wild TXT wild
exists.wild A 192.0.2.78
*.alias CNAME web
deep.empty A 192.0.2.10
sub NS ns.sub
sub NS ns.outside.invalid.
ns.sub A 192.0.2.99
"""
OTHER = """
$ORIGIN other.test.
@ 60 SOA ns1.example.test. h 1 2 3 4 5
@ 60 NS ns1.example.test.
host 60 A 198.51.100.1
"""
BIG = (
    "$ORIGIN big.test.\n@ 60 SOA ns h 1 2 3 4 5\n@ NS ns\nns A 192.0.2.3\n"
    + "".join(f"many A 10.0.{index // 250}.{index % 250}\n" for index in range(200))
    + "".join(f"mx MX {index} ns\n" for index in range(25))
    + "".join(f"cut NS n{index}.cut\nn{index}.cut A 10.1.0.{index}\n" for index in range(40))
)


@pytest.fixture(scope="module")
def server():
    return AuthoritativeServer([parse_zone(ZONE), parse_zone(OTHER), parse_zone(BIG)])


def ask(server, name, type="A", max_size=STREAM, **options):
    query = dns.message.make_query(name, type, **options)
    octets = server.answer(query.to_wire(), max_size)
    response = dns.message.from_wire(octets, raise_on_truncation=False)
    assert query.is_response(response)
    return response


def texts(section):
    return sorted(line for rrset in section for line in rrset.to_text().split("\n"))


def authoritative(response):
    return bool(response.flags & dns.flags.AA)


def test_address_is_answered_with_authority(server):
    response = ask(server, "web.example.test")
    assert authoritative(response)
    assert not response.flags & dns.flags.RA
    assert response.flags & dns.flags.RD
    assert texts(response.answer) == ["web.example.test. 3600 IN A 192.0.2.80"]


def test_letter_case_of_the_question_is_kept(server):
    query = dns.message.make_query("wEb.EXAMPLE.test", "A").to_wire()
    octets = server.answer(query, STREAM)
    assert b"\x03wEb\x07EXAMPLE" in octets
    assert len(dns.message.from_wire(octets).answer) == 1


def test_name_servers_come_with_their_addresses(server):
    response = ask(server, "example.test", "NS")
    assert len(response.answer[0]) == 2
    assert len(texts(response.additional)) == 3
    assert texts(ask(server, "example.test", "MX").additional) == [
        "mail.example.test. 3600 IN A 192.0.2.25"
    ]


def test_missing_name_is_denied_with_soa(server):
    response = ask(server, "missing.example.test")
    assert response.rcode() == dns.rcode.NXDOMAIN
    assert authoritative(response)
    # RFC 2308 3: the SOA's TTL is the smaller of its own and its minimum.
    assert texts(response.authority)[0].startswith("example.test. 300 IN SOA")
    assert not response.answer


@pytest.mark.parametrize(
    ("name", "type"),
    [("web.example.test", "AAAA"), ("empty.example.test", "A"), ("example.test", "TYPE65300")],
)
def test_missing_type_is_denied_with_soa(server, name, type):
    response = ask(server, name, type)
    assert response.rcode() == dns.rcode.NOERROR
    assert authoritative(response)
    assert not response.answer
    assert response.authority[0].rdtype == dns.rdatatype.SOA


def test_alias_is_followed_inside_the_zones(server):
    assert texts(ask(server, "www.example.test").answer) == [
        "web.example.test. 3600 IN A 192.0.2.80",
        "www.example.test. 3600 IN CNAME web.example.test.",
    ]
    assert "host.other.test. 60 IN A 198.51.100.1" in texts(
        ask(server, "other.example.test").answer
    )
    assert len(ask(server, "www.example.test", "CNAME").answer) == 1
    assert len(ask(server, "www.example.test", "ANY").answer) == 1


def test_alias_that_leads_away_stands_alone(server):
    for name in ("away", "into"):
        response = ask(server, f"{name}.example.test")
        assert response.rcode() == dns.rcode.NOERROR
        assert len(response.answer) == 1
        assert not response.authority


def test_alias_to_a_hole_is_denied(server):
    response = ask(server, "hole.example.test")
    assert response.rcode() == dns.rcode.NXDOMAIN
    assert len(response.answer) == 1
    response = ask(server, "half.example.test", "TXT")
    assert response.rcode() == dns.rcode.NOERROR
    assert response.authority[0].rdtype == dns.rdatatype.SOA


@pytest.mark.parametrize("name", ["loop1.example.test", "self.example.test"])
def test_alias_loop_ends(server, name):
    response = ask(server, name)
    assert 1 <= len(response.answer) <= 2


def test_delegation_is_a_referral_with_glue(server):
    for name in ("sub.example.test", "a.b.sub.example.test", "ns.sub.example.test"):
        response = ask(server, name)
        assert not authoritative(response)
        assert not response.answer
        assert texts(response.authority) == [
            "sub.example.test. 3600 IN NS ns.outside.invalid.",
            "sub.example.test. 3600 IN NS ns.sub.example.test.",
        ]
        assert texts(response.additional) == ["ns.sub.example.test. 3600 IN A 192.0.2.99"]


def test_wildcard_makes_records_for_names_that_do_not_exist(server):
    assert texts(ask(server, "x.y.wild.example.test").answer) == [
        "x.y.wild.example.test. 3600 IN A 192.0.2.77"
    ]
    assert texts(ask(server, "exists.wild.example.test").answer) == [
        "exists.wild.example.test. 3600 IN A 192.0.2.78"
    ]
    # RFC 4592 2.2.1: an existing name is its own closest encloser.
    assert ask(server, "a.exists.wild.example.test").rcode() == dns.rcode.NXDOMAIN
    assert ask(server, "exists.wild.example.test", "TXT").answer == []
    assert ask(server, "wild.example.test").rcode() == dns.rcode.NOERROR
    assert "x.alias.example.test. 3600 IN CNAME web.example.test." in texts(
        ask(server, "x.alias.example.test").answer
    )
    assert len(ask(server, "x.wild.example.test", "ANY").answer) == 2


def test_dns_34_any_returns_every_type(server):
    types = {rrset.rdtype for rrset in ask(server, "example.test", "ANY").answer}
    assert types == {dns.rdatatype.SOA, dns.rdatatype.NS, dns.rdatatype.MX}


def test_foreign_names_and_transfers_are_refused(server):
    assert ask(server, "example.com").rcode() == dns.rcode.REFUSED
    assert ask(server, ".", "NS").rcode() == dns.rcode.REFUSED
    assert ask(server, "example.test", "AXFR").rcode() == dns.rcode.REFUSED
    chaos = dns.message.make_query("version.example.test", "TXT", rdclass="CH")
    response = dns.message.from_wire(server.answer(chaos.to_wire(), STREAM))
    assert response.rcode() == dns.rcode.REFUSED


def test_other_opcodes_are_not_implemented(server):
    for opcode in (dns.opcode.STATUS, dns.opcode.NOTIFY, dns.opcode.UPDATE, 9):
        query = bytearray(dns.message.make_query("web.example.test", "A").to_wire())
        query[2] = query[2] & 0x87 | int(opcode) << 3
        head = struct.unpack_from("!HH", server.answer(bytes(query), STREAM))
        assert head[1] & 0xF == dns.rcode.NOTIMP
        assert head[1] >> 11 & 0xF == int(opcode)
        assert head[1] & 0x8000


def test_root_zone_refers(server):
    root = AuthoritativeServer(
        [
            parse_zone(
                ". 60 SOA a.root.test. h. 1 2 3 4 5\n. NS a.root.test.\n"
                "test. NS ns.test.\nns.test. A 192.0.2.4\n"
            )
        ]
    )
    response = ask(root, "www.example.test")
    assert texts(response.authority) == ["test. 60 IN NS ns.test."]
    assert texts(response.additional) == ["ns.test. 60 IN A 192.0.2.4"]
    assert ask(root, ".", "NS").answer


def test_edns_is_answered_with_edns(server):
    response = ask(server, "web.example.test", use_edns=0, payload=4096)
    assert response.edns == 0
    assert response.payload == 1232
    assert ask(server, "web.example.test", use_edns=False).edns == -1
    query = dns.message.make_query("web.example.test", "A", use_edns=0).to_wire()
    version_1 = query[:-5] + b"\x01" + query[-4:]
    assert dns.message.from_wire(server.answer(version_1, STREAM)).rcode() == dns.rcode.BADVERS


@pytest.mark.parametrize(
    ("max_size", "payload", "limit"),
    [(1232, None, 512), (1232, 100, 512), (1232, 900, 900), (1232, 4096, 1232), (600, 900, 600)],
)
def test_over_size_is_truncated_without_part_of_a_set(server, max_size, payload, limit):
    query = dns.message.make_query(
        "many.big.test", "A", use_edns=-1 if payload is None else 0, payload=payload or 0
    )
    octets = server.answer(query.to_wire(), max_size)
    assert len(octets) <= limit
    response = dns.message.from_wire(octets, raise_on_truncation=False)
    assert response.flags & dns.flags.TC
    assert not response.answer
    assert (response.edns == 0) == (payload is not None)
    # Over a stream all of it comes, whatever EDNS says.
    whole = dns.message.from_wire(server.answer(query.to_wire(), STREAM))
    assert len(whole.answer[0]) == 200


def test_additional_records_go_first_and_glue_never_silently(server):
    response = ask(server, "mx.big.test", "MX", max_size=1232, use_edns=False)
    assert not response.flags & dns.flags.TC
    assert response.answer
    assert not response.additional or len(response.to_wire()) <= 512
    response = ask(server, "a.cut.big.test", max_size=1232, use_edns=False)
    assert response.flags & dns.flags.TC
    assert not response.additional


def test_question_count_other_than_one_is_a_format_error(server):
    for questions in (0, 2):
        octets = struct.pack("!HHHHHH", 7, 0, questions, 0, 0, 0)
        octets += b"\x03web\x07example\x04test\x00\x00\x01\x00\x01" * questions
        reply = server.answer(octets, STREAM)
        assert struct.unpack_from("!HHHHHH", reply) == (7, 0x8001, 0, 0, 0, 0)


def test_dns_12_two_opt_records_are_a_format_error(server):
    query = dns.message.make_query("web.example.test", "A", use_edns=0).to_wire()
    opt = query[-11:]
    doubled = query[:10] + b"\x00\x02" + query[12:] + opt
    assert struct.unpack_from("!H", server.answer(doubled, STREAM), 2)[0] & 0xF == 1


def test_broken_queries_get_a_format_error_or_silence(server):
    query = dns.message.make_query("web.example.test", "A", use_edns=0).to_wire()
    for length in range(len(query)):
        reply = server.answer(query[:length], STREAM)
        if length < 12:
            assert reply == b""
        else:
            assert reply[:2] == query[:2]
            assert reply[3] & 0xF == dns.rcode.FORMERR
    response = server.answer(query, STREAM)
    assert server.answer(response, STREAM) == b""


@settings(max_examples=200)
@given(st.binary(max_size=100), st.integers(0, 70), st.binary(min_size=1, max_size=4))
def test_random_octets_never_raise(data, position, patch):
    server = AuthoritativeServer([parse_zone(ZONE)])
    server.answer(data, 1232)
    query = bytearray(dns.message.make_query("x.wild.example.test", "ANY", use_edns=0).to_wire())
    query[position : position + len(patch)] = patch
    reply = server.answer(bytes(query), 1232)
    if reply:
        dns.message.from_wire(reply, raise_on_truncation=False, ignore_trailing=False)


def test_zone_twice_is_refused():
    zone = parse_zone(OTHER)
    with pytest.raises(ValueError, match="twice"):
        AuthoritativeServer([zone, zone])


def test_responses_are_counted():
    server = AuthoritativeServer([parse_zone(OTHER)])
    ask(server, "host.other.test")
    ask(server, "no.other.test")
    server.answer(b"", 512)
    assert server.counters == {"NOERROR": 1, "NXDOMAIN": 1, "too_short": 1}
