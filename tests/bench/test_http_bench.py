"""``netstack bench http``: nginx and our server under the same load."""

import os

import pytest

from netstack.bench import http
from netstack.bench.result import BenchError

REPORT = """Running 3s test @ http://198.18.0.2/
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.10ms  210.00us   9.00ms   91.11%
    Req/Sec    29.03k     2.00k   31.00k    80.65%
  90000 requests in 3.01s, 20.00MB read
Requests/sec:  29900.33
Transfer/sec:      6.64MB
"""


def test_report_gives_requests_and_seconds():
    assert http.parse(REPORT) == {"requests": 90000, "seconds": 3.01}


@pytest.mark.parametrize(
    "trouble",
    ["  Socket errors: connect 0, read 3, write 0, timeout 0", "  Non-2xx or 3xx responses: 4"],
)
def test_trouble_in_the_report_is_an_error(trouble):
    with pytest.raises(BenchError, match=trouble.strip()):
        http.parse(f"{REPORT}{trouble}\n")


def test_report_without_a_request_is_an_error():
    with pytest.raises(BenchError, match="unable to connect"):
        http.parse("unable to connect to 198.18.0.2:http Connection refused\n")


@pytest.mark.slow
@pytest.mark.needs("tap", "netns", "nginx", "wrk")
def test_both_servers_are_measured_and_nginx_ends():
    told = []
    result = http.run(1, told.append, plan=http.Plan(seconds=1))
    requests, cpu = result.works
    assert min(*requests.subject, *requests.baseline) > 0
    assert min(*cpu.subject, *cpu.baseline) > 0
    assert len(told) == 1
    assert "netstack-bench-" not in "".join(map(_command_line, os.listdir("/proc")))


def _command_line(process):
    try:
        with open(f"/proc/{process}/cmdline", "rb") as file:
            words = file.read().split(b"\0")
    except OSError:
        return ""
    return " ".join(map(os.fsdecode, words)) if b"nginx" in words[0] else ""
