"""An observable as this process sees it."""

from __future__ import annotations

from dataclasses import dataclass, field

from kvoshim import identity
from kvoshim._monitor import Monitor


@dataclass(eq=False)
class Handle:
    """Replaced by another when a successor publishes the name."""

    name: str
    pid: int
    start: int
    instance: bytes
    live: bool
    reader: Monitor
    discarded: bool = False  # its owner wants its values forgotten
    ring: Monitor = field(init=False)

    def __post_init__(self) -> None:
        self.reader.ended = not self.live
        self.ring = self.reader  # its dirty ring

    def owner_ended(self) -> bool:
        """Whether the owner has closed the store or died, as far as can be seen without a controller."""
        return self.reader.finished or not identity.alive(self.pid, self.start)

    def end(self) -> None:
        self.live = False
        self.reader.ended = True
