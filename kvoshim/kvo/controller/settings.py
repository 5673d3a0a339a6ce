"""What the controller's section of a configuration may hold (docs/kvo.md)."""

from __future__ import annotations

import msgspec

from kvoshim import process
from kvoshim.kvo.controller.exporter import MetricsSettings
from kvoshim.kvo.controller.policy import Rule
from kvoshim.kvo.controller.quota import Limits, Share
from kvoshim.kvo.controller.standby import StandbySettings


class _Numbers(process.Section, frozen=True, kw_only=True):
    def __post_init__(self) -> None:
        most = {"stores": 1 << 16, "registrations": 1 << 20}
        for name in self.__struct_fields__:
            value = getattr(self, name)
            least = 0 if name == "requests_per_s" else 1
            if isinstance(value, int | float) and not least <= value <= most.get(name, 1 << 50):
                raise ValueError(f"{name} is out of its range")


class UserLimits(_Numbers, frozen=True, kw_only=True):
    """What a user may have with all its clients; not the controller's own user, nor root."""

    clients: int = Share.clients
    registrations: int = Share.registrations
    names: int = Share.names
    store_bytes: int = Share.store_bytes
    requests_per_s: float = Share.requests_per_s
    requests_burst: float = Share.requests_burst


class LimitSettings(_Numbers, frozen=True, kw_only=True):
    """What clients may ask for. stores and registrations are the size of the shared table: fixed at the start."""

    stores: int = Limits.stores
    registrations: int = Limits.registrations
    registrations_per_client: int = Limits.registrations_per_client
    names_per_client: int = Limits.names_per_client
    store_bytes_per_client: int = Limits.store_bytes_per_client
    requests_per_s: float = Limits.requests_per_s
    requests_burst: float = Limits.requests_burst
    retained: int = Limits.retained
    per_user: UserLimits = UserLimits()

    def as_limits(self, retain_s: float) -> Limits:
        """The same, for the catalog."""
        numbers = msgspec.structs.asdict(self)
        numbers["per_user"] = Share(**msgspec.structs.asdict(self.per_user))
        return Limits(**numbers, retain_s=retain_s)


class Settings(process.Configuration, frozen=True, kw_only=True):
    """retain_s: how long the values of an ended observable are kept, 0: for ever. idle_exit_s: the controller ends
    after so long with no clients and no kept values, 0: never. The command line's values go before both. hung_after_s: clients
    take it for hung if it gives no sign of life for so long, 0: never. access: who may observe and publish what (policy.py).
    delivery: 'auto': observables ring observers themselves; 'controller': it tells of every change."""

    retain_s: float = Limits.retain_s
    idle_exit_s: float | None = None
    delivery: str = "auto"
    limits: LimitSettings = LimitSettings()
    hung_after_s: float = 10.0
    standby: StandbySettings = StandbySettings()
    metrics: MetricsSettings = MetricsSettings()
    access: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.retain_s < 0 or (self.idle_exit_s or 0) < 0:
            raise ValueError("retain-s and idle-exit-s are not negative")
        if self.delivery not in ("auto", "controller"):
            raise ValueError("delivery is auto or controller")
        if self.hung_after_s and not 0.1 <= self.hung_after_s <= 3600:
            raise ValueError("hung-after-s is 0.1 to 3600 s, or 0")
