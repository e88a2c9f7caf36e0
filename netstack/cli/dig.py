"""netstack dig: ask the name servers, and show what they say (RFC 1035)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from netstack.cli.common import (
    FAILED,
    SUCCESS,
    Failure,
    UsageError,
    add_network_options,
    add_output_options,
    address,
    check_built_in,
    on_real_network,
    open_world,
    told,
)
from netstack.core.address import parse_address
from netstack.core.errors import NameNotFound
from netstack.core.trace import NameStep
from netstack.naming.resolver import Resolver
from netstack.wire.dns import rcode_text
from netstack.wire.dns_name import reverse_name
from netstack.wire.dns_rdata import type_number, type_text

if TYPE_CHECKING:
    import argparse

    from netstack.cli.output import Output
    from netstack.core.trace import TraceEvent
    from netstack.host import Host
    from netstack.naming.resolver import Resolution
    from netstack.wire.dns import Message, Record

SCHEMA = "netstack.dig/1"
TIMEOUT_S = 15.0
_FLAGS = (
    ("authoritative", "authoritative"),
    ("truncated", "truncated"),
    ("recursion_available", "recursion available"),
)

# The root servers as IANA's named.root lists them, for --trace on a real network.
ROOT_HINTS = (
    ("a.root-servers.net", "198.41.0.4"),
    ("b.root-servers.net", "170.247.170.2"),
    ("c.root-servers.net", "192.33.4.12"),
    ("d.root-servers.net", "199.7.91.13"),
    ("e.root-servers.net", "192.203.230.10"),
    ("f.root-servers.net", "192.5.5.241"),
    ("i.root-servers.net", "192.36.148.17"),
    ("j.root-servers.net", "192.58.128.30"),
    ("k.root-servers.net", "193.0.14.129"),
    ("l.root-servers.net", "199.7.83.42"),
    ("m.root-servers.net", "202.12.27.33"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.add_argument("words", metavar="[@SERVER] NAME [TYPE]", nargs="*")
    parser.add_argument("--tcp", action="store_true", help="ask over TCP from the start")
    parser.add_argument("--trace", action="store_true", help="from the root down, step by step")
    parser.add_argument("-x", dest="reverse", metavar="ADDR", type=address, help="whose name?")
    add_network_options(parser)
    add_output_options(parser)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Ask, and return the exit status: 1 if there is no such name or record."""
    server, name, type = _question(arguments)
    if arguments.trace and server is not None:
        raise UsageError("--trace begins at the root: leave out @SERVER")
    real = on_real_network(arguments)
    if not real and arguments.reverse is None:
        check_built_in(name)
    if real and server is None and not arguments.trace and not arguments.dns:
        raise UsageError("whom to ask? give @SERVER or --dns IP")
    with open_world(arguments) as world, told(world.host, arguments, output):
        host = world.host
        return _ask(host, _resolver(host, server, arguments.trace and real), name, type,
                    arguments, output)  # fmt: skip


def _question(arguments: argparse.Namespace) -> tuple[str | None, str, str]:
    words = list(arguments.words)
    server = next((word[1:] for word in words if word.startswith("@")), None)
    words = [word for word in words if not word.startswith("@")]
    if arguments.reverse is not None:
        if words:
            raise UsageError("-x ADDR stands instead of NAME and TYPE")
        return server, str(reverse_name(parse_address(arguments.reverse))), "PTR"
    if not 1 <= len(words) <= 2:
        raise UsageError("dig [@SERVER] NAME [TYPE]")
    type = words[1] if len(words) == 2 else "A"
    try:
        type_number(type)
        if server is not None:
            parse_address(server)
    except ValueError as error:
        raise UsageError(str(error)) from None
    return server, words[0], type


def _resolver(host: Host, server: str | None, from_root: bool) -> Resolver:
    if server is not None:
        return Resolver(host.stack.context, [parse_address(server)])
    if from_root:
        hints = [(name, parse_address(text)) for name, text in ROOT_HINTS]
        return Resolver(host.stack.context, root_hints=hints)
    return host.resolver


def _ask(
    host: Host,
    resolver: Resolver,
    name: str,
    type: str,
    arguments: argparse.Namespace,
    output: Output,
) -> int:
    events: list[TraceEvent] = []
    start = host.now
    try:
        with host.trace(events.append):
            resolution = host.look_up(
                resolver, name, type, timeout=TIMEOUT_S, over_tcp=arguments.tcp
            )
    except ValueError as error:
        raise UsageError(str(error)) from None
    steps = [event for event in events if isinstance(event, NameStep)]
    if output.as_json:
        _document(resolution, steps, start, output)
    else:
        if arguments.trace:
            for step in steps:
                output.line(
                    f";; {(step.time - start) * 1e3:9.3f} ms  {step.name} {step.type}: "
                    f"{step.server} says {step.outcome}"
                )
        _show(resolution, host.now - start, output)
    try:
        resolution.result()
    except NameNotFound as error:
        if output.as_json or resolution.response is not None:
            return FAILED
        raise Failure(str(error)) from None
    return SUCCESS


def _show(resolution: Resolution, took: float, output: Output) -> None:
    message = resolution.response
    if message is None:
        for record in resolution.result().records:
            output.line(str(record))
        return
    flags = ", ".join(text for field, text in _FLAGS if getattr(message, field))
    output.line(f";; {rcode_text(message.rcode)}{', ' if flags else ''}{flags}")
    for question in message.question:
        output.line(f";; question: {question}")
    for title, records in _sections(message).items():
        if records:
            output.line(f";; {title}:")
            for record in records:
                output.line(str(record))
    output.line(f";; took {took * 1e3:.3f} ms")


def _sections(message: Message) -> dict[str, tuple[Record, ...]]:
    return {
        "answer": message.answer,
        "authority": message.authority,
        "additional": message.additional,
    }


def _document(resolution: Resolution, steps: list[NameStep], start: float, output: Output) -> None:
    message = resolution.response
    fields: dict[str, Any] = {
        "outcome": "" if resolution.outcome is None else resolution.outcome.value,
        "steps": [
            {"time": step.time - start, "name": step.name, "type": step.type,
             "server": step.server, "outcome": step.outcome}
            for step in steps
        ],
    }  # fmt: skip
    if message is not None:
        fields["rcode"] = rcode_text(message.rcode)
        fields["authoritative"] = message.authoritative
        for title, records in _sections(message).items():
            fields[title] = [
                {"name": str(record.name), "type": type_text(record.type), "ttl": record.ttl,
                 "text": str(record)}
                for record in records
            ]  # fmt: skip
    output.document(SCHEMA, fields)
