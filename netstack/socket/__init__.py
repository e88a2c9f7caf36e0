"""The system-call line: sockets with the semantics of Linux, over any driver.

``StreamSocket`` and ``DatagramSocket`` are what ``Host.socket`` returns, ``EchoSocket`` is what
ping uses, ``Server`` runs a built-in ``Service`` on a port.
"""

from __future__ import annotations

from netstack.socket.base import System
from netstack.socket.datagram import DatagramSocket
from netstack.socket.echo import EchoReply, EchoSocket
from netstack.socket.server import Server
from netstack.socket.service import Service, Session, TaskService
from netstack.socket.stream import StreamSocket

__all__ = [
    "DatagramSocket",
    "EchoReply",
    "EchoSocket",
    "Server",
    "Service",
    "Session",
    "StreamSocket",
    "System",
    "TaskService",
]
