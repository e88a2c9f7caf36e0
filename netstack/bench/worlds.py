"""The processes of a benchmark, seen from the one that conducts it."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import netstack
from netstack.bench.result import BenchError

PATIENCE_S = 120.0
"""What a worker may take for one request, its own time limits included."""


def module_path() -> str:
    """Return the PYTHONPATH for a process that runs a part of this package.

    The package may be used from its folder, without having been installed.
    """
    paths = [str(Path(netstack.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return os.pathsep.join(filter(None, paths))


class Child:
    """A worker process; ``call`` asks it something and waits for the answer.

    ``cache`` is the folder for its bytecode.
    Raises: BenchError with what the worker said when it failed.
    """

    def __init__(self, cache: str, role: str, *arguments: int) -> None:
        self.role = role
        self.started = time.monotonic()
        environment = {
            **os.environ,
            "PYTHONPATH": module_path(),
            "PYTHONPYCACHEPREFIX": cache,
            "PYTHONDONTWRITEBYTECODE": "",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "netstack.bench.worker", role, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the conductor, which ends its workers
        )
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def call(self, method: str, /, **arguments: Any) -> Any:
        """Return what the worker's method returns.

        Raises: BenchError.
        """
        assert self._process.stdin is not None
        request = json.dumps({"call": method, "arguments": arguments})
        try:
            self._process.stdin.write(request.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise BenchError(f"the {self.role} process has ended") from None
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], PATIENCE_S)[0]:
            raise BenchError(f"the {self.role} process does not answer")
        line = self._process.stdout.readline()
        if not line:
            raise BenchError(f"the {self.role} process has ended")
        answer = json.loads(line)
        if "error" in answer:
            raise BenchError(str(answer["error"]))
        return answer["result"]

    def close(self) -> None:
        """End the process; idempotent."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        try:
            self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class World:
    """A peer, a kernel client joined to it by veth, and stacks over a TAP; a context manager.

    The workers keep bytecode in a folder of this world, as an installed program does: else each
    start would be that of the compiler, in a checkout where nothing may be written.
    Raises: BenchError if there can be none here.
    """

    def __init__(self) -> None:
        self._children: list[Child] = []
        self._cache: TemporaryDirectory[str] | None = None

    def __enter__(self) -> Self:
        self._cache = TemporaryDirectory(prefix="netstack-bench-")
        try:
            self.peer = self._child("peer")
            self.kernel = self._child("kernel", self.peer.pid)
            self.peer.call("join", process=self.kernel.pid)
            self.setup: dict[str, Any] = self.kernel.call("configure")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    def stack(self) -> Child:
        """Return a new process for this stack; its host is not made yet."""
        return self._child("stack", self.peer.pid)

    def lwip(self) -> Child:
        """Return a new process for lwIP; its stack is not made yet."""
        return self._child("lwip", self.peer.pid)

    def _child(self, role: str, *arguments: int) -> Child:
        assert self._cache is not None
        child = Child(self._cache.name, role, *arguments)
        self._children.append(child)
        return child

    def close(self) -> None:
        """End all processes; their namespaces and devices go with them."""
        while self._children:
            self._children.pop().close()
        if self._cache is not None:
            self._cache.cleanup()
