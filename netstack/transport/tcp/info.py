"""What a connection looks like from outside: the numbers of ``ss -ti``.

Nothing here runs unless somebody asks. Counts of segments are of wire segments, also under
super-segments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from netstack.transport.tcp.recovery import Phase, SackRecovery

if TYPE_CHECKING:
    from netstack.transport.tcp.connection import Connection

DEFAULT_REORDERING = 3  # segments: DupThresh (RFC 5681 3.2), until the path shows more


class ConnectionInfo(NamedTuple):
    """One connection as ``ss -ti`` shows it: sizes in octets, times in seconds.

    ``lost``, ``sacked``, ``retransmitting`` (sent again and not answered yet), ``retransmitted``
    (in all) and ``reordering`` count wire segments. ``delivery_rate`` is in octets a second.
    """

    local: tuple[str, int]
    remote: tuple[str, int]
    state: str
    send_queue: int
    receive_queue: int
    cwnd: int
    ssthresh: int
    mss: int
    flight_size: int
    srtt: float
    rto: float
    send_window: int
    retransmitted: int
    rttvar: float = 0.0
    min_rtt: float = 0.0
    congestion: str = ""
    phase: str = "OPEN"
    backoff: int = 0
    unanswered: int = 0
    """Expiries of the retransmission timer since the last progress."""
    probes: int = 0
    unacked: int = 0
    lost: int = 0
    sacked: int = 0
    retransmitting: int = 0
    reordering: int = DEFAULT_REORDERING
    reordering_seen: bool = False
    dsacks: int = 0
    timestamps: bool = False
    sack: bool = False
    ecn: bool = False
    fast_open: bool = False
    """Data in a SYN was acknowledged, by this side or the other (RFC 7413)."""
    fast_open_failure: int = 0
    send_scale: int = 0
    receive_scale: int = 0
    receive_mss: int = 0
    receive_window: int = 0
    receive_buffer: int = 0
    path_mtu: int = 0
    not_sent: int = 0
    sent: int = 0
    acknowledged: int = 0
    delivered: int = 0
    """Wire segments acknowledged or sacked so far, full ones assumed."""
    received: int = 0
    retransmitted_octets: int = 0
    delivery_rate: float = 0.0
    idle: float = 0.0
    """Since data was last sent."""


def describe(connection: Connection) -> ConnectionInfo:
    """Return the numbers of ``connection``, in any state."""
    sender, receiver = connection.sender, connection.receiver
    recovery, rtt, queue = sender.recovery, sender.rtt, sender.queue
    rack = recovery.rack if isinstance(recovery, SackRecovery) else None
    segments = lost = again = 0
    for sent in queue:
        segments += sent.segments
        if sent.lost:
            lost += sent.segments
        elif sent.transmissions > 1 and not sent.sacked:
            again += sent.segments
    reordering = DEFAULT_REORDERING
    if rack is not None and rack.reordering:
        reordering = max(reordering, -(-rack.reordering // max(sender.mss, 1)))
    now = connection.tcp.context.now
    first = sender.iss + 1
    fast = connection.fast_open
    return ConnectionInfo(
        connection.local,
        connection.remote,
        connection.state.name.replace("_", "-"),
        max(sender.data_end - max(sender.snd_una, first), 0),
        receiver.buffer.length if receiver.buffer is not None else 0,
        sender.congestion.cwnd,
        sender.congestion.ssthresh,
        sender.mss,
        sender.flight_size,
        rtt.srtt,
        rtt.timeout(),
        sender.snd_wnd,
        sender.retransmitted_segments,
        rttvar=rtt.rttvar,
        min_rtt=rtt.min_rtt,
        congestion=sender.congestion.name,
        phase=_phase(connection),
        backoff=rtt.backoff,
        unanswered=sender.timeouts,
        probes=connection.keepalive_probes_sent,
        unacked=segments,
        lost=lost,
        sacked=queue.sacked_segments,
        retransmitting=again,
        reordering=reordering,
        reordering_seen=rack is not None and rack.reordering_seen,
        dsacks=rack.dsacks if rack is not None else 0,
        timestamps=connection.ts_on,
        sack=sender.sack_on,
        ecn=connection.ecn is not None,
        fast_open=fast is not None and fast.done,
        fast_open_failure=fast.failure if fast is not None else 0,
        send_scale=sender.shift,
        receive_scale=receiver.shift,
        receive_mss=receiver.mss,
        receive_window=max(receiver.rcv_adv - receiver.rcv_nxt, 0),
        receive_buffer=receiver.buffer_size,
        path_mtu=connection.path.mtu,
        not_sent=max(sender.data_end - max(sender.snd_nxt, first), 0),
        sent=max(min(sender.snd_max, sender.data_end) - first, 0),
        acknowledged=max(min(sender.snd_una, sender.data_end) - first, 0),
        delivered=-(-sender.delivered // max(sender.mss, 1)),
        received=connection.received,
        retransmitted_octets=sender.retransmitted_octets,
        delivery_rate=sender.rate.octets_per_second if sender.rate is not None else 0.0,
        idle=max(now - sender.last_sent, 0.0) if sender.snd_max > sender.iss else 0.0,
    )


def _phase(connection: Connection) -> str:
    """Return OPEN, DISORDER (SACKs or duplicate ACKs, nothing lost yet), RECOVERY or LOSS."""
    recovery = connection.sender.recovery
    if recovery is None:
        return "OPEN"
    if recovery.phase is Phase.OPEN and (
        connection.sender.queue.sacked_octets or recovery.inflation
    ):
        return "DISORDER"
    return recovery.phase.name
