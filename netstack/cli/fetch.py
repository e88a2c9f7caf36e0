"""netstack fetch: get a page over HTTP, and see how it came.

Without a URL the built-in internet's own page is fetched. The body goes to stdout, the story of
how it came to stderr.
"""

from __future__ import annotations

import base64
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netstack.app.http.fetch import fetch
from netstack.app.http.url import parse_url
from netstack.cli.common import (
    FAILED,
    SUCCESS,
    UsageError,
    add_network_options,
    add_output_options,
    check_built_in,
    explain_error,
    limit,
    on_real_network,
    open_world,
    positive,
)
from netstack.cli.table import connection_table
from netstack.core.address import parse_address
from netstack.core.trace import StateChanged
from netstack.explain.layers import explain
from netstack.explain.narrative import Narrative
from netstack.explain.page import page
from netstack.labs.internet import HOME_PAGE

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from netstack.app.http.response import Response
    from netstack.cli.common import World
    from netstack.cli.output import Output
    from netstack.core.trace import TraceEvent
    from netstack.transport.tcp.connection import Connection

SCHEMA = "netstack.fetch/1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.add_argument("url", metavar="URL", nargs="?", help=f"default: {HOME_PAGE}")
    parser.add_argument("-X", dest="method", metavar="METHOD")
    parser.add_argument("-H", dest="headers", metavar="HEADER", action="append", default=[])
    parser.add_argument("-d", dest="data", metavar="DATA|@FILE", help="send a body: POST")
    parser.add_argument("-I", dest="head", action="store_true", help="HEAD: the headers only")
    parser.add_argument("-i", dest="include", action="store_true", help="show the headers too")
    parser.add_argument("--max-redirects", metavar="N", type=limit, default=10)
    parser.add_argument("--fail", action="store_true", help="exit 1 on 4xx and 5xx")
    parser.add_argument("-m", dest="timeout", metavar="SECONDS", type=positive, default=30.0)
    parser.add_argument(
        "--resolve", metavar="NAME:ADDR", action="append", default=[], help="instead of DNS"
    )
    parser.add_argument("-k", dest="insecure", action="store_true", help="any certificate")
    parser.add_argument("--cacert", metavar="FILE", help="trust these certificates alone")
    parser.add_argument("--explain", action="store_true", help="every frame, layer by layer")
    parser.add_argument(
        "--html", metavar="FILE",
        help="the story and every frame as a page; - is stdout, which the body then leaves to it",
    )  # fmt: skip
    parser.add_argument(
        "--stats", action="store_true", help="the stack's connections and counters"
    )
    add_network_options(parser)
    add_output_options(parser)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Fetch, and return the exit status."""
    if arguments.url is None and on_real_network(arguments):
        raise UsageError("fetch over --tap needs a URL")
    if arguments.html == arguments.output == "-" and arguments.json:
        raise UsageError("--json and --html - both want stdout: add -o FILE")
    request = _request(arguments)
    resolve = dict(_override(text) for text in arguments.resolve)
    if not on_real_network(arguments):
        host_name = parse_url(request["url"]).host
        if host_name not in resolve:
            check_built_in(host_name)
    with open_world(arguments) as world:
        response = _traced(world, arguments, output, {**request, "resolve": resolve})
    _show(response, arguments, output)
    return FAILED if arguments.fail and response.status >= 400 else SUCCESS


def _request(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the keyword arguments of ``fetch`` that the command line spells.

    Raises: UsageError, OSError.
    """
    body = None
    if arguments.data is not None:
        text: str = arguments.data
        body = Path(text[1:]).read_bytes() if text.startswith("@") else text.encode()
    method = arguments.method or ("HEAD" if arguments.head else "GET" if body is None else "POST")
    url = arguments.url or HOME_PAGE
    if "://" not in url:
        url = f"http://{url}"
    try:
        parse_url(url)
    except ValueError as error:
        raise UsageError(str(error)) from None
    return {
        "url": url,
        "method": method,
        "headers": _headers(arguments.headers),
        "body": body,
        "timeout": arguments.timeout,
        "max_redirects": arguments.max_redirects,
        "verify": not arguments.insecure,
        "cacert": arguments.cacert,
    }


def _headers(lines: list[str]) -> dict[str, str]:
    """Return the fields of ``-H``; those of one name become a list (RFC 9110 5.3)."""
    fields: dict[str, tuple[str, str]] = {}
    for line in lines:
        name, colon, value = (piece.strip() for piece in line.partition(":"))
        if not colon or not name:
            raise UsageError(f"-H {line!r} is no header, such as 'Accept: text/html'")
        key = name.lower()
        if key in fields:
            # RFC 6265 4.2.1: cookies are parted by semicolons.
            value = f"{fields[key][1]}{'; ' if key == 'cookie' else ', '}{value}"
        fields[key] = name, value
    return dict(fields.values())


def _override(text: str) -> tuple[str, str]:
    # curl's own NAME:PORT:ADDR is accepted too; the port says nothing here.
    pieces = text.split(":")
    name, where = pieces[0], pieces[-1]
    try:
        parse_address(where)
    except ValueError as error:
        raise UsageError(f"--resolve NAME:ADDR: {error}") from None
    if not name or len(pieces) not in (2, 3):
        raise UsageError(f"--resolve {text!r} is not NAME:ADDR")
    return name.lower(), where


def _traced(
    world: World, arguments: argparse.Namespace, output: Output, request: dict[str, Any]
) -> Response:
    """Fetch while the trace is kept; tell the story also if it failed."""
    host = world.host
    start = host.now
    events: list[TraceEvent] = []
    connections: dict[Connection, None] = {}

    def keep(event: TraceEvent) -> None:
        # One that was closed meanwhile is in no table any more; its numbers are in itself.
        if isinstance(event, StateChanged):
            connections.update(dict.fromkeys(host.stack.tcp.connections.values()))

    # A frame's reason is known where it is sent: in the built-in internet, on every host.
    every_frame = arguments.explain or arguments.html is not None
    hosts = world.hosts if every_frame else () if output.quiet else (host,)
    outcome = "interrupted"
    try:
        with ExitStack() as tracing:
            for traced in hosts:
                tracing.enter_context(traced.trace(events.append))
            if arguments.stats:
                tracing.enter_context(host.trace(keep))
            response = fetch(host=host, on_body=_sink(arguments, output), **request)
        outcome = f"{response.version} {response.status} {response.reason}"
        return response
    except Exception as error:
        outcome = explain_error(error)
        raise
    finally:
        _tell(events, world, arguments, output, start=start, outcome=outcome)
        if arguments.stats:
            for row in connection_table(each.info() for each in connections):
                output.show(row)
            for name, value in sorted(host.counters().items()):
                output.show(f"{value:>10}  {name}", "dim")


def _tell(
    events: list[TraceEvent], world: World, arguments: argparse.Namespace, output: Output,
    *, start: float, outcome: str,
) -> None:  # fmt: skip
    """Show what was traced in each way that was asked for."""
    # Over a TAP the other hosts' frames are seen only where they arrive.
    received = len(world.hosts) == 1
    if arguments.explain:
        for text in explain(events, start=start, received=received):
            output.show(text, "head" if text.startswith("frame") else "")
    narrative = Narrative(world.host.name, start, verbose=arguments.verbose > 0)
    story = [*narrative.tell(events), *narrative.end()]
    for line in story:
        output.tell(line.text, line.kind)
    if arguments.html is not None:
        title = f"netstack fetch {arguments.url or HOME_PAGE}"
        view = page(events, story, title=title, outcome=outcome, received=received, start=start)
        output.separate(arguments.html, view)


def _sink(arguments: argparse.Namespace, output: Output) -> Callable[[bytes], None] | None:
    """Return what takes the body as it comes; None if it is held until the end.

    A file gets each piece at once, so that its size does not matter. On a terminal the page
    comes after the story; headers and JSON come before the body, or around it.
    """
    whole = arguments.output == "-" or arguments.include or arguments.head or output.as_json
    return None if whole else output.data


def _show(response: Response, arguments: argparse.Namespace, output: Output) -> None:
    if arguments.html == arguments.output == "-":
        return  # one document a stream
    if output.as_json:
        output.document(SCHEMA, _document(response))
        return
    if arguments.include or arguments.head:
        output.line(f"{response.version} {response.status} {response.reason}".rstrip())
        for name, value in response.headers.fields:
            output.line(f"{name}: {value}")
        output.line()
    output.data(response.body)


def _document(response: Response) -> dict[str, Any]:
    timings = response.timings
    try:
        body = {"text": response.body.decode("utf-8")}
    except UnicodeDecodeError:
        body = {"base64": base64.b64encode(response.body).decode("ascii")}
    return {
        "url": response.url,
        "status": response.status,
        "reason": response.reason,
        "version": response.version,
        "headers": [list(field) for field in response.headers.fields],
        "body": body,
        "history": [
            {"url": earlier.url, "status": earlier.status} for earlier in response.history
        ],
        "timings": {
            name: getattr(timings, name)
            for name in ("resolved", "connected", "secured", "sent", "first_octet", "done")
        },
    }
