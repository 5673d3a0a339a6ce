"""What the restarter reads from an instance's view: its kind, how it says that it is ready, its sockets, its log, its policy."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

import msgspec

from kvoshim.services.core import restart
from kvoshim.services.core.model import GENERAL, Method, View

STARTD, SOCKETS, LOG = "startd", "sockets", "log"
METHODS = ("start", "stop", "refresh", "check", "finish")
_WORD = re.compile(r"%\{([^}]*)\}")


class Running(msgspec.Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True):
    """The group "startd". kind: "one-shot" is online once its program has ended with code 0; a service without a method "start" is
    a milestone. ready: how it is known to be ready: it runs; it says so (sd_notify); a newline on descriptor ready_fd; the method
    "check" succeeds; ready_path is there, a socket bound. watchdog_s: it says WATCHDOG=1 at least so often; 0: it need not. reassert:
    after a refresh it says again that it is ready. sweep_s: how long what is left of its processes has from SIGTERM to SIGKILL.
    whole_tree: signals of the method "stop" go to all of its processes. check_*: of the method "check", see spawner/ready.py."""

    kind: Literal["simple", "one-shot"] = "simple"
    ready: Literal["spawned", "notify", "newline", "check", "path"] = "spawned"
    ready_fd: int = 3
    ready_path: str = ""
    watchdog_s: float = 0.0
    reassert: bool = False
    sweep_s: float = 2.0
    whole_tree: bool = False
    check_every_s: float = 1.0
    check_tolerated: int = 3


class Log(msgspec.Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True):
    """The group "log". size: bytes, from which on it is rotated. keep: old ones. path: "" is the restarter's own choice."""

    size: int = 10 << 20
    keep: int = 5
    path: str = ""


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """problem: why an instance with this view cannot run, "" if it can. restarter: the instance that it is delegated to, or ""."""

    running: Running = Running()
    log: Log = Log()
    policy: restart.Policy = restart.Policy()
    sockets: tuple[tuple[str, str], ...] = ()
    restarter: str = ""
    problem: str = ""

    def milestone(self, view: View) -> bool:
        return "start" not in view.methods


def of_view(view: View) -> Wishes:
    """Never raises: what is wrong is in `problem`."""
    if view.conflicts:
        return Wishes(problem=f"its layers say different things: {'; '.join(view.conflicts)}")
    place = STARTD
    try:
        running = msgspec.convert(view.groups.get(STARTD, {}), Running)
        place = LOG
        log = msgspec.convert(view.groups.get(LOG, {}), Log)
        place = restart.GROUP
        policy = restart.policy_of(view)
        place = SOCKETS
        sockets = msgspec.convert(view.groups.get(SOCKETS, {}), dict[str, str])
        place = GENERAL
        restarter = msgspec.convert(view.groups.get(GENERAL, {}).get("restarter", ""), str)
    except (msgspec.ValidationError, ValueError, TypeError) as error:
        return Wishes(problem=f"its group {place!r} is not valid: {error}")
    problem = ""
    if running.ready == "path" and not running.ready_path.startswith("/"):
        problem = "startd/ready is 'path', so startd/ready-path has to be an absolute path"
    elif running.ready == "check" and "check" not in view.methods:
        problem = "startd/ready is 'check', and there is no method 'check'"
    elif running.ready == "newline" and not 3 + len(sockets) <= running.ready_fd <= 1000:
        problem = f"startd/ready-fd is {running.ready_fd}: it has to be from {3 + len(sockets)} (behind the sockets) to 1000"
    elif log.size < 1 or log.keep < 0:
        problem = "log/size is at least 1 and log/keep at least 0"
    elif "start" in view.methods and view.methods["start"].exec[0] == ":kill":
        problem = "the method 'start' is a program"
    return Wishes(
        running=running, log=log, policy=policy, sockets=tuple(sorted(sockets.items())), restarter=restarter, problem=problem
    )


def filled_in(method: Method, view: View, known: Callable[[str], str | None]) -> tuple[tuple[str, ...], dict[str, str]]:
    """(arguments, environment) of a method, with %{group/property} and %{word} in the place of what they name. known(word): the
    restarter's own words. KeyError, with what is not known."""

    def word(match: re.Match[str]) -> str:
        name = match[1]
        group, slash, prop = name.partition("/")
        value = view.get(group, prop) if slash else known(name)
        if value is None:
            raise KeyError(name)
        return " ".join(value) if isinstance(value, tuple) else str(value).lower() if isinstance(value, bool) else str(value)

    args = tuple(_WORD.sub(word, one) for one in method.exec)
    return args, {name: _WORD.sub(word, one) for name, one in method.env.items()}
