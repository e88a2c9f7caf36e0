"""The commands over a TAP: what a user types, against servers and clients of others."""

from __future__ import annotations

import hashlib
import os
import re
import signal

import pytest

pytestmark = pytest.mark.needs("tap", "netns", "ip", "nginx", "dnsmasq", "openssl", "tshark")

MAC = "02:00:00:00:00:09"
LAST = {"Connection reset (RST)": "the command ends with the connection open"}


def _counters(text):
    return {
        name: int(number) for number, name in re.findall(r"(\d+)  ([a-z_]+\.[a-z_0-9]+)", text)
    }


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_fetch_by_name(lan, start, judge, scheme):
    process = start(
        "-m", "netstack", "fetch", f"{scheme}://www.{lan.site.domain}/", "--cacert",
        str(lan.site.ca), "--stats", "--mac", MAC, *lan.options,
    )  # fmt: skip
    page, story = process.communicate(timeout=30)
    assert process.returncode == 0, story
    assert page == "<h1>It works</h1>\n"
    assert lan.site.address in story
    counters = _counters(story)
    assert counters["tcp.active_opens"] == 1
    judge(lan.pcap, mac=MAC, expected=LAST)


def test_dig_and_ping(lan, start, judge):
    process = start(
        "-m", "netstack", "dig", "-v", f"many.{lan.site.domain}", "--mac", MAC, *lan.options
    )
    answer, story = process.communicate(timeout=30)
    assert process.returncode == 0, story
    assert answer.count("198.51.") >= 300
    judge(lan.pcap, mac=MAC, probes=story.count("tail loss probe"), expected=LAST)
    process = start("-m", "netstack", "ping", "-c", "3", "-i", "0.01", lan.kernel, *lan.options)
    answer, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    judge(lan.pcap)


@pytest.mark.needs("curl")
def test_serve_answers_curl_and_ends_in_order(lan, start, run, judge, tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    body = os.urandom(3_000_000)
    (root / "file").write_bytes(body)
    process = start(
        "-m", "netstack", "serve", "--http", "80", "--root", str(root), "--mac", MAC, *lan.options
    )
    assert process.stdout.readline() == "ready\n"
    got = tmp_path / "got"
    run("curl", "-sS", "--noproxy", "*", f"http://{lan.ours}/file", "-o", str(got))
    assert hashlib.sha256(got.read_bytes()).digest() == hashlib.sha256(body).digest()
    process.send_signal(signal.SIGUSR1)
    assert process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    judge(lan.pcap, mac=MAC, opaque=("tcp.port==80",))


def test_tap_that_cannot_be_opened_is_one_line(lan, start):
    process = start(
        "-m", "netstack", "ping", "192.0.2.1", "--tap", "a/b", "--address", "192.0.2.2/24"
    )
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert len(errors.splitlines()) == 1
