"""What the commands share: options, the host they run on, and how an error reads."""

from __future__ import annotations

import argparse
import socket
import ssl
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from netstack.api import tap
from netstack.core.address import parse_address, parse_cidr, parse_mac
from netstack.core.errors import DeviceError, NetstackError
from netstack.explain.narrative import Narrative
from netstack.labs.internet import internet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from netstack.cli.output import Output
    from netstack.core.trace import TraceEvent
    from netstack.host import Host

SUCCESS, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
INTERRUPTED_CLOSE_S = 0.3  # what draining may take after Ctrl-C, which ends within 1 s


class UsageError(Exception):
    """The command line makes no sense: exit 2."""


class Failure(Exception):
    """It failed, or the answer is no: exit 1 with this one line."""


def checked(function: Callable[[str], object]) -> Callable[[str], str]:
    """Return an argparse type: text that ``function`` accepts, unchanged."""

    def check(text: str) -> str:
        try:
            function(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        return text

    return check


address = checked(parse_address)
cidr = checked(parse_cidr)
mac = checked(parse_mac)


def _number(
    kind: type[int] | type[float], least: float, most: float, wanted: str
) -> Callable[[str], Any]:
    def check(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = -1  # below every least
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
        return value

    return check


positive = _number(float, 1e-9, 1e9, "a time in seconds above 0")
port = _number(int, 1, 65_535, "a port (1 to 65535)")
count = _number(int, 1, 10**9, "a number above 0")
limit = _number(int, 0, 10**9, "a number, 0 or more")
mtu = _number(int, 68, 65_535, "an MTU (68 to 65535 octets)")  # RFC 791 3.2: 68


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Add what every command takes."""
    group = parser.add_argument_group("output")
    group.add_argument("-v", "--verbose", action="count", default=0, help="tell more")
    group.add_argument("-q", "--quiet", action="store_true", help="tell nothing on stderr")
    group.add_argument(
        "--color", choices=("auto", "always", "never"), default="auto", help="also: NO_COLOR"
    )
    group.add_argument("--json", action="store_true", help="data on stdout as JSON")
    group.add_argument("-o", dest="output", metavar="FILE", default="-", help="- is stdout")


def add_network_options(parser: argparse.ArgumentParser) -> None:
    """Add what places a host on a real network."""
    group = parser.add_argument_group(
        "real network", "without --tap the command runs in the built-in internet"
    )
    group.add_argument("--tap", metavar="NAME", help="the TAP device; made if it does not exist")
    group.add_argument("--address", metavar="CIDR", type=cidr, help="such as 192.0.2.2/24")
    group.add_argument("--gateway", metavar="IP", type=address)
    group.add_argument("--dns", metavar="IP", type=address, action="append", default=[])
    group.add_argument("--hosts", metavar="FILE", help="names and addresses, as /etc/hosts")
    group.add_argument("--mac", metavar="MAC", type=mac)
    group.add_argument("--mtu", metavar="N", type=mtu, default=1500)
    group.add_argument("--offload", choices=("on", "off"), default="on")
    group.add_argument("--pcap", metavar="FILE", help="record what a wire would carry")
    group.add_argument(
        "--pcap-raw", metavar="FILE", help="record what the device is given: super-segments whole"
    )


def read_hosts(path: str) -> dict[str, str]:
    """Return name -> address of a file in the form of /etc/hosts (IPv4 lines).

    Raises: UsageError, OSError.
    """
    table: dict[str, str] = {}
    for number, line in enumerate(Path(path).read_text("utf-8").splitlines(), 1):
        fields = line.partition("#")[0].split()
        if not fields:
            continue
        try:
            found = parse_address(fields[0])
        except ValueError as error:
            raise UsageError(f"{path}, line {number}: {error}") from None
        if found.version == 4:
            for name in fields[1:]:
                table.setdefault(name.lower(), fields[0])
    return table


def on_real_network(arguments: argparse.Namespace) -> bool:
    """Return whether the command runs over a TAP; check what then must be there too.

    Raises: UsageError.
    """
    if arguments.tap is not None:
        if arguments.address is None:
            raise UsageError("--tap needs --address CIDR, such as --address 192.0.2.2/24")
        if arguments.pcap is not None and arguments.pcap == arguments.pcap_raw:
            raise UsageError("--pcap and --pcap-raw need a file each")
        return True
    given = ("address", "gateway", "hosts", "mac", "pcap", "pcap_raw")
    for name in given:
        if getattr(arguments, name) is not None:
            raise UsageError(f"--{name.replace('_', '-')} needs --tap NAME")
    if arguments.dns:
        raise UsageError("--dns needs --tap NAME")
    return False


class World(NamedTuple):
    """The host that a command runs on, and all hosts whose frames can be seen."""

    host: Host
    hosts: tuple[Host, ...]


@contextmanager
def open_world(arguments: argparse.Namespace) -> Iterator[World]:
    """Hold what the command runs in: a host over the TAP, or the built-in internet.

    Raises: UsageError, DeviceError.
    """
    if not on_real_network(arguments):
        with internet() as network:
            yield World(network.hosts["client"], tuple(network.hosts.values()))
        return
    host = tap(
        arguments.tap,
        address=arguments.address,
        gateway=arguments.gateway,
        dns=tuple(arguments.dns),
        hosts=None if arguments.hosts is None else read_hosts(arguments.hosts),
        mac=arguments.mac,
        mtu=arguments.mtu,
        offload=arguments.offload == "on",
        pcap=arguments.pcap,
        pcap_raw=arguments.pcap_raw,
    )
    try:
        yield World(host, (host,))
    except KeyboardInterrupt:
        host.close(INTERRUPTED_CLOSE_S)
        raise
    finally:
        host.close()


@contextmanager
def told(host: Host, arguments: argparse.Namespace, output: Output) -> Iterator[None]:
    """With ``-v``, tell afterwards what the host did meanwhile; also if it failed."""
    if not arguments.verbose:
        yield
        return
    events: list[TraceEvent] = []
    narrative = Narrative(host.name, host.now, verbose=True)
    try:
        with host.trace(events.append):
            yield
    finally:
        for line in narrative.tell(events):
            output.tell(line.text, line.kind)


def check_built_in(name: str) -> None:
    """Refuse a name that the built-in internet can't hold.

    Raises: Failure.
    """
    try:
        parse_address(name)
    except ValueError:
        top = name.rstrip(".").rpartition(".")[2].lower()
        if top not in ("example", "test"):
            raise Failure(
                f"{name} is not in the built-in internet; "
                "for the real network add --tap NAME --address CIDR"
            ) from None


def explain_error(error: Exception) -> str:
    """Return the one line that says what ``error`` means to the user."""
    if isinstance(error, DeviceError | Failure):
        return str(error)
    if isinstance(error, socket.gaierror | ssl.SSLError):
        return str(error.args[-1])
    if isinstance(error, OSError) and not isinstance(error, NetstackError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}"
    text = " ".join(str(error).split())
    return text or type(error).__name__
