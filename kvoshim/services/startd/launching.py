"""From a method to the order that the spawner is given."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping

from kvoshim.errors import InvalidOrderError
from kvoshim.services.core.model import Method, View
from kvoshim.services.core.wishes import filled_in
from kvoshim.services.spawner import ids, limits
from kvoshim.services.spawner.messages import Order

SOCKETS_FROM = 3  # the first of LISTEN_FDS

# Of the restarter's own start, and no business of the services.
_OWN = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "KVOSHIM_PATHS", "LD_PRELOAD")

# LISTEN_PID has to be the program's own, which is not known before it runs.
_SHELL = ("/bin/sh", "-c", 'LISTEN_PID=$$ exec "$0" "$@"')


def environment(instance: str, extra: Mapping[str, str]) -> dict[str, str]:
    base = {name: value for name, value in os.environ.items() if name not in _OWN}
    return base | {"KVOSHIM_INSTANCE": instance} | extra


def words(instance: str, directory: str) -> dict[str, str]:
    """What %{word} means in a method."""
    return {"python": sys.executable, "instance": instance, "services": directory}


def order(
    token: int, instance: str, method: Method, view: View, known: Mapping[str, str], *, fds: Mapping[int, int],
    extra: Mapping[str, str] = {}, sockets: int = 0, cgroup: int | None = None,
) -> Order:  # fmt: skip
    """fds: descriptor there -> here. extra: of the environment. sockets: how many of the descriptors from 3 on are LISTEN_FDS.
    InvalidOrderError, which names what is wrong with the method."""
    try:
        args, env = filled_in(method, view, known.get)
    except KeyError as error:
        raise InvalidOrderError(f"%{{{error.args[0]}}} in its method names no property and no word of {', '.join(known)}") from None
    env = environment(instance, {**env, **extra})
    program = args[0]
    if "/" not in program:
        program = shutil.which(program, path=env.get("PATH", os.defpath)) or program
    if sockets:
        if not os.access(program, os.X_OK):  # the shell's complaint would be about its own line
            raise InvalidOrderError(f"{program} cannot be run: it is not there or not executable")
        args = (*_SHELL, program, *args[1:])
        program = _SHELL[0]
    return Order(
        token=token,
        program=program,
        args=args,
        env=env,
        directory=method.directory,
        ids=ids.resolve(method.user, method.group),
        umask=None if method.umask < 0 else method.umask,
        limits=limits.parse(method.limits),
        cgroup=cgroup,
        fds=fds,
    )
