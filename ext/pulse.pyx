# cython: language_level=3
"""Standing by without the interpreter's lock; ``netstack.driver.pulse`` is the definition."""

from cpython.pythread cimport (
    NOWAIT_LOCK, PyThread_acquire_lock, PyThread_allocate_lock, PyThread_free_lock,
    PyThread_release_lock, PyThread_type_lock, WAIT_LOCK,
)

cdef extern from "pythread.h" nogil:
    int PyThread_acquire_lock_timed(PyThread_type_lock lock, long long microseconds, int intr_flag)

cdef enum:
    LONGEST = 1_000_000_000  # microseconds


cdef class Pulse:
    """Counts the beginnings and ends of leads; see ``PulsePy``."""

    cdef PyThread_type_lock lock
    cdef readonly unsigned long long beats
    cdef bint led, hurried
    cdef double tick, least

    def __cinit__(self):
        self.lock = PyThread_allocate_lock()
        if self.lock == NULL:
            raise MemoryError
        PyThread_acquire_lock(self.lock, WAIT_LOCK)

    def __dealloc__(self):
        if self.lock != NULL:
            self.release()
            PyThread_free_lock(self.lock)

    def lead(self):
        """Somebody leads now."""
        self.beats += 1
        self.led = True

    def leave(self):
        """Nobody leads any more."""
        self.beats += 1
        self.led = False

    def hurry(self):
        """Let a tick that has grown be one of the shortest again."""
        if self.tick > self.least:
            self.hurried = True
            self.release()

    def nudge(self):
        """End ``stand_by``, the next one if there is none."""
        self.release()

    def stand_by(self, double least, double most):
        """Sleep until nobody has led for a whole tick; see ``PulsePy``."""
        cdef unsigned long long seen
        cdef bint unled = False
        self.least = least
        self.tick = max(self.tick, least)
        with nogil:
            while True:
                seen = self.beats
                if PyThread_acquire_lock_timed(self.lock, microseconds(self.tick), 0):
                    self.tick = least
                    if not self.hurried:
                        break
                    self.hurried = False
                elif self.beats != seen:
                    self.tick = least
                elif not self.led:
                    self.tick = least
                    unled = True
                    break
                elif self.tick >= most:
                    break
                else:
                    self.tick = min(self.tick * 2, most)
        return unled

    cdef void release(self) noexcept:
        # A lock can't be asked whether it is taken: take it unless it is.
        PyThread_acquire_lock(self.lock, NOWAIT_LOCK)
        PyThread_release_lock(self.lock)


cdef inline long long microseconds(double seconds) noexcept nogil:
    return LONGEST if seconds * 1e6 > LONGEST else <long long>(seconds * 1e6)
