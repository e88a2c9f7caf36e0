"""The connection table, as ``ss -ti`` prints it: two lines a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from netstack.transport.tcp.info import ConnectionInfo

# Where ss's names differ from those of RFC 9293.
_STATES = {
    "ESTABLISHED": "ESTAB",
    "SYN-RECEIVED": "SYN-RECV",
    "CLOSED": "UNCONN",
}
_UNSET_SSTHRESH = 1 << 30  # octets: no loss has set it yet
_DEFAULT_REORDERING = 3


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
    """Return ss's second line: in its order, with its names and units; zeros are left out."""
    mss = max(entry.mss, 1)
    options = (("ts", entry.timestamps), ("sack", entry.sack), ("ecn", entry.ecn))
    pieces = [name for name, agreed in options if agreed]
    pieces.append(entry.congestion)
    if entry.send_scale or entry.receive_scale:
        pieces.append(f"wscale:{entry.send_scale},{entry.receive_scale}")
    pieces.append(f"rto:{entry.rto * 1e3:.0f}")
    if entry.backoff:
        pieces.append(f"backoff:{entry.backoff}")
    if entry.srtt:
        pieces.append(f"rtt:{entry.srtt * 1e3:.3f}/{entry.rttvar * 1e3:.3f}")
    pieces += [f"mss:{entry.mss}", f"pmtu:{entry.path_mtu}", f"cwnd:{entry.cwnd // mss}"]
    if entry.ssthresh < _UNSET_SSTHRESH:
        pieces.append(f"ssthresh:{entry.ssthresh // mss}")
    pieces += _counts(entry)
    if entry.srtt:
        pieces.append(f"send {_rate(entry.cwnd / entry.srtt)}")
    if entry.delivery_rate:
        pieces.append(f"delivery_rate {_rate(entry.delivery_rate)}")
    pieces += _flight(entry)
    if entry.min_rtt:
        pieces.append(f"minrtt:{entry.min_rtt * 1e3:.3f}")
    return " ".join(piece for piece in pieces if piece)


def _counts(entry: ConnectionInfo) -> Iterator[str]:
    """Yield what has been transferred so far."""
    if entry.sent:
        yield f"bytes_sent:{entry.sent + entry.retransmitted_octets}"
    if entry.retransmitted_octets:
        yield f"bytes_retrans:{entry.retransmitted_octets}"
    if entry.acknowledged:
        yield f"bytes_acked:{entry.acknowledged}"
    if entry.received:
        yield f"bytes_received:{entry.received}"
    yield f"snd_wnd:{entry.send_window}"


def _flight(entry: ConnectionInfo) -> Iterator[str]:
    """Yield what is under way, and what became of it, in wire segments."""
    if entry.unacked:
        yield f"unacked:{entry.unacked}"
    if entry.retransmitted:
        yield f"retrans:{entry.retransmitting}/{entry.retransmitted}"
    if entry.lost:
        yield f"lost:{entry.lost}"
    if entry.sacked:
        yield f"sacked:{entry.sacked}"
    if entry.dsacks:
        yield f"dsack_dups:{entry.dsacks}"
    if entry.reordering != _DEFAULT_REORDERING:
        yield f"reordering:{entry.reordering}"
    if entry.not_sent:
        yield f"notsent:{entry.not_sent}"


def _rate(octets_per_second: float) -> str:
    """Return a rate in bits a second, as ss abbreviates it."""
    bits = octets_per_second * 8
    for limit, unit in ((1e9, "Gbps"), (1e6, "Mbps"), (1e3, "Kbps")):
        if bits >= limit:
            return f"{bits / limit:.3g}{unit}"
    return f"{bits:.0f}bps"
