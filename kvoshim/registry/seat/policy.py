"""What a program decides about its registry before it uses one, and what is decided otherwise."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from kvoshim.errors import RegistryScopeError, RegistryStartError, TooLateError
from kvoshim.registry.seat.scope import VARIABLE, Scope

log = logging.getLogger("kvoshim.registry")

Start = bool | Sequence[str] | Callable[[Scope], None]


@dataclass(frozen=True)
class Policy:
    """scope: None: by the environment. start: whether a registry is started where none runs, and how: by the words of a command,
    or a function. timeout: seconds until a registry has to answer, whoever starts it."""

    scope: Scope | None = None
    start: Start = True
    timeout: float = 20.0


_lock = threading.Lock()
_policy = Policy()
_settled = False


def configure(*, scope: Scope | str | None = None, start: Start | None = None, timeout: float | None = None) -> None:
    """Decides for this process, before it uses the registry for the first time. What is left out stays as it is.
    TooLateError afterwards; RegistryScopeError."""
    global _policy
    changes = {
        "scope": Scope.parse(scope) if isinstance(scope, str) else scope,
        "start": start,
        "timeout": timeout,
    }
    with _lock:
        if _settled:
            raise TooLateError("the registry is in use already: configure it before")
        _policy = replace(_policy, **{name: value for name, value in changes.items() if value is not None})


def policy() -> Policy:
    """What is decided so far."""
    return _policy


def settle() -> Policy:
    """The same, for good."""
    global _settled
    with _lock:
        _settled = True
        return _policy


def choose() -> Scope:
    """The scope of this process: decided in code, else KVOSHIM_REGISTRY, else the user's own."""
    return chosen()[0]


def chosen() -> tuple[Scope, str]:
    """The same, and why."""
    if _policy.scope is not None:
        return _policy.scope, "decided in code"
    text = os.environ.get(VARIABLE, "")
    if not text:
        return Scope(), f"{VARIABLE} is not set"
    try:
        scope = Scope.parse(text)
    except RegistryScopeError as error:
        log.warning("%s is of no use: %s", VARIABLE, error)
        return Scope(), f"{VARIABLE} is of no use: {error}"
    return replace(scope, from_environment=True), f"{VARIABLE} is {text}"


def start_words(start: Start, scope: Scope) -> list[str]:
    """The command that starts the registry of a scope in the background. RegistryStartError where there is none."""
    if start is True or callable(start):
        if not sys.executable:
            raise RegistryStartError(
                "no registry can be started: this program does not know its Python interpreter; start `kvoshim registry serve` by hand"
            )
        start = [sys.executable, "-P", "-m", "kvoshim", "registry", "serve"]
    return [*start, "--scope", scope.text, "--detach"]
