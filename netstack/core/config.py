"""Every tunable of a stack, one frozen class a layer, the RFC section beside each default.

A configuration is given at construction; socket options override it. Nothing else is read: no
global, no environment variable.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class NeighbourConfig:
    """The neighbour cache and ARP."""

    max_entries: int = 1024
    max_waiting_packets: int = 64  # per neighbour; gVisor keeps 256, RFC 1122 2.3.2.2 asks for 1
    max_waiting_total: int = 1024  # over all neighbours of an interface
    reachable_time: float = 30.0  # RFC 4861 10, REACHABLE_TIME, without the random factor
    delay_first_probe_time: float = 5.0  # RFC 4861 10
    retransmit_interval: float = 1.0  # RFC 4861 10, RETRANS_TIMER; RFC 1122 2.3.2.1: <= 1/s
    max_multicast_solicit: int = 3  # RFC 4861 10
    max_unicast_solicit: int = 3  # RFC 4861 10
    stale_lifetime: float = 1200.0  # until an unused STALE entry is forgotten
    defend_interval: float = 10.0  # RFC 5227 1.1


@dataclass(frozen=True, slots=True)
class Ipv4Config:
    """The internet layer, IPv4 and ICMPv4."""

    default_ttl: int = 64  # RFC 1122 3.2.1.7, value from the IANA registry
    forwarding: bool = False
    reply_to_broadcast_echo: bool = False  # RFC 1122 3.2.2.6 allows silence; smurf
    reassembly_timeout: float = 30.0  # RFC 791 3.2: TTL seconds upper bound; RFC 8200 4.5: 60 s
    reassembly_max_octets: int = 4 * 1024 * 1024  # all datagrams together
    reassembly_max_fragments: int = 128  # of one datagram: 65,515 octets at an MTU of 552
    reassembly_max_datagrams: int = 256
    pmtu_lifetime: float = 600.0  # RFC 1191 6.3
    pmtu_max_entries: int = 1024
    icmp_error_rate: float = 1000.0  # errors a second, RFC 1812 4.3.2.8
    icmp_error_burst: int = 50


@dataclass(frozen=True, slots=True)
class UdpConfig:
    """UDP endpoints."""

    receive_buffer: int = 212_992  # octets accounted, as Linux's rmem_default
    max_queued_errors: int = 16


@dataclass(frozen=True, slots=True)
class TcpConfig:
    """TCP connections and listeners."""

    send_buffer: int | None = None  # octets; None: as the congestion window needs
    receive_buffer: int | None = None  # octets; None: as the path needs
    send_buffer_max: int = 4 * 1024 * 1024  # octets that it grows to, as Linux
    receive_buffer_max: int = 6 * 1024 * 1024  # the window scale follows from it
    memory_limit: int = 256 * 1024 * 1024  # octets in the queues of all connections together
    window_scaling: bool = True  # RFC 7323 2
    timestamps: bool = True  # RFC 7323 3
    sack: bool = True  # RFC 2018
    ecn: str = "passive"  # RFC 3168: "off", "passive" (if the peer asks, as Linux) or "on"
    nagle: bool = True  # RFC 9293 3.7.4
    delayed_ack: float = 0.040  # seconds; RFC 9293 3.8.6.3: < 0.5
    min_rto: float = 0.200  # RFC 6298 2.4 says 1 s; Linux's 200 ms, see docs/decisions.md
    max_rto: float = 60.0  # RFC 6298 2.5
    initial_rto: float = 1.0  # RFC 6298 2.1
    msl: float = 30.0  # RFC 9293 3.4.2 says 120 s; Linux's TIME-WAIT of 60 s
    fin_wait_2_timeout: float = 60.0  # orphans only, as Linux
    r1_retransmissions: int = 3  # RFC 9293 3.8.3
    r2_timeout: float = 924.6  # seconds without progress; Linux's 15 retransmissions
    user_timeout_option: bool = False  # RFC 5482: tell TCP_USER_TIMEOUT, heed the peer's
    syn_timeout: float = 180.0  # RFC 9293 3.8.3, R2 for SYN: at least 3 minutes
    syn_ack_timeout: float = 63.0  # a half-open passive connection: 5 retransmissions, as Linux
    keepalive: bool = False  # RFC 9293 3.8.4: off by default
    keepalive_idle: float = 7200.0  # RFC 9293 3.8.4: at least 2 hours
    keepalive_interval: float = 75.0
    keepalive_probes: int = 9
    initial_window: int = 10  # segments, RFC 6928
    max_syn_received: int = 1024  # per listener, besides its backlog
    syn_cookies: bool = True  # beyond max_syn_received, RFC 4987 3.6; off: such SYNs are dropped
    fast_open: int = 0  # per listener, data taken from SYNs at a time; RFC 7413 5.1; 0: never
    max_time_wait: int = 65_536  # per host
    max_orphans: int = 8_192  # per host: closed by the application, not yet by the peer
    orphan_timeout: float = 100.0  # without progress: RFC 9293 3.8.3's least R2
    reset_rate: float = 1000.0  # resets a second and source, for segments that nobody wants
    reset_burst: int = 1000
    challenge_ack_interval: float = 0.5  # per connection, RFC 5961 7 without a global counter
    min_mss: int = 48  # octets; a peer's smaller MSS counts as this (CVE-2019-11479)
    congestion: str = "cubic"  # RFC 9438
    super_segments: bool = True  # off: one wire segment a transmission
    ephemeral_ports: tuple[int, int] = (32_768, 60_999)  # RFC 6056 3.2; Linux's range


@dataclass(frozen=True, slots=True)
class DnsConfig:
    """Name resolution."""

    attempt_timeout: float = 2.0  # seconds a server has to answer a datagram
    stream_timeout: float = 5.0  # seconds for connecting, asking and the whole answer
    attempts: int = 3  # rounds over the servers
    edns_payload: int = 1232  # octets, RFC 6891 6.2.5 and DNS Flag Day 2020
    mix_case: bool = False  # draft-vixie-dnsext-dns0x20: some servers answer in lower case
    max_mismatches: int = 16  # wrong answers to one query, then TCP; RFC 5452 9.2
    cache_entries: int = 4096
    cache_octets: int = 4 * 1024 * 1024
    max_ttl: float = 86_400.0  # RFC 8767 4
    max_negative_ttl: float = 10_800.0  # RFC 2308 5: three hours
    failure_ttl: float = 5.0  # RFC 9520 3.2: 1 to 300 s
    max_cname_chain: int = 11  # BIND max-query-restarts
    max_depth: int = 7  # BIND max-recursion-depth
    max_queries: int = 50  # for one name, BIND max-recursion-queries
    max_servers: int = 13  # of one zone that are considered, as many as the root has
    max_failed_servers: int = 5  # names of servers without an address, NXNSAttack; unbound's 5


@dataclass(frozen=True, slots=True)
class Config:
    """The whole stack."""

    arp: NeighbourConfig = field(default_factory=NeighbourConfig)
    ipv4: Ipv4Config = field(default_factory=Ipv4Config)
    udp: UdpConfig = field(default_factory=UdpConfig)
    tcp: TcpConfig = field(default_factory=TcpConfig)
    dns: DnsConfig = field(default_factory=DnsConfig)
