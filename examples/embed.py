"""Two stacks in one process, joined packet by packet: no thread, no clock, no privileges.

This is the whole engine interface: give a stack the packets that arrived (``receive``), poll it,
take the packets it wants to send (``transmitted``). Here the other side is a second stack; in
your program it is a tunnel, a radio, a test, or anything else that carries packets.
"""

from hashlib import sha256

from netstack import QueueDevice, Stack

MEGABYTE = bytes(range(256)) * 4096


def main() -> None:
    client, server = Stack("client"), Stack("server")
    client_device, server_device = QueueDevice(medium="ip"), QueueDevice(medium="ip")
    client.attach(client_device, "10.0.0.1/24")
    server.attach(server_device, "10.0.0.2/24")

    now = 0.0
    listener = server.listen(("", 80))
    sender = client.connect(("10.0.0.2", 80), now)
    receiver = None
    sent, received = 0, sha256()
    packets = octets = 0
    data: bytes | None = None

    while data != b"":  # what receive returns once the peer has closed
        now += 0.001  # any rising number of seconds will do
        client.poll(now)
        server.poll(now)

        for packet in client_device.transmitted():
            packets += 1
            server_device.receive(packet)
        for packet in server_device.transmitted():
            packets += 1
            client_device.receive(packet)

        if sender.error is not None:
            raise sender.error
        if sender.state.name == "ESTABLISHED":
            sent += sender.send(MEGABYTE[sent : sent + 65_536], now)
            if sent == len(MEGABYTE):
                sender.shutdown_write(now)
        receiver = receiver or listener.accept()
        while receiver is not None and (data := receiver.receive(65_536, now)):
            received.update(data)
            octets += len(data)

    assert received.digest() == sha256(MEGABYTE).digest()
    print(f"{octets} octets in {packets} packets, {now:.3f} virtual seconds, content verified")


if __name__ == "__main__":
    main()
