"""Who may read, report and change which services, by rules as process/rules.py has them. Behind the last rule, the daemon's own user
and root may do everything, and nobody else anything."""

from __future__ import annotations

from typing import Literal

from kvoshim.process import rules
from kvoshim.process.access import Caller
from kvoshim.services.core.operations import AnyOperation, Enable, Expect, Report

Action = Literal["read", "report", "enable", "change"]


class Rule(rules.Rule, frozen=True, kw_only=True):
    """names: globs, of services. report: set volatile groups. enable: enable and disable, for good or until the next boot."""

    allow: tuple[Action, ...] = ()
    deny: tuple[Action, ...] = ()


class Policy(rules.Policy):
    daemon = "repository"

    def check_operations(self, caller: Caller, operations: tuple[AnyOperation, ...]) -> None:
        """AccessDeniedError names the first that the caller may not do."""
        if self.trusts(caller.uid) and not self._rules:
            return
        for operation in operations:
            target = getattr(operation, "target", None) or operation.service
            self.check(caller, _ACTIONS.get(type(operation), "change"), target.partition(":")[0])


_ACTIONS: dict[type, Action] = {Expect: "read", Report: "report", Enable: "enable"}
