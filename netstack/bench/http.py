"""Small HTTP responses over kept connections: our server over a TAP beside nginx over veth.

The client is wrk, in the peer's network: 32 connections, one request at a time on each, for the
same static file of 13 octets. Server and client have a CPU each where there are two.
"""

from __future__ import annotations

import http.client
import os
import re
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from netstack.bench.namespace import command
from netstack.bench.result import BenchError, Result, Work, environment
from netstack.bench.worlds import World

if TYPE_CHECKING:
    from collections.abc import Callable

SUBJECT, BASELINE = "netstack", "nginx"
CONTENT: Final = b"Hello, world!"
PORT: Final = 80
CONNECTIONS: Final = 32
_START_S: Final = 5.0
_NGINX = """
daemon off; master_process off; pid {at}/nginx.pid; error_log {at}/error.log;
worker_rlimit_nofile 4096;
events {{ worker_connections 2048; }}
http {{
    access_log off; keepalive_timeout 60; keepalive_requests 100000000; open_file_cache max=16;
    client_body_temp_path {at}/temp; proxy_temp_path {at}/temp; fastcgi_temp_path {at}/temp;
    uwsgi_temp_path {at}/temp; scgi_temp_path {at}/temp;
    server {{ listen {port}; root {root}; }}
}}
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long each measurement takes, in whole seconds: wrk counts no others."""

    seconds: int = 3


DEFAULT_PLAN = Plan()


def run(rounds: int, tell: Callable[[str], None], *, plan: Plan = DEFAULT_PLAN) -> Result:
    """Measure both servers ``rounds`` times.

    Raises: BenchError if it can't run here, or if an answer was wrong.
    """
    speeds: dict[str, list[float]] = {SUBJECT: [], BASELINE: []}
    costs: dict[str, list[float]] = {SUBJECT: [], BASELINE: []}
    with TemporaryDirectory(prefix="netstack-bench-") as folder, World() as world:
        root = Path(folder, "root")
        root.mkdir()
        root.joinpath("index.html").write_bytes(CONTENT)
        cpus = sorted(os.sched_getaffinity(0))
        nginx_at = world.kernel.call("serve_nginx", folder=folder, root=str(root))
        for number in range(1, rounds + 1):
            stack = world.stack()
            stack_at = stack.call("serve_files", root=str(root), number=number)
            contestants = [(SUBJECT, stack, stack_at), (BASELINE, world.kernel, nginx_at)]
            if number % 2:
                contestants.reverse()
            world.peer.call("pin", cpus=cpus[:1])
            for name, server, address in contestants:
                server.call("pin", cpus=cpus[-1:])
                before = server.call("server_cpu")
                did = world.peer.call("load", address=address, seconds=plan.seconds)
                used = server.call("server_cpu") - before
                speeds[name].append(did["requests"] / did["seconds"])
                costs[name].append(used / did["requests"] * 1e6)
            tell(
                f"round {number}/{rounds}: {speeds[SUBJECT][-1]:,.0f} requests/s, "
                f"nginx {speeds[BASELINE][-1]:,.0f} requests/s"
            )
            described = stack.call("describe")
            stack.call("close")
            stack.close()
        setup = {**world.setup, "server": "nginx, one process"}
    works = [
        Work(
            "requests", f"{len(CONTENT)} octets, {CONNECTIONS} kept connections", "requests/s",
            tuple(speeds[SUBJECT]), tuple(speeds[BASELINE]),
        ),
        Work(
            "cpu", "server's CPU", "us/request",
            tuple(costs[SUBJECT]), tuple(costs[BASELINE]), higher_is_better=False,
        ),
    ]  # fmt: skip
    contestants_setup = {
        SUBJECT: {**described, "kernels": environment()["kernels"]},
        BASELINE: setup,
    }
    return Result("http", rounds, SUBJECT, BASELINE, contestants_setup, works)


# ---- in the workers ------------------------------------------------------------------------


class Nginx:
    """An nginx of one process, in the network namespace of whoever makes it."""

    def __init__(self, folder: str, root: str, address: str) -> None:
        nginx = command("nginx", "nginx-light")
        config = Path(folder, "nginx.conf")
        Path(folder, "temp").mkdir()
        config.write_text(_NGINX.format(at=folder, root=root, port=PORT))
        self._process = subprocess.Popen(
            [nginx, "-p", folder, "-c", str(config), "-e", f"{folder}/error.log"],
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        end = time.monotonic() + _START_S
        while not _answers(address):
            if self._process.poll() is not None or time.monotonic() > end:
                self.close()
                raise BenchError(f"nginx: {Path(folder, 'error.log').read_text().strip()}")
            time.sleep(0.02)

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()

    def pin(self, cpus: list[int]) -> None:
        """Let it run on these CPUs only."""
        os.sched_setaffinity(self._process.pid, cpus)

    def cpu(self) -> float:
        """Return the CPU seconds it has used, user and system (proc(5), stat)."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _answers(address: str) -> bool:
    with suppress(OSError):
        return fetch(address) == CONTENT
    return False


def fetch(address: str) -> bytes:
    """Return what the server at ``address`` has to say.

    Raises: OSError.
    """
    connection = http.client.HTTPConnection(address, PORT, timeout=_START_S)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read()
    except http.client.HTTPException as error:
        raise OSError(str(error)) from None
    finally:
        connection.close()


def load(address: str, seconds: int) -> dict[str, float]:
    """Have wrk ask for that long; return the requests answered and the seconds it took.

    Raises: BenchError for a wrong answer, before, during or after.
    """
    wrk = command("wrk", "wrk")
    _expect_content(address)
    told = subprocess.run(
        [wrk, "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", f"http://{address}/"],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    _expect_content(address)
    return parse(told.stdout or told.stderr)


def _expect_content(address: str) -> None:
    if fetch(address) != CONTENT:
        raise BenchError(f"http: {address} gave another content")


def parse(report: str) -> dict[str, float]:
    """Return the figures of wrk's report.

    Raises: BenchError if anything went wrong, by its own account.
    """
    found = re.search(r"(\d+) requests in ([\d.]+)(ms|s|m),", report)
    errors = re.search(r"Socket errors:.*|Non-2xx.*", report)
    if found is None or errors is not None or int(found[1]) == 0:
        what = errors[0] if errors is not None else report.strip()
        raise BenchError(f"wrk: {what}")
    unit = {"ms": 1e-3, "s": 1.0, "m": 60.0}[found[3]]
    return {"requests": int(found[1]), "seconds": float(found[2]) * unit}
