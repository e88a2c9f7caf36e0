"""Linux network namespaces for a process and its children, with root or without.

Without root a process first enters a user namespace in which it is root; a second process
joins that one before it may have a network beside the first. The calls come through ctypes:
``os.unshare`` is there from Python 3.12 on. A process calls these before it has threads.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

from netstack.bench.result import BenchError

if TYPE_CHECKING:
    from collections.abc import Sequence

_CLONE_NEWUSER: Final = 0x1000_0000  # <linux/sched.h>
_CLONE_NEWNET: Final = 0x4000_0000
_TABLE: Final = "bench_loss"
_SBIN = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))


def enter_new_network(beside: int | None = None) -> None:
    """Move this process into a network namespace of its own, its loopback up.

    ``beside``: the process whose user namespace to join first, where it has one of its own.
    Raises: BenchError.
    """
    if beside is None:
        if os.geteuid() != 0:
            _become_root()
    else:
        _join_user(beside)
    try:
        _call("unshare", _CLONE_NEWNET)
    except OSError as error:
        raise BenchError(
            "making a network namespace needs root, or a system that allows user namespaces "
            f"({error.strerror})"
        ) from None
    ip("link", "set", "lo", "up")


def join_network(process: int) -> None:
    """Move this process into the network namespace of another.

    Raises: BenchError.
    """
    _join_user(process)
    _enter(process, "net", _CLONE_NEWNET)


def ip(*words: str) -> None:
    """Run the command ``ip``.

    Raises: BenchError.
    """
    _run("ip", "iproute2", words)


def lose(interface: str, share: float) -> None:
    """Drop that share of the frames that arrive at an interface, at random; 0 ends it.

    Where they arrive, not where they leave: a sending kernel takes a drop of its own for a full
    queue, not for a loss.
    Raises: BenchError.
    """
    table = f"table netdev {_TABLE}"
    rules = f"{table}\ndelete {table}\n"
    if share:
        rules += f"""{table} {{
            chain arriving {{
                type filter hook ingress device "{interface}" priority 0; policy accept;
                numgen random mod 10000 < {round(share * 10_000)} drop
            }}
        }}"""
    _run("nft", "nftables", ("-f", "-"), rules)


def command(name: str, package: str) -> str:
    """Return the path of a command that ``package`` of Debian brings.

    Raises: BenchError if it is not there.
    """
    path = shutil.which(name, path=_SBIN)
    if path is None:
        raise BenchError(f"the command {name} is missing (Debian: {package})")
    return path


def _run(name: str, package: str, words: Sequence[str], text: str = "") -> None:
    done = subprocess.run(
        [command(name, package), *words], check=False, capture_output=True, text=True, input=text
    )
    if done.returncode:
        raise BenchError(f"{name} {' '.join(words)}: {done.stderr.strip()}")


def set_sysctl(name: str, value: str) -> None:
    """Set a ``net.`` parameter of this network namespace.

    Raises: BenchError.
    """
    try:
        Path("/proc/sys/net", *name.split(".")).write_text(value, "ascii")
    except OSError as error:
        raise BenchError(f"net.{name}: {error.strerror}") from None


def _become_root() -> None:
    user, group = os.geteuid(), os.getegid()
    try:
        _call("unshare", _CLONE_NEWUSER)
        # user_namespaces(7): without privileges only after giving up setgroups.
        Path("/proc/self/setgroups").write_text("deny", "ascii")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1", "ascii")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1", "ascii")
    except OSError as error:
        raise BenchError(
            f"needs root: user namespaces are not allowed here ({error.strerror})"
        ) from None


def _join_user(process: int) -> None:
    if os.readlink(f"/proc/{process}/ns/user") != os.readlink("/proc/self/ns/user"):
        _enter(process, "user", _CLONE_NEWUSER)


def _enter(process: int, kind: str, flag: int) -> None:
    descriptor = os.open(f"/proc/{process}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _call("setns", descriptor, flag)
    except OSError as error:
        raise BenchError(f"cannot join the {kind} namespace: {error.strerror}") from None
    finally:
        os.close(descriptor)


def _call(name: str, *arguments: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*map(ctypes.c_int, arguments)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
