"""TCP Fast Open (RFC 7413): data in the SYN, and its answer a round trip earlier.

Theory of operation. A server hands out cookies: a keyed hash of the two addresses, under a key
that changes daily; the one before stays good. A client that shows its cookie again has been at
that address before, so the data in its SYN is taken, and the connection can be accepted, read
and answered in SYN-RECEIVED. How many such handshakes a listener has going at a time is bounded;
one that ended by a reset counts for a minute more, or spoofed SYNs whose owner resets them would
cost nothing (5.1). Whatever is wrong (no cookie, a bad one, too many, memory short), an ordinary
handshake follows, and data that was not acknowledged goes again with the first ACK.

A client keeps cookie and MSS of each server, and remembers where it failed: the SYN had to be
repeated (always without data and option), or nothing came back at all. That path does without
for a minute, twice as long each time.

What fast open cannot do is to deliver the data of a SYN at most once: the network may duplicate a
SYN, and the copy opens another connection once the first is gone. It is for requests that may be
repeated (6.1), which is why every server and every client has to ask for it.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict, deque
from enum import IntEnum
from typing import TYPE_CHECKING, TypeVar

from netstack.core.trace import Reason
from netstack.device.base import MAX_PAYLOAD_BUFFERS
from netstack.transport.tcp.state import State
from netstack.wire.tcp import MAX_OPTIONS, build_fast_open

if TYPE_CHECKING:
    from collections.abc import Iterable

    from netstack.core.rng import Rng
    from netstack.transport.tcp.connection import Connection
    from netstack.transport.tcp.listener import Listener
    from netstack.wire.tcp import Segment

T = TypeVar("T")

COOKIE_LENGTH = 8  # octets, as Linux; RFC 7413 4.1.1 takes 4 to 16
KEY_LIFETIME = 86_400  # seconds; a cookie is good for one to two of them
RESET_PENALTY = 60.0  # seconds that a request which was reset still counts, as Linux
MAX_SERVERS = 1024  # that a client remembers, the latest used
FIRST_PAUSE = 60.0  # seconds without fast open after a failure
MAX_PAUSE = 86_400.0
BLACK_HOLE_TIMEOUTS = 3  # in a row, as Linux


class Failure(IntEnum):
    """Why a client's data did not go with the SYN; tcpi_fastopen_client_fail's values."""

    NONE = 0
    NO_COOKIE = 1
    NOT_ACKNOWLEDGED = 2
    SYN_REPEATED = 3


class Cookies:
    """Makes and checks the cookies of a host; nobody outside can compute one (4.1.2)."""

    __slots__ = ("_secret",)

    def __init__(self, rng: Rng) -> None:
        self._secret = rng.octets(16)

    def make(self, client: bytes, server: bytes, now: float, age: int = 0) -> bytes:
        """Return the cookie of ``client`` under today's key; ``age`` 1: under yesterday's."""
        period = (int(now) // KEY_LIFETIME - age) & 0xFFFFFFFF
        value = client + server + period.to_bytes(4, "big")
        return hashlib.blake2b(value, digest_size=COOKIE_LENGTH, key=self._secret).digest()

    def check(self, cookie: bytes, client: bytes, server: bytes, now: float) -> int | None:
        """Return how many keys ago ``cookie`` was made, 0 or 1; None if it is none of ours."""
        found = None
        for age in (1, 0):  # both, and in constant time: nothing is to be learnt by measuring
            if hmac.compare_digest(cookie, self.make(client, server, now, age)):
                found = age
        return found


class Pending:
    """The handshakes of one listener whose data was taken on credit (4.2.2, 5.1)."""

    __slots__ = ("_penalties", "count", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.count = 0
        self._penalties: deque[float] = deque()

    def has_room(self, now: float) -> bool:
        """Whether one more may be taken."""
        while self._penalties and self._penalties[0] <= now:
            self._penalties.popleft()
            self.count -= 1
        return self.count < self.limit

    def release(self) -> None:
        """One is over: it was established, or failed of itself."""
        self.count -= 1

    def penalize(self, now: float) -> None:
        """One was reset by the peer: it goes on counting for a while."""
        self._penalties.append(now + RESET_PENALTY)

    def recount(self) -> None:
        """Forget those that go on; the caller counts them anew."""
        self.count = len(self._penalties)


class Servers:
    """What a client remembers of servers, by both addresses; failures by port too (4.1.3)."""

    __slots__ = ("_cookies", "_failures")

    def __init__(self) -> None:
        self._cookies: OrderedDict[bytes, tuple[bytes, int]] = OrderedDict()
        self._failures: OrderedDict[bytes, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._cookies) + len(self._failures)

    def get(self, addresses: bytes) -> tuple[bytes, int] | None:
        """Return the cookie and the MSS for ``addresses``."""
        if addresses in self._cookies:
            self._cookies.move_to_end(addresses)
        return self._cookies.get(addresses)

    def keep(self, addresses: bytes, cookie: bytes, mss: int) -> None:
        """Remember ``cookie``; the server that was not asked for longest makes way."""
        _bounded(self._cookies, addresses, (cookie, mss))

    def paused(self, service: bytes, now: float) -> bool:
        """Whether ``service`` (addresses and port) does without for now (4.1.3.1)."""
        return service in self._failures and now < self._failures[service][0]

    def failed(self, service: bytes, now: float) -> None:
        """Do without for a minute, and twice as long each time in a row."""
        pause = min(2 * self._failures.get(service, (0.0, FIRST_PAUSE / 2))[1], MAX_PAUSE)
        _bounded(self._failures, service, (now + pause, pause))

    def worked(self, service: bytes) -> None:
        """Data in the SYN was acknowledged: earlier failures say nothing any more."""
        self._failures.pop(service, None)


def _bounded(entries: OrderedDict[bytes, T], key: bytes, value: T) -> None:
    entries[key] = value
    entries.move_to_end(key)
    if len(entries) > MAX_SERVERS:
        entries.popitem(last=False)


class FastOpen:
    """What one connection has to do with it; made for those that ask or are asked."""

    __slots__ = ("cookie", "done", "failure", "held", "octets", "pending")

    def __init__(self, cookie: bytes | None = None) -> None:
        self.cookie = cookie  # what our SYN carries; empty asks for one; None: nothing
        self.pending: Pending | None = None  # server: where the handshake counts until done
        self.held = False  # client: the SYN waits for octets to carry
        self.octets = 0  # client: in the SYN
        self.done = False  # data in the SYN was acknowledged, by us or by the peer
        self.failure = Failure.NONE

    def release(self) -> bool:
        """Count the handshake as pending no longer; return whether it was."""
        if self.pending is None:
            return False
        self.pending.release()
        self.pending = None
        return True


# ---- server -------------------------------------------------------------------------------------


def receive_syn(listener: Listener, connection: Connection, segment: Segment) -> None:
    """A SYN with the option came to ``listener``: take its data, or tell a cookie (4.2.2)."""
    cookie, pending = segment.fast_open, listener.fast_open
    if cookie is None or pending is None:
        return
    tcp, now = connection.tcp, connection.tcp.context.now
    addresses = connection.remote_address.packed, connection.local_address.packed
    age = tcp.fast_open_cookies.check(cookie, *addresses, now) if cookie else None
    if age != 0:
        connection.fast_open = FastOpen(tcp.fast_open_cookies.make(*addresses, now))
        tcp.context.count("tcp.fast_open_cookies_sent")
    if not cookie:
        tcp.context.count("tcp.fast_open_requests")
    elif age is None:
        tcp.context.count("tcp.fast_open_bad_cookies")
    elif tcp.memory.tight or not pending.has_room(now):
        tcp.context.count("tcp.fast_open_refused")
    else:
        _accept_early(listener, pending, connection, segment)


def _accept_early(
    listener: Listener, pending: Pending, connection: Connection, segment: Segment
) -> None:
    """Take the data of a SYN, and let the connection be accepted before its handshake is done."""
    tcp = connection.tcp
    state = connection.fast_open = connection.fast_open or FastOpen()
    state.pending = pending
    pending.count += 1
    if segment.length:
        receiver = connection.receiver
        receiver.window_to_advertise(0)  # the window that the SYN is measured by
        receiver.take_text(receiver.rcv_nxt, segment.payload, segment.length)
        tcp.memory.settle(connection)
        state.done = True
    tcp.context.count("tcp.fast_open_passive")
    listener.on_fast_open(connection)


def is_early(connection: Connection) -> bool:
    """Whether this is a server's connection whose handshake is still to be completed."""
    return connection.fast_open is not None and connection.fast_open.pending is not None


def sends_early(connection: Connection) -> bool:
    """Whether data may leave in SYN-RECEIVED: until SYN,ACK has to go again.

    Then either got lost, or the SYN was not from where it said: no more than one initial window
    ever goes to an address that did not answer.
    """
    sender = connection.sender
    return is_early(connection) and not sender.timeouts and not sender.retransmitted_segments


def on_reset(connection: Connection) -> None:
    """The peer reset a handshake: it still counts for a while (5.1)."""
    state = connection.fast_open
    if state is not None and state.pending is not None:
        state.pending.penalize(connection.tcp.context.now)
        state.pending = None


# ---- client -------------------------------------------------------------------------------------


def prepare(connection: Connection) -> None:
    """The user asks for fast open: with a cookie, the SYN waits for data; else it asks for one."""
    tcp = connection.tcp
    if tcp.servers.paused(connection.key[:-2], tcp.context.now):
        tcp.context.count("tcp.fast_open_paused")
        return
    known = tcp.servers.get(_addresses(connection))
    state = connection.fast_open = FastOpen(b"" if known is None else known[0])
    if known is None:
        state.failure = Failure.NO_COOKIE
    else:
        state.held = True
        connection.peer_mss = known[1]


def begin(connection: Connection) -> None:
    """Let a SYN that was held go, whatever there is to carry."""
    state = connection.fast_open
    if state is not None and state.held:
        state.held = False
        connection.sender.last_progress = connection.tcp.context.now
        connection.tcp.mark_dirty(connection)


def dress_syn(
    connection: Connection, options: bytes
) -> tuple[bytes, list[bytes | memoryview], int]:
    """Return the options of the first SYN or SYN,ACK, and the data that goes with it (4.2.2)."""
    state, sender = connection.fast_open, connection.sender
    if state is None or state.cookie is None:
        return options, [], 0
    option = build_fast_open(state.cookie)
    if len(options) + len(option) > MAX_OPTIONS:
        state.cookie = None
        return options, [], 0
    options += option
    if connection.state is State.SYN_RECEIVED:
        if state.pending is None:
            connection.fast_open = None  # all is told: an ordinary handshake goes on
        return options, [], 0
    if not state.cookie or sender.buffer is None or connection.urgent is not None:
        return options, [], 0
    # The MSS is what a segment without options carries (RFC 6691).
    state.octets = max(min(sender.taken, sender.mss - len(options)), 0)
    return options, sender.buffer.pieces(0, state.octets, MAX_PAYLOAD_BUFFERS), state.octets


def take_syn_ack(connection: Connection, segment: Segment, ack: int) -> None:
    """The answer to our SYN: a cookie to keep, and what became of the data (4.2.2)."""
    state, sender, tcp = connection.fast_open, connection.sender, connection.tcp
    if state is None or state.cookie is None:
        return
    cookie, mss = segment.fast_open, connection.peer_mss
    told = state.cookie
    if cookie:
        tcp.context.count("tcp.fast_open_cookies_received")
        told = cookie
    if told:
        tcp.servers.keep(_addresses(connection), told, mss)
    if ack > sender.iss + 1:
        state.done = True
        tcp.context.count("tcp.fast_open_active")
    elif state.octets:
        repeated = sender.retransmitted_segments > 0
        state.failure = Failure.SYN_REPEATED if repeated else Failure.NOT_ACKNOWLEDGED
        tcp.context.count("tcp.fast_open_active_failed")
    if state.done or cookie:
        tcp.servers.worked(connection.key[:-2])
    elif state.octets or sender.retransmitted_segments:
        # A request that merely stayed unanswered is no failure: the server has no fast open.
        tcp.servers.failed(connection.key[:-2], tcp.context.now)


def on_timeout(connection: Connection) -> None:
    """The retransmission timer expired: the path may not bear what fast open does (4.1.3.1)."""
    state = connection.fast_open
    if state is not None and state.octets and connection.sender.timeouts == BLACK_HOLE_TIMEOUTS:
        tcp = connection.tcp
        tcp.servers.failed(connection.key[:-2], tcp.context.now)


# ---- both ---------------------------------------------------------------------------------------


def on_established(connection: Connection) -> None:
    """The handshake is done: data that may not have arrived with it goes again, at once.

    No congestion response follows: a SYN's data is left aside for many reasons.
    """
    state, sender = connection.fast_open, connection.sender
    if state is None:
        return
    state.release()
    if sender.queue and (state.octets or sender.retransmitted_segments):
        sender.resend(Reason.FAST_OPEN_AGAIN)


def on_gone(connection: Connection, *, failed: bool) -> None:
    """The connection is CLOSED; ``failed``: not by its user."""
    state, sender = connection.fast_open, connection.sender
    if state is None:
        return
    if state.release() or not failed:
        return
    if sender.snd_una == sender.iss < sender.snd_nxt and state.cookie is not None:
        tcp = connection.tcp
        tcp.servers.failed(connection.key[:-2], tcp.context.now)


def recount(listeners: Iterable[Listener], connections: Iterable[Connection]) -> None:
    """Count pending handshakes anew: a step was cut."""
    for listener in listeners:
        if listener.fast_open is not None:
            listener.fast_open.recount()
    for connection in connections:
        state = connection.fast_open
        if state is not None and state.pending is not None:
            state.pending.count += 1


def _addresses(connection: Connection) -> bytes:
    return connection.key[:-4]
