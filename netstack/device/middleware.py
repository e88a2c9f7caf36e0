"""A device around a device: what the wrappers (impairment, recorder) have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netstack.device.base import Device

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from netstack.device.base import Frame


class Middleware(Device):
    """Passes everything to ``inner``, under its name and with its capabilities."""

    def __init__(self, inner: Device) -> None:
        Device.__init__(self, inner.name, inner.capabilities)  # no super(): C has none
        self.inner = inner

    @property
    def on_pending(self) -> Callable[[], None] | None:
        """Called, by the inner device too, when frames became pending."""
        return self.inner.on_pending

    @on_pending.setter
    def on_pending(self, callback: Callable[[], None] | None) -> None:
        self.inner.on_pending = callback

    @property
    def on_drop(self) -> Callable[[str, int], None] | None:
        """Told, by the inner device too, of frames that end there."""
        return self.inner.on_drop

    @on_drop.setter
    def on_drop(self, callback: Callable[[str, int], None] | None) -> None:
        self.inner.on_drop = callback

    def transmit(self, frame: Frame) -> bool:
        """Take ``frame`` to the wire; False = busy."""
        return self.inner.transmit(frame)

    def receive_burst(self, limit: int = 64) -> Sequence[Frame | bytes]:
        """Return up to ``limit`` frames that have arrived."""
        return self.inner.receive_burst(limit)

    def pending(self) -> bool:
        """Return whether frames wait that no descriptor announces."""
        return self.inner.pending()

    def fileno(self) -> int:
        """Return the inner device's descriptor, -1 if it has none."""
        return self.inner.fileno()

    def close(self) -> None:
        """Close the inner device; idempotent."""
        self.inner.close()
