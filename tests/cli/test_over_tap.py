"""The commands on a real network: a TAP in its own namespace, the kernel on the other side."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

pytestmark = [pytest.mark.needs("tap", "netns", "curl", "nsenter", "setpriv"), pytest.mark.slow]

OURS, KERNEL = "192.0.2.2", "192.0.2.1"
REAL = ("--tap", "tap0", "--address", f"{OURS}/24", "--gateway", KERNEL)
SILENT_SERVER = """
import socket, sys
server = socket.create_server(("0.0.0.0", 80))
print("listening", flush=True)
connections = []
while True:
    connections.append(server.accept())
"""


class Namespace:
    """A network namespace; commands run inside, and end with it."""

    def __init__(self):
        self._holder = subprocess.Popen(
            ["unshare", "--net", sys.executable, "-c",
             "import sys; print(flush=True); sys.stdin.read()"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        self._holder.stdout.readline()
        self._started = []
        self.run("ip", "link", "set", "lo", "up")

    def _inside(self, command):
        return ["nsenter", f"--net=/proc/{self._holder.pid}/ns/net", *command]

    def run(self, *command):
        return subprocess.run(
            self._inside(command), check=False, capture_output=True, text=True, timeout=60,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def start(self, *command):
        process = subprocess.Popen(
            self._inside(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        self._started.append(process)
        return process

    def netstack(self, *arguments):
        return self.run(sys.executable, "-m", "netstack", *arguments)

    def serve(self, *arguments):
        process = self.start(sys.executable, "-m", "netstack", "serve", *arguments, *REAL)
        assert process.stdout.readline() == "ready\n", process.communicate()
        return process

    def close(self):
        for process in self._started:
            process.kill()
            process.communicate()
        self._holder.communicate()


@pytest.fixture
def namespace():
    made = Namespace()
    yield made
    made.close()


def ended(process, number):
    """Return exit status, seconds and stderr of a process that is sent a signal."""
    started = time.monotonic()
    process.send_signal(number)
    _, error = process.communicate(timeout=30)
    return process.returncode, time.monotonic() - started, error


def test_serve_files_then_drain_on_sigterm(namespace, tmp_path):
    page = os.urandom(300_000)
    (tmp_path / "page").write_bytes(page)
    server = namespace.serve("--http", "80", "--root", str(tmp_path))
    target = tmp_path / "got"
    done = namespace.run("curl", "-sS", "--fail", "-o", str(target), f"http://{OURS}/page")
    assert done.returncode == 0, done.stderr
    assert target.read_bytes() == page
    status, seconds, error = ended(server, signal.SIGTERM)
    assert (status, error) == (0, "")
    assert seconds < 6


def test_serve_prints_the_connection_table_on_sigusr1(namespace):
    server = namespace.serve("--echo", "7")
    program = (
        "import socket; s = socket.create_connection(('192.0.2.2', 7)); s.sendall(b'x'); "
        "s.recv(1); print('echoed', flush=True); s.recv(1)"
    )
    client = namespace.start(sys.executable, "-c", program)
    assert client.stdout.readline() == "echoed\n"
    server.send_signal(signal.SIGUSR1)
    assert server.stdout.readline().startswith("State")
    state, receive_queue, send_queue, local = server.stdout.readline().split()[:4]
    # The kernel may take its time to acknowledge the octet that was echoed.
    assert (state, receive_queue, local) == ("ESTAB", "0", f"{OURS}:7")
    assert send_queue in ("0", "1")
    assert "cwnd:" in server.stdout.readline()


def test_serve_runs_a_wsgi_application(namespace):
    namespace.serve("--http", "80", "--wsgi", "wsgiref.simple_server:demo_app")
    assert namespace.run("curl", "-sS", f"http://{OURS}/").stdout.startswith("Hello world!")


def test_serve_ends_on_interrupt_within_a_second(namespace):
    status, seconds, error = ended(namespace.serve("--discard", "9"), signal.SIGINT)
    assert (status, error) == (130, "")
    assert seconds < 1.0


@pytest.fixture
def silent(namespace):
    server = namespace.start(sys.executable, "-c", SILENT_SERVER)
    assert server.stdout.readline() == "listening\n"
    return namespace


@pytest.mark.parametrize("target", [KERNEL, "192.0.2.99"], ids=["silent", "absent"])
def test_fetch_ends_on_interrupt_within_a_second(silent, target):
    fetch = silent.start(
        sys.executable, "-m", "netstack", "fetch", "-q", "--pcap", "/dev/null",
        f"http://{target}/", *REAL,
    )  # fmt: skip
    # It is on its way once the device is there.
    deadline = time.monotonic() + 20
    while "tap0" not in silent.run("ip", "link").stdout:
        assert time.monotonic() < deadline
    time.sleep(0.5)
    status, seconds, error = ended(fetch, signal.SIGINT)
    assert (status, error) == (130, "")
    assert seconds < 1.0


def test_fetch_times_out_and_says_in_which_phase(silent):
    done = silent.netstack("fetch", "-q", "-m", "0.5", f"http://{KERNEL}/", *REAL)
    assert done.returncode == 1
    assert done.stderr == f"netstack: timed out after 0.5 s while waiting for http://{KERNEL}/\n"


def test_fetch_from_nobody_is_refused(namespace):
    done = namespace.netstack("fetch", "-q", f"http://{KERNEL}/", *REAL)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "refused" in done.stderr


def test_fetch_without_the_right_to_open_the_device_is_one_line(namespace):
    done = namespace.run(
        "setpriv", "--bounding-set=-all", "--inh-caps=-all",
        sys.executable, "-m", "netstack", "fetch", "-q", f"http://{KERNEL}/", *REAL,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("netstack: ")
    assert done.stderr.count("\n") == 1


def test_ping_and_dig_over_the_device(namespace):
    done = namespace.netstack("ping", "-c", "1", KERNEL, *REAL)
    assert done.returncode == 0, done.stderr
    assert "1 received" in done.stdout
    done = namespace.netstack("ping", "-c", "1", "-W", "0.3", "192.0.2.99", *REAL)
    assert done.returncode == 1
    done = namespace.netstack("dig", f"@{KERNEL}", "a.test", *REAL)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1


def test_hosts_file_and_device_together(namespace, tmp_path):
    table = tmp_path / "hosts"
    table.write_text(f"# who\n{KERNEL} gate gate.test\n::1 six\n")
    done = namespace.netstack("ping", "-c", "1", "gate.test", "--hosts", str(table), *REAL)
    assert done.returncode == 0, done.stderr


def test_pcap_holds_what_went_by(namespace, tmp_path):
    target = tmp_path / "ping.pcap"
    namespace.netstack("ping", "-c", "1", KERNEL, "--pcap", str(target), *REAL)
    data = target.read_bytes()
    assert socket.inet_aton(OURS) in data
    assert socket.inet_aton(KERNEL) in data
