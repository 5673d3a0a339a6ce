"""What an instance does, what may happen to it, and what follows: one table, phases x events, with an entry for every pair.

A phase is finer than the state that people see: "offline" alone says nothing of whether it waits for others, for its time, or for its
own process. Nothing here has effects or a clock: advance() gives the next status and names what is to be done.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

FAILURES_KEPT = 100  # times of failures that a status remembers


class Phase(StrEnum):
    NEW = "new"  # nobody has looked at it yet
    DISABLED = "disabled"
    WAITING = "waiting"  # for what it depends on
    BACKOFF = "backoff"  # for the time of its next start
    STARTING = "starting"  # its program is ordered or runs, and is not ready
    ONLINE = "online"
    DEGRADED = "degraded"  # it runs and is not well
    REFRESHING = "refreshing"  # it runs and takes its new configuration
    RESTOPPING = "restopping"  # it is stopped, to start again when it may
    DISSTOPPING = "disstopping"  # it is stopped, to stay so
    FAILSTOPPING = "failstopping"  # it is stopped, and a person is needed
    MAINTENANCE = "maintenance"


class Event(StrEnum):
    ENABLED = "enabled"
    DISABLED = "disabled"
    START = "start"  # what it depends on is there, and it is time
    WAIT = "wait"  # it has to wait for what it depends on
    READY = "ready"
    UNWELL = "unwell"  # it runs; a check fails, or somebody has marked it
    FAILED = "failed"  # its program ended, or was not to be had; it may be tried again
    COMPLETED = "completed"  # its program ended as it should, and is not to start again
    GAVE_UP = "gave-up"  # it failed for good: a person is needed
    RESTART = "restart"  # it is to be stopped and started: an operator, a dependency, a new configuration
    REFRESH = "refresh"
    REFRESHED = "refreshed"
    STOPPED = "stopped"  # none of its processes is left
    CLEARED = "cleared"  # an operator says that what was wrong is right


class Effect(StrEnum):
    NONE = ""
    SPAWN = "spawn"
    STOP = "stop"
    SWEEP = "sweep"  # its program has ended: end what is left of its processes
    REFRESH = "refresh"


# Phase -> (state, next state), as people see them.
SHOWN: dict[Phase, tuple[str, str]] = {
    Phase.NEW: ("uninitialized", ""),
    Phase.DISABLED: ("disabled", ""),
    Phase.WAITING: ("offline", ""),
    Phase.BACKOFF: ("offline", "online"),
    Phase.STARTING: ("offline", "online"),
    Phase.ONLINE: ("online", ""),
    Phase.DEGRADED: ("degraded", ""),
    Phase.REFRESHING: ("online", "online"),
    Phase.RESTOPPING: ("online", "offline"),
    Phase.DISSTOPPING: ("online", "disabled"),
    Phase.FAILSTOPPING: ("online", "maintenance"),
    Phase.MAINTENANCE: ("maintenance", ""),
}

UP = frozenset({Phase.ONLINE, Phase.DEGRADED, Phase.REFRESHING})  # what depends on it may run
STOPPING = frozenset({Phase.RESTOPPING, Phase.DISSTOPPING, Phase.FAILSTOPPING})
ALIVE = UP | STOPPING | {Phase.STARTING}  # there may be processes
COMING = frozenset({Phase.NEW, Phase.WAITING, Phase.BACKOFF, Phase.STARTING, Phase.RESTOPPING})  # it comes up by itself

P, E, X = Phase, Event, Effect
Row = dict[Event, tuple[Phase, Effect]]


def _row(phase: Phase, **moves: tuple[Phase, Effect] | Phase) -> Row:
    """Each event: where it leads; those that are not named leave the phase as it is, which is the meaning of a late or repeated
    event."""
    named = {E[name.upper()]: move if isinstance(move, tuple) else (move, X.NONE) for name, move in moves.items()}
    return {event: named.get(event, (phase, X.NONE)) for event in E}


_RUNNING = {
    "disabled": (P.DISSTOPPING, X.STOP),
    "failed": (P.RESTOPPING, X.SWEEP),
    "completed": (P.DISSTOPPING, X.SWEEP),
    "gave_up": (P.FAILSTOPPING, X.STOP),
    "restart": (P.RESTOPPING, X.STOP),
    "wait": (P.RESTOPPING, X.STOP),
}

TABLE: dict[Phase, Row] = {
    P.NEW: _row(P.NEW, enabled=P.WAITING, disabled=P.DISABLED, wait=P.WAITING, gave_up=P.MAINTENANCE),
    P.DISABLED: _row(P.DISABLED, enabled=P.WAITING),
    P.WAITING: _row(P.WAITING, disabled=P.DISABLED, start=(P.STARTING, X.SPAWN), failed=P.BACKOFF, gave_up=P.MAINTENANCE),
    P.BACKOFF: _row(
        P.BACKOFF, disabled=P.DISABLED, start=(P.STARTING, X.SPAWN), gave_up=P.MAINTENANCE, wait=P.WAITING, restart=P.WAITING,
        cleared=P.WAITING,
    ),
    P.STARTING: _row(P.STARTING, **{**_RUNNING, "ready": P.ONLINE, "unwell": P.STARTING}),
    P.ONLINE: _row(P.ONLINE, **_RUNNING, unwell=P.DEGRADED, refresh=(P.REFRESHING, X.REFRESH)),
    P.DEGRADED: _row(P.DEGRADED, **_RUNNING, ready=P.ONLINE, cleared=P.ONLINE, refresh=(P.REFRESHING, X.REFRESH)),
    P.REFRESHING: _row(P.REFRESHING, **_RUNNING, unwell=P.DEGRADED, refreshed=P.ONLINE, ready=P.ONLINE),
    P.RESTOPPING: _row(
        P.RESTOPPING, disabled=P.DISSTOPPING, gave_up=P.FAILSTOPPING, stopped=P.WAITING, failed=(P.RESTOPPING, X.SWEEP),
        completed=(P.RESTOPPING, X.SWEEP),
    ),
    P.DISSTOPPING: _row(
        P.DISSTOPPING, enabled=P.RESTOPPING, stopped=P.DISABLED, failed=(P.DISSTOPPING, X.SWEEP), completed=(P.DISSTOPPING, X.SWEEP),
    ),
    P.FAILSTOPPING: _row(
        P.FAILSTOPPING, disabled=P.DISSTOPPING, stopped=P.MAINTENANCE, cleared=P.RESTOPPING, failed=(P.FAILSTOPPING, X.SWEEP),
        completed=(P.FAILSTOPPING, X.SWEEP),
    ),
    P.MAINTENANCE: _row(P.MAINTENANCE, disabled=P.DISABLED, cleared=P.WAITING),
}  # fmt: skip


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """An instance at one moment. since: Unix time of the phase. cause: why it is stopped, "error" or not, for those that depend on it.
    run: number of its latest start. started, ready, due: seconds on the clock that starts at boot; due: of its next start. failures:
    times of the latest, on that clock. row: failures since it was last healthy. applied: revision of the configuration it goes by."""

    phase: Phase = Phase.NEW
    reason: str = ""
    since: float = 0.0
    cause: str = ""
    run: int = 0
    pid: int = 0
    started: float = 0.0
    ready: float = 0.0
    due: float = 0.0
    failures: tuple[float, ...] = ()
    row: int = 0
    applied: int = 0

    @property
    def state(self) -> str:
        return SHOWN[self.phase][0]

    @property
    def next(self) -> str:
        return SHOWN[self.phase][1]


def advance(status: Status, event: Event, *, unix: float, boot: float, reason: str = "") -> tuple[Status, Effect]:
    """What follows. unix, boot: seconds now, on both clocks."""
    phase, effect = TABLE[status.phase][event]
    changes: dict[str, object] = {}
    if phase is not status.phase:
        changes |= {"phase": phase, "since": unix, "reason": reason}
    elif reason and reason != status.reason and event in (E.WAIT, E.UNWELL, E.GAVE_UP):
        changes["reason"] = reason
    if event in (E.FAILED, E.GAVE_UP):
        changes["cause"] = "error"
    elif event in (E.RESTART, E.DISABLED, E.WAIT) and phase in STOPPING and status.phase not in STOPPING:
        changes["cause"] = "operator" if event is not E.WAIT else "dependency"
    if effect is X.SPAWN:
        changes |= {"run": status.run + 1, "started": boot, "ready": 0.0, "pid": 0, "cause": ""}
    if phase in UP and status.phase not in UP:
        changes["ready"] = boot
    if event in (E.CLEARED, E.ENABLED) and phase is not status.phase:
        changes |= {"failures": (), "row": 0, "due": 0.0}
    if event is E.STOPPED:
        changes["pid"] = 0
        if phase is not status.phase and status.reason:
            changes["reason"] = status.reason
    return msgspec.structs.replace(status, **changes), effect


def to_report(status: Status, token: int) -> dict[str, object]:
    """The properties that the repository keeps of it; from_report() gives the same status again."""
    return {
        "state": status.state, "next": status.next, "phase": str(status.phase), "reason": status.reason, "since": status.since,
        "cause": status.cause, "run": status.run, "pid": status.pid, "token": str(token), "started": status.started,
        "ready": status.ready, "due": status.due, "failures": tuple(f"{one:.6f}" for one in status.failures), "row": status.row,
        "applied": status.applied,
    }  # fmt: skip


def from_report(group: dict[str, object]) -> Status:
    """A status from what was reported; what is missing or makes no sense is as if nobody had looked yet."""
    fields = {name: group[name] for name in Status.__struct_fields__ if name in group}
    try:
        fields["failures"] = tuple(float(one) for one in fields.get("failures", ()))
        return msgspec.convert(fields, Status)
    except (ValueError, TypeError, msgspec.ValidationError):
        return Status()
