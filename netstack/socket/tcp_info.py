"""``struct tcp_info`` of Linux, octet for octet, from the numbers of a connection.

What this stack doesn't keep is 0 there: segment counts of each direction, pacing, the time spent
limited by a window or a buffer. Sizes that Linux counts in segments (the congestion window,
ssthresh) are rounded to them; an unset ssthresh is 2^31 - 1, as Linux has it.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from netstack.transport.tcp.info import ConnectionInfo

LAYOUT = struct.Struct(
    "=8B"  # state ca_state retransmits probes backoff options, scales, flags
    "4I"  # rto ato snd_mss rcv_mss
    "5I"  # unacked sacked lost retrans fackets
    "4I"  # milliseconds since data sent, ACK sent, data received, ACK received
    "8I"  # pmtu rcv_ssthresh rtt rttvar snd_ssthresh snd_cwnd advmss reordering
    "3I"  # rcv_rtt rcv_space total_retrans
    "4Q"  # pacing_rate max_pacing_rate bytes_acked bytes_received
    "2I"  # segs_out segs_in
    "4I"  # notsent_bytes min_rtt data_segs_in data_segs_out
    "4Q"  # delivery_rate busy_time rwnd_limited sndbuf_limited
    "2I"  # delivered delivered_ce
    "2Q"  # bytes_sent bytes_retrans
    "6I"  # dsack_dups reord_seen rcv_ooopack snd_wnd rcv_wnd rehash
    "2H1I"  # total_rto total_rto_recoveries total_rto_time
)
"""include/uapi/linux/tcp.h, in the order of its fields."""

# include/net/tcp_states.h
STATES = {
    "ESTABLISHED": 1, "SYN-SENT": 2, "SYN-RECEIVED": 3, "FIN-WAIT-1": 4, "FIN-WAIT-2": 5,
    "TIME-WAIT": 6, "CLOSED": 7, "CLOSE-WAIT": 8, "LAST-ACK": 9, "LISTEN": 10, "CLOSING": 11,
}  # fmt: skip
PHASES = {"OPEN": 0, "DISORDER": 1, "RECOVERY": 3, "LOSS": 4}  # enum tcp_ca_state
_TIMESTAMPS, _SACK, _WSCALE, _ECN, _SYN_DATA = 1, 2, 4, 8, 32  # TCPI_OPT_*
_UNSET_SSTHRESH = 1 << 30  # octets, in the stack
_INFINITE_SSTHRESH = 0x7FFFFFFF
_U32 = 0xFFFFFFFF


def pack(info: ConnectionInfo) -> bytes:
    """Return ``info`` as getsockopt(TCP_INFO) tells it."""
    options = _TIMESTAMPS * info.timestamps | _SACK * info.sack | _ECN * info.ecn
    options |= _SYN_DATA * info.fast_open
    if info.send_scale or info.receive_scale:
        options |= _WSCALE
    mss = max(info.mss, 1)
    ssthresh = _INFINITE_SSTHRESH
    if info.ssthresh < _UNSET_SSTHRESH:
        ssthresh = info.ssthresh // mss
    return LAYOUT.pack(
        STATES[info.state], PHASES[info.phase], min(info.unanswered, 255),
        min(info.probes, 255), min(info.backoff, 255), options,
        info.send_scale | info.receive_scale << 4, info.fast_open_failure << 1,
        _micro(info.rto), 0, info.mss, info.receive_mss,
        info.unacked, info.sacked, info.lost, info.retransmitting, 0,
        min(int(info.idle * 1000), _U32), 0, 0, 0,
        info.path_mtu, info.receive_window & _U32, _micro(info.srtt), _micro(info.rttvar),
        ssthresh, info.cwnd // mss, info.receive_mss, info.reordering,
        0, info.receive_buffer & _U32, info.retransmitted & _U32,
        0, 0, info.acknowledged, info.received,
        0, 0,
        info.not_sent & _U32, _micro(info.min_rtt), 0, 0,
        int(info.delivery_rate), 0, 0, 0,
        info.delivered & _U32, 0,
        info.sent + info.retransmitted_octets, info.retransmitted_octets,
        info.dsacks & _U32, int(info.reordering_seen), 0, info.send_window & _U32,
        info.receive_window & _U32, 0,
        0, 0, 0,
    )  # fmt: skip


def pack_listener(waiting: int, backlog: int) -> bytes:
    """Return what TCP_INFO tells of a listener: those that wait to be accepted, and the bound."""
    return _only_state("LISTEN", waiting, backlog)


def pack_closed() -> bytes:
    """Return what TCP_INFO tells of a socket that is neither listening nor connected."""
    return _only_state("CLOSED", 0, 0)


def _only_state(state: str, unacked: int, sacked: int) -> bytes:
    octets = bytearray(LAYOUT.size)
    octets[0] = STATES[state]
    struct.pack_into("=2I", octets, 24, unacked, sacked)
    return bytes(octets)


def _micro(seconds: float) -> int:
    return min(round(seconds * 1e6), _U32)
