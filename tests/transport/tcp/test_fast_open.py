"""TCP Fast Open (RFC 7413): cookies, bounds, and what an attacker gets for his trouble."""

import gc

import pytest
from tcp_peer import flag_letters

from netstack.core.address import parse_address
from netstack.core.rng import Rng
from netstack.transport.tcp.fast_open import (
    FIRST_PAUSE,
    KEY_LIFETIME,
    MAX_PAUSE,
    MAX_SERVERS,
    Cookies,
    Pending,
    Servers,
)
from netstack.wire.ipv4 import IPv4Header
from netstack.wire.tcp import (
    RST,
    SYN,
    TcpHeader,
    build_fast_open,
    build_syn_options,
    build_timestamps,
)

COOKIE = "aabbccddeeff0011"
GOOD = build_syn_options(1460, None, None) + build_fast_open(bytes.fromhex(COOKIE))
OURS = parse_address("10.0.0.1")
A, B, C = (parse_address(f"10.0.0.{n}").packed for n in (1, 2, 3))


class Others:
    """Segments from any address, also one that does not exist."""

    def __init__(self, peer):
        self.peer = peer

    def inject(self, source, port, seq, flags, *, ack=0, data=b"", options=b""):
        header = TcpHeader(port, 80, seq, ack, flags, 65_535, options=options)
        header = header.with_checksum(source.packed, OURS.packed, data)
        segment = header.build() + data
        packet = IPv4Header(
            source=source, destination=OURS, protocol=6, total_length=20 + len(segment)
        ).with_checksum()
        self.peer.stack.receive(self.peer.device, [packet.build() + segment], self.peer.now)
        self.peer.poll()

    def answers(self):
        """Take what left, as (destination, header, data)."""
        taken = []
        while self.peer.device.sent:
            ip, payload = IPv4Header.parse(self.peer.device.sent.popleft())
            taken.append((ip.destination, *TcpHeader.parse(payload)))
        return taken


@pytest.fixture
def server(make_peer):
    def make(limit=5, cookie=COOKIE, **settings):
        return make_peer(fast_open=limit, cookie=cookie, **settings).listen()

    return make


def early(peer, data=b"question"):
    """Open early, and accept."""
    peer.inject("S", seq=0, data=data, options=GOOD)
    peer.expect("SA", seq=0, ack=1 + len(data))
    peer.connection = peer.listener.accept()
    return peer.connection


# ---- cookies ------------------------------------------------------------------------------------


def test_cookie_is_of_both_addresses_and_of_this_host():
    cookies = Cookies(Rng(1))
    cookie = cookies.make(A, B, 0.0)
    assert cookies.check(cookie, A, B, 5.0) == 0
    assert cookies.check(cookie, C, B, 5.0) is None
    assert cookies.check(cookie, A, C, 5.0) is None
    assert Cookies(Rng(2)).check(cookie, A, B, 5.0) is None
    assert cookies.check(cookie[:4], A, B, 5.0) is None
    assert cookies.check(cookie + cookie, A, B, 5.0) is None


def test_key_before_is_good_for_one_more_period():
    cookies = Cookies(Rng(1))
    cookie = cookies.make(A, B, KEY_LIFETIME - 1.0)
    assert cookies.check(cookie, A, B, KEY_LIFETIME - 1.0) == 0
    assert cookies.check(cookie, A, B, KEY_LIFETIME + 1.0) == 1
    assert cookies.check(cookie, A, B, 2 * KEY_LIFETIME - 1.0) == 1
    assert cookies.check(cookie, A, B, 2 * KEY_LIFETIME + 1.0) is None


def test_none_of_many_guesses_is_good(server):
    peer = server(cookie="")
    others = Others(peer)
    rng = Rng(7)
    for number in range(500):
        guess = build_syn_options(1460, None, None) + build_fast_open(rng.octets(8))
        others.inject(
            parse_address("10.0.0.9"), 1000 + number, 1, SYN, data=b"evil", options=guess
        )
    assert peer.counter("tcp.fast_open_bad_cookies") == 500
    assert peer.counter("tcp.fast_open_passive") == 0
    assert all(header.ack == 2 for _, header, _ in others.answers())
    assert peer.listener.accept() is None


def test_cookie_of_another_address_is_none(server):
    peer = server(cookie="")
    others = Others(peer)
    mine, victim = parse_address("10.0.0.8"), parse_address("10.0.0.9")
    ask = build_syn_options(1460, None, None) + build_fast_open(b"")
    others.inject(mine, 1000, 1, SYN, options=ask)
    stolen = others.answers()[0][1].options[-8:]
    show = build_syn_options(1460, None, None) + build_fast_open(stolen)
    others.inject(victim, 1000, 1, SYN, data=b"evil", options=show)
    assert others.answers()[0][1].ack == 2
    others.inject(mine, 1001, 1, SYN, data=b"fine", options=show)
    assert others.answers()[0][1].ack == 6


# ---- a server's bounds --------------------------------------------------------------------------


def test_pending_requests_are_bounded_and_resets_count_for_a_minute():
    pending = Pending(2)
    pending.count = 2
    assert not pending.has_room(0.0)
    pending.release()
    assert pending.has_room(0.0)
    pending.count += 1
    pending.penalize(1.0)
    assert not pending.has_room(60.9)
    assert pending.has_room(61.0)


def test_flood_with_good_cookies_gets_no_further_than_the_limit(server):
    """Spoofed sources: each SYN has a cookie that is good (RFC 7413 5.1)."""
    peer = server(limit=5)
    others = Others(peer)
    for number in range(300):
        source = parse_address(f"10.0.0.{10 + number % 200}")
        others.inject(source, 1000 + number, 1, SYN, data=b"x" * 1400, options=GOOD)
    assert peer.listener.waiting == 5
    assert peer.counter("tcp.fast_open_refused") == 295
    taken = [header for _, header, _ in others.answers() if header.ack == 1402]
    assert len(taken) == 5
    peer.advance(100)  # nobody answered
    assert not peer.stack.tcp.connections
    assert peer.listener.fast_open.count == 0
    assert peer.stack.tcp.memory.used == 0


def test_resets_by_the_owners_of_spoofed_addresses_make_no_room(server):
    peer = server(limit=5)
    others = Others(peer)
    for number in range(50):
        source = parse_address(f"10.0.0.{10 + number}")
        others.inject(source, 1000, 1, SYN, data=b"x", options=GOOD)
        ack = others.answers()[0][1].ack
        others.inject(source, 1000, ack, RST)
    assert peer.counter("tcp.fast_open_passive") == 5
    assert peer.listener.waiting == 0


def test_established_ones_make_room(server):
    peer = server(limit=1)
    early(peer)
    assert peer.listener.fast_open.count == 1
    peer.inject("A", seq=9, ack=1)
    assert peer.state == "ESTABLISHED"
    assert peer.listener.fast_open.count == 0


def test_no_more_than_an_initial_window_goes_to_who_never_answered(server):
    peer = server()
    connection = early(peer)
    connection.send(bytes(100_000), peer.now)
    peer.advance(100)
    sent = peer.segments()
    assert sum(len(seen.data) for seen in sent) <= 10 * 1460
    again = [seen for seen in sent if "S" in seen.flags]
    assert len(again) == 5
    assert all(seen.ack == 9 and not seen.data for seen in again)
    assert peer.state == "CLOSED"
    assert peer.listener.fast_open.count == 0


def test_syn_cookies_leave_no_room_for_fast_open(server):
    peer = server(max_syn_received=0)
    peer.inject("S", seq=0, data=b"question", options=GOOD)
    seen = peer.expect("SA", seq=0, ack=1)
    assert build_fast_open(bytes.fromhex(COOKIE)) not in seen.header.options
    assert peer.counter("tcp.syn_cookies_sent") == 1
    assert not peer.stack.tcp.connections


def test_host_short_of_memory_takes_nothing_on_credit(server):
    peer = server()
    peer.stack.tcp.memory.tight = True
    peer.inject("S", seq=0, data=b"question", options=GOOD)
    peer.expect("SA", seq=0, ack=1)
    assert peer.counter("tcp.fast_open_refused") == 1


def test_data_of_syns_counts_as_held(server):
    peer = server()
    early(peer, b"x" * 1000)
    assert peer.stack.tcp.memory.used >= 1000
    peer.connection.receive(1000, peer.now)
    assert peer.stack.tcp.memory.used < 1000


def test_full_accept_queue_drops_the_syn_and_keeps_who_is_in_it(make_peer):
    peer = make_peer(fast_open=5, cookie=COOKIE).listen(backlog=1)
    peer.inject("S", seq=0, data=b"question", options=GOOD)
    peer.expect("SA", seq=0, ack=9)
    Others(peer).inject(parse_address("10.0.0.9"), 1000, 1, SYN, data=b"x", options=GOOD)
    peer.expect_nothing()
    assert peer.counter("tcp.listen_overflow") == 1
    peer.inject("A", seq=9, ack=1)
    assert peer.counter("tcp.accept_queue_full") == 0
    assert peer.listener.accept().state.name == "ESTABLISHED"
    assert peer.listener.accept() is None


def test_closing_the_listener_resets_who_was_not_accepted(server):
    peer = server()
    peer.inject("S", seq=0, data=b"question", options=GOOD)
    peer.expect("SA", seq=0, ack=9)
    peer.listener.close(peer.now)
    peer.poll()
    peer.expect("RA", seq=1, ack=9)
    assert peer.listener.fast_open.count == 0
    assert not peer.stack.tcp.connections


def test_listener_says_itself_what_the_host_does_not(make_peer):
    peer = make_peer(cookie=COOKIE).listen()
    assert peer.listener.fast_open is None
    peer.listener.set_fast_open(3)
    early(peer)
    peer.listener.set_fast_open(0)
    Others(peer).inject(parse_address("10.0.0.9"), 1000, 1, SYN, data=b"x", options=GOOD)
    peer.expect("SA", ack=(2 - peer.irs) & 0xFFFFFFFF)


def test_cookie_without_data_opens_early_too(server):
    peer = server()
    connection = early(peer, b"")
    connection.send(b"welcome", peer.now)
    peer.poll()
    peer.expect("PA", seq=1, ack=1, data=b"welcome")
    assert not connection.info().fast_open


def test_with_timestamps(server):
    peer = server(timestamps=True)
    stamped = build_syn_options(1460, None, (peer.ts_val, 0))
    peer.inject(
        "S", seq=0, data=b"question", options=stamped + build_fast_open(bytes.fromhex(COOKIE))
    )
    peer.expect("SA", seq=0, ack=9)
    connection = peer.listener.accept()
    peer.ts_val += 100
    peer.inject("A", seq=9, ack=1, options=build_timestamps(peer.ts_val, peer.ts_ecr))
    assert connection.state.name == "ESTABLISHED"
    assert connection.ts_recent == peer.ts_val


def test_no_window_update_goes_before_the_handshake_is_done(server):
    peer = server()
    connection = early(peer, b"x" * 1400)
    connection.receive(10_000, peer.now)
    peer.advance(0.5)
    peer.expect_nothing()


def test_second_syn_with_other_data_changes_nothing(server):
    peer = server()
    connection = early(peer)
    peer.inject("S", seq=0, data=b"QUESTION and more", options=GOOD)
    peer.expect("SA", seq=0, ack=9)
    assert connection.receive(100, peer.now) == b"question"
    assert peer.listener.accept() is None


def test_copy_of_a_syn_after_the_connection_opens_another(server):
    """RFC 7413 2.1, 6.1: its data is delivered at least once, not at most once."""
    peer = server()
    connection = early(peer)
    peer.inject("R", seq=9)
    assert connection.state.name == "CLOSED"
    again = early(peer)
    assert again.receive(100, peer.now) == b"question"


def test_application_gone_before_the_handshake_is_done(server):
    peer = server()
    connection = early(peer)
    connection.close(peer.now)  # with the question unread
    peer.poll()
    peer.expect("RA", seq=1, ack=9)
    assert peer.listener.fast_open.count == 0


def test_ordinary_connections_keep_nothing(server):
    peer = server()
    peer.inject("S", seq=0, options=build_syn_options(1460, None, None) + build_fast_open(b""))
    peer.expect("SA", seq=0, ack=1)
    peer.inject("A", seq=1, ack=1)
    assert peer.listener.accept().fast_open is None


# ---- what a client remembers --------------------------------------------------------------------


def test_servers_that_were_not_asked_for_longest_make_way():
    servers = Servers()
    for number in range(MAX_SERVERS + 10):
        servers.keep(number.to_bytes(8, "big"), b"cook", 1460)
        servers.failed(number.to_bytes(10, "big"), 0.0)
        assert servers.get(bytes(8)) is not None  # asked for all the time
    assert len(servers) == 2 * MAX_SERVERS
    assert servers.get((1).to_bytes(8, "big")) is None


def test_pauses_double_up_to_a_day_and_end_with_success():
    servers = Servers()
    now, pause = 0.0, FIRST_PAUSE
    for _ in range(20):
        servers.failed(b"service", now)
        assert servers.paused(b"service", now + pause - 1)
        assert not servers.paused(b"service", now + pause)
        now += pause
        pause = min(2 * pause, MAX_PAUSE)
    assert pause == MAX_PAUSE
    servers.worked(b"service")
    servers.failed(b"service", now)
    assert not servers.paused(b"service", now + FIRST_PAUSE)
    assert not servers.paused(b"another", now)


def client(peer, cookie="0102030405060708", mss=1460):
    """Open with a cookie that is known; nothing leaves yet."""
    peer.stack.tcp.servers.keep(B + A, bytes.fromhex(cookie), mss)
    peer.connection = peer.stack.connect(("10.0.0.2", peer.port), peer.now, fast=True)
    peer.stack_port = peer.connection.local[1]
    peer.poll()
    peer.expect_nothing()
    return peer.connection


def test_data_in_syn_fits_the_path(make_peer):
    peer = make_peer(mtu=600)
    client(peer).send(bytes(3000), peer.now)
    peer.poll()
    seen = peer.expect("S", seq=0)
    assert 20 + 20 + len(seen.header.options) + len(seen.data) == 600


def test_cookie_that_does_not_fit_is_left_out(make_peer):
    peer = make_peer(timestamps=True, user_timeout_option=True)
    connection = client(peer, "01" * 16)
    connection.set_option("user_timeout", 30)
    connection.send(b"question", peer.now)
    peer.poll()
    seen = peer.expect("S", seq=0, data=b"")
    assert b"\x01" * 16 not in seen.header.options
    peer.inject("SA", seq=0, ack=1)
    peer.expect("PA", seq=1, ack=1, data=b"question")


def test_held_syn_needs_no_timer_and_no_goodbye(make_peer):
    peer = make_peer()
    connection = client(peer)
    peer.advance(1000)
    connection.close(peer.now)
    peer.advance(1)
    peer.expect_nothing()
    assert not peer.stack.tcp.connections


def test_who_reads_lets_the_syn_go(make_peer):
    peer = make_peer()
    connection = client(peer)
    assert connection.receive(100, peer.now) is None
    peer.poll()
    peer.expect("S", seq=0, data=b"")


def test_new_cookie_replaces_the_old(make_peer):
    peer = make_peer()
    client(peer).send(b"question", peer.now)
    peer.poll()
    peer.expect("S", seq=0, data=b"question")
    fresh = bytes.fromhex("1112131415161718")
    options = build_syn_options(1300, None, None) + build_fast_open(fresh)
    peer.inject("SA", seq=0, ack=1, options=options)
    peer.expect("PA", seq=1, ack=1, data=b"question")
    assert peer.stack.tcp.servers.get(B + A) == (fresh, 1300)
    assert not peer.stack.tcp.servers.paused(peer.connection.key[:-2], peer.now)


def test_cookie_nobody_asked_for_is_ignored(make_peer):
    peer = make_peer()
    peer.syn_sent()
    options = build_syn_options(1460, None, None) + build_fast_open(bytes(8))
    peer.inject("SA", seq=0, ack=1, options=options)
    assert len(peer.stack.tcp.servers) == 0


def test_path_that_swallows_all_is_left_alone(make_peer):
    peer = make_peer()
    client(peer).send(b"question", peer.now)
    peer.advance(400)
    assert peer.state == "CLOSED"
    assert peer.stack.tcp.servers.paused(peer.connection.key[:-2], peer.now - 190)


def test_black_hole_after_the_handshake_is_noticed(make_peer):
    peer = make_peer()
    connection = client(peer)
    connection.send(b"question", peer.now)
    peer.poll()
    peer.expect("S", seq=0, data=b"question")
    peer.inject("SA", seq=0, ack=9)
    peer.expect("A", seq=9, ack=1)
    connection.send(b"more", peer.now)
    peer.advance(3)
    assert peer.stack.tcp.servers.paused(connection.key[:-2], peer.now)


def test_host_unreachable_is_a_failure_too(make_peer):
    peer = make_peer()
    client(peer).send(b"question", peer.now)
    peer.poll()
    peer.expect("S", seq=0, data=b"question")
    peer.inject_icmp(3, 3, peer.last_packet)
    assert peer.state == "CLOSED"
    assert peer.stack.tcp.servers.paused(peer.connection.key[:-2], peer.now)


def test_urgent_data_waits_for_the_handshake(make_peer):
    peer = make_peer()
    connection = client(peer)
    connection.send_urgent(b"!", peer.now)
    peer.poll()
    peer.expect("S", seq=0, data=b"")


def test_ack_beyond_the_data_in_syn_is_reset(make_peer):
    peer = make_peer()
    client(peer).send(b"question", peer.now)
    peer.poll()
    peer.expect("S", seq=0)
    peer.inject("SA", seq=0, ack=10)
    peer.expect("R", seq=10)
    assert peer.state == "SYN_SENT"


def test_connections_leave_nothing_behind(server):
    peer = server()
    early(peer)
    peer.connection.abort(peer.now)
    peer.poll()
    peer.segments()
    peer.connection = None
    gc.collect()
    assert peer.listener.fast_open.count == 0


@pytest.mark.parametrize("client_speaks", [False, True])
def test_no_segment_confuses_a_handshake_that_is_taken_for_done(server, client_speaks):
    """Every combination of flags, at several numbers, on a connection opened early or by us."""
    for bits in range(256):
        peer = server(limit=1)
        if client_speaks:
            connection = client(peer)
            connection.send(b"question", peer.now)
            peer.poll()
            peer.segments()
        else:
            connection = early(peer)
            connection.send(b"answer", peer.now)
            peer.poll()
            peer.expect("PA", seq=1)
        # Ours begins at 0, and so does theirs.
        seq = (0, 1, 9, 8, 30)[bits % 5]
        ack = (1, 9, 7, 0, 30)[bits // 5 % 5]
        peer.inject(flag_letters(bits), seq=seq, ack=ack, data=b"!" * (bits % 3))
        peer.advance(200)
        state = connection.state.name
        pending = peer.listener.fast_open
        waits = state == "SYN_RECEIVED" and not client_speaks
        penalized = len(pending._penalties)
        assert pending.count - penalized == waits, (bits, state)
        if state == "CLOSED":
            assert peer.stack.tcp.memory.used == connection.held == 0


def test_repair_counts_pending_requests_anew(server):
    peer = server()
    early(peer)
    pending = peer.listener.fast_open
    pending.penalize(peer.now)
    pending.count = 40  # what a cut step may have left
    peer.stack.rebuild_timers()
    assert pending.count == 2
