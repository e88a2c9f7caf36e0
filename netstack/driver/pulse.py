"""What a stand-by sees of those who lead: the definition, and the switch.

A stand-by of Python code needs the interpreter to see that nothing is to be done, and asks for it
at each tick. Whoever leads then gives it up at each system call to somebody who wants nothing, and
pays for waking him: a tenth of the throughput where turns are short. The kernel looks without.
"""

from __future__ import annotations

import threading

from netstack import _ext


class PulsePy:
    """Counts the beginnings and ends of leads; whoever stands by sleeps for as long as they come.

    ``stand_by`` is for one thread, everything else for one at a time.
    """

    __slots__ = ("_hurried", "_least", "_led", "_lock", "_tick", "beats")

    def __init__(self) -> None:
        self.beats = 0
        self._led = False
        self._tick = self._least = 0.0
        self._hurried = False
        self._lock = threading.Lock()
        self._lock.acquire()

    def lead(self) -> None:
        """Somebody leads now."""
        self.beats += 1
        self._led = True

    def leave(self) -> None:
        """Nobody leads any more."""
        self.beats += 1
        self._led = False

    def hurry(self) -> None:
        """Let a tick that has grown be one of the shortest again."""
        if self._tick > self._least:
            self._hurried = True
            self.nudge()

    def nudge(self) -> None:
        """End ``stand_by``, the next one if there is none."""
        if self._lock.locked():
            self._lock.release()

    def stand_by(self, least: float, most: float) -> bool:
        """Sleep until nobody has led for a whole tick: then return True.

        A tick has ``least`` seconds, twice as many after each that one and the same lead lasts.
        False: nudged, or that was one of ``most`` seconds; the next begins with as many.
        """
        self._least = least
        self._tick = max(self._tick, least)
        while True:
            seen = self.beats
            # Always timed: a lost release may cost a tick, never progress.
            if self._lock.acquire(True, self._tick):
                self._tick = least
                if not self._hurried:
                    return False
                self._hurried = False
            elif self.beats != seen:
                self._tick = least
            elif not self._led:
                self._tick = least
                return True
            elif self._tick >= most:
                return False
            else:
                self._tick = min(self._tick * 2, most)


if _ext.COMPILED:
    from netstack._ext.pulse import Pulse as Pulse
else:
    Pulse = PulsePy  # type: ignore[misc,assignment]
