"""Who may observe what, and who may publish under which name: by rules, as process/rules.py has them.

What a rule refuses, the kernel enforces: whoever may not observe a name is never given the descriptor of its store.
That is as fine as it gets: a descriptor shows all keys of a store. It also has a limit: processes of the
controller's own user could take descriptors from each other's hands (/proc/PID/fd), so for them a rule guards
against mistakes, not against malice.
"""

from __future__ import annotations

import re
from typing import Literal

from kvoshim.kvo.keys import expression
from kvoshim.process import rules

Action = Literal["observe", "publish"]


class Rule(rules.Rule, frozen=True, kw_only=True):
    """About observables of these names; names: patterns, as for keys."""

    allow: tuple[Action, ...] = ()
    deny: tuple[Action, ...] = ()
    names: tuple[str, ...] = ("**",)


class Policy(rules.Policy):
    daemon = "controller"

    @staticmethod
    def matcher(names: tuple[str, ...]):
        return re.compile("|".join(f"(?:{expression(name)})" for name in names), re.DOTALL).fullmatch
