"""What a restarter that has just been started makes of what it finds: pure."""

from __future__ import annotations

from typing import Literal

import msgspec

from kvoshim.services.core.states import ALIVE, UP, Phase, Status

What = Literal["nothing", "runs", "ended", "lost", "forget"]


def adopt(status: Status, run: int | None, alive: bool, ready_by_running: bool, without_process: bool) -> tuple[Status, What]:
    """status: as reported. run: of the newest main process that the spawner knows, None: of none. ready_by_running: it is online as
    soon as it runs. without_process: it may be online without (a one-shot service, a milestone).

    "runs": its process goes on. "ended": its end is still to be judged. "forget": its end was reported before. "lost": it should have
    a process and has none. What the reports lag behind is made up for: a process of a later run was started just before the other
    restarter ended."""
    if run is None:
        if status.phase is Phase.STARTING or status.phase is Phase.REFRESHING and without_process:
            return msgspec.structs.replace(status, phase=Phase.WAITING, pid=0), "nothing"  # the order never arrived
        if status.phase in UP and not without_process:
            return status, "lost"
        return status, "nothing"
    later = run != status.run
    if alive:
        if later or status.phase not in ALIVE:
            phase = Phase.STARTING
            status = msgspec.structs.replace(status, run=run, phase=phase, reason="", ready=0.0, cause="")
        return status, "runs"
    if later:
        return msgspec.structs.replace(status, run=run, phase=Phase.STARTING, ready=0.0), "ended"
    if status.phase in ALIVE and not (without_process and status.phase in UP):
        return status, "ended"
    return status, "forget"
