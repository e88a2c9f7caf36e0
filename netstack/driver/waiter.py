"""What a thread that waits leaves for the others to see."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading


class Waiter:
    """One blocking call; ``dead`` once it left by an exception, before it could say so."""

    __slots__ = ("again", "dead", "endpoint", "left", "lock", "thread")

    def __init__(self, endpoint: object, thread: int) -> None:
        self.endpoint = endpoint  # None: every step concerns it
        self.thread = thread
        self.lock: threading.Lock | None = None  # made to follow: who leads needs none
        self.again = False  # its endpoint was touched while it looked
        self.dead = False
        self.left = False
