"""What RFC 9293 3.10.7 asks for when one segment arrives: a small model, written from the text.

Numbers are relative to both sides' SYN, in plain integers. Where RFC 5961 is stricter it is
followed; so are these choices of the stack, which the RFC leaves open or which are recorded:

- SYN with FIN opens nothing (dropped in LISTEN); text with a SYN is not kept;
- a segment without text exactly at the right edge of the window is acceptable, a RST is not;
- in SYN-RECEIVED a SYN is challenged as in the synchronized states, the known one answered again;
- TIME-WAIT ignores RST (RFC 1337) and reopens for a bare SYN with a later number (MAY-2); with
  nothing left to protect it asks no more of an ACK, and judges a RST by its number alone;
- timestamps are judged before anything else of a segment that is no RST, as RFC 7323 5.3 asks;
  what lacks one is dropped (3.2). A SYN's are not modelled: RFC 6191 looks at them first.
"""

from __future__ import annotations

from typing import NamedTuple

SYNCHRONIZED = (
    "ESTABLISHED", "FIN_WAIT_1", "FIN_WAIT_2", "CLOSE_WAIT", "CLOSING", "LAST_ACK", "TIME_WAIT",
)  # fmt: skip


class Block(NamedTuple):
    """The variables of RFC 9293 3.3.1 that matter."""

    state: str
    snd_una: int
    snd_nxt: int
    max_window: int
    rcv_nxt: int
    rcv_edge: int  # RCV.NXT + RCV.WND


class Arrival(NamedTuple):
    """The segment; ``flags`` as letters.

    ``stamp`` only where both SYNs had timestamps: "new", "old" (before TS.Recent) or "none".
    """

    flags: str
    seq: int
    ack: int
    length: int
    stamp: str = "new"


class Outcome(NamedTuple):
    """The state afterwards, the one reply as (flags, SEQ, ACK), and octets delivered."""

    state: str
    reply: tuple[str, int, int] | None = None
    delivered: int = 0


def judge(block: Block, segment: Arrival) -> Outcome:
    """Return what must come of ``segment``."""
    if block.state in ("CLOSED", "LISTEN"):
        return _no_connection(block, segment)
    if block.state == "SYN_SENT":
        return _syn_sent(block, segment)
    return _otherwise(block, segment)


def _no_connection(block: Block, segment: Arrival) -> Outcome:
    """3.10.7.1, 3.10.7.2."""
    flags = segment.flags
    state = block.state
    if "R" in flags:
        return Outcome(state)
    if "A" in flags:
        return Outcome(state, ("R", segment.ack, 0))
    if state == "CLOSED":
        end = segment.seq + segment.length + ("S" in flags) + ("F" in flags)
        return Outcome(state, ("RA", 0, end))
    if "S" in flags and "F" not in flags:
        return Outcome("SYN_RECEIVED", ("SA", 0, segment.seq + 1))
    return Outcome(state)


def _syn_sent(block: Block, segment: Arrival) -> Outcome:
    """3.10.7.3."""
    flags = segment.flags
    acknowledged = "A" in flags and block.snd_una < segment.ack <= block.snd_nxt
    if "A" in flags and not acknowledged:
        return Outcome("SYN_SENT", None if "R" in flags else ("R", segment.ack, 0))
    if "R" in flags:
        return Outcome("CLOSED" if acknowledged else "SYN_SENT")
    if "S" not in flags:
        return Outcome("SYN_SENT")
    if not acknowledged:
        return Outcome("SYN_RECEIVED", ("SA", 0, segment.seq + 1))
    end = segment.seq + 1 + segment.length + ("F" in flags)
    state = "CLOSE_WAIT" if "F" in flags else "ESTABLISHED"
    return Outcome(state, ("A", 1, end), segment.length)


def _acceptable(block: Block, segment: Arrival) -> bool:
    """Table 6."""
    length = segment.length + ("S" in segment.flags) + ("F" in segment.flags)
    if length:
        return segment.seq < block.rcv_edge and segment.seq + length > block.rcv_nxt
    edge = block.rcv_edge if "R" in segment.flags else block.rcv_edge + 1
    return block.rcv_nxt <= segment.seq < edge


def _otherwise(block: Block, segment: Arrival) -> Outcome:
    """3.10.7.4."""
    flags, state = segment.flags, block.state
    answer = Outcome(state, ("A", block.snd_nxt, block.rcv_nxt))
    opens = set(flags) & set("SARF") == {"S"} and segment.seq > block.rcv_nxt
    if state == "TIME_WAIT" and opens:
        return Outcome("SYN_RECEIVED", ("SA", 0, segment.seq + 1))
    if state == "SYN_RECEIVED" and "S" in flags and segment.seq == 0 and "R" not in flags:
        if "A" not in flags or segment.ack != block.snd_nxt:
            return Outcome(state, ("SA", 0, 1))
        # Figure 7, line 6: the SYN is known, its ACK counts.
        segment = segment._replace(flags=flags.replace("S", ""), seq=1)
        flags = segment.flags
    if state == "TIME_WAIT" and "R" in flags:
        return answer if block.rcv_nxt < segment.seq < block.rcv_edge else Outcome(state)
    if segment.stamp != "new" and "R" not in flags:  # RFC 7323 5.3 R1, 3.2
        return answer if segment.stamp == "old" else Outcome(state)
    if not _acceptable(block, segment):
        return Outcome(state) if "R" in flags else answer
    if "R" in flags:
        if segment.seq != block.rcv_nxt:
            return answer
        return Outcome("CLOSED")
    if "S" in flags:
        return answer
    if "A" not in flags:
        return Outcome(state)
    return _fifth(block, segment, answer)


def _fifth(block: Block, segment: Arrival, answer: Outcome) -> Outcome:
    """The ACK field, and what changes by it."""
    state, ack = block.state, segment.ack
    if state == "SYN_RECEIVED":
        if not block.snd_una < ack <= block.snd_nxt:
            return Outcome(state, ("R", ack, 0))
        return _seventh(block, segment, "ESTABLISHED")
    if ack > block.snd_nxt or (ack < block.snd_una - block.max_window and state != "TIME_WAIT"):
        return answer
    if ack == block.snd_nxt > block.snd_una:  # our FIN
        if state == "LAST_ACK":
            return Outcome("CLOSED")
        state = {"FIN_WAIT_1": "FIN_WAIT_2", "CLOSING": "TIME_WAIT"}.get(state, state)
    return _seventh(block, segment, state)


def _seventh(block: Block, segment: Arrival, state: str) -> Outcome:
    """Text and FIN."""
    if state not in ("ESTABLISHED", "FIN_WAIT_1", "FIN_WAIT_2"):
        return Outcome(state)
    end = min(segment.seq + segment.length, block.rcv_edge)
    in_order = segment.seq <= block.rcv_nxt
    delivered = max(end - block.rcv_nxt, 0) if in_order else 0
    rcv_nxt = block.rcv_nxt + delivered
    fin = "F" in segment.flags and segment.seq + segment.length == rcv_nxt < block.rcv_edge
    if fin and in_order:
        state = {
            "ESTABLISHED": "CLOSE_WAIT", "FIN_WAIT_1": "CLOSING", "FIN_WAIT_2": "TIME_WAIT",
        }[state]  # fmt: skip
        rcv_nxt += 1
    if segment.length or "F" in segment.flags:
        return Outcome(state, ("A", block.snd_nxt, rcv_nxt), delivered)
    return Outcome(state)
