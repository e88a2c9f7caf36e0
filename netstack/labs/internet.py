"""The built-in internet: a client, two routers, name servers from the root down, web servers.

Everything runs in this process and in virtual time; what travels is real Ethernet, ARP, IPv4,
UDP, TCP, DNS and HTTP. Its names end in ``.test`` and ``.example`` (RFC 2606), its addresses lie
in the documentation networks (RFC 5737)::

    client --- [lan] --- home ======= core --- [exchange] --- root, test, example  (zones above)
    192.0.2.10           192.0.2.1    203.0.113.1            |
                                      198.51.100.0/30        +- ns   (netstack.test, shop.example)
                                                             +- web  (www.netstack.test)
                                                             +- shop (www.shop.example)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netstack.api import Network
from netstack.app import services
from netstack.app.http.answer import redirect_answer
from netstack.app.http.site import Pages
from netstack.core.address import parse_address
from netstack.naming.resolver import Resolver

if TYPE_CHECKING:
    from netstack.app.http.answer import Answer
    from netstack.app.http.messages import Request

HOME_PAGE = "http://www.netstack.test/"
REDIRECTING_PAGE = "http://www.netstack.test/shop"
"""Leads to a page on another host, by a 302."""

ROOT_HINTS = (("a.root.test", parse_address("203.0.113.10")),)

WAN_DELAY_S = 0.008  # one way, between the two routers: some 1600 km of fibre
WAN_RATE = 100e6  # bit/s
EXCHANGE_DELAY_S = 0.0002
SETTLED_S = 0.1

_ROOT_ZONE = """\
$ORIGIN .
$TTL 86400
. IN SOA a.root.test. hostmaster.root.test. 1 7200 900 1209600 300
. IN NS a.root.test.
a.root.test. IN A 203.0.113.10
test. IN NS a.nic.test.
a.nic.test. IN A 203.0.113.20
example. IN NS a.nic.example.
a.nic.example. IN A 203.0.113.21
113.0.203.in-addr.arpa. IN NS ns.netstack.test.
"""

_TEST_ZONE = """\
$ORIGIN test.
$TTL 86400
@ IN SOA a.nic.test. hostmaster.nic.test. 1 7200 900 1209600 300
@ IN NS a.nic.test.
a.nic IN A 203.0.113.20
a.root IN A 203.0.113.10
netstack IN NS ns.netstack.test.
ns.netstack IN A 203.0.113.53
"""

_EXAMPLE_ZONE = """\
$ORIGIN example.
$TTL 86400
@ IN SOA a.nic.example. hostmaster.nic.example. 1 7200 900 1209600 300
@ IN NS a.nic.example.
a.nic IN A 203.0.113.21
shop IN NS ns.netstack.test.
"""

_NETSTACK_ZONE = """\
$ORIGIN netstack.test.
$TTL 300
@ IN SOA ns.netstack.test. hostmaster.netstack.test. 1 7200 900 1209600 300
@ IN NS ns.netstack.test.
@ IN A 203.0.113.80
@ IN TXT "the network inside a Python process"
ns IN A 203.0.113.53
web IN A 203.0.113.80
www IN CNAME web.netstack.test.
"""

_SHOP_ZONE = """\
$ORIGIN shop.example.
$TTL 300
@ IN SOA ns.netstack.test. hostmaster.netstack.test. 1 7200 900 1209600 300
@ IN NS ns.netstack.test.
@ IN A 203.0.113.81
www IN CNAME shop.example.
"""

_REVERSE_ZONE = """\
$ORIGIN 113.0.203.in-addr.arpa.
$TTL 300
@ IN SOA ns.netstack.test. hostmaster.netstack.test. 1 7200 900 1209600 300
@ IN NS ns.netstack.test.
10 IN PTR a.root.test.
20 IN PTR a.nic.test.
21 IN PTR a.nic.example.
53 IN PTR ns.netstack.test.
80 IN PTR web.netstack.test.
81 IN PTR shop.example.
"""

_HOME_HTML = b"""\
<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>It travelled</title></head>
<body>
<h1>This page travelled through a whole network</h1>
<p>A client asked the root, then <code>test.</code>, then <code>netstack.test.</code> for this
name; found the server's address; learnt by ARP who its router is; opened a TCP connection across
two routers; and sent one <code>GET</code>. Every octet of it was a real frame, and all of it
happened inside one Python process, in virtual time.</p>
<ul>
<li>See each frame: <code>netstack fetch --explain</code></li>
<li>Follow a redirect to another host: <code>netstack fetch http://www.netstack.test/shop</code></li>
<li>Ask the name servers: <code>netstack dig --trace www.netstack.test</code></li>
<li>Measure the way: <code>netstack ping www.shop.example</code></li>
</ul>
</body>
</html>
"""

_SHOP_HTML = b"""\
<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>The shop</title></head>
<body><h1>A redirect led here</h1><p>To another name, in another zone, on another host.</p></body>
</html>
"""


def _home_site(request: Request) -> Answer:
    if request.target == "/shop":
        return redirect_answer(302, "http://www.shop.example/")
    return Pages({"/": _HOME_HTML})(request)


def internet(*, seed: int = 0) -> Network:
    """Return the built-in internet, running; ``internet().hosts["client"]`` fetches.

    The hosts have announced their addresses; ``now`` is SETTLED_S. The caller closes it, by
    ``with`` or ``close``.
    """
    network = Network(seed=seed)
    lan, exchange = network.switch("lan"), network.switch("exchange")
    client = network.host("client", "192.0.2.10/24", gateway="192.0.2.1")
    client.resolver = Resolver(client.stack.context, root_hints=ROOT_HINTS)
    home = network.router("home", "192.0.2.1/24", "198.51.100.1/30")
    core = network.router("core", "203.0.113.1/24", "198.51.100.2/30")
    network.link(client, lan)
    network.link(home, lan)
    network.link(core, exchange, delay=EXCHANGE_DELAY_S)
    network.link(home, core, delay=WAN_DELAY_S, rate=WAN_RATE)
    home.stack.add_route("0.0.0.0/0", "198.51.100.2")
    core.stack.add_route("192.0.2.0/24", "198.51.100.1")
    for name, address, service, port in (
        ("root", "203.0.113.10", services.dns(_ROOT_ZONE), 53),
        ("test", "203.0.113.20", services.dns(_TEST_ZONE), 53),
        ("example", "203.0.113.21", services.dns(_EXAMPLE_ZONE), 53),
        ("ns", "203.0.113.53", services.dns(_NETSTACK_ZONE, _SHOP_ZONE, _REVERSE_ZONE), 53),
        ("web", "203.0.113.80", services.http(_home_site), 80),
        ("shop", "203.0.113.81", services.http(Pages({"/": _SHOP_HTML})), 80),
    ):
        host = network.host(name, f"{address}/24", gateway="203.0.113.1")
        network.link(host, exchange, delay=EXCHANGE_DELAY_S)
        host.serve(service, port)
    network.run(until=SETTLED_S)
    return network
