"""``netstack dig`` and ``netstack ping`` in the built-in internet."""

import json

from netstack.cli.main import main


def test_dig_shows_the_records(capsys):
    assert main(["dig", "www.netstack.test"]) == 0
    out = capsys.readouterr().out
    assert "203.0.113.80" in out
    assert "CNAME" in out


def test_dig_asks_the_server_that_is_named(capsys):
    assert main(["dig", "@203.0.113.53", "netstack.test", "TXT"]) == 0
    assert "the network inside" in capsys.readouterr().out


def test_dig_over_tcp(capsys):
    assert main(["dig", "--tcp", "@203.0.113.53", "netstack.test"]) == 0
    assert "203.0.113.80" in capsys.readouterr().out


def test_dig_trace_begins_at_the_root(capsys):
    assert main(["dig", "--trace", "www.shop.example"]) == 0
    steps = [line for line in capsys.readouterr().out.splitlines() if " says " in line]
    assert "a.root.test" in steps[0]


def test_dig_without_such_a_name_fails(capsys):
    assert main(["dig", "nobody.netstack.test"]) == 1
    assert "NXDOMAIN" in capsys.readouterr().out


def test_dig_json(capsys):
    assert main(["dig", "--json", "netstack.test"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "netstack.dig/1"
    assert document["rcode"] == "NOERROR"
    assert [step["name"] for step in document["steps"]]


def test_ping_shows_each_reply_and_the_statistics(capsys):
    assert main(["ping", "-c", "3", "www.netstack.test"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum("ttl=" in line for line in lines) == 3
    assert "3 sent, 3 received, 0 % lost" in lines[-2]
    # 8 ms between the two routers, each way, and five shorter links: the time is known.
    assert 17.0 < float(lines[2].split("time=")[1].split()[0]) < 18.0


def test_ping_of_nobody_fails(capsys):
    assert main(["ping", "-c", "1", "192.0.2.99"]) == 1
    assert "0 received" in capsys.readouterr().out


def test_ping_json(capsys):
    assert main(["ping", "--json", "-c", "2", "203.0.113.81"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "netstack.ping/1"
    assert document["received"] == 2
