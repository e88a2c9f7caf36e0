"""What a thread that waits leaves for the others to see."""

from __future__ import annotations

import threading


class Waiter:
    """One blocking call; ``dead`` once it left by an exception, before it could say so."""

    __slots__ = ("again", "dead", "endpoint", "left", "lock", "thread")

    def __init__(self, endpoint: object, thread: int) -> None:
        self.endpoint = endpoint  # None: every step concerns it
        self.thread = thread
        self.lock = threading.Lock()
        self.again = False  # its endpoint was touched while it looked
        self.dead = False
        self.left = False
