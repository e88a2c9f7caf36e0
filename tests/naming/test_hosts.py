from __future__ import annotations

import pytest

from netstack.core.address import parse_address
from netstack.naming.hosts import HostsTable
from netstack.wire.dns_name import Name, reverse_name
from netstack.wire.dns_rdata import RecordType

TEXT = """
# the usual
127.0.0.1   localhost
192.0.2.1   gateway.Example.test gw   # with an alias
192.0.2.2   gw
2001:db8::1 gateway.example.test
300.1.1.1   broken
192.0.2.3
192.0.2.4   bad..name
"""


def name(text):
    return Name.from_text(text)


def data(records):
    return [str(record.data) for record in records]


def test_names_and_aliases_give_addresses():
    table = HostsTable.parse(TEXT)
    assert data(table.lookup(name("GATEWAY.example.test."), RecordType.A)) == ["192.0.2.1"]
    assert data(table.lookup(name("gateway.example.test."), RecordType.AAAA)) == ["2001:db8::1"]
    assert data(table.lookup(name("gw."), RecordType.A)) == ["192.0.2.1", "192.0.2.2"]


def test_known_name_without_the_family_is_answered_empty():
    assert HostsTable.parse(TEXT).lookup(name("gw."), RecordType.AAAA) == ()


def test_unknown_names_and_types_are_left_to_servers():
    table = HostsTable.parse(TEXT)
    assert table.lookup(name("other."), RecordType.A) is None
    assert table.lookup(name("gw."), RecordType.TXT) is None
    assert table.lookup(name("9.2.0.192.in-addr.arpa."), RecordType.PTR) is None


def test_addresses_give_their_first_name():
    table = HostsTable.parse(TEXT)
    reverse = reverse_name(parse_address("192.0.2.1"))
    assert data(table.lookup(reverse, RecordType.PTR)) == ["gateway.Example.test."]


def test_localhost_is_always_known():
    table = HostsTable()
    assert data(table.lookup(name("localhost."), RecordType.A)) == ["127.0.0.1"]
    assert data(table.lookup(name("a.localhost."), RecordType.A)) == ["127.0.0.1"]
    assert table.lookup(name("localhost."), RecordType.AAAA) == ()


def test_lines_that_make_no_sense_are_named():
    assert HostsTable.parse(TEXT).ignored == (7, 8, 9)


def test_mapping_is_checked():
    table = HostsTable.of({"web.test": "192.0.2.8"})
    assert data(table.lookup(name("web.test."), RecordType.A)) == ["192.0.2.8"]
    for bad in ({"a..b": "192.0.2.1"}, {"a": "x"}):
        with pytest.raises(ValueError, match=r"."):
            HostsTable.of(bad)
