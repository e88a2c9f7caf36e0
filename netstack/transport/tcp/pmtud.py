"""What a path takes, found out by segments themselves (RFC 4821); doubtful ICMP (RFC 5927).

Theory of operation. Nothing is kept while the path does what its MTU says. When the retransmission
timer expired R1 times for one segment, something on the way may swallow what is too large for it
and not say so: the packet size falls to 1,064 octets, at the next expiry to 552. Once that gets
through, and in good times only, one segment of queued data at a time is made larger than the rest:
as large as the path ought to take, for it may just have been broken, then by bisection. A probe
that was delivered raises the size, one that was lost is no sign of congestion. Ten minutes after
the search ended below what the path ought to take, it begins again.

A router's report that is smaller than what the peer has acknowledged already is believed only when
the segment it quotes was not acknowledged before the retransmission timer expired (RFC 5927 7.2).

Sizes are octets of IP packets, headers included.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netstack.core.trace import Reason
from netstack.transport.tcp.recovery import Phase
from netstack.transport.tcp.transmission import Transmission
from netstack.wire.tcp import HEADER_LENGTH

if TYPE_CHECKING:
    from netstack.internet.errors import NetworkError
    from netstack.transport.tcp.connection import Connection

FALLBACKS = (1064, 552)  # an MSS of 1,024 as RFC 4821 7.2 has it, then RFC 9293's 512 and IPv4's
MAX_PROBES = 3  # of one size, RFC 8899 5.1.2
NEAR_ENOUGH = 16  # octets: a search ends that close below what was refused
SPARE_SEGMENTS = 3  # that follow a probe, so that its loss is seen at once


class PathSearch:
    """What is doubted about a path; ``limit`` None: nothing but a router's report."""

    __slots__ = ("ceiling", "doubtful", "limit", "next_at", "probe", "settled", "tries")

    def __init__(self) -> None:
        self.limit: int | None = None  # the packet size in use
        self.ceiling = 0  # the largest that may still get through
        self.tries = 0  # probes of the present size that were lost
        self.probe: tuple[int, int, int] | None = None  # in flight: start, end, packet size
        self.settled = 0  # nothing is probed until all before this was acknowledged
        self.next_at = 0.0  # nor before this time
        self.doubtful: tuple[int, int] | None = None  # sequence number quoted, MTU reported


def _search_of(connection: Connection) -> PathSearch:
    if connection.path_search is None:
        connection.path_search = PathSearch()
    return connection.path_search


def _headers(connection: Connection) -> int:
    return connection.path.header_size + HEADER_LENGTH + (12 if connection.ts_on else 0)


def _expected(connection: Connection) -> int:
    """Return the packet size that path and peer say they take."""
    path = connection.path
    return min(path.mtu, connection.peer_mss + path.header_size + HEADER_LENGTH)


# ---- ICMP ---------------------------------------------------------------------------------------


def believes(connection: Connection, error: NetworkError, seq: int) -> bool:
    """Return whether a "packet too big" about the segment at ``seq`` counts at once.

    RFC 5927 7.2: less than what the peer has acknowledged waits for the segment to time out.
    """
    if error.reported_mtu - _headers(connection) >= connection.sender.acked_size:
        return True
    _search_of(connection).doubtful = (seq, error.reported_mtu)
    connection.tcp.context.drop("tcp.pmtu_unconfirmed")
    return False


# ---- black holes --------------------------------------------------------------------------------


def on_timeout(connection: Connection) -> bool:
    """The retransmission timer expired; return whether the segment size changes."""
    sender, search = connection.sender, connection.path_search
    if not sender.queue:
        return False
    if search is not None and search.doubtful is not None:
        seq, mtu = search.doubtful
        search.doubtful = None
        if seq >= sender.snd_una:
            connection.tcp.context.count("tcp.pmtu_confirmed")
            connection.tcp.internet.learn_mtu(connection.remote_address, mtu)
            sender.acked_size = 0
            return True
    if sender.timeouts < connection.tcp.config.r1_retransmissions:
        return False
    first = sender.queue[0]
    if first.start >= sender.snd_una + sender.snd_wnd:
        return False  # a window that was closed refuses it, whatever its size
    size = min(first.octets, first.gso_size) + _headers(connection)
    smaller = next((each for each in FALLBACKS if each < size), None)
    if smaller is None:
        return False
    search = _search_of(connection)
    connection.tcp.context.count("tcp.black_holes")
    search.limit, search.ceiling = smaller, _expected(connection)
    search.tries, search.probe = 0, None
    search.settled = sender.snd_nxt
    sender.acked_size = 0
    return True


def on_tail_probe(connection: Connection) -> None:
    """The tail goes again: an acknowledgment will not tell which of the two arrived."""
    search = connection.path_search
    if search is not None and search.probe is not None:
        search.probe = None
        search.tries += 1


# ---- searching upward ---------------------------------------------------------------------------


def judge_probe(connection: Connection, now: float) -> bool:
    """Look what became of the probe in flight; return whether the segment size changes."""
    search, sender = connection.path_search, connection.sender
    if search is None or search.probe is None:
        return False
    start, end, size = search.probe
    sent = sender.queue.find(max(start, sender.snd_una)) if sender.snd_una < end else None
    if sent is None or sent.sacked:
        connection.tcp.context.count("tcp.pmtu_probes_delivered")
        search.limit, search.tries, search.probe = size, 0, None
        if size >= _expected(connection):
            connection.path_search = None
        return True
    if sent.lost or sent.transmissions > 1:
        connection.tcp.context.count("tcp.pmtu_probes_lost")
        if sender.recovery is not None and sender.queue.lost_octets == sent.octets:
            sender.recovery.forgive()
        search.probe = None
        search.tries += 1
        if search.tries >= MAX_PROBES:
            search.tries, search.ceiling = 0, size - 1
            if size - (search.limit or 0) <= NEAR_ENOUGH:
                lifetime = connection.tcp.context.config.ipv4.pmtu_lifetime
                search.ceiling, search.next_at = _expected(connection), now + lifetime
    return False


def wanted_probe(connection: Connection, now: float) -> int:
    """Return how many octets of data a probe should carry; 0 if these are no good times."""
    search, sender = connection.path_search, connection.sender
    if search is None or search.limit is None or search.probe is not None:
        return 0
    if now < search.next_at or sender.snd_una < search.settled or not _undisturbed(connection):
        return 0
    expected = _expected(connection)
    if search.limit >= expected:
        return 0
    ceiling = min(search.ceiling, expected)
    size = ceiling if ceiling == expected else (search.limit + ceiling + 1) // 2
    octets = size - _headers(connection)
    enough = octets + SPARE_SEGMENTS * sender.mss
    waiting = min(sender.data_end, sender.snd_una + sender.snd_wnd) - sender.snd_nxt
    return octets if waiting >= enough and sender.congestion.cwnd >= enough else 0


def begin_probe(connection: Connection, octets: int) -> Transmission:
    """Return the segment of ``octets`` that is to go; from now on it is watched."""
    search, start = connection.path_search, connection.sender.snd_nxt
    connection.tcp.context.count("tcp.pmtu_probes")
    if search is not None:
        search.probe = (start, start + octets, octets + _headers(connection))
    return Transmission(start, start + octets, Reason.PMTU_PROBE)


def _undisturbed(connection: Connection) -> bool:
    sender = connection.sender
    queue, recovery = sender.queue, sender.recovery
    return (
        not sender.timeouts
        and not queue.lost_octets
        and not queue.sacked_octets
        and (recovery is None or recovery.phase is Phase.OPEN)
    )
