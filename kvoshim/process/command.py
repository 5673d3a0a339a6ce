"""Commands of the control channel. One record a command says what it is called, who may give it, what it takes and
what it does; help, documentation, the check of the arguments and access control all read that record."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from kvoshim.errors import ControlError
from kvoshim.process.access import Caller, Role
from kvoshim.process.envelope import Answer, Result


class Arguments(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """What a command takes; base of each command's own. Unknown arguments are refused."""


class NoArguments(Arguments):
    """The command takes none."""


@dataclass(frozen=True)
class Command:
    """name: words joined by hyphens. brief: a sentence. returns: what the answer holds. since: the project's version.
    arguments: the model of what it takes; dict: any object. handler(owner, arguments, caller): gives what the answer
    is to hold, or the Answer; ControlError refuses."""

    name: str
    access: Literal["read", "write"]
    brief: str
    returns: str
    since: str
    arguments: type
    handler: Callable[[Any, Any, Caller], Answer | dict[str, Any] | None]

    def describe(self) -> dict[str, Any]:
        """The record as JSON."""
        return {
            "name": self.name,
            "access": self.access,
            "brief": self.brief,
            "returns": self.returns,
            "since": self.since,
            "arguments": self.parameters(),
        }

    def parameters(self) -> list[dict[str, Any]]:
        """The arguments: name, type in words, whether it must be given."""
        if not issubclass(self.arguments, msgspec.Struct):
            return []
        return [
            {"name": field.encode_name, "type": _words(field.type), "required": field.required}
            for field in msgspec.inspect.type_info(self.arguments).fields
        ]


def _words(kind: msgspec.inspect.Type) -> str:
    inspect = msgspec.inspect
    if isinstance(kind, inspect.UnionType):
        return " or ".join(_words(one) for one in kind.types)
    if isinstance(kind, inspect.LiteralType):
        return " or ".join(repr(value) for value in kind.values).replace("'", '"')
    names = {
        inspect.StrType: "text",
        inspect.IntType: "whole number",
        inspect.FloatType: "number",
        inspect.BoolType: "true or false",
        inspect.NoneType: "null",
        inspect.DictType: "object",
        inspect.StructType: "object",
        inspect.ListType: "list",
    }
    return names.get(type(kind), "any value")


def command(
    name: str,
    *,
    access: Literal["read", "write"],
    brief: str,
    arguments: type = NoArguments,
    returns: str = "nothing",
    since: str = "0.1",
) -> Callable:
    """Makes a function, or a method of a process, the handler of a command."""

    def decorate(function: Callable) -> Callable:
        function.command = Command(name, access, brief, returns, since, arguments, function)
        return function

    return decorate


def commands_of(owner: object) -> list[Command]:
    """The commands that a class or a module declares, those of base classes included."""
    found = {}
    for name in dir(owner):
        record = getattr(getattr(owner, name, None), "command", None)
        if isinstance(record, Command):
            found[record.name] = record
    return list(found.values())


class Table:
    """The commands of one daemon. Each is called with the owner that it was added with."""

    def __init__(self) -> None:
        self._commands: dict[str, tuple[Command, object]] = {}

    def add(self, owner: object, commands: Iterable[Command]) -> None:
        """A name that is there already goes to the new owner: a process may have its own `status-get`."""
        for one in commands:
            self._commands[one.name] = one, owner

    def names(self, role: Role) -> list[str]:
        """What a caller with this role may use."""
        return sorted(name for name, (one, _) in self._commands.items() if role >= Role[one.access.upper()])

    def describe(self, role: Role) -> list[dict[str, Any]]:
        return [self._commands[name][0].describe() for name in self.names(role)]

    def changes(self, name: str) -> bool:
        """Whether the command needs the role write."""
        return self._commands[name][0].access == "write"

    def execute(self, name: str, arguments: Any, caller: Caller, role: Role) -> Answer:
        """Checks the role, then the arguments, then does it. ControlError."""
        if name not in self._commands:
            near = difflib.get_close_matches(name[:64], self.names(role), 1)
            hint = f"; do you mean {near[0]!r}?" if near else ""
            raise ControlError(f"there is no command {name[:64]!r}{hint}", Result.UNSUPPORTED)
        record, owner = self._commands[name]
        if role < Role[record.access.upper()]:
            raise ControlError(f"{name!r} needs the role {record.access!r}, which user {caller.uid} does not have")
        answer = record.handler(owner, _converted(record, arguments), caller)
        return answer if isinstance(answer, Answer) else Answer(Result.OK, arguments=answer)


def _converted(record: Command, arguments: Any) -> Any:
    given = {} if arguments is None else arguments
    if not isinstance(given, dict):
        raise ControlError(f"the arguments of {record.name!r} are a JSON object")
    if not issubclass(record.arguments, msgspec.Struct):
        return given
    try:
        return msgspec.convert(given, record.arguments)
    except msgspec.ValidationError as error:
        raise ControlError(f"arguments of {record.name!r}: {error}") from None
