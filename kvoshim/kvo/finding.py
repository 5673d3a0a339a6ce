"""What the registry knows of Key-Value Observation: where the controller is, and at which one a name is published.

A glance, without staying there and without starting a registry: who publishes or observes pays for one connection and no thread. The
controller registers itself and what is published at it (controller/registrar.py). Whatever is wrong with the registry, the
controller is where it would be without one, and the log says why.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from kvoshim.errors import KvoshimError, RegistryHungError
from kvoshim.kvo import paths

if TYPE_CHECKING:
    from kvoshim.registry.entry import Entry

log = logging.getLogger("kvoshim.client")

CONTROLLER = "kvo-controller"  # the name of each controller
OBSERVABLE = "kvo:"  # begins the name of each observable
_GLANCE_S = 0.5  # for a registry that is there to answer


def controller(own: str, registry: str) -> str:
    """The path of the controller that is registered; `own` if none is, or the registry is not to be asked. As paths.place() gives
    both."""
    grouped = registry.partition(":")[0] in ("private", "semi-private")  # and what is shown from outside is not the group's
    for entry in glance(registry, CONTROLLER) if registry else ():
        if entry.token and entry.address and grouped == (entry.reach == "private"):
            try:
                return paths.checked(entry.address)
            except KvoshimError as error:
                log.warning("what is registered as %s is of no use: %s", CONTROLLER, error)
    return own


def glance(registry: str, *names: str) -> list[Entry]:
    """The entries of these names that are to be believed, one's own group's first: this user's or root's, of this host. Empty if
    there are none, or no registry answers."""
    from kvoshim.registry.client.glance import look
    from kvoshim.registry.seat import Scope

    try:
        found = look(Scope.parse(registry), names, _GLANCE_S)
    except (KvoshimError, OSError) as error:
        level = logging.WARNING if isinstance(error, RegistryHungError) else logging.INFO
        log.log(level, "nothing is known of %s: %s", names[0], error)
        return []
    host = os.uname().nodename
    return [entry for entry in found if entry.uid in (0, os.geteuid()) and entry.host == host]


def target(registry: str, name: str) -> tuple[str, str | int] | None:
    """Where a name is found that one's own controller does not know: (a controller's path, the observable's name there), or
    (empty, the PID of the process that is registered under that name); None: nowhere."""
    entries = glance(registry, OBSERVABLE + name, name)
    for entry in sorted(entries, key=lambda entry: not entry.name.startswith(OBSERVABLE)):
        return of_entry(entry)
    return None


def of_entry(entry: Entry) -> tuple[str, str | int]:
    """The same for an entry that somebody has found."""
    observable = entry.metadata.get("observable")
    if entry.name.startswith(OBSERVABLE) and isinstance(observable, str) and entry.address:
        return entry.address, observable
    return "", entry.pid
