"""Ctrl-C, wherever a program blocks, ends it within a second."""

from __future__ import annotations

import signal
import time

import pytest

pytestmark = pytest.mark.needs("tap", "netns", "ip", "nginx", "dnsmasq", "openssl", "tshark")

PROGRAM = """
import sys, netstack
tap, ours, kernel, nobody, dns, port = sys.argv[1:]
host = netstack.tap(tap, address=ours + "/24", gateway=kernel, dns=dns)
def say(): print("blocking", flush=True)
"""
CALLS = {
    "connect": "say(); host.create_connection((nobody, 80))",
    "recv": "s = host.create_connection((kernel, int(port))); say(); s.recv(1)",
    "send": "s = host.create_connection((kernel, int(port))); say(); s.sendall(bytes(50_000_000))",
    "accept": "s = host.create_server(('', 80)); say(); s.accept()",
    "recvfrom": "s = host.socket(type=2); s.bind(('', 53)); say(); s.recvfrom(100)",
    "resolve": "say(); host.resolve('www.interop.test', timeout=60)",
    "ping": "say(); host.ping(nobody, timeout=60)",
    "sleep": "say(); host.sleep(60)",
    "join": "t = host.spawn(host.sleep, 60); say(); t.join()",
    "fetch": "say(); netstack.fetch(f'http://{nobody}/', host=host, timeout=60)",
    "recv beside a thread that leads": (
        "t = host.spawn(host.sleep, 60); s = host.create_connection((kernel, int(port)));"
        "say(); s.recv(1)"
    ),
}


def _interrupt(process):
    """Press Ctrl-C once the program blocks; return its status and how long it took to end."""
    assert process.stdout.readline().strip() in ("blocking", "ready"), process.communicate()
    time.sleep(0.1)
    assert process.poll() is None
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    return process.returncode, time.monotonic() - start, errors


@pytest.mark.parametrize("call", CALLS)
def test_call_ends(lan, start, kernel_server, call):
    _, port = kernel_server("0.0.0.0", lambda connection: time.sleep(30))
    nobody = f"{lan.net}.77"
    program = PROGRAM + CALLS[call]
    process = start("-c", program, lan.tap, lan.ours, lan.kernel, nobody, nobody, str(port))
    status, seconds, errors = _interrupt(process)
    assert "\nKeyboardInterrupt" in errors
    assert status == -signal.SIGINT
    assert seconds < 1


COMMANDS = {
    "fetch": ("fetch", "-m", "60", "http://{nobody}/"),
    "fetch a name": ("fetch", "-m", "60", "--dns", "{nobody}", "http://www.interop.test/"),
    "dig": ("dig", "@{nobody}", "www.interop.test"),
    "ping": ("ping", "-W", "60", "{nobody}"),
    "ping that is answered": ("ping", "{kernel}"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_command_ends_with_130(lan, start, command):
    words = [word.format(nobody=f"{lan.net}.77", kernel=lan.kernel) for word in COMMANDS[command]]
    process = start("-m", "netstack", *words, *lan.options)
    end = time.monotonic() + 20
    while time.monotonic() < end and process.poll() is None and not _records(lan.pcap):
        time.sleep(0.01)
    time.sleep(0.1)
    assert process.poll() is None, process.communicate()
    pressed = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert time.monotonic() - pressed < 1
    assert process.returncode == 130
    assert "Traceback" not in errors


def _records(pcap):
    return pcap.exists() and pcap.stat().st_size > 0


def test_serve_ends_with_130(lan, start, tmp_path):
    process = start(
        "-m", "netstack", "serve", "--http", "80", "--root", str(tmp_path), *lan.options
    )
    status, seconds, errors = _interrupt(process)
    assert status == 130
    assert seconds < 1
    assert "Traceback" not in errors
