"""``netstack fetch`` in the built-in internet."""

import json

import pytest

from netstack.cli.fetch import _headers
from netstack.cli.main import main
from netstack.cli.output import Output


def test_page_goes_to_stdout_and_the_story_to_stderr(capsys):
    assert main(["fetch"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("<!DOCTYPE html>")
    assert captured.out.endswith("</html>\n")
    story = [line.split()[2] for line in captured.err.splitlines() if " ms " in line]
    assert story.index("resolve") < story.index("connect") < story.index("request")
    assert story.index("request") < story.index("response")


def test_resolution_is_told_from_the_root_down(capsys):
    main(["fetch"])
    steps = [line for line in capsys.readouterr().err.splitlines() if " resolve " in line]
    assert "a.root.test" in steps[0]
    assert "referral to test." in steps[0]
    assert "referral to netstack.test." in steps[1]
    assert "203.0.113.80" in steps[2]


def test_same_run_gives_the_same_octets_and_times(capsys):
    main(["fetch", "--explain"])
    first = capsys.readouterr()
    main(["fetch", "--explain"])
    assert capsys.readouterr() == first


def test_quiet_tells_nothing(capsys):
    assert main(["fetch", "-q"]) == 0
    assert capsys.readouterr().err == ""


def test_redirect_to_another_host_is_followed(capsys):
    assert main(["fetch", "--json", "-q", "http://www.netstack.test/shop"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["url"] == "http://www.shop.example/"
    assert [step["status"] for step in document["history"]] == [302]


def test_too_many_redirects_is_one_line(capsys):
    assert main(["fetch", "-q", "--max-redirects", "0", "http://www.netstack.test/shop"]) == 0


def test_missing_page_is_complete_but_fails_if_asked_to(capsys):
    url = "http://www.netstack.test/nothing"
    assert main(["fetch", "-q", url]) == 0
    assert main(["fetch", "-q", "--fail", url]) == 1


def test_unknown_name_is_one_line_and_status_1(capsys):
    assert main(["fetch", "-q", "http://nobody.netstack.test/"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "nobody.netstack.test" in error


def test_headers_only(capsys):
    assert main(["fetch", "-q", "-I"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "HTTP/1.1 200 OK"
    assert lines[-1] == ""


def test_headers_and_body(capsys):
    assert main(["fetch", "-q", "-i"]) == 0
    head, _, body = capsys.readouterr().out.partition("\n\n")
    assert "Content-Type: text/html" in head
    assert body.startswith("<!DOCTYPE html>")


def test_output_file_holds_the_page(tmp_path, capsysbinary):
    target = tmp_path / "page"
    assert main(["fetch", "-q", "-o", str(target)]) == 0
    assert capsysbinary.readouterr().out == b""
    assert target.read_bytes().startswith(b"<!DOCTYPE html>")


def test_resolve_replaces_dns(capsys):
    arguments = ["--resolve", "www.anything.org:203.0.113.80", "http://www.anything.org/"]
    assert main(["fetch", *arguments]) == 0
    captured = capsys.readouterr()
    assert " resolve " not in captured.err
    assert captured.out.startswith("<!DOCTYPE html>")


def test_nobody_listening_is_one_line(capsys):
    assert main(["fetch", "-q", "http://www.netstack.test:81/"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "refused" in error


def test_explain_shows_every_layer_with_the_reason(capsys):
    assert main(["fetch", "--explain"]) == 0
    shown = capsys.readouterr().err
    for text in ("Ethernet:", "ARP:", "IPv4:", "UDP:", "TCP:", "DNS:", "HTTP:", "RFC 9293",
                 "RFC 826"):  # fmt: skip
        assert text in shown


def test_stats_show_the_counters(capsys):
    assert main(["fetch", "--stats"]) == 0
    assert "link.frames_sent" in capsys.readouterr().err


def test_stats_show_each_connection_as_ss_does(capsys):
    assert main(["fetch", "--stats", "-q"]) == 0
    heading, first, details = capsys.readouterr().err.splitlines()[:3]
    assert heading.startswith("State")
    assert first.rstrip().endswith(":80")
    for name in ("cubic", "rto:", "rtt:", "mss:", "cwnd:10", "bytes_sent:", "bytes_received:"):
        assert name in details


@pytest.mark.needs("rich")
def test_colour_changes_no_word(capsys):
    import re

    main(["fetch", "--color", "never"])
    plain = capsys.readouterr().err
    main(["fetch", "--color", "always"])
    coloured = capsys.readouterr().err
    assert coloured != plain
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain


def test_repeated_header_becomes_a_list():
    assert _headers(["Accept: a", "X: 1", "accept: b", "Cookie: c=1", "Cookie: d=2"]) == {
        "accept": "a, b",
        "X": "1",
        "Cookie": "c=1; d=2",
    }


def test_file_is_written_while_the_body_comes(tmp_path, monkeypatch):
    page = tmp_path / "page"
    seen = []
    original = Output.data

    def data(self, octets):
        original(self, octets)
        seen.append(len(octets))

    monkeypatch.setattr(Output, "data", data)
    assert main(["fetch", "-q", "-o", str(page)]) == 0
    assert sum(seen) == page.stat().st_size > 0
    assert seen[-1] == 0  # nothing was held until the end


def test_html_file_holds_the_story_and_every_frame(tmp_path, capsys):
    target = tmp_path / "page.html"
    assert main(["fetch", "-q", "--html", str(target)]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.endswith("</html>\n")
    text = target.read_text("utf-8")
    assert text.endswith("</body>\n</html>\n")
    assert "HTTP/1.1 200 OK" in text
    main(["fetch", "-q", "--explain"])
    assert text.count('<details class="frame">') == capsys.readouterr().err.count("\nframe ") + 1


def test_html_is_the_same_on_every_run(capsys):
    main(["fetch", "-q", "--html", "-"])
    first = capsys.readouterr().out
    main(["fetch", "-q", "--html", "-"])
    assert capsys.readouterr().out == first


def test_html_on_stdout_is_alone_there(tmp_path, capsys):
    assert main(["fetch", "-q", "--html", "-"]) == 0
    assert capsys.readouterr().out.count("<!DOCTYPE html>") == 1
    body = tmp_path / "body"
    assert main(["fetch", "-q", "--html", "-", "-o", str(body)]) == 0
    assert "Every frame" in capsys.readouterr().out
    assert "Every frame" not in body.read_text()
    assert main(["fetch", "--html", "-", "--json"]) == 2


def test_html_of_a_failed_fetch_says_why(tmp_path, capsys):
    target = tmp_path / "page.html"
    assert main(["fetch", "-q", "--html", str(target), "http://www.netstack.test:81/"]) == 1
    assert "refused" in capsys.readouterr().err
    text = target.read_text("utf-8")
    assert "refused" in text
    assert "RST from" in text


def test_html_that_cannot_be_written_is_one_line(tmp_path, capsys):
    assert main(["fetch", "-q", "--html", str(tmp_path / "no" / "page.html")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
