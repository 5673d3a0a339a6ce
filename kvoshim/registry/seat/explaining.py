"""Which registry would this process use, and why? Looks, changes nothing, starts nothing."""

from __future__ import annotations

import os
import shlex
from dataclasses import asdict, dataclass, field

from kvoshim.errors import ConfigurationError, ProofError, RegistryPlaceError, RegistryStartError
from kvoshim.registry.seat import hostwide, policy
from kvoshim.registry.seat.finding import contact
from kvoshim.registry.seat.place import Place
from kvoshim.registry.seat.portfile import State
from kvoshim.registry.seat.scope import Scope

RUNS, STARTS, WAITS, FAILS = "runs", "starts", "waits", "fails"


@dataclass(frozen=True)
class Step:
    """One look. about: scope, start, directory, file, lock, contact. good: None where that is not the question."""

    about: str
    words: str
    good: bool | None = None


@dataclass
class Explanation:
    """scope: the registry's that would be used. outcome: it runs; it would be started; who is about to become it, or hangs,
    would be waited for; it fails. words: the same, as a sentence."""

    scope: str = ""
    outcome: str = FAILS
    words: str = ""
    address: str = ""
    pid: int = 0
    steps: list[Step] = field(default_factory=list)

    def as_dict(self) -> dict:
        return asdict(self)


def explain(scope: Scope | None = None) -> Explanation:
    """scope: default: this process's."""
    result = Explanation()
    scope, why = (scope, "asked for") if scope is not None else policy.chosen()
    _follow(result, scope, why)
    if scope.private and scope.from_environment and result.outcome != RUNS:
        result.steps.append(Step("scope", "an unreachable private registry means the normal start"))
        _follow(result, Scope(), "the private one cannot be reached")
    return result


def _follow(result: Explanation, scope: Scope, why: str) -> None:
    say = result.steps.append
    say(Step("scope", f"the scope is {scope.text}: {why}"))
    result.scope, result.outcome = scope.text, FAILS
    try:
        if scope.public:
            say(Step("directory", f"{hostwide.path()} is the global file: the directory is {hostwide.settings().directory}"))
        places = scope.places()
    except ConfigurationError as error:
        say(Step("directory", str(error), False))
        result.words = str(error)
        return
    holder = 0
    for place in places:
        holder = _look(result, scope, place) or holder
        if result.outcome == RUNS:
            return
    _conclude(result, scope, holder)


def _look(result: Explanation, scope: Scope, place: Place) -> int:
    """Looks at one place; returns who holds its lock."""
    say = result.steps.append
    flaw = place.flaw()
    say(Step("directory", f"{place.directory}: {flaw or 'can be used'}", not flaw))
    try:
        reading = place.read()
        holder = place.holder()
    except RegistryPlaceError as error:
        say(Step("file", str(error), False))
        return 0
    record = reading.record
    words = {
        State.MISSING: "is not there: nobody is the registry",
        State.BECOMING: f"{reading.why}: somebody is becoming the registry, or died on the way",
        State.UNUSABLE: f"{reading.why}: it would be replaced",
        State.VALID: f"names {record.address}, PID {record.pid}" if record else "",
    }
    say(Step("file", f"{place.path} {words[reading.state]}", reading.state is State.VALID))
    if holder:
        say(Step("lock", f"{place.lock_path} is held by {f'PID {holder}' if holder > 0 else 'another process'}", True))
    elif not scope.public:
        say(Step("lock", f"{place.lock_path} is not held: no registry lives here", False))
    if record is None:
        return holder
    try:
        found = contact(scope, place, record)
    except TimeoutError:
        say(Step("contact", f"{record.address} gives no answer", False))
    except ProofError as error:
        say(Step("contact", f"{record.address} is a stranger's: {error}", False))
    except OSError as error:
        say(Step("contact", f"{record.address} cannot be reached: {error.strerror or error}", False))
    else:
        found.sock.close()
        say(Step("contact", f"{found.address} has proved that it is the registry, PID {found.pid} of user {found.uid}", True))
        result.outcome, result.address, result.pid = RUNS, found.address, found.pid
        result.words = f"the registry of PID {found.pid} at {found.address} is used"
    return holder


def _conclude(result: Explanation, scope: Scope, holder: int) -> None:
    decided = policy.policy()
    if holder:
        result.outcome, result.pid = WAITS, max(holder, 0)
        result.words = f"PID {holder} is waited for" if holder > 0 else "another process is waited for"
    elif scope.private:
        result.words = "this private registry cannot be reached, and nobody takes its place"
    elif not decided.start:
        result.words = "no registry runs, and this program does not start one"
    elif scope.owner != os.geteuid():
        result.words = f"no registry runs, and only user {scope.owner} may start it"
    else:
        try:
            words = shlex.join(policy.start_words(decided.start, scope))
            result.outcome = STARTS
            result.words = f"a registry would be started{'' if callable(decided.start) else f': {words}'}"
        except RegistryStartError as error:
            result.words = str(error)
    result.steps.append(Step("start", result.words, result.outcome != FAILS))
