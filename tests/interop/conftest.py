"""A world that nobody here wrote: the Linux kernel, nginx and dnsmasq, in a namespace of its own.

The whole test process enters a fresh network namespace for a test, so that its kernel sockets,
its child processes and the TAP are in there; it vanishes with the last of them, whatever
happens. Each test has a TAP and a subnet of its own. What passed it is recorded by the stack's
own recorder and judged by tshark at the end of the test, and counted against the stack's
counters.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest

import netstack

_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)
_SBIN = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))

SERVER = "192.0.2.80"
"""Where nginx and dnsmasq answer: behind the gateway, an address of the kernel's loopback."""
DOMAIN = "interop.test"

# ---- the judge ---------------------------------------------------------------------------------

# Of every connection, each by the text that tshark's message begins with.
ORDINARY = {
    "Connection establish request (SYN)": "an open",
    "Connection establish acknowledge (SYN+ACK)": "the answer to it",
    "Connection finish (FIN)": "an end",
    "This frame initiates the connection closing": "the first FIN",
    "This frame undergoes the connection closing": "the second FIN",
    "TCP window update": "the application has read",
    "D-SACK Sequence": "the answer to a segment that came twice (RFC 2883)",
    "GET ": "a request, as text",
    "PUT ": "a request, as text",
    "HEAD ": "a request, as text",
    "HTTP/1.1 ": "a response, as text",
    "HTTP/1.0 ": "a response, as text",
}
# What may be said of any frame of the kernel's, but not of ours.
THEIRS = {
    "This frame is a (suspected) retransmission": "its timers don't wait for a busy machine",
    "This frame is a (suspected) spurious retransmission": "the same",
    "TCP Checksum 0xffff instead of 0x0000": "it writes TCP's as it does UDP's; equal in value",
}
_REPEATED = "This frame is a (suspected) retransmission"
_REPEATS = (_REPEATED, "This frame is a (suspected) spurious retransmission")
_SEVERITY = {0x200000: "chat", 0x400000: "note", 0x600000: "warning", 0x800000: "error"}
_CHECKSUMS = ("ip", "tcp", "udp", "icmp")
_FIELDS = (
    "frame.number",
    "eth.src",
    "tcp.stream",
    "tcp.flags.fin",
    "icmp.type",
    "_ws.malformed",
    "_ws.expert.severity",
    "_ws.expert.message",
    *(f"{name}.checksum.status" for name in _CHECKSUMS),
)
_BAD = "0"  # tshark's checksum.status


def dissect(pcap, opaque=()):
    """Return tshark's word on each frame: a dict of its fields, each a list.

    ``opaque`` (``tcp.port==80``) are those whose octets it shall not interpret: a test's own may
    look like anything, and many a port belongs to some protocol.
    """
    command = [_program("tshark"), "-n", "-r", str(pcap), "-T", "fields"]
    for protocol in ("ip", "tcp", "udp"):
        command += ["-o", f"{protocol}.check_checksum:TRUE"]
    for port in opaque:
        command += ["-d", f"{port},data"]
    command += ["-E", "separator=/t", "-E", "occurrence=a", "-E", "aggregator=|"]
    for field in _FIELDS:
        command += ["-e", field]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=1800)
    frames = []
    for line in done.stdout.splitlines():
        values = line.split("\t")
        assert len(values) == len(_FIELDS), line
        frames.append(
            {
                field: value.split("|") if value else []
                for field, value in zip(_FIELDS, values, strict=True)
            }
        )
    return frames


def judge(pcap, *, counters=None, mac=None, probes=None, expected=(), opaque=(), note=""):
    """Fail if tshark complains about ``pcap``; return what it remarked, and how often.

    ``expected`` maps what a remark begins with to the reason for which it is right here.
    ``counters`` are those of the host with the address ``mac``: they must count these frames.
    ``probes``: how many tail loss probes we sent, where no counters tell. ``note`` is added to
    complaints.
    """
    frames = dissect(pcap, opaque)
    assert frames, "nothing was recorded"
    allowed = (*ORDINARY, *expected)
    remarks = Counter()
    complaints = []
    # On a busy machine a tail is probed that was not lost, only not yet acknowledged.
    if probes is None:
        probes = (counters or {}).get("tcp.tail_loss_probes", 0)
    ended_twice = set()
    for frame in frames:
        number = frame["frame.number"][0]
        if frame["_ws.malformed"]:
            complaints.append(f"frame {number}: malformed")
        theirs = mac is not None and frame["eth.src"] != [mac]
        tolerated = (*allowed, *THEIRS) if theirs else allowed
        complaints += [
            f"frame {number}: bad {name} checksum"
            for name in _CHECKSUMS
            if _BAD in frame[f"{name}.checksum.status"]
            and not (name in ("tcp", "udp") and _quotes(frame))
            and not (theirs and any("0xffff instead" in m for m in frame["_ws.expert.message"]))
        ]
        severities = frame["_ws.expert.severity"]
        for severity, message in itertools.zip_longest(severities, frame["_ws.expert.message"]):
            word = _SEVERITY.get(int(severity or 0), severity)
            remarks[f"{word}: {message}"] += 1
            if not theirs and probes and str(message).startswith(_REPEATED):
                probes -= 1
                continue
            if str(message).startswith("Bad checksum") and _quotes(frame):
                continue
            if str(message).startswith("Duplicate ACK") and _answers_duplicate(frame):
                continue
            if theirs and _resets_what_it_ended(frame, message, ended_twice):
                continue
            if not str(message).startswith(tolerated):
                complaints.append(f"frame {number}: {word}: {message}")
    total = len(complaints)
    assert not complaints, f"{total} complaints about {pcap}{note}:\n" + "\n".join(complaints[:20])
    if counters is not None:
        ours = sum(frame["eth.src"] == [mac] for frame in frames)
        counted = tuple(counters.get(f"link.frames_{way}", 0) for way in ("sent", "received"))
        assert counted == (ours, len(frames) - ours)
    return remarks


def _resets_what_it_ended(frame, message, ended_twice):
    """Whether the kernel resets a connection that it has forgotten, having repeated its FIN.

    On a busy machine its timer repeats a FIN that was under way: TIME-WAIT must answer both, and
    the first answer ended the kernel's side.
    """
    stream = frame["tcp.stream"][0] if frame["tcp.stream"] else None
    if str(message).startswith(_REPEATS) and frame["tcp.flags.fin"] in (["1"], ["True"]):
        ended_twice.add(stream)
    return str(message).startswith("Connection reset (RST)") and stream in ended_twice


def _quotes(frame):
    """Whether an ICMP error quotes the beginning of a packet: no checksum agrees with that."""
    return frame["icmp.type"] in (["3"], ["11"], ["12"])


def _answers_duplicate(frame):
    return any(str(each).startswith("D-SACK") for each in frame["_ws.expert.message"])


# ---- the namespace -----------------------------------------------------------------------------


def _program(name):
    path = shutil.which(name, path=_SBIN)
    assert path is not None, name
    return path


def run(*command, check=True, timeout=60):
    """Run a program in the namespace, for ``timeout`` seconds at most; return its completion."""
    return subprocess.run(
        [_program(command[0]), *command[1:]],
        check=check,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def _check(result):
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@contextmanager
def _namespace(descriptor=None):
    """Put the calling thread, and what it starts, into a network namespace; a new one."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if descriptor is None:
            _check(_LIBC.unshare(_CLONE_NEWNET))
        else:
            _check(_LIBC.setns(descriptor, _CLONE_NEWNET))
        yield
    finally:
        _check(_LIBC.setns(before, _CLONE_NEWNET))
        os.close(before)


def _die_with_parent():
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def _daemon(log, *command):
    with log.open("wb") as output:
        process = subprocess.Popen(
            [_program(command[0]), *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=_die_with_parent,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_port(port, log, seconds=20.0):
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((SERVER, port), timeout=1).close()
        except OSError:
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.02)
        else:
            return


_NGINX = """
daemon off; master_process off; worker_rlimit_nofile 4096;
pid {at}/nginx.pid; error_log stderr warn;
events {{ worker_connections 2000; }}
http {{
    access_log off; sendfile on; keepalive_timeout 60; keepalive_requests 100000;
    client_max_body_size 0; client_body_temp_path {at}/temp;
    proxy_temp_path {at}/temp; fastcgi_temp_path {at}/temp;
    uwsgi_temp_path {at}/temp; scgi_temp_path {at}/temp;
    types {{ text/html html; }}
    server {{
        listen 80 backlog=1024; listen 443 ssl; server_name www.{domain};
        ssl_certificate {at}/server.pem; ssl_certificate_key {at}/server.key;
        root {at}/root;
        location /upload/ {{ dav_methods PUT; }}
    }}
}}
"""


def _make_certificates(at):
    """Make a CA of the test's own and a certificate for www, signed by it."""
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    run(
        "openssl", "req", "-x509", *key, "-days", "2", "-subj", "/CN=interop CA",
        "-keyout", f"{at}/ca.key", "-out", f"{at}/ca.pem",
        "-addext", "keyUsage=critical,keyCertSign",
    )  # fmt: skip
    run(
        "openssl", "req", *key, "-subj", f"/CN=www.{DOMAIN}",
        "-keyout", f"{at}/server.key", "-out", f"{at}/server.csr",
    )  # fmt: skip
    extension = at / "extension"
    extension.write_text(f"subjectAltName=DNS:www.{DOMAIN}\n")
    run(
        "openssl", "x509", "-req", "-in", f"{at}/server.csr", "-days", "2",
        "-CA", f"{at}/ca.pem", "-CAkey", f"{at}/ca.key", "-CAcreateserial",
        "-extfile", str(extension), "-out", f"{at}/server.pem",
    )  # fmt: skip


class Site:
    """What nginx serves and dnsmasq knows, and the namespace where they run."""

    address = SERVER
    domain = DOMAIN

    def __init__(self, at, descriptor):
        self.root = at / "root"
        self.uploads = self.root / "upload"
        self.ca = at / "ca.pem"
        self.descriptor = descriptor


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """Run nginx and dnsmasq, once for all tests here."""
    at = tmp_path_factory.mktemp("site")
    (at / "temp").mkdir()
    (at / "root" / "upload").mkdir(parents=True)
    (at / "root" / "index.html").write_text("<h1>It works</h1>\n")
    (at / "nginx.conf").write_text(_NGINX.format(at=at, domain=DOMAIN))
    _make_certificates(at)
    # 300 addresses don't fit into a datagram.
    many = "".join(f"198.51.{100 + n // 200}.{n % 200 + 1} many.{DOMAIN}\n" for n in range(300))
    (at / "hosts").write_text(many)
    with ExitStack() as stack, _namespace():
        stack.callback(os.close, descriptor := os.open("/proc/thread-self/ns/net", os.O_RDONLY))
        # Whatever the kernel would say by itself on IPv6 is none of these tests' business.
        Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
        run("ip", "link", "set", "lo", "up")
        run("ip", "addr", "add", f"{SERVER}/32", "dev", "lo")
        dns, web = at / "dnsmasq.log", at / "nginx.log"
        stack.enter_context(
            _daemon(
                dns, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv",
                "--no-hosts", "--user=root", f"--pid-file={at}/dnsmasq.pid", "--log-facility=-",
                f"--local=/{DOMAIN}/", f"--listen-address={SERVER}", "--bind-interfaces",
                f"--addn-hosts={at}/hosts", "--local-ttl=60",
                f"--host-record=www.{DOMAIN},{SERVER}", f"--cname=alias.{DOMAIN},www.{DOMAIN}",
                f"--txt-record=text.{DOMAIN},interop",
            )
        )  # fmt: skip
        stack.enter_context(
            _daemon(web, "nginx", "-p", str(at), "-c", str(at / "nginx.conf"), "-e", "stderr")
        )
        _await_port(53, dns)
        _await_port(443, web)
        # The test process itself leaves; the servers stay.
        leave = stack.pop_all()
    with leave:
        yield Site(at, descriptor)


# ---- the link of a test ------------------------------------------------------------------------

_numbers = itertools.count(1)


class Lan:
    """A TAP between the kernel (``kernel``, also the gateway) and a host of ours (``ours``)."""

    busy = dict.fromkeys(
        (
            "TCP window specified by the receiver is now completely full",
            "TCP Zero Window segment",
            "TCP Zero Window Probe",
            "ACK to a TCP Zero Window Probe",
        ),
        "the reader shares its processor with others",
    )
    """What to expect of bulk between two that share a processor."""

    queue = 20_000
    """Frames that may wait in the TAP for us, in place of the kernel's 1000.

    A window of bulk is 4500 segments, and the kernel acknowledges each. What has no room it drops:
    an ACK that the next one covers, or the answer behind them, which the capture then lacks.
    """

    def __init__(self, at, site):
        number = next(_numbers)
        self.site = site
        self.tap = f"ns{os.getpid() % 100_000}x{number}"
        self.net = f"10.{128 + number // 250}.{number % 250}"
        self.kernel = f"{self.net}.1"
        self.ours = f"{self.net}.2"
        self.pcap = at / "link.pcapng"
        self.opaque = set()

    @contextmanager
    def host(self, *, expected=(), opaque=(), **options):
        """Hold a host on the TAP; afterwards its capture is judged."""
        host = netstack.tap(
            self.tap,
            address=f"{self.ours}/24",
            gateway=self.kernel,
            pcap=self.pcap,
            **{"dns": SERVER, **options},
        )
        run("ip", "link", "set", self.tap, "txqueuelen", str(self.queue))
        mac = next(i.mac for i in host.stack.interfaces if i.name == self.tap)
        try:
            yield host
        finally:
            dropped = self._dropped()
            host.close(1.0)
        judge(
            self.pcap,
            counters=host.stack.counters(),
            mac=mac.hex(":"),
            expected=expected,
            opaque={*opaque, *self.opaque},
            note=f" ({dropped} frames had no room in the TAP)" if dropped else "",
        )

    def _dropped(self):
        """Return how many frames to us the kernel dropped."""
        for line in Path("/proc/thread-self/net/dev").read_text().splitlines():
            name, _, figures = line.partition(":")
            if name.strip() == self.tap:
                return int(figures.split()[11])  # 8 of receiving, then octets, frames, errors
        return 0  # the test took the TAP away

    @property
    def options(self):
        """What the commands take to be on this link."""
        return (
            "--tap", self.tap, "--address", f"{self.ours}/24", "--gateway", self.kernel,
            "--dns", SERVER, "--pcap", str(self.pcap),
        )  # fmt: skip


@pytest.fixture
def lan(site, tmp_path, either_way):
    """Enter the servers' namespace for the test, with a link of its own."""
    with _namespace(site.descriptor):
        yield Lan(tmp_path, site)


@pytest.fixture(name="run")
def run_fixture():
    """Run a program of the kernel's side."""
    return run


@pytest.fixture(name="namespace")
def namespace_fixture():
    """A context: the calling thread is in another network namespace, a new one if not told."""
    return _namespace


@pytest.fixture(name="judge")
def judge_fixture():
    """Let tshark judge a capture that no ``Lan.host`` made."""
    return judge


@pytest.fixture
def kernel_server(lan):
    """Return a function: serve each kernel connection by ``handle(connection)`` in a thread."""
    with ExitStack() as stack:

        def serve(address, handle, *, backlog=512, options=()):
            listener = socket.create_server((address, 0), backlog=backlog)
            stack.callback(listener.close)
            stack.callback(_wake, listener)
            for level, option, value in options:
                listener.setsockopt(level, option, value)

            def accept():
                while True:
                    try:
                        connection, _ = listener.accept()
                    except OSError:
                        return
                    threading.Thread(target=attend, args=(connection,), daemon=True).start()

            def attend(connection):
                # What a test does to the network ends its connections in every way.
                with suppress(OSError), closing(connection):
                    connection.settimeout(60)
                    handle(connection)

            threading.Thread(target=accept, daemon=True).start()
            lan.opaque.add(f"tcp.port=={listener.getsockname()[1]}")
            return listener.getsockname()

        yield serve


@pytest.fixture
def sysctl(lan):
    """Return a function: set net.ipv4.``name`` in the namespace, until the test ends."""
    with ExitStack() as stack:

        def change(name, value):
            setting = Path("/proc/sys/net/ipv4", name)
            stack.callback(setting.write_text, setting.read_text())
            setting.write_text(str(value))

        yield change


@pytest.fixture
def filtered(lan, tmp_path):
    """Return a function: nftables statements for what passes the TAP, until the block ends.

    ``hook`` is "ingress" (what we send) or "egress" (what the kernel does).
    """

    @contextmanager
    def apply(hook, *statements):
        rules = tmp_path / "rules"
        rules.write_text(
            f"table netdev interop {{ chain one {{ type filter hook {hook} device {lan.tap} "
            f"priority 0; {'; '.join(statements)}; }}; }}"
        )
        run("nft", "-f", str(rules))
        try:
            yield
        finally:
            run("nft", "delete", "table", "netdev", "interop")

    return apply


@pytest.fixture
def narrow_network(lan):
    """Make a network behind the kernel, reached by packets of 1400 octets; yield ``listen``."""
    name = f"v{lan.tap}"
    with ExitStack() as stack:
        with _namespace():
            there = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
            stack.callback(os.close, there)
        place = f"/proc/{os.getpid()}/fd/{there}"
        run("ip", "link", "add", name, "type", "veth", "peer", "name", "v0", "netns", place)
        stack.callback(run, "ip", "link", "delete", name)
        run("ip", "addr", "add", "203.0.113.1/24", "dev", name)
        run("ip", "link", "set", name, "mtu", "1400", "up")
        with _namespace(there):
            run("ip", "link", "set", "v0", "up")
            run("ip", "addr", "add", "203.0.113.2/24", "dev", "v0")
            run("ip", "route", "add", "default", "via", "203.0.113.1")

        def listen():
            with _namespace(there):
                listener = socket.create_server(("203.0.113.2", 0))
            stack.callback(listener.close)
            lan.opaque.add(f"tcp.port=={listener.getsockname()[1]}")
            return listener

        yield listen


def _wake(listener):
    # A plain close() doesn't end another thread's accept().
    listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def start():
    """Return a function that starts a Python program in the namespace, ended with the test."""
    with ExitStack() as stack:

        def begin(*arguments, **options):
            process = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                preexec_fn=_die_with_parent,
                **options,
            )
            stack.callback(_end, process)
            return process

        yield begin


def _end(process):
    if process.poll() is None:
        process.kill()
    process.communicate()
