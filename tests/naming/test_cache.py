from __future__ import annotations

import pytest

from netstack.core.config import DnsConfig
from netstack.naming.answer import Finding, Outcome
from netstack.naming.cache import Cache
from netstack.wire.dns_name import Name
from netstack.wire.dns_rdata import RecordType

A = RecordType.A
NAME = Name.from_text("www.example.test.")


@pytest.fixture
def cache():
    return Cache(DnsConfig())


def found(*records, aliases=()):
    return Finding(Outcome.ANSWER, records[0].name, aliases, records)


def test_answer_is_kept_for_its_time_and_ages(cache, record):
    cache.store(found(record("www.example.test. 60 A 192.0.2.1")), A, 100.0)
    assert cache.find(NAME, A, 100.0).records[0].ttl == 60
    aged = cache.find(Name.from_text("WWW.example.TEST."), A, 120.5)
    assert aged.outcome is Outcome.ANSWER
    assert aged.records[0].ttl == 40
    assert cache.find(NAME, A, 159.9) is not None
    assert cache.find(NAME, A, 160.0) is None
    assert len(cache) == cache.octets == 0


def test_types_are_separate(cache, record):
    cache.store(found(record("www.example.test. 60 A 192.0.2.1")), A, 0.0)
    assert cache.find(NAME, RecordType.AAAA, 0.0) is None


def test_record_set_lives_as_long_as_its_shortest_record(cache, record):
    records = record("www.example.test. 60 A 192.0.2.1"), record("www.example.test. 5 A 192.0.2.2")
    cache.store(found(*records), A, 0.0)
    assert [each.ttl for each in cache.find(NAME, A, 0.0).records] == [5, 5]
    assert cache.find(NAME, A, 5.0) is None


@pytest.mark.parametrize("ttl", [0, 0x8000_0000, 0xFFFF_FFFF])
def test_zero_and_negative_ttl_are_not_kept(cache, record, ttl):
    cache.store(found(record(f"www.example.test. {ttl} A 192.0.2.1")), A, 0.0)
    assert cache.find(NAME, A, 0.0) is None


def test_long_ttl_is_capped(cache, record):
    cache.store(found(record("www.example.test. 2147483647 A 192.0.2.1")), A, 0.0)
    assert cache.find(NAME, A, 86_399.0).records[0].ttl == 1
    assert cache.find(NAME, A, 86_400.0) is None


def test_alias_is_found_for_every_type(cache, record):
    alias = record("www.example.test. 60 CNAME web.example.test.")
    address = record("web.example.test. 30 A 192.0.2.1")
    cache.store(found(address, aliases=(alias,)), A, 0.0)
    for type in (A, RecordType.TXT):
        step = cache.find(NAME, type, 10.0)
        assert step.outcome is Outcome.ALIAS
        assert step.name == address.name
        assert step.aliases[0].ttl == 50
    assert cache.find(address.name, A, 10.0).outcome is Outcome.ANSWER
    assert cache.find(NAME, RecordType.CNAME, 10.0).outcome is Outcome.ANSWER


def test_dns_30_negative_answers_live_as_the_soa_says_up_to_three_hours(cache):
    cache.store(Finding(Outcome.NAME_ERROR, NAME, ttl=100), A, 0.0)
    assert cache.find(NAME, RecordType.TXT, 99.0).outcome is Outcome.NAME_ERROR
    assert cache.find(NAME, RecordType.TXT, 100.0) is None
    cache.store(Finding(Outcome.NO_DATA, NAME, ttl=2**31 - 1), A, 0.0)
    assert cache.find(NAME, A, 10_799.0).outcome is Outcome.NO_DATA
    assert cache.find(NAME, RecordType.TXT, 10_799.0) is None
    assert cache.find(NAME, A, 10_800.0) is None


def test_dns_30_negative_answer_without_soa_is_not_kept(cache):
    cache.store(Finding(Outcome.NAME_ERROR, NAME), A, 0.0)
    cache.store(Finding(Outcome.NO_DATA, NAME), A, 0.0)
    assert len(cache) == 0


def test_dns_30_failure_is_kept_for_a_moment(cache):
    cache.store_failure(NAME, A, 0.0)
    assert cache.find(NAME, A, 4.9).outcome is Outcome.FAILURE
    assert cache.find(NAME, A, 5.0) is None


def test_positive_answer_ends_a_name_error(cache, record):
    cache.store(Finding(Outcome.NAME_ERROR, NAME, ttl=100), A, 0.0)
    cache.store(found(record("www.example.test. 60 TXT x")), RecordType.TXT, 1.0)
    assert cache.find(NAME, A, 2.0) is None


def test_delegation_is_no_answer(cache, record):
    cache.store_delegation([record("www.example.test. 60 A 192.0.2.66")], 0.0)
    assert cache.find(NAME, A, 0.0) is None
    assert len(cache.delegation(NAME, A, 0.0)) == 1
    # An answer is worth more than glue.
    cache.store(found(record("www.example.test. 60 A 192.0.2.1")), A, 0.0)
    assert str(cache.delegation(NAME, A, 0.0)[0].data) == "192.0.2.1"


def test_any_is_never_answered_from_memory(cache, record):
    cache.store(found(record("www.example.test. 60 A 192.0.2.1")), RecordType.ANY, 0.0)
    assert cache.find(NAME, RecordType.ANY, 0.0) is None
    assert cache.find(NAME, A, 0.0) is None


def test_dns_31_flood_is_bounded_and_hot_names_stay(record):
    cache = Cache(DnsConfig(cache_entries=500, cache_octets=200_000))
    hot = record("hot.example.test. 86400 A 192.0.2.1")
    cache.store(found(hot), A, 0.0)
    template = record("x.example.test. 86400 A 192.0.2.2")
    for index in range(5_000):
        flood = template._replace(name=Name((b"r%d" % index, b"example", b"test")))
        cache.store(found(flood), A, 0.0)
        if index % 100 == 0:
            assert cache.find(hot.name, A, 0.0) is not None
        assert len(cache) <= 500
        assert cache.octets <= 200_000


def test_dns_31_entry_larger_than_the_cache_is_not_kept(record):
    cache = Cache(DnsConfig(cache_octets=1_000))
    records = [record(f"www.example.test. 60 A 192.0.2.{index}") for index in range(20)]
    cache.store(found(*records), A, 0.0)
    assert len(cache) == cache.octets == 0
