"""netstack ping: is a host there, and how far away (ICMP echo, RFC 792)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from netstack.cli.common import (
    FAILED,
    SUCCESS,
    UsageError,
    add_network_options,
    add_output_options,
    check_built_in,
    count,
    on_real_network,
    open_world,
    positive,
    told,
)
from netstack.core.address import parse_address
from netstack.core.errors import TimedOut, Unreachable
from netstack.internet.echo import MAX_PAYLOAD

if TYPE_CHECKING:
    import argparse

    from netstack.cli.output import Output
    from netstack.host import Host

SCHEMA = "netstack.ping/1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.add_argument("host", metavar="HOST")
    parser.add_argument("-c", dest="count", metavar="N", type=count, default=4)
    parser.add_argument("-i", dest="interval", metavar="SECONDS", type=positive, default=1.0)
    parser.add_argument("-W", dest="wait", metavar="SECONDS", type=positive, default=2.0)
    parser.add_argument("-s", dest="size", metavar="OCTETS", type=int, default=56)
    add_network_options(parser)
    add_output_options(parser)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Ping, and return the exit status: 1 without any reply."""
    if not 0 <= arguments.size <= MAX_PAYLOAD:
        raise UsageError(f"-s OCTETS goes from 0 to {MAX_PAYLOAD}")
    if not on_real_network(arguments):
        check_built_in(arguments.host)
    with open_world(arguments) as world, told(world.host, arguments, output):
        pinger = _Pinger(world.host, arguments, output)
        try:
            pinger.run()
        finally:
            pinger.summary()
    return SUCCESS if pinger.times else FAILED


class _Pinger:
    """One run of the command."""

    def __init__(self, host: Host, arguments: argparse.Namespace, output: Output) -> None:
        self._host = host
        self._arguments = arguments
        self._output = output
        self._target = ""
        self._sent = 0
        self.times: list[float] = []  # seconds

    def run(self) -> None:
        """Send the requests, each an interval after the last, and show what comes back."""
        arguments, host = self._arguments, self._host
        self._target = _address(host, arguments.host)
        if not self._output.as_json:
            self._output.line(f"PING {arguments.host} ({self._target}) {arguments.size} octets")
        for sequence in range(1, arguments.count + 1):
            started = host.now
            self._once(sequence)
            rest = started + arguments.interval - host.now
            if sequence < arguments.count and rest > 0:
                host.sleep(rest)

    def _once(self, sequence: int) -> None:
        arguments = self._arguments
        self._sent += 1
        try:
            reply = self._host.ping(self._target, size=arguments.size, timeout=arguments.wait)
        except (TimedOut, Unreachable) as error:
            self._tell(f"seq={sequence}: {error}")
            return
        self.times.append(reply.rtt)
        self._tell(
            f"{reply.size + 8} octets from {reply.address}: seq={sequence} "
            f"ttl={reply.ttl} time={reply.rtt * 1e3:.3f} ms"
        )

    def _tell(self, text: str) -> None:
        if self._output.as_json:
            self._output.tell(text)
        else:
            self._output.line(text)

    def summary(self) -> None:
        """Show the statistics, also after Ctrl-C."""
        if not self._sent:
            return
        times = [seconds * 1e3 for seconds in self.times]
        lost = 100 * (self._sent - len(times)) / self._sent
        figures = None
        if times:
            mean = sum(times) / len(times)
            deviation = math.sqrt(sum((time - mean) ** 2 for time in times) / len(times))
            figures = {"min": min(times), "avg": mean, "max": max(times), "mdev": deviation}
        if self._output.as_json:
            self._output.document(
                SCHEMA,
                {"host": self._arguments.host, "address": self._target, "sent": self._sent,
                 "received": len(times), "rtt_ms": figures, "times_ms": times},
            )  # fmt: skip
            return
        self._output.line(f"{self._sent} sent, {len(times)} received, {lost:g} % lost")
        if figures is not None:
            shown = "/".join(f"{value:.3f}" for value in figures.values())
            self._output.line(f"round trip min/avg/max/mdev = {shown} ms")


def _address(host: Host, name: str) -> str:
    try:
        return str(parse_address(name))
    except ValueError:
        return host.resolve(name)[0]
