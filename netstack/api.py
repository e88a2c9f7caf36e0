"""What programs import: a simulated network, a host on a real one, and fetching."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Self, Unpack

from netstack.app.http.fetch import fetch
from netstack.capture import PcapWriter
from netstack.core.address import IPAddress, parse_address, parse_cidr
from netstack.core.config import Config
from netstack.core.context import Context
from netstack.core.rng import Rng
from netstack.device.cable import Cable, CableEnd
from netstack.device.record import LinkRecorder, RecordDevice, Recording
from netstack.driver.simulation import Simulation
from netstack.host import Host
from netstack.link.switch import Switch
from netstack.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from netstack.core.address import InterfaceAddress
    from netstack.device.base import Device
    from netstack.device.cable import LinkChanges
    from netstack.driver.base import Driver

__all__ = ["Host", "Link", "Network", "Recorder", "Switch", "fetch", "run", "tap"]

Recorder = Recording


class Link:
    """A cable between two hosts or switches; ``name`` is ``a-b``."""

    def __init__(self, name: str, cable: Cable, a: Host | Switch, b: Host | Switch) -> None:
        self.name = name
        self.cable = cable
        self.a = a
        self.b = b

    def __repr__(self) -> str:
        return f"<link {self.name}>"

    def set(self, *, toward: Host | Switch | None = None, **changes: Unpack[LinkChanges]) -> None:
        """Change settings from now on, in both directions or only ``toward`` one of its ends.

        Those of ``Network.link`` but ``mtu``; also ``up`` (False: unplugged) and ``black_hole``
        (octets of the largest packet that still passes; larger ones vanish without a word).
        Raises: ValueError.
        """
        ends = {self.a: self.cable.a, self.b: self.cable.b}
        if toward is not None and toward not in ends:
            raise ValueError(f"{toward.name} is not an end of {self.name}")
        self.cable.set(toward=None if toward is None else ends[toward], **changes)


class _Place:
    """Where a host stands: the addresses that its links still take, in order."""

    __slots__ = ("addresses", "gateway", "host", "links")

    def __init__(self, host: Host, addresses: Iterable[str], gateway: str | None) -> None:
        self.host = host
        self.addresses: list[InterfaceAddress] = [parse_cidr(text) for text in addresses]
        self.gateway: IPAddress | None = None if gateway is None else parse_address(gateway)
        self.links = 0

    def check(self) -> None:
        """Raise ValueError if there is no address for one more link."""
        if self.links >= len(self.addresses):
            raise ValueError(
                f"{self.host.name} has no address for its link number {self.links + 1}: the n-th "
                f"address belongs to the n-th link, and it has {len(self.addresses)}"
            )

    def attach(self, end: CableEnd, mac: str) -> None:
        """Join the host's next address and a cable's end."""
        address = self.addresses[self.links]
        self.links += 1
        gateway = self.gateway if self.gateway in address.prefix else None
        self.host.stack.attach(
            end, str(address), gateway=None if gateway is None else str(gateway), mac=mac
        )


class Network:
    """A simulated world in virtual time, which starts at 0.0; a context manager.

    The same ``seed`` gives the same octets. A blocking call runs the world until it can return,
    so client and server may share one thread; ``Host.spawn`` runs a function beside it. Past
    ``max_time`` (seconds) a blocking call raises ``Deadlock``.
    """

    def __init__(self, *, seed: int = 0, max_time: float = 86_400.0) -> None:
        self.seed = seed
        self.simulation = Simulation(max_time=max_time)
        self.links: list[Link] = []
        self._rng = Rng(seed, "network")
        self._places: dict[Host, _Place] = {}
        self._hosts: dict[str, Host] = {}
        self._switches: dict[str, Switch] = {}
        self._recording: Recording | None = None
        self._interfaces = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *args: object) -> None:
        if kind is None:
            self.close()
            return
        # The exception that ends the block is the one to see.
        with suppress(Exception):
            self.close()

    @property
    def now(self) -> float:
        """Virtual time in seconds."""
        return self.simulation.now

    @property
    def hosts(self) -> Mapping[str, Host]:
        """Hosts and routers by name."""
        return MappingProxyType(self._hosts)

    # -- building -----------------------------------------------------------------------------

    def host(
        self,
        name: str,
        *addresses: str,
        gateway: str | None = None,
        dns: str | Iterable[str] = (),
        config: Config | None = None,
    ) -> Host:
        """Add a host; its n-th address (``192.0.2.1/24``) is that of its n-th link.

        ``gateway`` becomes its default route when the link that holds it is made; ``dns`` are
        its name servers. Raises: ValueError for a name that is taken, or text that is no address.
        """
        self._check_name(name)
        stack = Stack(name, seed=self.seed, config=config or Config())
        host = Host(stack, self.simulation, dns=dns, shared_driver=True)
        self._places[host] = _Place(host, addresses, gateway)
        self._hosts[name] = host
        return host

    def router(self, name: str, *addresses: str) -> Host:
        """Add a host that forwards packets between its links."""
        config = Config()
        config = replace(config, ipv4=replace(config.ipv4, forwarding=True))
        return self.host(name, *addresses, config=config)

    def switch(self, name: str) -> Switch:
        """Add a learning switch."""
        self._check_name(name)
        switch = Switch(self.simulation.events, Context(name, seed=self.seed))
        self._switches[name] = switch
        return switch

    def _check_name(self, name: str) -> None:
        if name in self._hosts or name in self._switches:
            raise ValueError(f"there is a {name} already")

    def link(
        self,
        a: Host | Switch,
        b: Host | Switch,
        *,
        delay: float = 50e-6,
        jitter: float = 0.0,
        rate: float | None = None,
        queue: int | None = None,
        mtu: int = 1500,
        loss: float = 0.0,
        reorder: float = 0.0,
        duplicate: float = 0.0,
        corrupt: float = 0.0,
    ) -> Link:
        """Lay a cable between ``a`` and ``b``; every setting applies to each direction.

        ``delay`` and ``jitter`` in seconds, ``rate`` in bit/s (None: no limit), ``queue`` in
        frames that wait to be sent (None: no limit); the others are probabilities a frame.
        Raises: ValueError if a host has no address left for it.
        """
        for end in (a, b):
            if isinstance(end, Host):
                self._places[end].check()
        settings: LinkChanges = {
            "delay": delay, "jitter": jitter, "rate": rate, "queue": queue, "loss": loss,
            "reorder": reorder, "duplicate": duplicate, "corrupt": corrupt,
        }  # fmt: skip
        name = self._link_name(a.name, b.name)
        cable = Cable(self.simulation.events, self._rng, name, mtu=mtu, **settings)
        link = Link(name, cable, a, b)
        self.links.append(link)
        if self._recording is not None:
            cable.recorder = self._recording.add_link(name)
        self._join(a, cable.a)
        self._join(b, cable.b)
        return link

    def _link_name(self, a: str, b: str) -> str:
        name, number = f"{a}-{b}", 1
        taken = {link.name for link in self.links}
        while name in taken:
            number += 1
            name = f"{a}-{b}#{number}"
        return name

    def _join(self, end: Host | Switch, device: CableEnd) -> None:
        if isinstance(end, Switch):
            end.attach(device)
            return
        self._interfaces += 1
        # Locally administered, and readable in a capture: 02:00:00:00:00:01 is the first.
        mac = (0x02 << 40 | self._interfaces).to_bytes(6, "big").hex(":")
        self._places[end].attach(device, mac)

    # -- running ------------------------------------------------------------------------------

    def record(self, path: str | Path) -> Recorder:
        """Record every link, each an interface of the pcapng at ``path``, until it is closed.

        Raises: OSError; RuntimeError while another recorder is at work.
        """
        if self._recording is not None:
            raise RuntimeError("a recorder is at work; close it, or the network, first")
        recording = _Recorder(self, path)
        self._recording = recording
        for link in self.links:
            link.cable.recorder = recording.add_link(link.name)
        return recording

    def run(self, until: float | None = None) -> None:
        """Run to the virtual time ``until``, or until all tasks have ended.

        Raises: Deadlock, Livelock, an exception of a task that nobody joins.
        """
        self.simulation.run(until)

    def close(self) -> None:
        """Cancel what still runs and close the recorder; idempotent.

        Raises: an exception of a task that no call has raised so far.
        """
        try:
            self.simulation.close()
        finally:
            if self._recording is not None:
                self._recording.close()


class _Recorder(Recording):
    """A recording that takes itself off the links when it is closed."""

    def __init__(self, network: Network, path: str | Path) -> None:
        super().__init__(path)
        self._network = network

    def close(self) -> None:
        """End the file; idempotent."""
        super().close()
        network = self._network
        if network._recording is self:
            network._recording = None
            for link in network.links:
                link.cable.recorder = None


def run(stack: Stack) -> Host:
    """Run ``stack`` in real time."""
    return Host(stack, _real_time())


def tap(
    name: str,
    *,
    address: str,
    gateway: str | None = None,
    dns: str | Iterable[str] = (),
    hosts: Mapping[str, str] | None = None,
    mac: str | None = None,
    mtu: int = 1500,
    offload: bool = True,
    pcap: str | Path | None = None,
    pcap_raw: str | Path | None = None,
    config: Config | None = None,
) -> Host:
    """Return a host in real time on the TAP device ``name``.

    ``address`` is ours, as ``10.0.0.2/24``. A TAP that does not exist is created, and the
    kernel's side gets the gateway's address; an existing one is left as it is. ``pcap`` records
    what a wire would carry, ``pcap_raw`` what the device is given: super-segments whole, checksums
    as they are. Without ``offload``, or where the kernel has none, frames are wire-sized both
    ways.
    Raises: DeviceError; ValueError for text that is no address.
    """
    from netstack.device.tap import TapDevice

    stack = Stack("host", config=config)
    device: Device = TapDevice(name, mtu=mtu, offload=offload)
    try:
        created = getattr(device, "created", False)
        if pcap is not None:
            device = _recorded(device, pcap)
        if pcap_raw is not None:
            device = _recorded(device, pcap_raw, raw=True)
        stack.attach(device, address, gateway=gateway, mac=mac)
        if created:
            _set_up_kernel_side(name, parse_cidr(address), gateway)
        return Host(stack, _real_time(), dns=dns, hosts=hosts)
    except BaseException:
        device.close()
        raise


def _real_time() -> Driver:
    # The system's clock and threads are loaded only by those who need them.
    from netstack.driver.realtime import RealTimeDriver

    return RealTimeDriver()


def _set_up_kernel_side(name: str, address: InterfaceAddress, gateway: str | None) -> None:
    from netstack.device.tap import bring_up, configure_kernel_side

    if gateway is None:
        bring_up(name)
    else:
        configure_kernel_side(name, gateway, address.prefix.length)


def _recorded(device: Device, path: str | Path, *, raw: bool = False) -> Device:
    """Return ``device`` with a recorder: pcap if the file's name ends so, else pcapng."""
    from time import monotonic, time_ns

    epoch_ns = time_ns() - round(monotonic() * 1e9)
    if str(path).endswith(".pcap"):
        writer = PcapWriter(path)
        recorder = LinkRecorder(writer, epoch_ns=epoch_ns)
        return RecordedDevice(device, recorder, monotonic, writer, raw=raw)
    recording = Recording(path, epoch_ns=epoch_ns)
    recorder = recording.add_link(device.name)
    return RecordedDevice(device, recorder, monotonic, recording, raw=raw)


class RecordedDevice(RecordDevice):
    """A device whose recorder ends with it."""

    def __init__(
        self,
        inner: Device,
        recorder: LinkRecorder,
        clock: Callable[[], float],
        file: PcapWriter | Recording,
        *,
        raw: bool = False,
    ) -> None:
        super().__init__(inner, recorder, clock, raw=raw)
        self._file = file

    def close(self) -> None:
        """Close the device and the file; idempotent."""
        super().close()
        self._file.close()
