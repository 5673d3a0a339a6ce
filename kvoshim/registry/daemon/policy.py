"""Who may find entries and who may register which names: the registry's say in what is offered.

A client is known by what the kernel says of it (SO_PEERCRED, SO_PEERGROUPS). The rules are asked in their order, and the first
that is about this client, this name and what it wants decides. Behind the last one, the registry's own user and root may do
everything; anybody else may do nothing in a user's own registry, and find but not register in that of the host.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from kvoshim import process
from kvoshim.errors import AccessDeniedError
from kvoshim.process.access import Caller, number_of
from kvoshim.registry.entry import Pattern

Action = Literal["find", "register"]


class Rule(process.Section, frozen=True, kw_only=True):
    """Admits clients, or refuses them. user, group: name or number; user "*" is everybody. names: globs, of the names that they
    want to register. rule: what errors call it."""

    rule: str = ""
    allow: tuple[Action, ...] = ()
    deny: tuple[Action, ...] = ()
    user: str | int | None = None
    group: str | int | None = None
    names: tuple[str, ...] = ("*",)

    def __post_init__(self) -> None:
        if (self.user is None) == (self.group is None):
            raise ValueError("one of user and group is to be given")
        if bool(self.allow) == bool(self.deny):
            raise ValueError("one of allow and deny is to be given")
        for name in self.names:
            Pattern(name)


@dataclass(frozen=True)
class _Rule:
    """A rule with numbers for names."""

    title: str
    allows: bool
    actions: frozenset[str]
    uid: int | None
    gid: int | None
    patterns: tuple[Pattern, ...]

    def concerns(self, caller: Caller) -> bool:
        if self.gid is not None:
            return self.gid in caller.groups
        return self.uid is None or self.uid == caller.uid


class Policy:
    """The rules in force. for_all: anybody may find. ConfigurationError for a user or group that there is not."""

    def __init__(self, rules: tuple[Rule, ...] = (), for_all: bool = False) -> None:
        self._for_all = for_all
        self._rules = tuple(_prepared(number, rule) for number, rule in enumerate(rules, 1))

    @staticmethod
    def trusts(uid: int) -> bool:
        """Whether this is the registry's own user, or root: what they may do is not for the registry to say."""
        return uid in (0, os.geteuid())

    @property
    def for_others(self) -> bool:
        """Whether anybody else may be a client at all."""
        return self._for_all or any(rule.allows for rule in self._rules)

    def check_client(self, caller: Caller) -> None:
        """AccessDeniedError if the caller may not even find."""
        for rule in self._rules:
            if rule.concerns(caller) and (rule.allows or "find" in rule.actions):
                if rule.allows:
                    return
                raise AccessDeniedError(f"user {caller.uid} may not use this registry: {rule.title}")
        if not self._for_all and not self.trusts(caller.uid):
            raise AccessDeniedError(f"user {caller.uid} may not use this registry: no rule admits it")

    def check(self, caller: Caller, name: str) -> None:
        """AccessDeniedError, which names the rule, if the caller may not register this name."""
        for rule in self._rules:
            if "register" in rule.actions and rule.concerns(caller) and any(one.matches(name) for one in rule.patterns):
                if rule.allows:
                    return
                raise AccessDeniedError(f"user {caller.uid} may not register {name!r}: {rule.title}")
        if not self.trusts(caller.uid):
            raise AccessDeniedError(f"user {caller.uid} may not register {name!r}: no rule admits it")


def _prepared(number: int, rule: Rule) -> _Rule:
    title = f"rule {number} of the access rules" + (f", {rule.rule!r}" if rule.rule else "")
    uid = None if rule.user in (None, "*") else number_of("user", rule.user)
    gid = None if rule.group is None else number_of("group", rule.group)
    return _Rule(title, bool(rule.allow), frozenset(rule.allow or rule.deny), uid, gid, tuple(map(Pattern, rule.names)))
