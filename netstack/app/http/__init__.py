"""HTTP/1.1 (RFC 9110, RFC 9112), in halves that do no input or output.

``reader`` and ``writer`` turn octets into messages and back; ``connection`` and ``client`` are a
client without a socket, ``server`` and ``site`` a server without one; ``fetch`` joins the client
to a host. Left out: CONNECT and upgrades, transfer codings other than chunked, caching, cookies,
authentication, multipart ranges.
"""
