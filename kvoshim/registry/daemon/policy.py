"""Who may find entries and who may register which names, by rules as process/rules.py has them: the registry's say in what is
offered. Behind the last rule, others than the registry's own user and root may do nothing in a user's own registry, and find but
not register in that of the host.
"""

from __future__ import annotations

from typing import Literal

from kvoshim.errors import AccessDeniedError
from kvoshim.process import rules
from kvoshim.process.access import Caller
from kvoshim.registry.entry import Pattern

Action = Literal["find", "register"]


class Rule(rules.Rule, frozen=True, kw_only=True):
    """names: globs, of the names that they want to register."""

    allow: tuple[Action, ...] = ()
    deny: tuple[Action, ...] = ()

    @staticmethod
    def check_name(name: str) -> None:
        Pattern(name)


class Policy(rules.Policy):
    """for_all: anybody may find."""

    daemon = "registry"

    def __init__(self, rules: tuple[Rule, ...] = (), for_all: bool = False) -> None:
        super().__init__(rules)
        self._for_all = for_all

    @property
    def for_others(self) -> bool:
        return self._for_all or super().for_others

    def check_client(self, caller: Caller) -> None:
        """AccessDeniedError if the caller may not even find."""
        for rule in self._rules:
            if rule.concerns(caller) and (rule.allows or "find" in rule.actions):
                if rule.allows:
                    return
                raise AccessDeniedError(f"user {caller.uid} may not use this registry: {rule.title}")
        if not self._for_all and not self.trusts(caller.uid):
            raise AccessDeniedError(f"user {caller.uid} may not use this registry: no rule admits it")
