"""The connection table has ss's names, order and units."""

from netstack.cli.table import connection_table
from netstack.transport.tcp.info import ConnectionInfo

BUSY = ConnectionInfo(
    local=("10.0.0.1", 80), remote=("10.0.0.2", 40_000), state="ESTABLISHED", send_queue=29_200,
    receive_queue=7, cwnd=14_600, ssthresh=7_300, mss=1_460, flight_size=5_840, srtt=0.02,
    rto=0.24, send_window=65_535, retransmitted=5, rttvar=0.005, min_rtt=0.0185,
    congestion="cubic", phase="RECOVERY", backoff=1, unacked=10, lost=3, sacked=2,
    retransmitting=1, reordering=7, reordering_seen=True, dsacks=4, timestamps=True, sack=True,
    ecn=True, send_scale=7, receive_scale=5, path_mtu=1_500, not_sent=14_600, sent=43_800,
    acknowledged=14_600, received=99, retransmitted_octets=7_300, delivery_rate=250_000.0,
)  # fmt: skip


def test_line_of_a_busy_connection():
    heading, first, second = connection_table([BUSY])
    assert heading == ("State        Recv-Q  Send-Q     Local Address:Port  Peer Address:Port")
    assert first == "ESTAB             7   29200            10.0.0.1:80  10.0.0.2:40000"
    assert second.strip() == (
        "ts sack ecn cubic wscale:7,5 rto:240 backoff:1 rtt:20.000/5.000 mss:1460 pmtu:1500 "
        "cwnd:10 ssthresh:5 bytes_sent:51100 bytes_retrans:7300 bytes_acked:14600 "
        "bytes_received:99 snd_wnd:65535 send 5.84Mbps delivery_rate 2Mbps unacked:10 "
        "retrans:1/5 lost:3 sacked:2 dsack_dups:4 reordering:7 notsent:14600 minrtt:18.500"
    )


def test_what_is_zero_is_left_out():
    idle = BUSY._replace(
        ssthresh=1 << 30, backoff=0, retransmitted=0, retransmitting=0, lost=0, sacked=0,
        dsacks=0, reordering=3, not_sent=0, sent=0, acknowledged=0, retransmitted_octets=0,
        received=0, delivery_rate=0.0, unacked=0, timestamps=False, sack=False, ecn=False,
        send_scale=0, receive_scale=0,
    )  # fmt: skip
    _, _, details = connection_table([idle])
    assert details.strip() == (
        "cubic rto:240 rtt:20.000/5.000 mss:1460 pmtu:1500 cwnd:10 snd_wnd:65535 "
        "send 5.84Mbps minrtt:18.500"
    )
