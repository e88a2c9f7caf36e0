"""The captures in pcaps/ can be read whole, and tshark finds every checksum right."""

import subprocess
from pathlib import Path

import pytest

from netstack import capture

FOLDER = Path(__file__).parents[2] / "pcaps"
CAPTURES = sorted(FOLDER.glob("*.pcap*"))


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.name)
def test_capture_is_read_whole_and_described(path):
    packets = list(capture.read(path))
    assert packets
    assert all(packet.ethernet is not None for packet in packets)
    assert f"`{path.name}`" in (FOLDER / "README.md").read_text("utf-8")


@pytest.mark.needs("tshark")
@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.name)
def test_tshark_finds_nothing_malformed_and_every_checksum_right(path):
    protocols = ("ip", "tcp", "udp")
    bad = " || ".join(["_ws.malformed", *(f"{each}.checksum.status==0" for each in protocols)])
    options = [part for each in protocols for part in ("-o", f"{each}.check_checksum:TRUE")]
    done = subprocess.run(
        ["tshark", "-r", str(path), *options, "-Y", bad],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == ""
