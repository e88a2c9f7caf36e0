"""Echo both ways, also in fragments: the kernel puts ours together and we its."""

from __future__ import annotations

import pytest

from netstack.core.errors import TimedOut, Unreachable

pytestmark = pytest.mark.needs("tap", "netns", "ip", "nginx", "dnsmasq", "openssl", "tshark")

SIZES = [0, 56, 1472, 1473, 8000, 65_507]


@pytest.mark.needs("ping")
def test_kernel_pings_the_stack(lan, run):
    with lan.host() as host:
        for size in SIZES:
            done = run("ping", "-n", "-c", "3", "-i", "0.01", "-W", "5", "-s", str(size), lan.ours)
            assert "3 received, 0% packet loss" in done.stdout
        counters = host.counters()
    # 1,473 octets are 2 fragments, 8,000 are 6 and 65,507 are 45: three times each.
    assert counters["ipv4.packets_reassembled"] == 9


def test_stack_pings_the_kernel(lan):
    with lan.host() as host:
        for size in SIZES:
            for target in (lan.kernel, lan.site.address):
                reply = host.ping(target, size=size, timeout=5)
                assert reply.rtt < 5


def test_ping_of_nobody_ends_in_an_error(lan):
    with lan.host() as host, pytest.raises((TimedOut, Unreachable)):
        host.ping(f"{lan.net}.77", timeout=0.3)


def test_ping_where_the_kernel_has_no_route_is_unreachable(lan, run):
    run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    with lan.host() as host, pytest.raises(Unreachable):
        host.ping("203.0.113.9", timeout=5)


@pytest.mark.needs("ping")
def test_fragments_of_a_datagram_are_put_together_by_the_kernel_at_a_small_mtu(lan, run):
    with lan.host(mtu=576):
        done = run("ping", "-n", "-c", "2", "-i", "0.01", "-W", "5", "-s", "9000", lan.ours)
        assert "2 received" in done.stdout
