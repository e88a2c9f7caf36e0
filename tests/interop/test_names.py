"""Resolution by dnsmasq."""

from __future__ import annotations

import pytest

from netstack.core.errors import NameNotFound, NameServerError, TimedOut

pytestmark = pytest.mark.needs("tap", "netns", "ip", "nginx", "dnsmasq", "openssl", "tshark")


def test_addresses_aliases_and_text_are_found(lan):
    domain = lan.site.domain
    with lan.host() as host:
        assert host.resolve(f"www.{domain}") == [lan.site.address]
        assert host.resolve(f"alias.{domain}") == [lan.site.address]
        assert host.resolve(f"text.{domain}", "TXT") == ['"interop"']
        with pytest.raises(NameNotFound):
            host.resolve(f"nowhere.{domain}")
        with pytest.raises(NameNotFound):
            host.resolve(f"www.{domain}", "AAAA")


def test_answer_too_large_for_a_datagram_comes_over_tcp(lan):
    with lan.host() as host:
        found = host.resolve(f"many.{lan.site.domain}")
        counters = host.counters()
    assert len(set(found)) == len(found) == 300
    assert counters["tcp.active_opens"] == 1


def test_second_answer_comes_from_the_cache(lan):
    with lan.host() as host:
        host.resolve(f"www.{lan.site.domain}")
        before = host.counters()["udp.datagrams_sent"]
        host.resolve(f"www.{lan.site.domain}")
        assert host.counters()["udp.datagrams_sent"] == before


def test_silent_server_is_passed_over(lan):
    with lan.host(dns=(f"{lan.net}.77", lan.site.address)) as host:
        assert host.resolve(f"www.{lan.site.domain}", timeout=10) == [lan.site.address]


def test_address_without_a_server_is_an_error_not_a_hang(lan):
    with (
        lan.host(dns=lan.kernel) as host,
        pytest.raises((NameServerError, TimedOut)),
    ):
        host.resolve(f"www.{lan.site.domain}", timeout=1)
