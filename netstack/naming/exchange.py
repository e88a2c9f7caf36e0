"""One query to one server: over UDP with EDNS, over TCP if need be (RFC 1035 4.2, RFC 7766).

What comes back counts only if it comes from the server asked, with the id and the question of
the query (RFC 5452 9). Anything else is dropped and counted, and after too many of such answers
somebody is guessing: the query goes over TCP, where guessing is of no use. A truncated answer
is thrown away and asked for over TCP (RFC 2181 9). A server that stumbles over EDNS is asked
once more without it (RFC 6891 7).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from netstack.core.errors import ParseError
from netstack.wire.dns import (
    PORT,
    Edns,
    Message,
    MessageReader,
    Opcode,
    Question,
    Rcode,
    frame_message,
)
from netstack.wire.dns_name import Name

if TYPE_CHECKING:
    from netstack.core.address import IPAddress
    from netstack.core.context import Context
    from netstack.core.rng import Rng

_NO_EDNS = (Rcode.FORMERR, Rcode.NOTIMP, Rcode.BADVERS)


class SendDatagram(NamedTuple):
    """Send ``message`` from a fresh random port; answers count until ``timeout_at``."""

    server: IPAddress
    port: int
    message: bytes
    timeout_at: float


class OpenStream(NamedTuple):
    """Connect, write ``message`` (its length is in front already), and pass on what comes."""

    server: IPAddress
    port: int
    message: bytes
    timeout_at: float


Action = SendDatagram | OpenStream


class Query(NamedTuple):
    """Whom to ask what; ``label`` is the server as a narrative shows it."""

    server: IPAddress
    label: str
    name: Name
    type: int
    recursion_desired: bool
    over_tcp: bool = False


class Reply(NamedTuple):
    """The server's message, or why there is none."""

    message: Message | None
    failure: str = ""
    timed_out: bool = False


class Exchange:
    """The state of one query; ``reply`` is set when it is over."""

    def __init__(self, query: Query, context: Context, rng: Rng, now: float) -> None:
        self.query = query
        self._context = context
        self._config = context.config.dns
        self._rng = rng
        self._mismatches = 0
        self._edns = True
        self._stream: MessageReader | None = None
        self.reply: Reply | None = None
        self.action: Action | None = None
        self._start(now, stream=query.over_tcp)

    def _start(self, now: float, *, stream: bool) -> None:
        """Ask (again), with a fresh id, and over a fresh endpoint: RFC 5452 9.2."""
        query = self.query
        self._question = Question(self._spelling(query.name), query.type)
        self._id = self._rng.getrandbits(16)
        message = Message(
            self._id,
            recursion_desired=query.recursion_desired,
            question=(self._question,),
            edns=Edns(self._config.edns_payload) if self._edns else None,
        ).build()
        if stream:
            self._stream = MessageReader()
            self.deadline = now + self._config.stream_timeout
            self.action = OpenStream(query.server, PORT, frame_message(message), self.deadline)
            self._context.count("dns.stream_queries")
        else:
            self._stream = None
            self.deadline = now + self._config.attempt_timeout
            self.action = SendDatagram(query.server, PORT, message, self.deadline)
            self._context.count("dns.queries")

    def restart(self, now: float) -> None:
        """Ask again in the same way: whoever was to perform the action is gone."""
        self._start(now, stream=self._stream is not None)

    def _spelling(self, name: Name) -> Name:
        """Return the name in random letter case if that is asked for (0x20)."""
        if not self._config.mix_case:
            return name
        return Name(
            tuple(
                [
                    bytes([octet ^ 0x20 if self._flips(octet) else octet for octet in label])
                    for label in name.labels
                ]
            )
        )

    def _flips(self, octet: int) -> bool:
        return bytes((octet,)).isalpha() and self._rng.getrandbits(1) == 1

    def receive_datagram(self, server: IPAddress, port: int, data: bytes, now: float) -> None:
        """Take a datagram that reached the query's port."""
        if self.reply is not None or self._stream is not None:
            self._context.drop("dns.late_response")
            return
        if server != self.query.server or port != PORT:
            self._context.drop("dns.wrong_server")
            return
        message = self._accept(data)
        if message is None:
            if self._mismatches >= self._config.max_mismatches:
                self._context.count("dns.spoofing_suspected")
                self._start(now, stream=True)
        elif message.truncated:
            self._start(now, stream=True)
        else:
            self._take(message, now)

    def receive_stream(self, data: bytes, now: float) -> None:
        """Take octets of the stream, ``b""`` at its end."""
        if self.reply is not None or self._stream is None:
            self._context.drop("dns.late_response")
            return
        if not data:
            self.fail("the server closed the stream")
            return
        for octets in self._stream.receive(data):
            message = self._accept(octets)
            if message is None:
                self.fail("a wrong answer over TCP")
            elif message.truncated:
                self.fail("truncated even over TCP")
            else:
                self._take(message, now)
            # One answer was asked for; what follows it is not.
            return

    def _accept(self, data: bytes) -> Message | None:
        """Return the message if it answers the query; drop and count it otherwise."""
        try:
            message = Message.parse(data)
        except ParseError:
            self._context.drop("dns.malformed_response")
        else:
            if self._answers(message):
                return message
            self._context.drop("dns.mismatched_response")
        self._mismatches += 1
        return None

    def _answers(self, message: Message) -> bool:
        if message.id != self._id or not message.response or message.opcode != Opcode.QUERY:
            return False
        if not message.question:
            # A server that could not read the question cannot repeat it.
            return message.rcode == Rcode.FORMERR
        if message.question != (self._question,):
            return False
        same = message.question[0].name.labels == self._question.name.labels
        return same or not self._config.mix_case

    def _take(self, message: Message, now: float) -> None:
        if self._edns and message.rcode in _NO_EDNS:
            self._edns = False
            self._start(now, stream=self._stream is not None)
        else:
            self.reply = Reply(message)
            self.action = None

    def fail(self, reason: str) -> None:
        """End without an answer."""
        self.reply = Reply(None, reason)
        self.action = None

    def handle_timers(self, now: float) -> None:
        """End if the server's time is up."""
        if self.reply is None and now >= self.deadline:
            self._context.count("dns.timeouts")
            self.reply = Reply(None, "timeout", timed_out=True)
            self.action = None
