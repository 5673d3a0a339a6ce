"""An observable as this process sees it."""

from __future__ import annotations

from kvoshim import identity
from kvoshim._delivery import Known
from kvoshim._monitor import Monitor


class Handle(Known):
    """Replaced by another when a successor publishes the name."""

    discarded = False  # its owner wants its values forgotten

    def __init__(self, name: str, pid: int, start: int, instance: bytes, live: bool, reader: Monitor) -> None:
        self.name, self.pid, self.start, self.instance, self.live, self.reader = name, pid, start, instance, live, reader
        self.ring = reader
        self.reader.ended = not live

    def owner_ended(self) -> bool:
        """Whether the owner has closed the store or died, as far as can be seen without a controller."""
        return self.reader.finished or not identity.alive(self.pid, self.start)

    def end(self) -> None:
        self.live = False
        self.reader.ended = True
