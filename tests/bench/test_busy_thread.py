"""Bulk beside a thread that computes; part of ``make bench`` only.

Whoever gives the interpreter up waits for a switch interval, 5 ms, to get it back. The driver does
so only where it may sleep, so that bulk keeps its part.
"""

import statistics
import subprocess
import sys

import pytest

WANTED = 0.25
ROUNDS = 3
CODE = f"""
import threading, time
from netstack.bench import work, worker
from netstack.bench.worlds import World

def compute():
    while not stop.is_set():
        sum(number for number in range(10_000))

with World() as world:
    client = worker.StackClient(world.peer.pid)
    client.start(time.monotonic(), 1)
    for bulk in (work.bulk_send, work.bulk_receive):
        for _ in range({ROUNDS}):
            alone = bulk(client.connect, 0.5)
            stop = threading.Event()
            thread = threading.Thread(target=compute)
            thread.start()
            beside = bulk(client.connect, 0.5)
            stop.set()
            thread.join()
            speeds = [each["octets"] / each["seconds"] for each in (beside, alone)]
            print(bulk.__name__, speeds[0] / speeds[1])
    client.close()
"""


@pytest.mark.bench
@pytest.mark.needs("tap", "netns", "kernels")
def test_bulk_beside_a_computing_thread_keeps_its_part():
    done = subprocess.run([sys.executable, "-c", CODE], check=True, capture_output=True, text=True)
    ratios = {"bulk_send": [], "bulk_receive": []}
    for line in done.stdout.splitlines():
        name, ratio = line.split()
        ratios[name].append(float(ratio))
    assert all(len(figures) == ROUNDS for figures in ratios.values())
    for name, figures in ratios.items():
        assert statistics.median(figures) >= WANTED, (name, figures)
