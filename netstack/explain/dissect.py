"""A frame taken apart: its layers, and each field's name, value and place in the octets.

Nothing here decides anything or raises: octets that are no legal header are shown as what they
are, octets, with the parser's complaint beside them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from netstack.core.address import IPAddress, format_mac
from netstack.core.errors import ParseError
from netstack.wire.arp import ArpHeader, ArpOperation
from netstack.wire.dns import PORT as DNS_PORT
from netstack.wire.dns import Message, rcode_text
from netstack.wire.ethernet import HEADER_LENGTH as ETHERNET_LENGTH
from netstack.wire.ethernet import EthernetHeader, EtherType
from netstack.wire.icmpv4 import HEADER_LENGTH as ICMP_LENGTH
from netstack.wire.icmpv4 import IcmpType, ICMPv4Header
from netstack.wire.ipv4 import IPv4Header, Protocol
from netstack.wire.tcp import HEADER_LENGTH as TCP_LENGTH
from netstack.wire.tcp import TcpFlag, TcpHeader, parse_segment
from netstack.wire.udp import HEADER_LENGTH as UDP_LENGTH
from netstack.wire.udp import UdpHeader

if TYPE_CHECKING:
    from collections.abc import Callable
    from enum import IntEnum

TLS_PORTS = frozenset((443, 8443))


class Field(NamedTuple):
    """One field of a header: its octets are ``length`` from ``offset`` on in the frame."""

    name: str
    value: str
    offset: int
    length: int


class Layer(NamedTuple):
    """One protocol's part of a frame; ``osi`` is the number of the OSI layer."""

    name: str
    osi: int
    summary: str
    fields: tuple[Field, ...]
    offset: int
    length: int


class _Cursor:
    """Collects the fields of one layer, each behind the last."""

    def __init__(self, offset: int) -> None:
        self.start = self.offset = offset
        self.fields: list[Field] = []

    def add(self, name: str, value: object, length: int) -> None:
        self.fields.append(Field(name, str(value), self.offset, length))
        self.offset += length

    def layer(self, name: str, osi: int, summary: str, length: int | None = None) -> Layer:
        octets = self.offset - self.start if length is None else length
        return Layer(name, osi, summary, tuple(self.fields), self.start, octets)


def dissect(data: bytes, medium: str = "ethernet") -> list[Layer]:
    """Return the layers of a whole frame (no FCS), outermost first.

    ``medium``: ``ethernet``, or ``ip`` for a frame that begins with its IP header.
    """
    layers: list[Layer] = []
    try:
        if medium == "ip":
            _ipv4(data, 0, layers)
        else:
            _ethernet(data, layers)
    except ParseError as error:
        start = layers[-1].offset + layers[-1].length if layers else 0
        text = f"{len(data) - start} octets that are no legal header: {error}"
        layers.append(Layer("malformed", 0, text, (), start, len(data) - start))
    return layers


def _name(kind: type[IntEnum], number: int, width: int = 0) -> str:
    text = f"0x{number:0{width}x}" if width else str(number)
    try:
        return f"{text} ({kind(number).name})"
    except ValueError:
        return text


def _ethernet(data: bytes, layers: list[Layer]) -> None:
    header, payload = EthernetHeader.parse(data)
    cursor = _Cursor(0)
    destination, source = format_mac(header.destination), format_mac(header.source)
    cursor.add("destination", destination, 6)
    cursor.add("source", source, 6)
    cursor.add("type", _name(EtherType, header.ethertype, 4), 2)
    layers.append(cursor.layer("Ethernet", 2, f"{source} -> {destination}"))
    if header.ethertype == EtherType.IPV4:
        _ipv4(data, ETHERNET_LENGTH, layers)
    elif header.ethertype == EtherType.ARP:
        _arp(data, layers)
    elif payload:
        layers.append(_octets(data, ETHERNET_LENGTH, len(data)))


def _arp(data: bytes, layers: list[Layer]) -> None:
    header, rest = ArpHeader.parse(memoryview(data)[ETHERNET_LENGTH:])
    sender, target = IPAddress(header.sender_ip), IPAddress(header.target_ip)
    cursor = _Cursor(ETHERNET_LENGTH)
    cursor.add("hardware type", "1 (Ethernet)", 2)
    cursor.add("protocol type", "0x0800 (IPV4)", 2)
    cursor.add("address lengths", "6, 4", 2)
    cursor.add("operation", _name(ArpOperation, header.operation), 2)
    cursor.add("sender MAC", format_mac(header.sender_mac), 6)
    cursor.add("sender IP", sender, 4)
    cursor.add("target MAC", format_mac(header.target_mac), 6)
    cursor.add("target IP", target, 4)
    if sender == target:
        summary = f"announces that {sender} is at {format_mac(header.sender_mac)}"
    elif header.operation == ArpOperation.REQUEST:
        summary = f"who has {target}? tell {sender}"
    else:
        summary = f"{sender} is at {format_mac(header.sender_mac)}"
    layers.append(cursor.layer("ARP", 2, summary))
    if rest:
        layers.append(_octets(data, cursor.offset, len(data), "padding", 2))


def _ipv4(data: bytes, start: int, layers: list[Layer]) -> None:
    header, payload = IPv4Header.parse(memoryview(data)[start:])
    length = header.header_length
    cursor = _Cursor(start)
    cursor.add("version, header length", f"4, {length} octets", 1)
    cursor.add("traffic class", f"0x{header.traffic_class:02x}", 1)
    cursor.add("total length", header.total_length, 2)
    cursor.add("identification", f"0x{header.identification:04x}", 2)
    flags = [
        text for text, on in (("DF", header.dont_fragment), ("MF", header.more_fragments)) if on
    ]
    cursor.add("flags, offset", f"{'|'.join(flags) or 'none'}, {header.fragment_offset}", 2)
    cursor.add("time to live", header.ttl, 1)
    cursor.add("protocol", _name(Protocol, header.protocol), 1)
    cursor.add("header checksum", f"0x{header.checksum:04x}", 2)
    cursor.add("source", header.source, 4)
    cursor.add("destination", header.destination, 4)
    if header.options:
        cursor.add("options", header.options.hex(), len(header.options))
    layers.append(cursor.layer("IPv4", 3, f"{header.source} -> {header.destination}"))
    end = start + header.total_length
    if header.fragment_offset:
        layers.append(_octets(data, start + length, end, "fragment", 4))
    elif payload:
        view = data[:end]
        reader = _TRANSPORTS.get(header.protocol)
        if reader is None:
            layers.append(_octets(data, start + length, end))
        else:
            reader(view, start + length, layers)
    if end < len(data):
        layers.append(_octets(data, end, len(data), "padding", 2))


def _icmp(data: bytes, start: int, layers: list[Layer]) -> None:
    header, payload = ICMPv4Header.parse(memoryview(data)[start:])
    cursor = _Cursor(start)
    cursor.add("type", _name(IcmpType, header.type), 1)
    cursor.add("code", header.code, 1)
    cursor.add("checksum", f"0x{header.checksum:04x}", 2)
    if header.is_error:
        cursor.add("rest", f"0x{header.rest:08x}", 4)
    else:
        cursor.add("identifier", header.identifier, 2)
        cursor.add("sequence", header.sequence, 2)
    try:
        title = IcmpType(header.type).name.lower().replace("_", " ")
    except ValueError:
        title = f"type {header.type}"
    layers.append(cursor.layer("ICMP", 3, f"{title}, code {header.code}"))
    if payload:
        name = "quoted packet" if header.is_error else "data"
        layers.append(_octets(data, start + ICMP_LENGTH, len(data), name, 3))


def _udp(data: bytes, start: int, layers: list[Layer]) -> None:
    header, payload = UdpHeader.parse(memoryview(data)[start:])
    cursor = _Cursor(start)
    cursor.add("source port", header.source_port, 2)
    cursor.add("destination port", header.destination_port, 2)
    cursor.add("length", header.length, 2)
    cursor.add("checksum", f"0x{header.checksum:04x}", 2)
    summary = f"port {header.source_port} -> {header.destination_port}"
    layers.append(cursor.layer("UDP", 4, summary))
    body = start + UDP_LENGTH
    if DNS_PORT in (header.source_port, header.destination_port):
        layers.append(_dns(bytes(payload), body))
    elif payload:
        layers.append(_octets(data, body, body + len(payload)))


def flag_text(flags: int) -> str:
    """Return ``SYN|ACK`` for TCP flags, ``none`` for none."""
    return "|".join(flag.name or "" for flag in TcpFlag if flags & flag) or "none"


def _tcp(data: bytes, start: int, layers: list[Layer]) -> None:
    header, payload = TcpHeader.parse(memoryview(data)[start:])
    length = TCP_LENGTH + len(header.options)
    cursor = _Cursor(start)
    cursor.add("source port", header.source_port, 2)
    cursor.add("destination port", header.destination_port, 2)
    cursor.add("sequence number", header.seq, 4)
    cursor.add("acknowledgment number", header.ack, 4)
    cursor.add("data offset", f"{length} octets", 1)
    cursor.add("flags", flag_text(header.flags), 1)
    cursor.add("window", header.window, 2)
    cursor.add("checksum", f"0x{header.checksum:04x}", 2)
    cursor.add("urgent pointer", header.urgent_pointer, 2)
    if header.options:
        cursor.add("options", _options(data, start, length), len(header.options))
    summary = (
        f"port {header.source_port} -> {header.destination_port}, "
        f"{flag_text(header.flags)}, {len(payload)} octets"
    )
    layers.append(cursor.layer("TCP", 4, summary))
    if payload:
        ports = {header.source_port, header.destination_port}
        layers.append(_stream(data, start + length, ports))


def _options(data: bytes, start: int, length: int) -> str:
    segment = parse_segment(data, start, length)
    found = []
    if segment.mss is not None:
        found.append(f"MSS {segment.mss}")
    if segment.window_scale is not None:
        found.append(f"window scale {segment.window_scale}")
    if segment.sack_permitted:
        found.append("SACK permitted")
    if segment.ts_val is not None:
        found.append(f"timestamps {segment.ts_val} {segment.ts_ecr}")
    return ", ".join(found) or data[start + TCP_LENGTH : start + length].hex()


def _dns(payload: bytes, start: int) -> Layer:
    cursor = _Cursor(start)
    try:
        message = Message.parse(payload)
    except ParseError as error:
        return cursor.layer("DNS", 7, f"malformed: {error}", len(payload))
    question = " ".join(f"{entry}" for entry in message.question) or "no question"
    cursor.add("id", f"0x{message.id:04x}", 2)
    flags = [
        text
        for text, on in (
            ("response", message.response), ("authoritative", message.authoritative),
            ("truncated", message.truncated), ("recursion desired", message.recursion_desired),
            ("recursion available", message.recursion_available),
        )
        if on
    ]  # fmt: skip
    cursor.add("flags", ", ".join(flags) or "query", 2)
    sections = ("answer", message.answer), ("authority", message.authority)
    for name, records in (*sections, ("additional", message.additional)):
        for record in records:
            cursor.fields.append(Field(name, str(record), start, 0))
    kind = rcode_text(message.rcode) if message.response else "query"
    return cursor.layer("DNS", 7, f"{kind}: {question}", len(payload))


def _stream(data: bytes, start: int, ports: set[int]) -> Layer:
    """Return the layer of a TCP payload; only what begins a message can be named."""
    payload = data[start:]
    line = first_line(payload)
    if line is not None and (line.startswith("HTTP/") or line.endswith(("HTTP/1.1", "HTTP/1.0"))):
        head = payload.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
        fields = tuple(
            Field(name.decode("latin-1"), value.strip().decode("latin-1"), start, 0)
            for name, _, value in (entry.partition(b":") for entry in head)
        )
        return Layer("HTTP", 7, line, fields, start, len(payload))
    if TLS_PORTS & ports:
        return Layer("TLS", 6, f"{len(payload)} octets of records", (), start, len(payload))
    return _octets(data, start, len(data))


def first_line(payload: bytes) -> str | None:
    """Return the first line of ``payload`` if it is printable ASCII, else None."""
    line, end, _ = payload[:2048].partition(b"\r\n")
    text = line.decode("latin-1")
    return text if end and text.isascii() and text.isprintable() else None


def _octets(data: bytes, start: int, end: int, name: str = "data", osi: int = 7) -> Layer:
    octets = data[start:end]
    shown = octets[:48].decode("latin-1")
    printable = shown.isascii() and shown.replace("\n", " ").replace("\r", " ").isprintable()
    sample = repr(shown) if printable else octets[:16].hex(" ")
    more = " ..." if len(octets) > (48 if printable else 16) else ""
    return Layer(name, osi, f"{len(octets)} octets: {sample}{more}", (), start, len(octets))


_TRANSPORTS: dict[int, Callable[[bytes, int, list[Layer]], None]] = {
    Protocol.ICMP: _icmp,
    Protocol.TCP: _tcp,
    Protocol.UDP: _udp,
}
