"""The resolver of a host: questions in, resolutions out; no I/O, no clock.

``Resolver.start`` returns a ``Resolution``, which a driver keeps going:

1. ``next_action(now)`` hands out what to send, each action once: a ``SendDatagram`` goes from a
   new datagram endpoint on a fresh random port, connected to the server; an ``OpenStream``
   over a new TCP connection. An action supersedes the one before, whose endpoint is closed.
   None: nothing to do but wait.
2. What arrives goes to ``receive_datagram`` or ``receive_stream`` (``b""`` at the end of the
   stream); an endpoint that fails (ICMP error, refused, reset) to ``handle_failure``.
3. ``handle_timers(now)`` at ``next_deadline()``.
4. After each of these: ``done``? then ``result()``; else ``next_action`` again.

Identical questions in flight share one Resolution (RFC 5452 5: many equal queries make guessing
easy). Whoever performs its actions does so for all; if that party leaves, it calls ``abandon``,
and the action is handed out anew to whoever asks next. Each party leaves by ``release``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netstack.core.errors import (
    LocalProtocolError,
    NameNotFound,
    NameServerError,
    NetstackError,
    TimedOut,
)
from netstack.naming.answer import Answer, Outcome
from netstack.naming.cache import Cache
from netstack.naming.exchange import Action, Exchange
from netstack.naming.hosts import HostsTable
from netstack.naming.iterative import IterativeStrategy
from netstack.naming.lookup import Lookup, NoData, NoSuchName, Strategy, resolve
from netstack.naming.stub import StubStrategy
from netstack.wire.dns_name import Name, host_name
from netstack.wire.dns_rdata import RecordType, type_number, type_text

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    from netstack.core.address import IPAddress
    from netstack.core.context import Context
    from netstack.core.rng import Rng
    from netstack.naming.exchange import Query, Reply
    from netstack.wire.dns import Message

# Pseudo-types, and queries that are no lookups: RFC 6895 3.1.
_NO_QUESTIONS = frozenset((0, RecordType.OPT, *range(128, 255)))

_OUTCOMES: dict[type[NetstackError], Outcome] = {
    NoSuchName: Outcome.NAME_ERROR,
    NoData: Outcome.NO_DATA,
}


class Resolution:
    """One name being resolved; see the module's description for how to drive it."""

    def __init__(
        self,
        lookup: Lookup,
        steps: Generator[Query, Reply, Answer],
        rng: Rng,
        on_done: Callable[[Resolution], None],
    ) -> None:
        self._lookup = lookup
        self._steps = steps
        self._rng = rng
        self._on_done = on_done
        self._exchange: Exchange | None = None
        self._answer: Answer | None = None
        self._error: tuple[type[NetstackError], str] | None = None
        self.waiters = 1
        """How many parties wait for the result; ``Resolver.start`` adds one."""
        self._advance(None)

    @property
    def done(self) -> bool:
        """Whether ``result`` is there."""
        return self._answer is not None or self._error is not None

    @property
    def outcome(self) -> Outcome | None:
        """What became of it: ANSWER, NAME_ERROR, NO_DATA or FAILURE; None until done."""
        if self._answer is not None:
            return Outcome.ANSWER
        if self._error is None:
            return None
        return _OUTCOMES.get(self._error[0], Outcome.FAILURE)

    @property
    def response(self) -> Message | None:
        """The last message that a server sent and that was accepted, if any."""
        return self._lookup.response

    def result(self) -> Answer:
        """Return the answer.

        Raises: NameNotFound (NoSuchName, NoData), NameServerError, TimedOut;
        LocalProtocolError before it is done.
        """
        if self._error is not None:
            kind, message = self._error
            raise kind(message)
        if self._answer is None:
            raise LocalProtocolError("the resolution is not done")
        return self._answer

    def next_action(self, now: float) -> Action | None:
        """Return what to send now, once; None while there is only waiting."""
        self._see(now)
        if self._exchange is None:
            return None
        action, self._exchange.action = self._exchange.action, None
        return action

    def next_deadline(self) -> float | None:
        """Return when ``handle_timers`` is due."""
        return None if self._exchange is None else self._exchange.deadline

    def receive_datagram(self, server: IPAddress, port: int, data: bytes, now: float) -> None:
        """Take a datagram that came to the endpoint of the last SendDatagram."""
        self._see(now)
        if self._exchange is not None:
            self._exchange.receive_datagram(server, port, data, now)
            self._settle()

    def receive_stream(self, data: bytes, now: float) -> None:
        """Take octets from the connection of the last OpenStream; ``b""`` at its end."""
        self._see(now)
        if self._exchange is not None:
            self._exchange.receive_stream(data, now)
            self._settle()

    def handle_failure(self, reason: str, now: float) -> None:
        """Take note that the last action failed: refused, unreachable, reset."""
        self._see(now)
        if self._exchange is not None:
            self._exchange.fail(reason)
            self._settle()

    def handle_timers(self, now: float) -> None:
        """Take note of the time."""
        self._see(now)
        if self._exchange is not None:
            self._exchange.handle_timers(now)
            self._settle()

    def abandon(self, now: float) -> None:
        """Take note that whoever performed the last action stopped: it is to be done anew."""
        self._see(now)
        if self._exchange is not None:
            self._exchange.restart(now)

    def cancel(self) -> None:
        """End without a result."""
        if not self.done:
            self._steps.close()
            self._finish(None, (TimedOut, "the lookup was given up"))

    def _see(self, now: float) -> None:
        self._lookup.now = max(self._lookup.now, now)

    def _settle(self) -> None:
        if self._exchange is not None and self._exchange.reply is not None:
            self._advance(self._exchange.reply)

    def _advance(self, reply: Reply | None) -> None:
        """Let the strategy go on until its next query or its end."""
        try:
            # A generator that has not begun takes None, and only that.
            query = next(self._steps) if reply is None else self._steps.send(reply)
        except StopIteration as stop:
            self._finish(stop.value, None)
        except NetstackError as error:
            self._finish(None, (type(error), str(error)))
        else:
            lookup = self._lookup
            self._exchange = Exchange(query, lookup.context, self._rng, lookup.now)

    def _finish(
        self, answer: Answer | None, error: tuple[type[NetstackError], str] | None
    ) -> None:
        self._exchange = None
        self._answer = answer
        self._error = error
        self._on_done(self)


class Resolver:
    """Answers questions from the hosts table, the cache and name servers.

    With ``servers`` it is a stub; with ``root_hints``, pairs of a root server's name and
    address, it finds its own way from the root. It belongs to one stack.
    """

    def __init__(
        self,
        context: Context,
        servers: Sequence[IPAddress] = (),
        *,
        root_hints: Iterable[tuple[str, IPAddress]] = (),
        hosts: HostsTable | None = None,
    ) -> None:
        self.context = context
        self.cache = Cache(context.config.dns)
        self.hosts = HostsTable() if hosts is None else hosts
        hints = [(Name.from_text(f"{name.rstrip('.')}."), address) for name, address in root_hints]
        self._strategy: Strategy = IterativeStrategy(hints) if hints else StubStrategy(servers)
        self._rng = context.rng.child("dns")
        self._in_flight: dict[tuple[Name, int, bool], Resolution] = {}

    def start(self, name: str, type: str, now: float, *, over_tcp: bool = False) -> Resolution:
        """Return the resolution of a question: a new one, or that in flight already.

        It may be done at once. ``over_tcp`` asks servers over TCP from the start.
        Raises: ValueError for what cannot be asked: see ``host_name``; a type that is none.
        """
        question = host_name(name)
        number = type_number(type)
        if number in _NO_QUESTIONS:
            raise ValueError(f"{type_text(number)} records cannot be looked up")
        key = (question, number, over_tcp)
        resolution = self._in_flight.get(key)
        if resolution is not None:
            resolution.waiters += 1
            self.context.count("dns.coalesced")
            return resolution
        lookup = Lookup(self.context, self.cache, now, over_tcp=over_tcp)

        def finished(_: Resolution) -> None:
            self._in_flight.pop(key, None)

        resolution = Resolution(lookup, self._steps(lookup, question, number), self._rng, finished)
        if not resolution.done:
            self._in_flight[key] = resolution
        return resolution

    def release(self, resolution: Resolution) -> None:
        """Leave: one party waits no longer. Without any, an unfinished resolution ends."""
        resolution.waiters -= 1
        if resolution.waiters <= 0:
            resolution.cancel()

    def _steps(self, lookup: Lookup, name: Name, type: int) -> Generator[Query, Reply, Answer]:
        records = self.hosts.lookup(name, type)
        if records is not None:
            if not records:
                raise NoData(f"{name.plain} has no {type_text(type)} record")
            return Answer(name, type, name, records, cached=True)
        try:
            return (yield from resolve(lookup, self._strategy, name, type))
        except NameNotFound:
            raise
        except (NameServerError, TimedOut):
            if lookup.queries:
                self.cache.store_failure(name, type, lookup.now)
            raise
