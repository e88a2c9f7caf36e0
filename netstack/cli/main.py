"""The command ``netstack``: arguments in, exit status out.

0 done; 1 it failed or the answer is no; 2 usage; 130 Ctrl-C. A closed pipe ends quietly, an
error is one line, never a traceback.
"""

from __future__ import annotations

import argparse
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

from netstack import _ext
from netstack._ext import choose
from netstack._version import __version__
from netstack.cli import bench, dig, fetch, ping, serve
from netstack.cli.common import (
    FAILED,
    INTERRUPTED,
    SUCCESS,
    USAGE,
    Failure,
    UsageError,
    explain_error,
)
from netstack.cli.output import (
    ClosedPipe,
    Output,
    leave_closed_pipe,
    occupy_closed_descriptors,
)
from netstack.core.errors import NetstackError

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = (fetch, dig, ping, serve, bench)


def version() -> str:
    """Return the line of ``--version``."""
    kernels = "kernels: compiled" if _ext.COMPILED else f"pure ({_ext.REASON})"
    modules = "compiled" if choose.COMPILED else f"sources ({choose.REASON})"
    return f"{__version__}, {kernels}, modules: {modules}"


class _Parser(argparse.ArgumentParser):
    """Without abbreviations, and with one line for an error."""

    def __init__(self, **options: object) -> None:
        super().__init__(allow_abbrev=False, **options)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def build_parser() -> argparse.ArgumentParser:
    """Return the whole command line's parser."""
    parser = _Parser(prog="netstack", description="The network inside a Python process.")
    parser.add_argument("--version", action="version", version=version())
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    for module in COMMANDS:
        name = module.__name__.rpartition(".")[2]
        summary = (module.__doc__ or "").partition("\n")[0].partition(": ")[2]
        command = commands.add_parser(name, help=summary, description=summary)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    completion = commands.add_parser("completion", help="print a shell's completion script")
    completion.add_argument("shell", choices=("bash", "zsh", "fish"))
    completion.set_defaults(run=None)
    return parser


def _completion(shell: str) -> int:
    try:
        import shtab
    except ImportError:
        raise Failure("completion needs shtab: pip install 'netstack[cli]'") from None
    script: str = shtab.complete(build_parser(), shell)
    with Output().open() as output:
        output.line(script)
    return SUCCESS


def _run(arguments: argparse.Namespace) -> int:
    if arguments.command is None:
        build_parser().print_help()
        return USAGE
    if arguments.command == "completion":
        return _completion(arguments.shell)
    output = Output(
        color=arguments.color,
        quiet=arguments.quiet,
        path=arguments.output,
        as_json=arguments.json,
    )
    with output.open():
        status: int = arguments.run(arguments, output)
    return status


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    if hasattr(signal, "SIGINT") and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell without job control starts what it puts in the background so.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    occupy_closed_descriptors()
    complain = Output(color="auto")
    try:
        return _run(build_parser().parse_args(argv))
    except KeyboardInterrupt:
        return INTERRUPTED
    except ClosedPipe:
        leave_closed_pipe()
        return SUCCESS
    except UsageError as error:
        status, text = USAGE, str(error)
    except (Failure, NetstackError, OSError) as error:
        status, text = FAILED, explain_error(error)
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
        complain.error(text)
    except (ClosedPipe, BrokenPipeError):
        leave_closed_pipe()
    return status
