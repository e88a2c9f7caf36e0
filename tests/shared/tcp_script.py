"""TCP scripts: what arrives, what must leave and what the application does, line by line.

The notation is described in tests/packetdrill/README.md. ``Script(text)`` parses, ``run`` plays
the lines against a fresh stack through ``tcp_peer.Peer``, in virtual time. It is strict: a segment
that leaves without a line that expects it is a failure, and so is one at another time. A failure
prints the script so far, the line with the field that differs, and what was seen instead.
"""

from __future__ import annotations

import re
from collections import deque
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tcp_options import build_options, compare_options, format_options, read_options, split_options
from tcp_peer import OURS, THEIRS, Peer, flag_bits, flag_letters

from netstack.core.errors import NetstackError
from netstack.core.seqnum import MASK, diff
from netstack.transport.tcp.state import State
from netstack.wire.ipv4 import IPv4Header
from netstack.wire.tcp import TcpHeader

PROLOGUES = Path(__file__).parents[1] / "packetdrill" / "prologues"
TOLERANCE = 0.002  # seconds: timestamps tick in milliseconds
PATIENCE = 300.0  # seconds that a ``*`` waits at most
PATTERN = bytes((i * 7 + i // 251) & 0xFF for i in range(251 * 256))
ECN = {"[noecn]": 0, "[ect1]": 1, "[ect0]": 2, "[ce]": 3}

_LINE = re.compile(r"(?P<time>\*|\+?[\d.]+(?:\.\.[\d.]+)?)\s+(?P<kind>[<>+%])\s*(?P<rest>.*)")
_SEGMENT = re.compile(
    r"(?P<ecn>\[\w+\]\s+)?(?P<flags>[A-Z?*]+)"
    r"(?:\s+(?P<seq>-?\d+):(?P<end>-?\d+)(?:\((?P<length>\d+)\))?)?"
    r"(?:\s+ack\s+(?P<ack>\S+))?(?:\s+win\s+(?P<win>\S+))?(?:\s+urg\s+(?P<urg>\d+))?"
    r"(?:\s+(?P<options><.*?>))?(?:\s+\"(?P<text>[^\"]*)\")?"
)


def pattern(offset: int, length: int) -> bytes:
    """Return what stands at ``offset`` in each direction's stream."""
    start = offset % len(PATTERN)
    repeated = PATTERN * (2 + length // len(PATTERN))
    return repeated[start : start + length]


class ScriptError(Exception):
    """The script itself can't be read."""


class Mismatch(Exception):
    """What the stack did differs from the line."""


class Line(NamedTuple):
    """One line: when, what kind, and the rest."""

    place: str  # file and line
    time: str
    kind: str
    rest: str
    text: str


class Sent(NamedTuple):
    """A packet that left, and when."""

    at: float
    packet: bytes


class Script:
    """A parsed script; ``settings`` come from its ``set`` lines."""

    def __init__(self, text: str, name: str = "script") -> None:
        self.name = name
        self.settings: dict[str, Any] = {}
        self.lines: list[Line] = []
        self._read(text, name)

    def _read(self, text: str, name: str) -> None:
        for number, raw in enumerate(text.splitlines(), 1):
            line = raw.split("#")[0].strip()
            if not line:
                continue
            word, _, rest = line.partition(" ")
            place = f"{name}:{number}"
            if word == "use":
                self._read((PROLOGUES / f"{rest}.inc").read_text(), f"{rest}.inc")
            elif word == "set":
                key, _, value = rest.partition(" ")
                self.settings[key] = _value(value)
            elif (found := _LINE.fullmatch(line)) is not None:
                self.lines.append(Line(place, found["time"], found["kind"], found["rest"], line))
            else:
                raise ScriptError(f"{place}: {line}")

    def run(self, **settings: Any) -> Run:
        """Play it; ``settings`` go before its own. Fails the test at the first difference."""
        run = Run(self, {**settings, **self.settings})
        run.play()
        return run


def _value(text: str) -> Any:
    if text in ("on", "off"):
        return text == "on"
    try:
        return int(text, 0)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text


class Run:
    """One play of a script."""

    def __init__(self, script: Script, settings: dict[str, Any]) -> None:
        self.script = script
        self.tolerance = settings.pop("tolerance", TOLERANCE)
        self.irs = settings.setdefault("irs", 5_000)
        self.peer = Peer(timestamps=settings.pop("timestamps", True), **settings)
        self.sent: deque[Sent] = deque()
        self.log: list[str] = []
        self.last = 0.0  # when the previous line happened
        self.stream = bytearray()  # what the application sent
        self.consumed = 0  # octets that the application read
        self.literal = False  # the peer's octets are not the pattern
        self.window = 65_535
        self.peer_shift = 0  # scales as offered in each side's SYN
        self.stack_shift = 0
        self.scaling = [False, False]
        self.stamps = [False, False]  # offered by the peer, by the stack
        self.ts_base: int | None = None  # of the stack's timestamps at time 0
        self.ts_last = 0

    # ---- playing ---------------------------------------------------------------------------

    def play(self) -> None:
        """Run all lines, then nothing may be left over."""
        for line in self.script.lines:
            difference = None
            try:
                self._play_line(line)
            except Mismatch as error:
                difference = f"{line.place}: {error}"
            if difference is not None:
                self._fail(difference, line)
            self.log.append(f"  {self.peer.now:9.4f}  {line.text}")
        if self.sent:
            self._fail("after the last line: something left that no line expects", None)
        assert self.peer.counter("stack.internal_error") == 0

    def _play_line(self, line: Line) -> None:
        if line.kind == ">":
            self._expect(line)
            return
        low, _ = self._bounds(line)
        self._advance(low, stop=False)
        if self.sent and line.kind != "%":
            raise Mismatch(f"no line expects what left at {self.sent[0].at:.4f}")
        self.last = self.peer.now
        if line.kind == "<":
            self._inject(line)
        elif line.kind == "+":
            self._act(line)
        else:
            self._check(line)

    def _bounds(self, line: Line) -> tuple[float, float]:
        if line.time == "*":
            return self.last, self.last + PATIENCE
        base = self.last if line.time.startswith("+") else 0.0
        low, _, high = line.time.lstrip("+").partition("..")
        if high and line.kind != ">":
            raise ScriptError(f"{line.place}: a range of time is for what leaves")
        bounds = base + float(low), base + float(high or low)
        if bounds[1] < self.peer.now - self.tolerance - 1e-9:
            raise Mismatch(f"time {bounds[1]:.4f} has passed, it is {self.peer.now:.4f}")
        return bounds

    def _poll(self) -> None:
        self.peer.poll()
        self._collect()

    def _collect(self) -> None:
        while self.peer.device.sent:
            self.sent.append(Sent(self.peer.now, self.peer.device.sent.popleft()))

    def _advance(self, end: float, *, stop: bool) -> None:
        """Let time pass to ``end``; with ``stop`` only until something leaves."""
        peer = self.peer
        while not (stop and self.sent):
            deadline = peer.stack.next_deadline()
            if deadline is None or deadline > end:
                peer.now = max(peer.now, end)
                self._poll()
                return
            peer.now = max(peer.now, deadline)
            self._poll()

    def _fail(self, message: str, line: Line | None) -> None:
        said = [message, *self.log]
        if line is not None:
            said.append(f"> {self.peer.now:9.4f}  {line.text}")
        if self.sent:
            said.append("left and not expected yet:")
        said.extend(f"  {at:9.4f}  > {self._describe(packet)}" for at, packet in self.sent)
        pytest.fail("\n".join(said), pytrace=False)

    # ---- what arrives ----------------------------------------------------------------------

    def _inject(self, line: Line) -> None:
        if line.rest.startswith("icmp "):
            words = line.rest.split()
            kind, _, code = words[1].partition("/")
            mtu = int(words[words.index("mtu") + 1]) if "mtu" in words else 0
            self.peer.inject_icmp(int(kind), int(code), self.peer.last_packet, mtu=mtu)
            self._collect()
            return
        fields = self._parse(line)
        flags = fields["flags"]
        seq = int(fields["seq"] or 0)
        data = b""
        if fields["text"] is not None:
            data, self.literal = fields["text"].encode(), True
        elif fields["seq"] is not None:
            data = pattern(seq - 1, int(fields["end"]) - seq)
        if fields["win"] is not None:
            self.window = int(fields["win"])
        window = self.window if "S" in flags else self.window >> self._shift(self.peer_shift)
        header = TcpHeader(
            self.peer.port, self.peer.stack_port, (self.irs + seq) & MASK,
            (self.peer.iss + int(fields["ack"])) & MASK if fields["ack"] else 0,
            flag_bits(flags) & 0xFF, min(window, 65_535), urgent_pointer=int(fields["urg"] or 0),
            options=self._options_of(fields["options"], flags), reserved=flag_bits(flags) >> 8,
        )  # fmt: skip
        ecn = ECN[fields["ecn"].strip()] if fields["ecn"] else 0
        self.peer.inject_segment(header, data, traffic_class=ecn)
        self._collect()

    def _parse(self, line: Line) -> dict[str, Any]:
        found = _SEGMENT.fullmatch(line.rest)
        if found is None:
            raise ScriptError(f"{line.place}: no segment: {line.rest}")
        return found.groupdict()

    def _shift(self, shift: int) -> int:
        return shift if all(self.scaling) else 0

    def _options_of(self, text: str | None, flags: str) -> bytes:
        automatic = all(self.stamps) and not set(flags) & set("SR")
        if text is None:
            items = ["mss 1460"] if "S" in flags else ["..."]
        else:
            items = split_options(text)
        if "S" in flags:
            for item in items:
                if item.startswith("wscale"):
                    self.scaling[0], self.peer_shift = True, int(item.split()[1])
                self.stamps[0] = self.stamps[0] or item.startswith("TS")
        stamp = None
        if "..." in items and automatic:
            stamp = f"TS val {1_000 + round(self.peer.now * 1000)} ecr last"
        items = ([stamp] if stamp else []) + [each for each in items if each != "..."]
        return build_options(items, self._echo, self.peer.iss)

    def _echo(self, text: str) -> int:
        if text == "last":
            return self.ts_last
        return (int(text) + self.ts_base) & MASK if self.ts_base is not None else int(text)

    # ---- what must leave -------------------------------------------------------------------

    def _expect(self, line: Line) -> None:
        low, high = self._bounds(line)
        self._advance(high + self.tolerance, stop=True)
        if not self.sent:
            raise Mismatch(f"nothing left until {high:.4f}")
        at, packet = self.sent[0]
        if not low - self.tolerance <= at <= high + self.tolerance:
            raise Mismatch(f"time: expected {low:.4f}..{high:.4f}, left at {at:.4f}")
        ip, payload = IPv4Header.parse(packet)
        header, data = TcpHeader.parse(payload)
        good = header.with_checksum(ip.source.packed, ip.destination.packed, data)
        if good.checksum != header.checksum:
            raise Mismatch("checksum is wrong")
        if header.flags & 2:
            self._learn(header)
        if line.rest != "*":
            fields = self._parse(line)
            if fields["ecn"]:
                _same("ecn", ECN[fields["ecn"].strip()], ip.traffic_class & 3)
            self._compare(fields, header, bytes(data))
        options = read_options(header.options)
        if "TS" in options and not header.flags & 4:
            self.ts_last = options["TS"][0]
        self.peer.last_packet = packet
        self.sent.popleft()
        self.last = at

    def _learn(self, header: TcpHeader) -> None:
        """Take what the stack's SYN says."""
        self.peer.iss = header.seq
        options = read_options(header.options)
        if "wscale" in options:
            self.scaling[1], self.stack_shift = True, options["wscale"]
        if "TS" in options:
            self.stamps[1] = True
            self.ts_base = (options["TS"][0] - int(self.sent[0].at * 1000)) & MASK

    def _relative(self, header: TcpHeader) -> tuple[int, int, int]:
        iss, irs = self.peer.iss, self.irs
        bare = header.flags & 20 == 4 and not header.ack  # RST of an ACK for nobody: its number
        seq = diff(header.seq, iss) if header.seq or not header.flags & 4 or bare else 0
        ack = diff(header.ack, irs & MASK) if header.flags & 16 else 0
        shift = 0 if header.flags & 2 else self._shift(self.stack_shift)
        return seq, ack, header.window << shift

    def _compare(self, fields: dict[str, Any], header: TcpHeader, data: bytes) -> None:
        seq, ack, window = self._relative(header)
        got = flag_letters(header.flags | header.reserved << 8)
        wanted = fields["flags"]
        if wanted != "*":
            optional = {wanted[i - 1] for i, letter in enumerate(wanted) if letter == "?"}
            if (set(got) ^ set(wanted.replace("?", ""))) - optional:
                raise Mismatch(f"flags: expected {wanted}, got {got}")
        if fields["seq"] is not None:
            _same("seq", int(fields["seq"]), seq)
            _same("end", int(fields["end"]), seq + len(data))
        if fields["ack"] is not None:
            _same_or_range("ack", fields["ack"], ack)
        if fields["win"] is not None:
            _same_or_range("win", fields["win"], window)
        if fields["text"] is not None:
            _same("data", fields["text"].encode(), data)
        elif data != self.stream[(first := seq - (not header.flags & 2)) : first + len(data)]:
            raise Mismatch(f"data: {seq}:{seq + len(data)} is not what the application sent")
        if fields["options"] is not None:
            compare_options(
                split_options(fields["options"]), read_options(header.options),
                self.ts_base or 0, self.irs, Mismatch,
            )  # fmt: skip

    def _describe(self, packet: bytes) -> str:
        header, data = TcpHeader.parse(IPv4Header.parse(packet)[1])
        seq, ack, window = self._relative(header)
        options = format_options(read_options(header.options), self.ts_base or 0, self.irs)
        letters = flag_letters(header.flags)
        return f"{letters} {seq}:{seq + len(data)} ack {ack} win {window} <{options}>"

    # ---- what the application does ---------------------------------------------------------

    @property
    def connection(self) -> Any:
        """The connection, as soon as there is one."""
        peer = self.peer
        if peer.connection is None:
            peer.connection = next(iter(peer.stack.tcp.connections.values()), None)
        return peer.connection

    def _act(self, line: Line) -> None:
        call, _, wanted = (part.strip() for part in line.rest.partition("="))
        name, *arguments = call.split(maxsplit=1)
        action = getattr(self, f"_do_{name}", None)
        if action is None:
            raise ScriptError(f"{line.place}: no action {name}")
        try:
            result = str(action(*arguments))
        except NetstackError as error:
            result = type(error).__name__
        self._poll()
        if wanted:
            _same("result", wanted, result)
        elif result not in ("None", "done"):
            raise Mismatch(f"result: {result}")

    def _do_listen(self, arguments: str) -> None:
        port, *backlog = map(int, arguments.split())
        self.peer.stack_port = port
        self.peer.listen(*backlog)

    def _do_cookie(self, arguments: str) -> None:
        """The peer's cookie and MSS are known from before."""
        cookie, mss = arguments.split()
        servers = self.peer.stack.tcp.servers
        servers.keep(THEIRS.packed + OURS.packed, bytes.fromhex(cookie), int(mss))

    def _do_connect(self, how: str = "") -> None:
        peer = self.peer
        fast = how == "fast"
        self.stream.clear()
        peer.connection = peer.stack.connect(("10.0.0.2", peer.port), peer.now, fast=fast)
        peer.stack_port = peer.connection.local[1]

    def _do_accept(self) -> str:
        accepted = self.peer.listener.accept()
        self.peer.connection = accepted or self.peer.connection
        return "nothing" if accepted is None else "done"

    def _do_send(self, what: str) -> str:
        if what.startswith('"'):
            data = what.strip('"').encode()
        else:
            data = pattern(len(self.stream), int(what))
        taken = self.connection.send(data, self.peer.now)
        self.stream += data[:taken]
        return "done" if taken == len(data) else str(taken)

    def _do_read(self, limit: str) -> str:
        data = self.connection.receive(int(limit), self.peer.now)
        if not data:
            return "nothing" if data is None else "end"
        if not self.literal and data != pattern(self.consumed, len(data)):
            raise Mismatch("data: what was read is not what the peer sent")
        self.consumed += len(data)
        return f'"{data.decode()}"' if self.literal else str(len(data))

    def _do_shutdown(self) -> None:
        self.connection.shutdown_write(self.peer.now)

    def _do_close(self) -> None:
        self.connection.close(self.peer.now)

    def _do_abort(self) -> None:
        self.connection.abort(self.peer.now)

    def _do_option(self, arguments: str) -> None:
        name, value = arguments.split()
        self.connection.set_option(name, _value(value))

    def _do_state(self, name: str) -> None:
        connection = self.connection
        got = connection.state if connection is not None else State.CLOSED
        _same("state", name.replace("-", "_"), got.name)

    def _check(self, line: Line) -> None:
        names = self._names()
        if not eval(line.rest, {"__builtins__": {}}, names):  # a test's own text
            values = {name: names[name] for name in re.findall(r"[a-z_]+", line.rest)
                      if name in names and not callable(names[name])}  # fmt: skip
            raise Mismatch(f"does not hold: {line.rest}, with {values}")

    def _names(self) -> dict[str, Any]:
        peer = self.peer
        names: dict[str, Any] = {
            "counter": peer.counter, "events": peer.events, "abs": abs, "round": round,
            "connections": len(peer.stack.tcp.connections),
        }  # fmt: skip
        connection = self.connection
        if connection is None:
            return names
        sender = connection.sender
        return names | {
            "cwnd": sender.congestion.cwnd, "ssthresh": sender.congestion.ssthresh,
            "mss": sender.mss, "flight": sender.flight_size, "rto": sender.rtt.timeout(),
            "srtt": sender.rtt.srtt, "snd_una": sender.snd_una - sender.iss,
            "snd_nxt": sender.snd_nxt - sender.iss, "recovering": sender.recovering,
            "received": connection.received, "connection": connection,
        }  # fmt: skip


def _same(name: str, expected: Any, got: Any) -> None:
    if expected != got:
        raise Mismatch(f"{name}: expected {expected}, got {got}")


def _same_or_range(name: str, expected: str, got: int) -> None:
    if expected == "*":
        return
    if expected.startswith("~"):
        low, _, high = expected[1:].partition("..")
        if not int(low) <= got <= int(high):
            raise Mismatch(f"{name}: expected {expected}, got {got}")
        return
    _same(name, int(expected), got)
