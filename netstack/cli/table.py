"""The connection table, as ``ss -ti`` prints it: two lines a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from netstack.stack import ConnectionInfo

# Where ss's names differ from those of RFC 9293.
_STATES = {
    "ESTABLISHED": "ESTAB",
    "SYN-RECEIVED": "SYN-RECV",
}
_UNSET_SSTHRESH = 1 << 30  # octets: no loss has set it yet


def connection_table(connections: Iterable[ConnectionInfo]) -> Iterator[str]:
    """Yield the lines of the table, its heading first."""
    heading = f"{'State':<11} {'Recv-Q':>7} {'Send-Q':>7}  {'Local Address:Port':>21}"
    yield f"{heading}  Peer Address:Port"
    for entry in connections:
        state = _STATES.get(entry.state, entry.state)
        local, remote = (f"{host}:{port}" for host, port in (entry.local, entry.remote))
        yield (
            f"{state:<11} {entry.receive_queue:>7} {entry.send_queue:>7}  {local:>21}  {remote}"
        )
        yield f"\t {_details(entry)}"


def _details(entry: ConnectionInfo) -> str:
    mss = max(entry.mss, 1)
    pieces = [f"rto:{entry.rto * 1e3:.0f}", f"mss:{entry.mss}", f"cwnd:{entry.cwnd // mss}"]
    if entry.srtt:
        pieces.insert(1, f"rtt:{entry.srtt * 1e3:.3f}")
    if entry.ssthresh < _UNSET_SSTHRESH:
        pieces.append(f"ssthresh:{entry.ssthresh // mss}")
    pieces.append(f"snd_wnd:{entry.send_window}")
    if entry.flight_size:
        pieces.append(f"unacked:{-(-entry.flight_size // mss)}")
    if entry.retransmitted:
        pieces.append(f"retrans:0/{entry.retransmitted}")
    return " ".join(pieces)
