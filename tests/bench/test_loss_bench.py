"""``netstack bench loss``: frames are lost on both contestants' ways, content still arrives."""

from pathlib import Path

import pytest

from netstack.bench import loss, namespace
from netstack.bench.loss import LOSSES, WANTED, Plan, run, shares
from netstack.bench.result import BenchError
from netstack.bench.worker import VETH
from netstack.bench.worlds import World

TINY = Plan(bulk=0.05)


def retransmissions(process):
    """Return how many segments the network of a process has sent again."""
    lines = Path(f"/proc/{process}/net/snmp").read_text().splitlines()
    names, values = (line.split() for line in lines if line.startswith("Tcp:"))
    return int(values[names.index("RetransSegs")])


def test_share_is_of_the_smaller_bound_of_the_same_round():
    assert shares([8.0, 6.0], [10.0, 20.0], [16.0, 12.0]) == (0.8, 0.5)


@pytest.mark.slow
@pytest.mark.needs("tap", "netns", "nft")
def test_every_rate_is_measured_in_both_directions_and_every_round():
    told = []
    result = run(2, told.append, plan=TINY)
    works = {work.name: work for work in result.works}
    assert len(told) == 2 * 2 * len(LOSSES)
    for direction, share in WANTED:
        assert works[f"{direction}_0"].ratio is not None
        reached = works[f"{direction}_{share:g}_share"]
        assert len(reached.subject) == 2
        assert min(reached.subject) > 0
        round_trips = works[f"{direction}_{share:g}_rtt"]
        assert min(*round_trips.subject, *round_trips.baseline) > 0
    for contestant in result.contestants.values():
        assert contestant["congestion"] == "cubic"
        assert not {"tso", "gso", "gro"} & set(contestant["offloads"])
    assert result.contestants["netstack"]["kernel's side"] == []


@pytest.mark.slow
@pytest.mark.needs("tap", "netns", "nft")
def test_frames_are_lost_where_the_kernel_receives_and_only_while_asked():
    with World() as world:
        kernel = loss._Contestant("kernel", world.kernel, world.peer, VETH)
        world.peer.call("turn_offloads_off", interface=VETH)
        world.kernel.call("turn_offloads_off")
        before = retransmissions(world.kernel.pid)
        kernel.measure("send", 0.05, 0.05)
        lossy = retransmissions(world.kernel.pid)
        assert lossy - before > 10
        world.kernel.call("work", name="connections", seconds=0.02)
        assert retransmissions(world.kernel.pid) == lossy


def test_missing_command_is_named_with_its_package(monkeypatch):
    monkeypatch.setattr(namespace, "_SBIN", "")
    with pytest.raises(BenchError, match=r"nft is missing.*nftables"):
        namespace.lose(VETH, 0.5)
