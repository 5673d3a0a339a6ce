"""Who may do what with which names, by the rules of a configuration.

A client is known by what the kernel says of it (SO_PEERCRED, SO_PEERGROUPS). The rules are asked in their order, and the first
that is about this client, this name and what it wants to do decides. Behind the last one, the daemon's own user and root may do
everything, and nobody else anything.

A daemon says which actions there are and what a pattern of names means:

    class Rule(rules.Rule, frozen=True, kw_only=True):
        allow: tuple[Literal["read", "change"], ...] = ()
        deny: tuple[Literal["read", "change"], ...] = ()

    class Policy(rules.Policy):
        daemon = "repository"
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from kvoshim.errors import AccessDeniedError
from kvoshim.process.access import Caller, number_of
from kvoshim.process.model import Section


class Rule(Section, frozen=True, kw_only=True):
    """Admits clients to what they want to do with these names, or refuses them. user, group: name or number; user "*" is
    everybody. names: patterns. rule: what errors call it."""

    rule: str = ""
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    user: str | int | None = None
    group: str | int | None = None
    names: tuple[str, ...] = ("*",)

    def __post_init__(self) -> None:
        if (self.user is None) == (self.group is None):
            raise ValueError("one of user and group is to be given")
        if bool(self.allow) == bool(self.deny):
            raise ValueError("one of allow and deny is to be given")
        for name in self.names:
            self.check_name(name)

    @staticmethod
    def check_name(name: str) -> None:
        """ValueError for what is no pattern of names."""
        if not 1 <= len(name.encode()) <= 255:
            raise ValueError("a name has 1 to 255 bytes")


@dataclass(frozen=True)
class _Rule:
    """A rule with numbers for names."""

    title: str
    allows: bool
    actions: frozenset[str]
    uid: int | None
    gid: int | None
    matches: Callable[[str], Any]

    def concerns(self, caller: Caller) -> bool:
        if self.gid is not None:
            return self.gid in caller.groups
        return self.uid is None or self.uid == caller.uid


class Policy:
    """The rules in force. ConfigurationError for a user or group that there is not."""

    daemon: ClassVar[str] = "daemon"  # what errors call it

    def __init__(self, rules: tuple[Rule, ...] = ()) -> None:
        self._rules = tuple(self._prepared(number, rule) for number, rule in enumerate(rules, 1))

    @staticmethod
    def matcher(names: tuple[str, ...]) -> Callable[[str], Any]:
        """What tells whether a name matches one of the patterns: globs, unless a daemon has others."""
        return re.compile("|".join(map(fnmatch.translate, names))).fullmatch

    def _prepared(self, number: int, rule: Rule) -> _Rule:
        title = f"rule {number} of the access rules" + (f", {rule.rule!r}" if rule.rule else "")
        uid = None if rule.user in (None, "*") else number_of("user", rule.user)
        gid = None if rule.group is None else number_of("group", rule.group)
        return _Rule(title, bool(rule.allow), frozenset(rule.allow or rule.deny), uid, gid, self.matcher(rule.names))

    @staticmethod
    def trusts(uid: int) -> bool:
        """Whether this is the daemon's own user, or root: what they may do is not for the daemon to say."""
        return uid in (0, os.geteuid())

    @property
    def for_others(self) -> bool:
        """Whether anybody else may be a client at all."""
        return any(rule.allows for rule in self._rules)

    def admits(self, caller: Caller, action: str | None = None) -> bool:
        """Whether there is any name with which the caller may do this, or anything."""
        return self.trusts(caller.uid) or any(
            rule.allows and rule.concerns(caller) and (action is None or action in rule.actions) for rule in self._rules
        )

    def allows(self, caller: Caller, action: str, name: str) -> bool:
        return self._decide(caller, action, name)[0]

    def check(self, caller: Caller, action: str, name: str) -> None:
        """AccessDeniedError that names the rule."""
        allowed, why = self._decide(caller, action, name)
        if not allowed:
            raise AccessDeniedError(f"user {caller.uid} may not {action} {name!r}: {why}")

    def check_client(self, caller: Caller) -> None:
        """AccessDeniedError if the caller may do nothing at all."""
        if not self.admits(caller):
            raise AccessDeniedError(f"user {caller.uid} may not use this {self.daemon}: no rule admits it")

    def _decide(self, caller: Caller, action: str, name: str) -> tuple[bool, str]:
        for rule in self._rules:
            if action in rule.actions and rule.concerns(caller) and rule.matches(name):
                return rule.allows, rule.title
        return self.trusts(caller.uid), "no rule admits it"
