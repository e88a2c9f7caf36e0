"""``netstack bench tap``: the harness sets itself up, measures, checks content and cleans up."""

import os
import subprocess
import sys

import pytest

from netstack.bench import worlds
from netstack.bench.result import BenchError
from netstack.bench.tap import Plan, run
from netstack.bench.worlds import World

TINY = Plan(bulk=0.05, exchange=0.02, idle=0.02, idle_connections=5)

BESIDE_THE_KERNEL = {
    "bulk_send", "bulk_send_cpu", "bulk_send_peer_cpu",
    "bulk_receive", "bulk_receive_cpu", "bulk_receive_peer_cpu",
    "bulk_send_plain", "bulk_send_plain_cpu", "bulk_send_plain_peer_cpu",
    "bulk_receive_plain", "bulk_receive_plain_cpu", "bulk_receive_plain_peer_cpu",
    "request_response", "connections",
}  # fmt: skip
ALONE = {"start", "start_process", "idle"}


@pytest.mark.slow
@pytest.mark.needs("tap", "netns")
def test_every_work_is_measured_in_every_round():
    told = []
    result = run(2, told.append, plan=TINY)
    works = {work.name: work for work in result.works}
    assert set(works) == BESIDE_THE_KERNEL | ALONE
    assert {name for name, work in works.items() if work.ratio is not None} == BESIDE_THE_KERNEL
    for work in result.works:
        assert len(work.subject) == 2
        assert work.name == "idle" or min(work.subject) > 0
    assert len(told) == 12
    assert result.contestants["kernel"]["congestion"] == "cubic"
    assert {"tso", "gso"} <= set(result.contestants["kernel"]["offloads"])
    assert result.contestants["netstack"]["mtu"] == 1500
    offloads = ["tx_checksum", "rx_checksum", "super_segments"]
    assert result.contestants["netstack"]["offloads"] == offloads
    assert result.contestants["netstack"]["offloads_plain"] == []


@pytest.mark.slow
@pytest.mark.needs("tap", "netns")
def test_wrong_content_ends_the_run(monkeypatch, tmp_path):
    # Workers find this module first: the peer expects another content than is sent.
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "if 'peer' in sys.argv[1:]:\n"
        "    from netstack.bench import pattern\n"
        "    pattern._TWICE = bytes(len(pattern._TWICE))\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(BenchError, match="what arrived is not what was sent"):
        run(1, lambda line: None, plan=TINY)


@pytest.mark.slow
@pytest.mark.needs("tap", "netns")
def test_workers_end_with_the_world():
    with World() as world:
        stack = world.stack()
        processes = [world.peer.pid, world.kernel.pid, stack.pid]
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


@pytest.mark.slow
@pytest.mark.needs("tap", "netns")
def test_a_worker_that_fails_says_why():
    with World() as world, pytest.raises(BenchError, match="ip link add"):
        world.peer.call("join", process=world.kernel.pid)


@pytest.mark.slow
@pytest.mark.needs("tap", "netns")
def test_a_worker_that_ends_is_named(monkeypatch):
    monkeypatch.setattr(worlds, "PATIENCE_S", 10.0)
    with World() as world:
        stack = world.stack()
        os.kill(stack.pid, 9)
        with pytest.raises(BenchError, match="the stack process has ended"):
            stack.call("start", started=0.0, number=1)


@pytest.mark.slow
@pytest.mark.needs("tap", "netns", "unshare")
def test_rootless_works_or_says_what_it_needs():
    # A user namespace in which we are nobody special, though the files are still ours.
    nobody = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
    code = (
        "from netstack.bench.result import BenchError\n"
        "from netstack.bench.tap import Plan, run\n"
        "plan = Plan(bulk=0.02, exchange=0.01, idle=0.01, idle_connections=1)\n"
        "try:\n"
        "    print(len(run(1, lambda line: None, plan=plan).works), 'works')\n"
        "except BenchError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [*nobody, sys.executable, "-c", code], check=False, capture_output=True, text=True
    )
    measured = done.stdout.strip() == f"{len(BESIDE_THE_KERNEL | ALONE)} works"
    assert measured or "needs root" in done.stdout or "unshare:" in done.stderr, done
