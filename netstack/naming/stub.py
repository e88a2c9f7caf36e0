"""The stub resolver: ask recursive servers, one after the other, in rounds (RFC 1034 5.3.1).

A server that answers with an error is not asked again for this name; one that is silent is,
after the others had their turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netstack.core.errors import NameServerError, TimedOut
from netstack.naming.answer import Finding, Outcome, has_soa, read_response
from netstack.naming.exchange import Query
from netstack.wire.dns_name import ROOT
from netstack.wire.dns_rdata import RecordType

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from netstack.core.address import IPAddress
    from netstack.naming.exchange import Reply
    from netstack.naming.lookup import Lookup
    from netstack.wire.dns import Message
    from netstack.wire.dns_name import Name


class StubStrategy:
    """Asks the servers configured, and believes them."""

    def __init__(self, servers: Sequence[IPAddress]) -> None:
        self._servers = tuple(dict.fromkeys(servers))

    def fetch(self, lookup: Lookup, name: Name, type: int) -> Generator[Query, Reply, Finding]:
        """Return what the first server that can tell says about a name.

        Raises: NameServerError if each refused, TimedOut if some did not answer at all.
        """
        servers = list(self._servers)
        failures: dict[IPAddress, str] = {}
        for _ in range(lookup.config.attempts):
            for server in tuple(servers):
                query = Query(server, str(server), name, type, True, over_tcp=lookup.over_tcp)
                reply = yield from lookup.ask(query)
                failures[server] = reply.failure
                if reply.message is not None:
                    finding = _judge(reply.message, name, type, lookup.config.max_cname_chain)
                    lookup.step(query, finding.describe(type))
                    if finding.outcome is not Outcome.FAILURE:
                        return finding
                    failures[server] = finding.reason
                if not reply.timed_out:
                    servers.remove(server)
        told = ", ".join([f"{server}: {reason}" for server, reason in failures.items()])
        if servers:
            raise TimedOut(f"looking up {name.plain}: no answer from name server ({told})")
        raise NameServerError(f"looking up {name.plain}: {told or 'no name server is configured'}")


def _judge(message: Message, name: Name, type: int, max_aliases: int) -> Finding:
    finding = read_response(message, name, type, ROOT, max_aliases)
    refers = any(record.type == RecordType.NS for record in message.authority)
    if (
        finding.outcome is Outcome.NO_DATA
        and not (message.recursion_available or message.authoritative or has_soa(message))
        and refers
    ):
        # RFC 1034 4.3.1: it offers no recursion and only knows whom else to ask.
        return Finding(Outcome.FAILURE, name, reason="refers elsewhere, does not recurse")
    return finding
