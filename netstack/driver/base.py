"""What the driver of a host offers to the layers above: sections, waits, handlers, tasks.

A driver owns its stacks: whoever wants to touch one does so inside a *section*, entered by
``call`` or ``wait``. At the end of a section that changed something the driver *settles*: it
polls the stacks, pulls their events, runs the handlers of those endpoints and wakes whoever
waits for them. Sockets, name resolution and servers use nothing but this interface, so that the
same code runs in real time (``realtime``) and in virtual time (``simulation``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum
from typing import TYPE_CHECKING, Final, Generic, Literal, NamedTuple, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from netstack.stack import Stack
    from netstack.transport.events import Event

P = ParamSpec("P")
T = TypeVar("T")


class Pending(Enum):
    """The type of ``PENDING``."""

    PENDING = "pending"

    def __repr__(self) -> str:
        return "PENDING"


PENDING: Final = Pending.PENDING
"""What a condition returns while it does not hold yet."""


class Waiting(NamedTuple):
    """Who waits in which call: for messages about waits that never end."""

    host: str = ""
    call: str = ""


class Task(ABC, Generic[T]):
    """A function that runs beside its spawner."""

    name: str
    host: str = ""
    """The host that it was spawned on, if any."""

    @property
    @abstractmethod
    def done(self) -> bool:
        """Whether the function has returned or raised."""

    @abstractmethod
    def join(self, timeout: float | None = None) -> T:
        """Wait until the function has ended and return its result.

        Raises: the function's exception; TimedOut.
        """


class Driver(ABC):
    """Runs stacks; all time is in seconds on the driver's clock.

    ``function``, ``condition`` and ``handler`` run inside a section: they must not block and
    must not call the driver again, ``wake``, ``set_handler`` and ``spawn_service`` excepted.
    """

    @property
    @abstractmethod
    def now(self) -> float:
        """The driver's clock."""

    @abstractmethod
    def call(self, function: Callable[[float], T]) -> T:
        """Return ``function(now)``, run in a section that is settled afterwards; never blocks.

        An exception of the function passes through after the section was settled.
        """

    @abstractmethod
    def wait(
        self,
        endpoint: object | None,
        condition: Callable[[float], T | Literal[Pending.PENDING]],
        timeout: float | None,
        waiting: Waiting | None = None,
    ) -> T:
        """Return what ``condition(now)`` returns as soon as that is not PENDING.

        It is asked at once, then after each event of ``endpoint`` (``Event.source``) and each
        ``wake(endpoint)``; with endpoint None, after every step. It may change the stack: the
        section is settled afterwards. Its exceptions pass through.
        Raises: TimedOut after ``timeout`` seconds (None: never), asked once more before.
        """

    @abstractmethod
    def wake(self, endpoint: object) -> None:
        """Ask the conditions of all who wait on ``endpoint`` again, at the end of this section.

        For changes that the stack tells by no event: the application closed the endpoint.
        """

    def defer(self, errand: Callable[[float], None]) -> None:  # noqa: B027 - by design
        """Have ``errand(now)`` run in a later section: the only call for finalizers.

        Ignored by a driver whose runs must be the same each time: when garbage is collected
        is not.
        """

    @abstractmethod
    def set_handler(
        self, endpoint: object, handler: Callable[[Event, float], None] | None
    ) -> None:
        """Let ``handler(event, now)`` have each event of ``endpoint``; None ends that.

        Called while a section settles. What it changes is polled in the same section, again and
        again (within a bound) until nothing happens any more.
        """

    @abstractmethod
    def add_stack(self, stack: Stack) -> None:
        """Run ``stack`` from now on."""

    @abstractmethod
    def remove_stack(self, stack: Stack) -> None:
        """Run ``stack`` no longer; its waiters are asked once more."""

    @abstractmethod
    def spawn(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Task[T]:
        """Run ``function`` beside the caller."""

    def spawn_service(self, function: Callable[[], None]) -> None:
        """Run ``function`` beside everything, for a server: nobody joins it or waits for its end.

        May be called inside a section; it starts after that.
        """
        self.spawn(function)

    @abstractmethod
    def sleep(self, seconds: float) -> None:
        """Block the caller for that time on the driver's clock."""

    @abstractmethod
    def close(self, timeout: float = 5.0) -> None:
        """Stop running stacks; idempotent.

        Send queues are drained and FINs acknowledged for up to ``timeout`` seconds, the rest is
        reset. Whoever still waits gets EBADF.
        """
