"""What the registry's section of a configuration may hold (docs/registry.md)."""

from __future__ import annotations

import os
import re

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


class Cluster(process.Section, frozen=True, kw_only=True):
    """An operator's own NATS servers, in place of one of each host. servers: nats:// or tls://HOST:PORT. bucket: the key-value bucket;
    replicas: of it, if it is to be made. ca_file, certificate_file (with its key): PEM. user and password, or a secret token."""

    servers: tuple[str, ...]
    bucket: str = "kvoshim-registry"
    replicas: int = 1
    ca_file: str = ""
    certificate_file: str = ""
    user: str = ""
    password: str = ""
    secret_token: str = ""

    def __post_init__(self) -> None:
        if not self.servers:
            raise ValueError("servers names one server or more")
        for server in self.servers:
            if not re.fullmatch(r"(nats|tls)://(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):\d{1,5}", server):
                raise ValueError("a server is nats://HOST:PORT or tls://HOST:PORT; user and password have keys of their own")
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", self.bucket):
            raise ValueError("bucket has 1 to 64 letters, digits, _ and -")
        if not 1 <= self.replicas <= 5:
            raise ValueError("replicas is a number from 1 to 5")
        for path in (self.ca_file, self.certificate_file):
            if path and not os.path.isabs(path):
                raise ValueError("ca-file and certificate-file are whole paths")


class HostsSettings(process.Section, frozen=True, kw_only=True):
    """The registry across hosts. enabled: whether this host takes part. lease_s: how long a host's entries stay when nothing is heard
    of it. poll_s: between looks which other hosts there are. listen: ADDRESS or ADDRESS:PORT of this host's server. advertise:
    ADDRESS:PORT or ADDRESS that others are told (default: those of its interfaces). server: the program."""

    enabled: bool = True
    lease_s: int = 3
    poll_s: float = 1.0
    listen: str = "0.0.0.0"
    advertise: tuple[str, ...] = ()
    server: str = ""
    cluster: Cluster | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.lease_s <= 3600:
            raise ValueError("lease-s is a whole number from 1 to 3600")
        if not 0.05 <= self.poll_s <= 3600:
            raise ValueError("poll-s is a number from 0.05 to 3600")
        for address in (self.listen, *self.advertise):
            if not re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?", address):
                raise ValueError(f"ADDRESS or ADDRESS:PORT is wanted, with [] around one of IPv6, not {address!r}")


class Settings(process.Configuration, frozen=True, kw_only=True):
    """access: who may find and register (policy.py). settle_s: how long those who were registered with a registry that died have to
    come back, before their names are given to others. suspect_s: between looks whether a process is stopped, 0: never.
    idle_exit_s: the registry ends after so long with no clients, 0: never. hosts: other hosts' registries (hosts.py)."""

    access: tuple[Rule, ...] = ()
    limits: Limits = Limits()
    settle_s: float = 5.0
    suspect_s: float = 1.0
    idle_exit_s: float | None = None
    hosts: HostsSettings = HostsSettings()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.settle_s <= 60:
            raise ValueError("settle-s is a number from 0 to 60")
        if self.suspect_s and not 0.05 <= self.suspect_s <= 3600:
            raise ValueError("suspect-s is a number from 0.05 to 3600, or 0")
        if (self.idle_exit_s or 0) < 0:
            raise ValueError("idle-exit-s is not negative")
