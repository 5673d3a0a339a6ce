"""Who may observe what, and who may publish under which name.

A client is known by what the kernel says of it (SO_PEERCRED, SO_PEERGROUPS). The rules are asked in their order, and the
first that is about this client, this name and what it wants to do decides. Behind the last one, the controller's own
user and root may do everything, and nobody else anything.

What a rule refuses, the kernel enforces: whoever may not observe a name is never given the descriptor of its store.
That is as fine as it gets: a descriptor shows all keys of a store. It also has a limit: processes of the
controller's own user could take descriptors from each other's hands (/proc/PID/fd), so for them a rule guards
against mistakes, not against malice.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Literal

from kvoshim import process
from kvoshim.errors import AccessDeniedError
from kvoshim.kvo.keys import expression
from kvoshim.process.access import Caller, number_of

Action = Literal["observe", "publish"]


class Rule(process.Section, frozen=True, kw_only=True):
    """Admits clients to what they want to do with observables of these names, or refuses them. user, group: name or
    number; user "*" is everybody. names: patterns, as for keys. rule: what errors call it."""

    rule: str = ""
    allow: tuple[Action, ...] = ()
    deny: tuple[Action, ...] = ()
    user: str | int | None = None
    group: str | int | None = None
    names: tuple[str, ...] = ("**",)

    def __post_init__(self) -> None:
        if (self.user is None) == (self.group is None):
            raise ValueError("one of user and group is to be given")
        if bool(self.allow) == bool(self.deny):
            raise ValueError("one of allow and deny is to be given")
        if not all(1 <= len(name.encode()) <= 255 for name in self.names):
            raise ValueError("a name has 1 to 255 bytes")


@dataclass(frozen=True)
class _Rule:
    """A rule with numbers for names."""

    title: str
    allows: bool
    actions: frozenset[str]
    uid: int | None
    gid: int | None
    matches: re.Pattern[str]

    def concerns(self, caller: Caller) -> bool:
        if self.gid is not None:
            return self.gid in caller.groups
        return self.uid is None or self.uid == caller.uid


class Policy:
    """The rules in force. ConfigurationError for a user or group that there is not."""

    def __init__(self, rules: tuple[Rule, ...] = ()) -> None:
        self._rules = tuple(_prepared(number, rule) for number, rule in enumerate(rules, 1))

    @staticmethod
    def trusts(uid: int) -> bool:
        """Whether this is the controller's own user, or root: what they may do is not for the controller to say."""
        return uid in (0, os.geteuid())

    @property
    def for_others(self) -> bool:
        """Whether anybody else may be a client at all."""
        return any(rule.allows for rule in self._rules)

    def admits(self, caller: Caller, action: Action | None = None) -> bool:
        """Whether there is any name with which the caller may do this, or anything."""
        return self.trusts(caller.uid) or any(
            rule.allows and rule.concerns(caller) and (action is None or action in rule.actions) for rule in self._rules
        )

    def allows(self, caller: Caller, action: Action, name: str) -> bool:
        return self._decide(caller, action, name)[0]

    def check(self, caller: Caller, action: Action, name: str) -> None:
        """AccessDeniedError that names the rule."""
        allowed, why = self._decide(caller, action, name)
        if not allowed:
            raise AccessDeniedError(f"user {caller.uid} may not {action} {name!r}: {why}")

    def check_client(self, caller: Caller) -> None:
        """AccessDeniedError if the caller may do nothing at all."""
        if not self.admits(caller):
            raise AccessDeniedError(f"user {caller.uid} may not use this controller: no rule admits it")

    def _decide(self, caller: Caller, action: Action, name: str) -> tuple[bool, str]:
        for rule in self._rules:
            if action in rule.actions and rule.concerns(caller) and rule.matches.fullmatch(name):
                return rule.allows, rule.title
        return self.trusts(caller.uid), "no rule admits it"


def _prepared(number: int, rule: Rule) -> _Rule:
    title = f"rule {number} of the access rules" + (f", {rule.rule!r}" if rule.rule else "")
    uid = None if rule.user in (None, "*") else number_of("user", rule.user)
    gid = None if rule.group is None else number_of("group", rule.group)
    names = re.compile("|".join(f"(?:{expression(name)})" for name in rule.names), re.DOTALL)
    return _Rule(title, bool(rule.allow), frozenset(rule.allow or rule.deny), uid, gid, names)
