"""The neighbour cache: which link address a next hop has, and whether it is still there.

ARP uses it now, NDP can; the states are those of RFC 4861 7.3.2, and FAILED and PERMANENT besides.
A packet for a next hop that is not resolved yet waits (``waiting.py``); if nobody answers, it is
given up, and for a while others are at once.

Theory of operation. Entries with a link address and entries without are kept apart, so that a
scan of the link, which leaves thousands unanswered, never pushes out a neighbour in use. Both
tables are bounded, least recently used first out; static entries always stay. An address is
asked for at most once in ``retransmit_interval`` (RFC 1122 2.3.2.1): an unanswered entry that
was asked for a moment ago is therefore never evicted, and what finds no room is refused.
REACHABLE ends without a timer: the next use sees that its time is up. Every other wait is a
timer of the entry.

A live entry is not overwritten by an answer that nobody asked for: the old link address is asked
by unicast first, and only if it stays silent is the address resolved anew.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum
from functools import partial
from math import inf
from typing import TYPE_CHECKING

from netstack.core.timers import Timer
from netstack.core.trace import CacheLookup, StateChanged
from netstack.link.waiting import WaitingPackets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from netstack.core.address import IPAddress
    from netstack.core.config import NeighbourConfig
    from netstack.core.context import Context
    from netstack.device.base import Frame

NEGATIVE_HOLD_S = 3.0  # how long packets for a failed neighbour fail at once, without asking
LRU_GRANULARITY_S = 1.0  # a use moves an entry to the young end at most this often
MAX_EVICTION_STEPS = 8  # entries looked at to make room for one nobody here asked for


class NeighbourState(Enum):
    """RFC 4861 7.3.2; FAILED is RFC 7048's UNREACHABLE for a neighbour never resolved."""

    NONE = "not in the cache"
    INCOMPLETE = "asked for, not answered yet"
    REACHABLE = "answered, or confirmed by a higher layer, a short while ago"
    STALE = "known, not confirmed lately, not used"
    DELAY = "known, in use, waiting for a higher layer to confirm"
    PROBE = "known, in use, being asked by unicast"
    PERMANENT = "configured"
    FAILED = "did not answer"


class Neighbour:
    """One entry: ``mac`` is None until resolved."""

    __slots__ = (
        "address",
        "expires",
        "mac",
        "requested_at",
        "requests",
        "state",
        "timer",
        "used_at",
    )

    def __init__(self, address: IPAddress, mac: bytes | None = None) -> None:
        self.address = address
        self.state = NeighbourState.NONE
        self.mac = mac
        self.expires = inf  # a use at or after this time changes the state
        self.used_at = -inf
        self.requested_at = -inf
        self.requests = 0  # of the resolution or probing under way
        self.timer: Timer | None = None


class NeighbourCache:
    """The neighbours of one interface.

    ``solicit(address, mac)`` asks for the address, by broadcast or multicast if ``mac`` is None;
    ``transmit(mac, frame, flow)`` sends what waited. ``name`` is the protocol's ("arp"): layer
    of trace events and prefix of counters.
    """

    def __init__(
        self,
        context: Context,
        config: NeighbourConfig,
        name: str,
        *,
        solicit: Callable[[IPAddress, bytes | None], None],
        transmit: Callable[[bytes, Frame, object], object],
    ) -> None:
        self.context = context
        self.config = config
        self.name = name
        self.on_change: Callable[[], None] | None = None
        self.waiting = WaitingPackets(context, config, name)
        self._solicit = solicit
        self._transmit = transmit
        self._known: OrderedDict[bytes, Neighbour] = OrderedDict()
        self._unresolved: OrderedDict[bytes, Neighbour] = OrderedDict()
        # RFC 4861 6.3.2: uniformly between 0.5 and 1.5 of the base value.
        share = 0.5 + context.rng.child(name).random()
        self._reachable_time: float = config.reachable_time * share
        self._lifetimes = {
            NeighbourState.REACHABLE: self._reachable_time,
            NeighbourState.STALE: -inf,
            NeighbourState.FAILED: NEGATIVE_HOLD_S,
        }

    def __len__(self) -> int:
        return len(self._known) + len(self._unresolved)

    def __iter__(self) -> Iterator[Neighbour]:
        yield from self._known.values()
        yield from self._unresolved.values()

    def get(self, address: IPAddress) -> Neighbour | None:
        """Return the entry of ``address``, without counting that as a use."""
        packed = address.packed
        return self._known.get(packed) or self._unresolved.get(packed)

    # -- use ---------------------------------------------------------------------------------

    def lookup(self, address: IPAddress) -> bytes | None:
        """Return the link address to send to now, or None if it has to be resolved first."""
        entry: Neighbour | None = self._known.get(address.packed)
        if self.context.trace is not None:
            self._trace_lookup(address, hit=entry is not None)
        if entry is None:
            return None
        now = self.context.now
        if now >= entry.expires:
            # RFC 4861 7.3.3: the first packet to a stale neighbour starts the delay.
            self._enter(entry, NeighbourState.STALE)
            self._enter(entry, NeighbourState.DELAY)
        if now - entry.used_at >= LRU_GRANULARITY_S:
            entry.used_at = now
            self._known.move_to_end(address.packed)
        return entry.mac

    def resolve(self, address: IPAddress, frame: Frame, flow: object = None) -> bool:
        """Keep ``frame`` until ``address`` is resolved, and ask for it.

        For an address that just failed to answer it is given up at once. False = no room for
        another unresolved address; counted.
        """
        packed = address.packed
        entry = self._unresolved.get(packed)
        if entry is not None and entry.state is NeighbourState.FAILED:
            if self.context.now < entry.expires:
                self.waiting.give_up(address, frame)
                return True
            self._enter(entry, NeighbourState.INCOMPLETE)
        elif entry is None:
            if not self._room_for_unresolved():
                self.context.drop(f"{self.name}.cache_full", frame.segments, frame.id)
                return False
            entry = Neighbour(address)
            self._unresolved[packed] = entry
            self._enter(entry, NeighbourState.INCOMPLETE)
        self.waiting.add(address, frame, flow)
        return True

    def confirm(self, address: IPAddress) -> None:
        """Note that a higher layer saw the neighbour answer (RFC 4861 7.3.1)."""
        entry = self._known.get(address.packed)
        if entry is None or entry.state is NeighbourState.PERMANENT:
            return
        if entry.state is NeighbourState.REACHABLE:
            entry.expires = self.context.now + self._reachable_time
        else:
            self._enter(entry, NeighbourState.REACHABLE)

    # -- what the link says ------------------------------------------------------------------

    def update(
        self, address: IPAddress, mac: bytes, *, answer: bool = False, create: bool = False
    ) -> None:
        """Note that somebody claims to have ``address`` at ``mac``.

        ``answer``: it came as a reply to us, which confirms the neighbour if it was being
        asked. ``create``: make an entry of an unknown address, since it asked for ours
        (RFC 826, RFC 1122 2.3.2.1); else only known ones are updated.
        """
        packed = address.packed
        entry = self._known.get(packed)
        if entry is not None:
            if entry.mac == mac:
                if answer and entry.state is NeighbourState.PROBE and entry.requests:
                    self._enter(entry, NeighbourState.REACHABLE)
            else:
                self._contradicted(entry, mac)
            return
        entry = self._unresolved.pop(packed, None)
        if entry is not None:
            self._make_room(forced=True)
            self._resolved(entry, mac, answer and entry.state is NeighbourState.INCOMPLETE)
        elif create:
            if not self._make_room(forced=False):
                self.context.count(f"{self.name}.not_learned")
                return
            entry = self._known[packed] = Neighbour(address, mac)
            self._enter(entry, NeighbourState.STALE)

    def set_static(self, address: IPAddress, mac: bytes) -> None:
        """Fix the link address of ``address``: nothing from the link changes it."""
        self._forget(address)
        entry = self._known[address.packed] = Neighbour(address, mac)
        self._enter(entry, NeighbourState.PERMANENT)
        self._changed()
        self._send_waiting(entry)

    def remove(self, address: IPAddress) -> None:
        """Forget ``address``; packets that wait for it are given up."""
        self._forget(address)
        self.waiting.give_up_all(address)
        self._changed()

    def clear(self) -> None:
        """Forget everything, static entries too; waiting packets are given up."""
        for entry in list(self):
            self._forget(entry.address)
            self.waiting.give_up_all(entry.address)

    # -- resolution --------------------------------------------------------------------------

    def _resolved(self, entry: Neighbour, mac: bytes, confirmed: bool) -> None:
        entry.mac = mac
        self._known[entry.address.packed] = entry
        # RFC 4861 7.2.5: an answer proves that both directions work, a claim does not.
        self._enter(entry, NeighbourState.REACHABLE if confirmed else NeighbourState.STALE)
        self._send_waiting(entry)

    def _send_waiting(self, entry: Neighbour) -> None:
        for frame, flow in self.waiting.take(entry.address):
            mac = self.lookup(entry.address)
            if mac is not None:
                self._transmit(mac, frame, flow)

    def _contradicted(self, entry: Neighbour, mac: bytes) -> None:
        state = entry.state
        if state is NeighbourState.PERMANENT:
            self.context.drop(f"{self.name}.contradicts_static")
        elif state is NeighbourState.STALE or self.context.now >= entry.expires:
            entry.mac = mac
            self.context.count(f"{self.name}.link_address_changed")
            self._enter(entry, NeighbourState.STALE)
            self._changed()
        else:
            self.context.drop(f"{self.name}.contradicts_live")
            if state is not NeighbourState.PROBE:
                self._enter(entry, NeighbourState.PROBE)

    # -- states ------------------------------------------------------------------------------

    def _enter(self, entry: Neighbour, state: NeighbourState) -> None:
        old, entry.state = entry.state, state
        config, now = self.config, self.context.now
        if self.context.trace is not None and old is not state:
            self._trace_change(entry, old)
        entry.expires = inf
        if state is NeighbourState.INCOMPLETE or state is NeighbourState.PROBE:
            entry.requests = 0
            self._request_when_allowed(entry)
        elif state is NeighbourState.DELAY:
            self._arm(entry, now + config.delay_first_probe_time)
        elif state is not NeighbourState.PERMANENT and state is not NeighbourState.NONE:
            entry.expires = now + self._lifetimes[state]
            self._arm(entry, now + config.stale_lifetime)
        elif entry.timer is not None:
            self.context.timers.disarm(entry.timer)

    def _request_when_allowed(self, entry: Neighbour) -> None:
        # RFC 1122 2.3.2.1: at most one request a second, whatever the states went through.
        allowed_at = entry.requested_at + self.config.retransmit_interval
        if allowed_at > self.context.now:
            self._arm(entry, allowed_at)
        else:
            self._request(entry)

    def _request(self, entry: Neighbour) -> None:
        now = self.context.now
        entry.requests += 1
        entry.requested_at = now
        self._arm(entry, now + self.config.retransmit_interval)
        self._solicit(entry.address, entry.mac)

    def _arm(self, entry: Neighbour, deadline: float) -> None:
        if entry.timer is None:
            entry.timer = Timer(partial(self._on_timer, entry))
        # Only the outcome of a resolution wakes anybody; the rest is upkeep.
        entry.timer.housekeeping = entry.state is not NeighbourState.INCOMPLETE
        self.context.timers.arm(entry.timer, deadline)

    def _on_timer(self, entry: Neighbour, now: float) -> None:
        state, config = entry.state, self.config
        if state is NeighbourState.DELAY:
            self._enter(entry, NeighbourState.PROBE)
        elif state is NeighbourState.INCOMPLETE:
            if entry.requests < config.max_multicast_solicit:
                self._request(entry)
            else:
                self._fail(entry)
        elif state is NeighbourState.PROBE:
            if entry.requests < config.max_unicast_solicit:
                self._request(entry)
            else:
                self._lose(entry)
        else:
            self._age(entry, now)

    def _fail(self, entry: Neighbour) -> None:
        """Nobody answered: what waits is given up, and for a while nobody is asked."""
        self.context.count(f"{self.name}.failed")
        self._enter(entry, NeighbourState.FAILED)
        self.waiting.give_up_all(entry.address)

    def _lose(self, entry: Neighbour) -> None:
        """A neighbour fell silent: the next packet resolves it anew (RFC 4861 7.3.3)."""
        self.context.count(f"{self.name}.lost")
        self._forget(entry.address)
        self._changed()

    def _age(self, entry: Neighbour, now: float) -> None:
        unused_since = max(entry.used_at, entry.requested_at)
        forget_at = max(unused_since + self.config.stale_lifetime, entry.expires)
        if forget_at > now:
            self._arm(entry, forget_at)
        else:
            self._forget(entry.address)

    # -- bounds ------------------------------------------------------------------------------

    def _room_for_unresolved(self) -> bool:
        """Make room in the half of the table that unresolved addresses may take."""
        table = self._unresolved
        if len(table) < max(1, self.config.max_entries // 2):
            return True
        oldest = next(iter(table.values()))
        if oldest.requested_at + self.config.retransmit_interval > self.context.now:
            return False
        self._forget(oldest.address)
        self.waiting.give_up_all(oldest.address)
        return True

    def _make_room(self, *, forced: bool) -> bool:
        """Make room for an address with a link address; only a forced one ends a live entry."""
        table = self._known
        if len(table) < self.config.max_entries:
            return True
        steps = len(table) if forced else min(len(table), MAX_EVICTION_STEPS)
        fallback: Neighbour | None = None
        for _ in range(steps):
            packed, entry = next(iter(table.items()))
            if entry.state is NeighbourState.STALE or self.context.now >= entry.expires:
                self._evict(entry)
                return True
            if fallback is None and entry.state is not NeighbourState.PERMANENT:
                fallback = entry
            table.move_to_end(packed)
        if not forced or fallback is None:
            return forced  # all static: those are the owner's, and do not count
        self._evict(fallback)
        return True

    def _evict(self, entry: Neighbour) -> None:
        self.context.count(f"{self.name}.evicted")
        self._forget(entry.address)

    def _forget(self, address: IPAddress) -> None:
        packed = address.packed
        entry = self._known.pop(packed, None) or self._unresolved.pop(packed, None)
        if entry is not None:
            self._enter(entry, NeighbourState.NONE)

    def _changed(self) -> None:
        if self.on_change is not None:
            self.on_change()

    # -- trace -------------------------------------------------------------------------------

    def _trace_lookup(self, address: IPAddress, *, hit: bool) -> None:
        context = self.context
        if context.trace is not None:
            name, key = context.name, str(address)
            context.trace.emit(CacheLookup(context.now, name, self.name, "neighbour", key, hit))

    def _trace_change(self, entry: Neighbour, old: NeighbourState) -> None:
        context, state = self.context, entry.state
        if context.trace is not None:
            subject = f"neighbour {entry.address}"
            context.trace.emit(
                StateChanged(context.now, context.name, self.name, subject, old.name, state.name)
            )
