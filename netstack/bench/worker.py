"""A process of a benchmark, in a network namespace of its own: ``python -m ... ROLE [PID]``.

Roles: ``peer`` (kernel servers, and the TAP's other end), ``kernel`` (client on kernel sockets,
joined to the peer by veth), ``stack`` (client on this stack, over a TAP in the peer's network),
``lwip`` (the same client on lwIP).
Requests and replies are JSON lines on stdin and stdout; the end of stdin ends the process.
"""

from __future__ import annotations

import ipaddress
import json
import os
import socket
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from netstack.api import tap
from netstack.app import services
from netstack.bench import http, namespace, offloads, peer, work
from netstack.bench.result import BenchError
from netstack.bench.roundtrip import RoundTrips, of_kernel
from netstack.core.config import Config
from netstack.core.rng import Rng
from netstack.device.impair import ImpairDevice
from netstack.device.tap import TapDevice, configure_kernel_side
from netstack.driver.realtime import RealTimeDriver
from netstack.host import Host
from netstack.stack import Stack
from netstack.transport.tcp.state import State

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

VETH: Final = "bench-veth"
TAP: Final = "bench-tap"
# Networks for benchmarks, RFC 2544 C.2.2: the kernel's pair, and the stacks'.
KERNEL_PEER, KERNEL_CLIENT = "198.18.0.1", "198.18.0.2"
STACK_PEER, STACKS = "198.19.0.1", ipaddress.ip_network("198.19.0.0/16")
MTU: Final = 1500


def pin(cpus: list[int]) -> None:
    """Let every thread of this process run on these CPUs only."""
    for thread in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(thread), cpus)


class Worker:
    """What all roles answer to: each public method is a request."""

    def cpu(self) -> float:
        """Return the CPU seconds so far."""
        return work.cpu()

    def pin(self, cpus: list[int]) -> None:
        """Run on these CPUs only."""
        pin(cpus)

    def end(self) -> None:
        """Leave nothing behind."""


class Peer(Worker):
    """The kernel's servers."""

    def __init__(self, _: int | None) -> None:
        namespace.enter_new_network()
        # What one run learned about a destination must not shape the next.
        namespace.set_sysctl("ipv4.tcp_no_metrics_save", "1")
        _raise_descriptor_limit()
        self._servers = peer.Servers()

    def join(self, process: int) -> None:
        """Lay a veth pair to the network of another process."""
        namespace.ip(
            "link", "add", VETH, "mtu", str(MTU), "type", "veth",
            "peer", "name", VETH, "mtu", str(MTU), "netns", str(process),
        )  # fmt: skip
        _configure(KERNEL_PEER)

    def release(self) -> None:
        """Close the idle connections."""
        self._servers.release()

    def lose(self, interface: str, share: float) -> None:
        """Lose that share of the frames that arrive at an interface."""
        namespace.lose(interface, share)

    def turn_offloads_off(self, interface: str) -> list[str]:
        """Turn segmentation offloads off; return what is left on."""
        offloads.turn_off(interface)
        return offloads.of_interface(interface)

    def load(self, address: str, seconds: int) -> dict[str, float]:
        """Ask a server for a small file, again and again on many connections."""
        return http.load(address, seconds)

    def round_trip(self) -> float:
        """Return the round-trip time of the connection that was sent to last, in seconds."""
        return self._servers.round_trips.median


class Client(Worker):
    """What both contestants do; ``connect`` is what they differ in."""

    def __init__(self) -> None:
        self._idle: list[work.Stream] = []

    def connect(self, port: int) -> work.Stream:
        """Open a connection to the peer."""
        raise NotImplementedError

    def work(self, name: str, seconds: float) -> dict[str, float]:
        """Do one of the works for that long; return its figures."""
        works: Mapping[str, Callable[[work.Connect, float], dict[str, float]]] = {
            "bulk_send": work.bulk_send,
            "bulk_receive": work.bulk_receive,
            "request_response": work.request_response,
            "connections": work.connections,
        }
        return works[name](self.connect, seconds)

    def send_watched(self, seconds: float) -> dict[str, float]:
        """Send for that long; return the figures, with the round-trip time in seconds."""
        watch = RoundTrips(self.round_trip)
        figures = work.bulk_send(self.connect, seconds, watch)
        return {**figures, "round_trip": watch.median}

    def round_trip(self, stream: Any) -> float:
        """Return the smoothed round-trip time of a connection in seconds."""
        raise NotImplementedError

    def open_idle(self, count: int) -> None:
        """Open connections that stay idle."""
        self._idle = work.open_idle(self.connect, count)

    def idle_share(self, seconds: float) -> dict[str, float]:
        """Return the CPU time used while nothing happens."""
        return work.idle_share(seconds)

    def close_idle(self) -> None:
        """Close the idle connections."""
        for stream in self._idle:
            stream.close()
        self._idle.clear()


class Kernel(Client):
    """A client on kernel sockets."""

    def __init__(self, beside: int | None) -> None:
        super().__init__()
        namespace.enter_new_network(beside)
        namespace.set_sysctl("ipv4.tcp_no_metrics_save", "1")
        self._nginx: http.Nginx | None = None

    def pin(self, cpus: list[int]) -> None:
        """Run on these CPUs only, nginx too."""
        pin(cpus)
        if self._nginx is not None:
            self._nginx.pin(cpus)

    def serve_nginx(self, folder: str, root: str) -> str:
        """Start nginx; return its address."""
        self._nginx = http.Nginx(folder, root, KERNEL_CLIENT)
        return KERNEL_CLIENT

    def end(self) -> None:
        """End nginx."""
        if self._nginx is not None:
            self._nginx.close()

    def server_cpu(self) -> float:
        """Return nginx's CPU seconds so far."""
        return self._nginx.cpu() if self._nginx is not None else 0.0

    def configure(self) -> dict[str, Any]:
        """Set this end of the veth pair up; return how it is set up."""
        _configure(KERNEL_CLIENT)
        with self.connect(peer.ECHO) as connection:
            found = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)
        return {
            "path": "veth between two network namespaces",
            "congestion": found.rstrip(b"\0").decode(),
            "offloads": offloads.of_interface(VETH),
            "mtu": MTU,
        }

    def lose(self, share: float) -> None:
        """Lose that share of the frames that arrive."""
        namespace.lose(VETH, share)

    def turn_offloads_off(self) -> list[str]:
        """Turn segmentation offloads off; return what is left on."""
        offloads.turn_off(VETH)
        return offloads.of_interface(VETH)

    def round_trip(self, stream: socket.socket) -> float:
        """Return the smoothed round-trip time of a connection in seconds."""
        return of_kernel(stream)

    def connect(self, port: int) -> socket.socket:
        """Open a connection to the peer."""
        connection = socket.socket()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, peer.CONGESTION.encode())
        connection.settimeout(peer.PATIENCE_S)
        connection.connect((KERNEL_PEER, port))
        return connection


class StackClient(Client):
    """A client on this stack, over a TAP whose other end is in the peer's network."""

    host: Host

    def __init__(self, beside: int | None) -> None:
        super().__init__()
        if beside is None:
            raise BenchError("the stack needs a peer")
        namespace.join_network(beside)

    def start(self, started: float, number: int, offload: bool = True) -> dict[str, float]:
        """Make the host; return seconds until its first octet was answered.

        ``started``: when this process was started, on the system's monotonic clock. ``number``
        makes the address: another stack at the same one would meet the peer's TIME-WAIT.
        ``offload``: with super-segments, or wire-sized frames only.
        """
        address = _address(number)
        start = time.monotonic()
        self.host = tap(TAP, address=address, gateway=STACK_PEER, mtu=MTU, offload=offload)
        work.first_octet(self.connect)
        now = time.monotonic()
        return {"host": now - start, "process": now - started}

    def serve_files(self, root: str, number: int) -> str:
        """Make the host and serve the files of a folder; return the address."""
        self.start(time.monotonic(), number)
        self.host.serve(services.http(root), http.PORT)
        return str(STACKS[number + 2])

    def server_cpu(self) -> float:
        """Return the CPU seconds so far."""
        return work.cpu()

    def start_impaired(self, number: int) -> None:
        """Make the host on a device whose arriving frames can be lost; see ``lose``."""
        tap_device = TapDevice(TAP, mtu=MTU)
        self._device = ImpairDevice(tap_device, Rng(time.monotonic_ns()))
        stack = Stack("host")
        stack.attach(self._device, _address(number), gateway=STACK_PEER)
        configure_kernel_side(TAP, STACK_PEER, STACKS.prefixlen)
        self.host = Host(stack, RealTimeDriver())
        work.first_octet(self.connect)

    def lose(self, share: float) -> None:
        """Lose that share of the frames that arrive."""
        self._device.incoming.loss = share

    def round_trip(self, stream: Any) -> float:
        """Return the smoothed round-trip time of the connection that works, in seconds."""
        connections = list(self.host.stack.tcp.connections.values())
        open_ones = [each for each in connections if each.state is State.ESTABLISHED]
        return open_ones[0].sender.rtt.srtt if open_ones else 0.0

    def describe(self) -> dict[str, Any]:
        """Return how the stack is set up."""
        device = next(each for each in self.host.stack.devices if each.name == TAP)
        return {
            "path": "TAP in the peer's network namespace",
            "congestion": Config().tcp.congestion,
            "offloads": offloads.of_device(device.capabilities),
            "mtu": device.capabilities.mtu,
        }

    def connect(self, port: int) -> work.Stream:
        """Open a connection to the peer."""
        return self.host.create_connection((STACK_PEER, port), timeout=peer.PATIENCE_S)

    def close(self) -> dict[str, int]:
        """Close the host; return its counters."""
        counters = dict(self.host.counters())
        self.host.close()
        return counters


def _lwip(beside: int | None) -> Worker:
    from netstack.bench.lwip import LwipClient  # which is a Client

    return LwipClient(beside)


ROLES: Mapping[str, Callable[[int | None], Worker]] = {
    "peer": Peer,
    "kernel": Kernel,
    "stack": StackClient,
    "lwip": _lwip,
}


def _address(number: int) -> str:
    return f"{STACKS[number + 2]}/{STACKS.prefixlen}"


def _configure(address: str) -> None:
    namespace.ip("address", "add", f"{address}/24", "dev", VETH)
    namespace.ip("link", "set", VETH, "up")


def _raise_descriptor_limit() -> None:
    import resource  # not everywhere

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _reply(**fields: Any) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    """Serve requests until stdin ends."""
    try:
        worker = ROLES[arguments[0]](int(arguments[1]) if len(arguments) > 1 else None)
        try:
            _reply(result=os.getpid())
            for line in sys.stdin:
                request = json.loads(line)
                _reply(result=getattr(worker, request["call"])(**request["arguments"]))
        finally:
            worker.end()
    except (BenchError, OSError) as error:
        _reply(error=str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
