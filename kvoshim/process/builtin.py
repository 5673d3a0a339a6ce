"""The commands of every daemon. Their owner is the controller."""

from __future__ import annotations

import os
import platform
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from kvoshim.errors import ControlError, PartlyAppliedError
from kvoshim.process.access import Caller, Role
from kvoshim.process.command import Arguments, NoArguments, command
from kvoshim.process.envelope import Answer, Result
from kvoshim.process.jsontext import Document
from kvoshim.process.manager import Context

if TYPE_CHECKING:
    from kvoshim.process.controller import Controller


class ListCommands(Arguments):
    verbose: bool = False


@command("list-commands", access="read", brief="Tells which commands the caller may give.", arguments=ListCommands,
         returns="the names; with verbose, each command's record")  # fmt: skip
def list_commands(controller: Controller, arguments: ListCommands, caller: Caller) -> Answer:
    role = controller.role_of(caller)
    table = controller.table
    return Answer(Result.OK, arguments=table.describe(role) if arguments.verbose else table.names(role))


# --- configuration ---------------------------------------------


@command("config-get", access="read", brief="Gives the configuration in force, defaults included.",
         returns="{module: section, hash}; for callers that may not write, secrets are masked, and the hash is that of the "
         "masked configuration")  # fmt: skip
def config_get(controller: Controller, arguments: NoArguments, caller: Caller) -> dict[str, Any]:
    whole = controller.role_of(caller) >= Role.WRITE
    return {**controller.manager.shown(whole=whole), "hash": controller.manager.hash(whole=whole)}


@command("config-hash-get", access="read", brief="Gives the hash of the configuration in force.", returns="{hash}")
def config_hash_get(controller: Controller, arguments: NoArguments, caller: Caller) -> dict[str, str]:
    return {"hash": controller.manager.hash(whole=controller.role_of(caller) >= Role.WRITE)}


def _proposed(controller: Controller, given: dict[str, Any]) -> Context:
    """The context that a config-set or config-test asks for. ControlError with CONFLICT if its hash is not that in
    force."""
    manager = controller.manager
    given = dict(given)
    expected = given.pop("hash", None)
    if set(given) != {manager.module}:
        raise ControlError(f'the arguments are {{"{manager.module}": {{…}}}}, and a hash if you like')
    if expected is not None and expected != manager.current.hash:
        raise ControlError(f"the configuration in force has another hash: {manager.current.hash}", Result.CONFLICT)
    return manager.prepare(Document("command", {**manager.current.document, **given}), "the control channel")


def _merged(value: Any, patch: Any) -> Any:
    """RFC 7396: objects are merged, null removes a key, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(value) if isinstance(value, dict) else {}
    for key, item in patch.items():
        if item is None:
            merged.pop(key, None)
        else:
            merged[key] = _merged(merged.get(key), item)
    return merged


def _changed(controller: Controller, prepare) -> Answer:
    try:
        context = controller.change(prepare)
    except PartlyAppliedError as error:
        raise ControlError(str(error), Result.PARTLY) from error
    return Answer(Result.OK, "the configuration is in force", {"hash": context.hash})


@command("config-test", access="write", brief="Checks a configuration and changes nothing.", arguments=dict,
         returns="{hash} that it would have")  # fmt: skip
def config_test(controller: Controller, arguments: dict, caller: Caller) -> Answer:
    return Answer(Result.OK, "the configuration is valid", {"hash": _proposed(controller, arguments).hash})


@command("config-set", access="write", brief="Puts a configuration in force, in memory only; with a hash, only if that is "
         "the present one's.", arguments=dict, returns="{hash}; the old one stays in force if this one fails")  # fmt: skip
def config_set(controller: Controller, arguments: dict, caller: Caller) -> Answer:
    return _changed(controller, lambda: _proposed(controller, arguments))


@command("config-merge", access="write", brief="Changes the keys given and leaves the others (RFC 7396: null takes a key "
         "back to its default), else as config-set.", arguments=dict, returns="{hash}")  # fmt: skip
def config_merge(controller: Controller, arguments: dict, caller: Caller) -> Answer:
    module = controller.manager.module
    given = dict(arguments)
    if module in given:
        given[module] = _merged(controller.manager.current.document[module], given[module])
    return _changed(controller, lambda: _proposed(controller, given))


@command("config-reload", access="write", brief="Reads the configuration file again, as SIGHUP does.",
         returns="{hash}; the old one stays in force if this one fails")  # fmt: skip
def config_reload(controller: Controller, arguments: NoArguments, caller: Caller) -> Answer:
    if not controller.manager.path:
        raise ControlError("this daemon was started without a configuration file")
    return _changed(controller, controller.manager.read)


class ConfigWrite(Arguments):
    filename: str = ""


@command("config-write", access="write", brief="Writes the configuration in force to a file beside the one it was started "
         "with (default: that one).", arguments=ConfigWrite, returns="{filename, size}")  # fmt: skip
def config_write(controller: Controller, arguments: ConfigWrite, caller: Caller) -> dict[str, Any]:
    path = controller.manager.write(arguments.filename)
    return {"filename": path, "size": os.path.getsize(path)}


# --- state ---------------------------------------------


@command("status-get", access="read", brief="Tells how the daemon is.",
         returns="pid, uptime, reload (seconds since the configuration changed), state, configuration, control, and what the "
         "process adds")  # fmt: skip
def status_get(controller: Controller, arguments: NoArguments, caller: Caller) -> dict[str, Any]:
    manager = controller.manager
    return {
        "pid": os.getpid(),
        "uptime": round(time.time() - controller.since, 3),
        "reload": round(time.time() - manager.current.since, 3),
        "state": controller.state,
        "configuration": {
            "source": manager.current.source,
            "hash": manager.hash(whole=controller.role_of(caller) >= Role.WRITE),
            "failure": controller.log.clean(manager.failure),
        },
        "control": {
            "path": controller.channel.path,
            "clients": len(controller.channel.clients),
            "refused": controller.channel.refused,
            "role": controller.role_of(caller).name.lower(),
        },
        **controller.process.status(),
    }


@command("version-get", access="read", brief="Tells the version.", returns="the version as text; {extended}")
def version_get(controller: Controller, arguments: NoArguments, caller: Caller) -> Answer:
    return Answer(Result.OK, version_of("kvoshim"), {"extended": version_text(controller.kind)})


@command("build-report", access="read", brief="Tells what the daemon is made of.", returns="lines of text")
def build_report(controller: Controller, arguments: NoArguments, caller: Caller) -> Answer:
    return Answer(Result.OK, build_text(type(controller.process)))


def version_of(package: str) -> str:
    import importlib.metadata  # takes longer than all else that a daemon loads

    return importlib.metadata.version(package)


def version_text(kind: type) -> str:
    return f"{kind.name} of kvoshim {version_of('kvoshim')}"


def build_text(kind: type) -> str:
    """What a daemon is made of, a line a fact."""
    facts = {
        kind.name: f"{kind.__module__}.{kind.__qualname__}",
        "kvoshim": version_of("kvoshim"),
        "msgspec": version_of("msgspec"),
        "Python": f"{platform.python_version()} ({sys.executable})",
        "system": platform.platform(),
    }
    return "\n".join(f"{name}: {fact}" for name, fact in facts.items())


# --- statistics ---------------------------------------------


class StatisticName(Arguments):
    name: str


class StatisticGetAll(Arguments):
    format: Literal["samples", "prometheus"] = "samples"


class StatisticReset(Arguments):
    name: str | None = None


@command("statistic-get", access="read", brief="Gives one statistic with its history, newest first.", arguments=StatisticName,
         returns="{name: [[value, time], …]}")  # fmt: skip
def statistic_get(controller: Controller, arguments: StatisticName, caller: Caller) -> dict[str, Any]:
    return controller.statistics.get(arguments.name)


@command("statistic-get-all", access="read", brief="Gives all statistics.", arguments=StatisticGetAll,
         returns="{name: [[value, time], …], …}; with format prometheus, the newest values as text")  # fmt: skip
def statistic_get_all(controller: Controller, arguments: StatisticGetAll, caller: Caller) -> Answer:
    if arguments.format == "prometheus":
        return Answer(Result.OK, controller.statistics.exposition(controller.process.name))
    return Answer(Result.OK, arguments=controller.statistics.get_all())


@command("statistic-reset", access="write", arguments=StatisticReset,
         brief="Begins one statistic, or all of them, anew: at 0, or at what is measured.")  # fmt: skip
def statistic_reset(controller: Controller, arguments: StatisticReset, caller: Caller) -> None:
    controller.statistics.reset(arguments.name)


# --- the end ---------------------------------------------


class Shutdown(Arguments):
    type: Literal["normal", "drain", "now"] = "normal"
    exit_value: Annotated[int, msgspec.Meta(ge=0, le=125)] = 0


@command("shutdown", access="write", brief="Ends the daemon: in order (normal), when the work under way is done (drain), or "
         "without waiting for anybody (now).", arguments=Shutdown)  # fmt: skip
def shutdown(controller: Controller, arguments: Shutdown, caller: Caller) -> Answer:
    controller.shutdown(arguments.type, arguments.exit_value)
    return Answer(Result.OK, f"{controller.process.name} is {controller.state}")
