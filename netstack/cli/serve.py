"""netstack serve: run the built-in servers on a real network.

``ready`` alone on a line of stdout says that all of them listen. SIGTERM lets what is under way
finish and exits 0; SIGUSR1 prints the connection table, as ``ss -ti`` does.
"""

from __future__ import annotations

import gc
import importlib
import queue
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netstack.app import services
from netstack.cli.common import (
    INTERRUPTED,
    SUCCESS,
    UsageError,
    add_network_options,
    add_output_options,
    on_real_network,
    open_world,
    port,
)
from netstack.cli.table import connection_table
from netstack.explain.narrative import Narrative

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from types import FrameType

    from netstack.cli.output import Output
    from netstack.core.trace import TraceEvent
    from netstack.host import Host

DRAIN_S = 5.0
Maker = Callable[[float], Any]
"""Makes a service, given the Unix time at which the host's clock was 0."""
_PLAIN: dict[str, Maker] = {
    "echo": lambda _: services.echo(),
    "discard": lambda _: services.discard(),
    "chargen": lambda _: services.chargen(),
    "daytime": lambda epoch: services.daytime(epoch=epoch),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.add_argument("--http", metavar="PORT", type=port, help="with --root or --wsgi")
    content = parser.add_mutually_exclusive_group()
    content.add_argument("--root", metavar="DIR", help="the files to serve")
    content.add_argument("--wsgi", metavar="MODULE:APP", help="the application to serve")
    for name in _PLAIN:
        parser.add_argument(f"--{name}", metavar="PORT", type=port)
    add_network_options(parser)
    add_output_options(parser)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Serve until a signal ends it; return the exit status."""
    if not on_real_network(arguments):
        raise UsageError("serve needs --tap NAME --address CIDR")
    wanted = list(_services(arguments))
    if not wanted:
        raise UsageError("nothing to serve: give --http PORT --root DIR, --echo PORT, ...")
    signals: queue.SimpleQueue[int] = queue.SimpleQueue()

    def note(number: int, _: FrameType | None) -> None:
        signals.put(number)

    numbers = [signal.SIGTERM, signal.SIGINT]
    if hasattr(signal, "SIGUSR1"):
        numbers.append(signal.SIGUSR1)
    previous = {number: signal.signal(number, note) for number in numbers}
    try:
        with open_world(arguments) as world, ExitStack() as tracing:
            host = world.host
            if arguments.verbose:
                narrative = Narrative(host.name, host.now, verbose=True)

                def tell(event: TraceEvent) -> None:
                    for line in narrative.tell([event]):
                        output.tell(line.text, line.kind)

                tracing.enter_context(host.trace(tell))
            if arguments.wsgi is None:
                tracing.enter_context(frozen_survivors())
            epoch = time.time() - host.now
            for make, number in wanted:
                host.serve(make(epoch), number)
            output.line("ready")
            return _until_told(host, signals, output)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def frozen_survivors() -> Iterator[None]:
    """Let no later collection visit what a full one has left.

    100,000 connections are a million objects and a pause of seconds, and none of them is a
    cycle. An application's objects may be: not with ``--wsgi``.
    """

    def freeze(phase: str, info: dict[str, int]) -> None:
        if phase == "stop" and info["generation"] == 2:
            gc.freeze()

    gc.callbacks.append(freeze)
    try:
        yield
    finally:
        gc.callbacks.remove(freeze)
        gc.unfreeze()


def _until_told(host: Host, signals: queue.SimpleQueue[int], output: Output) -> int:
    while True:
        number = signals.get()
        if number == signal.SIGINT:
            host.close(0.0)
            return INTERRUPTED
        if number == signal.SIGTERM:
            # A second signal ends the patience.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            host.close(DRAIN_S)
            return SUCCESS
        for line in connection_table(host.connections()):
            output.line(line)


def _services(arguments: argparse.Namespace) -> Iterator[tuple[Maker, int]]:
    """Yield each service that is asked for, made once the clock's epoch is known, and its port.

    Raises: UsageError.
    """
    content = arguments.root or arguments.wsgi
    if (arguments.http is None) != (content is None):
        raise UsageError("--http PORT goes with --root DIR or --wsgi MODULE:APP")
    if arguments.root is not None:
        if not Path(arguments.root).is_dir():
            raise UsageError(f"--root {arguments.root} is no directory")
        yield partial(_files, arguments.root), arguments.http
    if arguments.wsgi is not None:
        application = _application(arguments.wsgi)
        yield (lambda _: services.wsgi(application)), arguments.http
    for name, make in _PLAIN.items():
        number = getattr(arguments, name)
        if number is not None:
            yield make, number


def _files(root: str, epoch: float) -> Any:
    return services.http(root, epoch=epoch)


def _application(text: str) -> Any:
    module_name, colon, attribute = text.partition(":")
    if not colon:
        raise UsageError(f"--wsgi {text!r} is not MODULE:APP")
    sys.path.insert(0, "")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"--wsgi {text}: {error}") from None
    finally:
        sys.path.remove("")
