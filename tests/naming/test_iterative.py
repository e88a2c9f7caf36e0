"""The iterative resolver from root hints, against honest and hostile servers."""

from __future__ import annotations

import pytest

from netstack.core.errors import NameServerError, TimedOut
from netstack.naming.lookup import NoData, NoSuchName
from netstack.wire.dns import Message, Rcode
from netstack.wire.dns_name import Name

ROOT = """
. 86400 SOA a.root.test. h. 1 2 3 4 60
. NS a.root.test.
a.root.test. A 10.0.0.1
test. NS ns1.test.
ns1.test. A 10.0.0.2
net. NS ns1.net.
ns1.net. A 10.0.0.3
evil. NS ns.evil.
ns.evil. A 10.0.0.66
"""
TEST = """
$ORIGIN test.
test. 3600 SOA ns1 h 1 2 3 4 60
test. NS ns1.test.
ns1.test. A 10.0.0.2
example.test. NS ns1.example.test.
ns1.example.test. A 10.0.0.4
glueless NS ns.hoster.net.
victim NS ns.victim
ns.victim A 10.0.0.5
lame NS ns1.lame
lame NS ns2.lame
ns1.lame A 10.0.0.6
ns2.lame A 10.0.0.4
circle NS ns.ring.net.
"""
NET = """
$ORIGIN net.
@ 3600 SOA ns1 h 1 2 3 4 60
@ NS ns1
ns1 A 10.0.0.3
hoster NS ns.hoster
ns.hoster A 10.0.0.7
ring NS ns.circle.test.
"""
EXAMPLE = """
$ORIGIN example.test.
@ 300 SOA ns1 h 1 2 3 4 60
@ NS ns1
@ MX 10 mail
ns1 A 10.0.0.4
mail A 10.0.1.25
web A 10.0.1.80
www CNAME web
far CNAME host.hoster.net.
gone CNAME gone.hoster.net.
"""
LAME = """
$ORIGIN lame.test.
@ 300 SOA ns1 h 1 2 3 4 60
@ NS ns1
@ NS ns2
web A 10.0.1.99
"""
HOSTER = """
$ORIGIN hoster.net.
@ 300 SOA ns h 1 2 3 4 60
@ NS ns
ns A 10.0.0.7
host A 10.0.2.1
"""
GLUELESS = """
$ORIGIN glueless.test.
@ 300 SOA ns.hoster.net. h 1 2 3 4 60
@ NS ns.hoster.net.
web A 10.0.2.2
"""
VICTIM = """
$ORIGIN victim.test.
@ 300 SOA ns h 1 2 3 4 60
@ NS ns
ns A 10.0.0.5
www A 10.0.5.5
"""


@pytest.fixture
def net(world, respond):
    world.respond = respond
    world.authority("10.0.0.1", ROOT)
    world.authority("10.0.0.2", TEST)
    world.authority("10.0.0.3", NET)
    world.authority("10.0.0.4", EXAMPLE, LAME)
    world.authority("10.0.0.5", VICTIM)
    world.authority("10.0.0.7", HOSTER, GLUELESS)
    return world


def servers(world):
    return [entry[0] for entry in world.log]


def test_name_is_found_from_the_root_down(net):
    answer = net.resolve(net.iterative(), "web.example.test")
    assert answer.texts() == ["10.0.1.80"]
    assert net.outcomes() == [
        ("10.0.0.1 (a.root.test)", "referral to test.: ns1.test."),
        ("10.0.0.2 (ns1.test)", "referral to example.test.: ns1.example.test."),
        ("10.0.0.4 (ns1.example.test)", "answer 10.0.1.80"),
    ]
    assert not Message.parse(net.messages[0]).recursion_desired


def test_delegations_are_remembered(net):
    resolver = net.iterative()
    net.resolve(resolver, "web.example.test")
    net.resolve(resolver, "mail.example.test")
    assert servers(net)[3:] == ["10.0.0.4"]
    net.resolve(resolver, "host.hoster.net")
    assert servers(net)[4:] == ["10.0.0.1", "10.0.0.3", "10.0.0.7"]


def test_glue_is_never_an_answer(net):
    resolver = net.iterative()
    net.resolve(resolver, "web.example.test")
    count = len(net.log)
    assert net.resolve(resolver, "ns1.example.test").texts() == ["10.0.0.4"]
    assert len(net.log) == count + 1


def test_aliases_are_followed_within_and_across_zones(net):
    resolver = net.iterative()
    assert net.resolve(resolver, "www.example.test").texts() == ["10.0.1.80"]
    assert len(net.log) == 3
    answer = net.resolve(resolver, "far.example.test")
    assert answer.texts() == ["10.0.2.1"]
    assert str(answer.canonical) == "host.hoster.net."
    assert servers(net)[3:] == ["10.0.0.4", "10.0.0.1", "10.0.0.3", "10.0.0.7"]
    with pytest.raises(NoSuchName):
        net.resolve(resolver, "gone.example.test")


def test_other_types_and_denials(net):
    resolver = net.iterative()
    assert net.resolve(resolver, "example.test", "MX").texts() == ["10 mail.example.test."]
    assert net.resolve(resolver, "example.test", "NS").texts() == ["ns1.example.test."]
    assert net.resolve(resolver, ".", "NS").texts() == ["a.root.test."]
    count = len(net.log)
    for _ in range(2):
        with pytest.raises(NoSuchName):
            net.resolve(resolver, "no.example.test")
        with pytest.raises(NoData):
            net.resolve(resolver, "web.example.test", "TXT")
    assert len(net.log) == count + 2
    with pytest.raises(NoSuchName):
        net.resolve(resolver, "nothing.nowhere")


def test_server_without_glue_is_looked_up(net):
    answer = net.resolve(net.iterative(), "web.glueless.test")
    assert answer.texts() == ["10.0.2.2"]
    assert servers(net) == [
        "10.0.0.1",
        "10.0.0.2",
        "10.0.0.1",
        "10.0.0.3",
        "10.0.0.7",
        "10.0.0.7",
    ]


def test_lame_and_silent_servers_are_passed_over(net):
    assert net.resolve(net.iterative(), "web.lame.test").texts() == ["10.0.1.99"]
    assert servers(net)[2:] == ["10.0.0.6", "10.0.0.4"]
    for broken in (
        {"rcode": Rcode.REFUSED},
        {"rcode": Rcode.SERVFAIL},
        {"answer": ["web.lame.test. 60 A 10.0.6.66"], "authoritative": False},
        {"authority": ["test. 60 NS ns1.test."]},
        {"authority": [". 60 NS a.root.test."]},
        {"authority": ["lame.test. 60 NS ns1.lame.test."]},
        {"authority": ["other.test. 60 NS ns1.other.test."]},
    ):
        net.scripted("10.0.0.6", lambda query, broken=broken: net.respond(query, **broken))
        net.log.clear()
        assert net.resolve(net.iterative(), "web.lame.test").texts() == ["10.0.1.99"]
        assert servers(net)[2:] == ["10.0.0.6", "10.0.0.4"]


def test_loss_is_overcome(net):
    net.lost = lambda number: number % 3 != 0
    assert net.resolve(net.iterative(), "web.example.test").texts() == ["10.0.1.80"]
    assert servers(net) == ["10.0.0.1"] * 3 + ["10.0.0.2"] * 3 + ["10.0.0.4"] * 3


def test_dead_root_times_out(world):
    with pytest.raises(TimedOut, match="no server of"):
        world.resolve(world.iterative(), "web.example.test")
    assert len(world.log) == 3


def test_second_root_server_is_tried(net):
    resolver = net.iterative(**{"x.root.test": "10.9.9.9", "a.root.test": "10.0.0.1"})
    assert net.resolve(resolver, "web.example.test").texts() == ["10.0.1.80"]
    assert servers(net)[:2] == ["10.9.9.9", "10.0.0.1"]


def test_truncated_referral_goes_over_tcp(net):
    many = "".join(
        f"big.test. 60 NS n{i}.big.test.\nn{i}.big.test. 60 A 10.0.0.4\n" for i in range(60)
    )
    net.authority("10.0.0.2", TEST + many)
    net.authority(
        "10.0.0.4", "$ORIGIN big.test.\n@ 60 SOA n0 h 1 2 3 4 5\n@ NS n0\nweb A 10.7.7.7\n"
    )
    assert net.resolve(net.iterative(), "web.big.test").texts() == ["10.7.7.7"]
    assert [entry[3] for entry in net.log] == ["udp", "udp", "tcp", "udp"]


# hostile servers -------------------------------------------------------------------------------


@pytest.fixture
def evil(net, respond):
    """Let the servers of evil. answer by a function from a query to make_response's arguments."""

    def install(script):
        net.scripted(
            "10.0.0.66",
            lambda query: respond(query, **{"recursion_available": False, **script(query)}),
        )
        return net

    return install


def test_dns_21_bundled_address_of_an_alias_is_not_believed(evil):
    net = evil(
        lambda query: {
            "authoritative": True,
            "answer": [
                "a.evil. 60 CNAME www.victim.test.",
                "www.victim.test. 86400 A 10.6.6.6",
            ],
            "additional": ["www.victim.test. 86400 A 10.6.6.6"],
        }
    )
    resolver = net.iterative()
    assert net.resolve(resolver, "a.evil").texts() == ["10.0.5.5"]
    assert servers(net)[-1] == "10.0.0.5"
    assert net.resolve(resolver, "www.victim.test").texts() == ["10.0.5.5"]


def test_glue_out_of_bailiwick_is_not_believed(evil):
    net = evil(
        lambda query: {
            "authority": [
                "a.evil. 60 NS ns.victim.test.",
                "victim.test. 86400 NS ns.evil.",
                "test. 86400 NS ns.evil.",
            ],
            "additional": ["ns.victim.test. 86400 A 10.0.0.66", "ns.evil. 60 A 10.0.0.66"],
        }
    )
    resolver = net.iterative()
    with pytest.raises(NameServerError):
        net.resolve(resolver, "x.a.evil")
    # The server named was looked up where it belongs, and asked there.
    assert servers(net)[-1] == "10.0.0.5"
    assert net.resolve(resolver, "www.victim.test").texts() == ["10.0.5.5"]


def test_negative_answer_for_a_foreign_zone_is_not_kept(evil):
    net = evil(
        lambda query: {
            "authoritative": True,
            "rcode": Rcode.NXDOMAIN,
            "answer": ["a.evil. 60 CNAME www.victim.test."],
            "authority": ["victim.test. 600 SOA a. b. 1 2 3 4 600"],
        }
    )
    assert net.resolve(net.iterative(), "a.evil").texts() == ["10.0.5.5"]


def test_dns_22_alias_loop_over_zones_ends(evil):
    net = evil(
        lambda query: {
            "authoritative": True,
            "answer": [
                "a.evil. 60 CNAME loop.victim.test."
                if query.question[0].name == Name.from_text("a.evil.")
                else f"{query.question[0].name} 60 CNAME x{query.question[0].name}"
            ],
        }
    )
    net.authority("10.0.0.5", VICTIM + "loop CNAME a.evil.\n")
    for name in ("a.evil", "b.evil"):
        with pytest.raises(NameServerError, match="alias"):
            net.resolve(net.iterative(), name)
    assert len(net.log) <= 40
    assert net.now < 0.5


def test_dns_24_referrals_up_sideways_and_in_place_end(evil):
    for owner in (".", "evil.", "test.", "b.evil."):
        net = evil(lambda query, owner=owner: {"authority": [f"{owner} 60 NS ns.evil."]})
        net.log.clear()
        with pytest.raises(NameServerError):
            net.resolve(net.iterative(), "x.a.evil")
        assert servers(net) == ["10.0.0.1", "10.0.0.66"]


def test_dns_24_infinite_delegation_is_bounded(evil):
    """Each referral leads to a server below a further delegation, for ever (iDNS)."""
    serial = iter(range(1_000_000))

    def script(query):
        number = next(serial)
        name = query.question[0].name
        return {
            "authority": [
                f"{name} 60 NS n{number}a.d{number}.evil.",
                f"{name} 60 NS n{number}b.d{number}.evil.",
            ]
        }

    net = evil(script)
    with pytest.raises(NameServerError):
        net.resolve(net.iterative(), "www.a.evil")
    assert len(net.log) <= 50
    assert net.now < 2.0


def test_dns_24_deep_chain_of_referrals_is_bounded(evil):
    """Every label is a delegation of its own: strictly downwards, and no further than 50."""

    def script(query):
        labels = query.question[0].name.labels
        depth = min(len(labels), len(net.log))
        below = Name(labels[-depth:])
        return {
            "authority": [f"{below} 60 NS ns.{below}"],
            "additional": [f"ns.{below} 60 A 10.0.0.66"],
        }

    net = evil(script)
    name = ".".join(["a"] * 100) + ".evil"
    with pytest.raises(NameServerError, match="gave up after 50 queries"):
        net.resolve(net.iterative(), name)
    assert len(net.log) == 50


def test_dns_24_circular_servers_without_glue_end(net):
    with pytest.raises(NameServerError):
        net.resolve(net.iterative(), "www.circle.test")
    assert len(net.log) <= 10
    assert net.now < 1.0


def test_server_whose_name_is_an_alias_is_not_used(evil):
    net = evil(lambda query: {"authority": ["a.evil. 60 NS www.example.test."]})
    with pytest.raises(NameServerError):
        net.resolve(net.iterative(), "x.a.evil")
    assert servers(net)[-1] == "10.0.0.4"


@pytest.mark.parametrize("silent", [False, True])
def test_dns_25_fifteen_hundred_servers_of_a_victim_cost_it_five_queries(evil, silent):
    names = [f"a.evil. 60 NS r{index}.victim.test." for index in range(1_500)]
    net = evil(lambda query: {"authority": names})
    if silent:
        net.servers = {key: each for key, each in net.servers.items() if str(key) != "10.0.0.5"}
    with pytest.raises((NameServerError, TimedOut)):
        net.resolve(net.iterative(), "x.a.evil")
    assert servers(net).count("10.0.0.5") <= 5
    assert len(net.log) <= 12


def test_dns_25_glue_that_points_at_a_victim_is_asked_once_per_address(evil):
    names = [f"a.evil. 60 NS r{index}.evil." for index in range(100)]
    glue = [f"r{index}.evil. 60 A 10.0.0.5" for index in range(100)]
    net = evil(lambda query: {"authority": names, "additional": glue})
    with pytest.raises(NameServerError):
        net.resolve(net.iterative(), "x.a.evil")
    assert servers(net).count("10.0.0.5") == 1


def test_servers_of_a_zone_are_bounded(evil):
    names = [f"a.evil. 60 NS r{index}.evil." for index in range(100)]
    glue = [f"r{index}.evil. 60 A 10.8.0.{index}" for index in range(100)]
    net = evil(lambda query: {"authority": names, "additional": glue})
    with pytest.raises(TimedOut):
        net.resolve(net.iterative(), "x.a.evil")
    assert len({server for server in servers(net) if server.startswith("10.8.")}) == 13
    assert len(net.log) <= 50
