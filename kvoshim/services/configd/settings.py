"""What configd's section of a configuration may hold (docs/services.md)."""

from __future__ import annotations

from kvoshim import process
from kvoshim.services.configd.policy import Rule


class Limits(process.Section, frozen=True, kw_only=True):
    """What clients may ask for. per_user_clients: of one user, not of the daemon's own nor root. services: in all."""

    clients: int = 1024
    per_user_clients: int = 64
    services: int = 10000
    requests_per_s: float = 50000.0
    requests_burst: float = 100000.0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if not 1 <= getattr(self, name) <= 1 << 30:
                raise ValueError(f"{name.replace('_', '-')} is out of its range")


class Settings(process.Configuration, frozen=True, kw_only=True):
    """access: who may read and change what (policy.py). checkpoint_bytes: of the journal, after which files are written.
    publish: the name under which states are published for observation, "" for not at all."""

    access: tuple[Rule, ...] = ()
    limits: Limits = Limits()
    checkpoint_bytes: int = 4 << 20
    publish: str = "services"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 4096 <= self.checkpoint_bytes <= 1 << 30:
            raise ValueError("checkpoint-bytes is a number from 4096 to 1073741824")
