"""What the registry's section of a configuration may hold (docs/registry.md)."""

from __future__ import annotations

from kvoshim import process
from kvoshim.registry.daemon.policy import Rule


class _Numbers(process.Section, frozen=True, kw_only=True):
    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, int | float) and not 1 <= value <= (32768 if name == "entries" else 1 << 30):
                raise ValueError(f"{name} is out of its range")


class UserLimits(_Numbers, frozen=True, kw_only=True):
    """What a user may have with all its clients; not the registry's own user, nor root."""

    clients: int = 256
    entries: int = 512
    requests_per_s: float = 2000.0
    requests_burst: float = 8192.0


class Limits(_Numbers, frozen=True, kw_only=True):
    """What clients may ask for. entries: in all; it is only changed by a restart. requests_per_s: of one client in the long run, and
    requests_burst at once."""

    entries: int = 16384
    clients: int = 8192
    entries_per_client: int = 4096
    questions_per_client: int = 64  # to other processes, at a time
    requests_per_s: float = 5000.0
    requests_burst: float = 16384.0
    per_user: UserLimits = UserLimits()


class Settings(process.Configuration, frozen=True, kw_only=True):
    """access: who may find and register (policy.py). settle_s: how long those who were registered with a registry that died have to
    come back, before their names are given to others. suspect_s: between looks whether a process is stopped, 0: never.
    idle_exit_s: the registry ends after so long with no clients, 0: never."""

    access: tuple[Rule, ...] = ()
    limits: Limits = Limits()
    settle_s: float = 5.0
    suspect_s: float = 1.0
    idle_exit_s: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.settle_s <= 60:
            raise ValueError("settle-s is a number from 0 to 60")
        if self.suspect_s and not 0.05 <= self.suspect_s <= 3600:
            raise ValueError("suspect-s is a number from 0.05 to 3600, or 0")
        if (self.idle_exit_s or 0) < 0:
            raise ValueError("idle-exit-s is not negative")
