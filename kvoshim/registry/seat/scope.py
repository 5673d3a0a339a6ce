"""Which registry: whose it is and where it can be found.

    user                 one for each user and host (the default)
    host                 one for all users of this host (global.py)
    private:DIR          for the children of one launcher (private.py); nobody becomes its holder's successor
    semi-private:DIR     the same, and its holder shows the launcher's own registry inward

A user's registry is found in two places. The first is the user's directory for sockets: on this machine, quick, but another
one where the environment differs (a login, a cron job). The second is below the home directory, as <hostname>: the same for all
the user's processes, perhaps shared between machines, perhaps read-only or slow; it may be missing.
"""

from __future__ import annotations

import os
import pwd
import re
import socket
from dataclasses import dataclass, field

from kvoshim import directories
from kvoshim.errors import RegistryScopeError
from kvoshim.registry.seat import hostwide
from kvoshim.registry.seat.place import Place

VARIABLE = "KVOSHIM_REGISTRY"
NAME = "registry"  # of what lies in a directory that is not shared between hosts
_KINDS = ("user", "host", "private", "semi-private")


@dataclass(frozen=True)
class Scope:
    """kind: as above. directory: of a private registry. from_environment: an unreachable one means the user's own."""

    kind: str = "user"
    directory: str = ""
    from_environment: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise RegistryScopeError(f"{self.kind!r} is no scope of a registry; those are {', '.join(_KINDS)}")
        if self.private != bool(self.directory) or self.private and not os.path.isabs(self.directory) or "\0" in self.directory:
            raise RegistryScopeError(
                f"a scope is user, host, private:DIR or semi-private:DIR, with the whole path of a directory, not {self.text!r}"
            )

    @classmethod
    def parse(cls, text: str) -> Scope:
        """RegistryScopeError."""
        kind, _, directory = text.partition(":")
        return cls(kind, directory)

    @property
    def text(self) -> str:
        """As parse() takes it."""
        return f"{self.kind}:{self.directory}" if self.directory else self.kind

    @property
    def private(self) -> bool:
        return self.kind in ("private", "semi-private")

    @property
    def semi(self) -> bool:
        return self.kind == "semi-private"

    @property
    def public(self) -> bool:
        return self.kind == "host"

    @property
    def owner(self) -> int:
        """The user whose registry it is."""
        return hostwide.settings().owner if self.public else os.geteuid()

    def places(self) -> list[Place]:
        """Where it is looked for, in this order; the first has to be usable. ConfigurationError from the global file."""
        if self.public:
            directory = hostwide.settings().directory
            return [Place(directory, NAME, self.owner, (directory,), public=True)]
        owner = os.geteuid()
        if self.private:
            return [Place(self.directory, NAME, owner)]
        own = directories.private_path()
        result = [Place(own, NAME, owner, (own,))]
        if home := _home(owner):
            ours = os.path.join(home, ".kvoshim")
            shared = os.path.join(ours, "registry")
            result.append(Place(shared, host_name(), owner, (ours, shared), far=True))
        return result


def _home(owner: int) -> str:
    home = os.environ.get("HOME", "")
    if not home:
        try:
            home = pwd.getpwuid(owner).pw_dir
        except KeyError:
            return ""
    return home if os.path.isabs(home) else ""


def host_name() -> str:
    """This host's name as the name of a file. No such name begins with a dot, so the files beside it are nobody's."""
    name = os.fsencode(socket.gethostname()) or b"localhost"
    return re.sub(rb"^\.|[^A-Za-z0-9._-]", lambda found: b"%%%02x" % found[0][0], name).decode()
