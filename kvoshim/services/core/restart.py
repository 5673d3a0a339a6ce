"""When a service that has failed starts again, and when not any more: a policy, and pure functions of it.

The delay grows with each failure in a row, up to a cap, with a jitter so that many do not start in step; it is back at nothing once
the service has been healthy for a while. Too many failures within a window, however far apart, mean maintenance: a person is needed.
What an operator stops is no failure.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from kvoshim.services.core.model import View
from kvoshim.services.core.states import FAILURES_KEPT, Event, Status

GROUP = "restart"
PERMANENT_CODES = (95, 96, 125)  # of SMF's methods (fatal, bad configuration) and of s6's finish scripts


class Policy(msgspec.Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True):
    """on: after which ends it starts again. The first failure after health: at once. Then delay_s, growing by `factor` up to cap_s,
    each shortened or lengthened by up to the part `jitter`. healthy_s: online for so long, its failures are no longer in a row. More
    than `limit` failures in window_s: maintenance; limit 0: never. clear_s: after so long in maintenance it is tried again; 0: never.
    permanent_codes: exit codes that mean maintenance at once."""

    on: Literal["always", "failure", "never"] = "always"
    delay_s: float = 0.1
    factor: float = 2.0
    cap_s: float = 30.0
    jitter: float = 0.1
    healthy_s: float = 10.0
    limit: int = 10
    window_s: float = 600.0
    clear_s: float = 0.0
    permanent_codes: tuple[int, ...] = PERMANENT_CODES


def policy_of(view: View) -> Policy:
    """msgspec.ValidationError, with the property, if the group "restart" is not understood."""
    group = dict(view.groups.get(GROUP, {}))
    if "permanent-codes" in group:
        group["permanent-codes"] = tuple(int(one) for one in group["permanent-codes"])
    policy = msgspec.convert(group, Policy)
    good = policy.delay_s >= 0 and policy.factor >= 1 and policy.cap_s >= 0
    if not (good and 0 <= policy.jitter < 1 and 0 <= policy.limit < FAILURES_KEPT):
        raise msgspec.ValidationError(
            f"delay-s and cap-s are at least 0, factor at least 1, jitter from 0 to below 1, limit from 0 to {FAILURES_KEPT - 1}"
        )
    return policy


class End(msgspec.Struct, frozen=True, kw_only=True):
    """How a service's program ended. status: as os.wait() gives it, None if it was not started or is ended for another reason, which
    `what` then says. core: with a dump."""

    status: int | None = None
    core: bool = False
    what: str = ""

    @property
    def code(self) -> int | None:
        return self.status >> 8 & 0xFF if self.status is not None and not self.status & 0x7F else None

    @property
    def signal(self) -> int | None:
        return (self.status & 0x7F or None) if self.status is not None else None

    @property
    def clean(self) -> bool:
        return not self.what and self.code == 0

    def __str__(self) -> str:
        if self.what:
            return self.what
        if self.signal is not None:
            return f"its main process was ended by signal {self.signal}" + (", with a core dump" if self.core else "")
        return f"its main process ended with code {self.code}"


def delay(policy: Policy, row: int, chance: float) -> float:
    """Seconds before the start after the failure number `row` in a row. chance: 0 to 1, for the jitter."""
    if row <= 1:
        return 0.0
    exponent = min(row - 2, 64)
    grown = min(policy.cap_s, policy.delay_s * policy.factor**exponent)
    return min(policy.cap_s, grown * (1 + policy.jitter * (2 * chance - 1)))


def judge(policy: Policy, status: Status, end: End, now: float, chance: float) -> tuple[Status, Event, str]:
    """What an end that nobody ordered means: the status with this failure counted, the event, its reason. now: on the clock that
    starts at boot."""
    if end.clean and policy.on in ("failure", "never") or policy.on == "never":
        return status, Event.COMPLETED if end.clean else Event.GAVE_UP, str(end)
    healthy = status.ready and now - status.ready >= policy.healthy_s
    row = 1 if healthy else status.row + 1
    failures = tuple(one for one in status.failures if now - one <= policy.window_s)[-FAILURES_KEPT + 1 :] + (now,)
    due = now + delay(policy, row, chance)
    counted = msgspec.structs.replace(status, failures=failures, row=row, due=due)
    if end.code in policy.permanent_codes:
        return counted, Event.GAVE_UP, f"{end}, which means that trying again is of no use"
    if policy.limit and len(failures) > policy.limit:
        return counted, Event.GAVE_UP, f"{len(failures)} failures within {policy.window_s:g} s; the latest: {end}"
    return counted, Event.FAILED, str(end)
