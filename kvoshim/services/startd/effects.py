"""What is done for units: starting, stopping, ending what is left; and what their processes' ends and times mean."""

from __future__ import annotations

import logging
import os
import signal
import time
from typing import TYPE_CHECKING

from kvoshim.errors import KvoshimError, SpawnerError, SpawnerUnavailableError
from kvoshim.services.core.model import Method
from kvoshim.services.core.restart import End
from kvoshim.services.core.states import ALIVE, STOPPING, UP, Event, Phase
from kvoshim.services.spawner.client import reason
from kvoshim.services.spawner.messages import Record
from kvoshim.services.spawner.ready import Poll, path_is_there
from kvoshim.services.spawner.wire import Flag
from kvoshim.services.startd import launching, tokens
from kvoshim.services.startd.hearing import Hearing
from kvoshim.services.startd.unit import Unit

if TYPE_CHECKING:
    from kvoshim.services.startd.engine import Engine

log = logging.getLogger("kvoshim.startd")

STOP_S = 10.0  # where there is no method "stop"
_LOOK_S = 0.02  # between looks at what is left of a service
_PATH_S = 0.02
_NO_RETRY = 125  # of a method "finish": s6's code for "do not start it again"
_DEFAULT_STOP = Method(exec=(":kill", "SIGTERM"), timeout_s=STOP_S)


def _boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Effects(Hearing):
    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)

    # --- starting ---------------------------------------------

    def spawn(self, unit: Unit) -> None:
        engine = self.engine
        unit.runs_by = unit.view
        unit.set(applied=unit.revision)
        unit.killed = unit.stop_begun = unit.stop_waits = False
        unit.stop_deadline = unit.start_deadline = unit.watchdog = unit.look_at = 0.0
        unit.poll, unit.words, unit.watchdog_s = None, "", unit.wishes.running.watchdog_s
        engine.nodes[unit.name] = unit.node()
        if unit.wishes.milestone(unit.view):
            engine.apply(unit, Event.READY)
            return
        engine.counts["starts"] += 1
        method = unit.view.methods["start"]
        closing: list[int] = []
        try:
            unit.grow(engine.cgroups)
            fds, extra, sockets = self.start_channels(unit, closing)
            entrance = unit.tree.entrance() if hasattr(unit.tree, "entrance") else None
            if entrance is not None:
                closing.append(entrance)
            self._send(unit, tokens.MAIN, unit.status.run, method, fds, extra, sockets, entrance)
        except (SpawnerUnavailableError, MemoryError):
            raise
        except (KvoshimError, OSError) as error:
            engine.failed(unit, End(what=f"it cannot be started: {error}"))
            return
        finally:
            for fd in closing:
                os.close(fd)
        unit.ordered = True
        if method.timeout_s:
            unit.start_deadline = _boot() + method.timeout_s

    def _send(self, unit, role, run, method, fds, extra, sockets=0, cgroup=None) -> None:  # noqa: PLR0913
        known = launching.words(unit.name, self.engine.directory)
        order = launching.order(
            tokens.token(unit.name, role, run), unit.name, method, unit.view, known,
            fds=fds, extra=extra, sockets=sockets, cgroup=cgroup,
        )  # fmt: skip
        self.engine.spawner.spawn(order)

    def helper(self, unit: Unit, role: str, method: Method, extra: dict[str, str] | None = None) -> bool:
        """Runs another method of a unit beside its main process; False if it cannot be run."""
        if role in unit.helpers:
            return True
        run = int(_boot() * 1000)  # another one each time, also for a restarter that knows nothing of earlier ones
        closing: list[int] = []
        try:
            fds = self.log_fds(unit, closing)
            pid = str(unit.status.pid) if unit.status.pid else ""
            self._send(unit, role, run, method, fds, {"KVOSHIM_MAIN_PID": pid, **(extra or {})})
        except SpawnerUnavailableError:
            raise
        except (KvoshimError, OSError) as error:
            unit.words = f"its method {role!r} cannot be run: {error}"
            unit.dirty = True
            return False
        finally:
            for fd in closing:
                os.close(fd)
        unit.helpers[role] = None
        unit.helper_deadlines[role] = _boot() + method.timeout_s if method.timeout_s else 0.0
        return True

    def spawned(self, unit: Unit, role: str, child: Record) -> None:
        if role != tokens.MAIN:
            unit.helpers[role] = child
            return
        if tokens.split(child.token)[1] != unit.status.run & tokens.RUNS:
            return
        unit.ordered = False
        unit.main = child
        unit.planted(child)
        self.runs(unit, child)

    def runs(self, unit: Unit, child: Record, adopted: bool = False) -> None:
        engine, running = self.engine, unit.wishes.running
        unit.set(pid=child.pid)
        now = _boot()
        if adopted and unit.status.phase is Phase.STARTING:
            timeout = unit.view.methods["start"].timeout_s if "start" in unit.view.methods else 0.0
            unit.start_deadline = now + timeout if timeout else 0.0
        if adopted and unit.status.phase in UP:
            self.is_up(unit)
        if running.ready in ("check", "path"):
            every = _PATH_S if running.ready == "path" else running.check_every_s
            method = unit.view.methods.get("check")
            unit.poll = Poll(
                every_s=every, timeout_s=method.timeout_s if method else 5.0, tolerated=running.check_tolerated,
                ready=unit.status.phase in UP, next=now,
            )  # fmt: skip
        if unit.status.phase in STOPPING:
            unit.stop_begun = False
            self.stop(unit)
        elif unit.status.phase is Phase.STARTING and running.kind == "simple" and running.ready == "spawned":
            engine.apply(unit, Event.READY)
        engine.look((unit.name,))

    def not_started(self, unit: Unit, role: str, token: int, why: str) -> None:
        if token:
            unit.to_acknowledge.append(token)
        if role != tokens.MAIN:
            unit.helpers.pop(role, None)
            unit.words = f"its method {role!r} {why}"
            unit.dirty = True
            self.after_helper(unit, role, False, -1)
            return
        unit.ordered = False
        self.engine.failed(unit, End(what=f"its program {why}"))
        self.engine.look((unit.name,))

    def is_up(self, unit: Unit) -> None:
        unit.start_deadline = 0.0
        if unit.watchdog_s:
            unit.watchdog = _boot() + unit.watchdog_s

    # --- stopping ---------------------------------------------

    def stop(self, unit: Unit) -> None:
        """Begins a stop, or waits for those that have to stop before."""
        unit.start_deadline = unit.watchdog = 0.0
        unit.poll = None
        failed = unit.main is not None and not unit.main.alive  # nobody can have anything of it any more
        if not failed and not self.engine.may_stop(unit):
            unit.stop_waits = True
            return
        unit.stop_waits = False
        if unit.stop_begun or unit.ordered:  # an order's answer comes first
            return
        unit.stop_begun = True
        method = unit.view.methods.get("stop", _DEFAULT_STOP)
        if unit.main is None or not unit.main.alive:
            if method.exec[0] != ":kill" and unit.wishes.running.kind == "one-shot":
                self.helper(unit, tokens.STOP, method)
            self.sweep(unit)
            return
        timeout = method.timeout_s
        unit.stop_deadline = _boot() + timeout if timeout else 0.0
        if method.exec[0] != ":kill":
            if self.helper(unit, tokens.STOP, method):
                return
            method = _DEFAULT_STOP
        name = method.exec[1] if len(method.exec) > 1 else "SIGTERM"
        signo = int(name) if name.isdigit() else getattr(signal, name if name.startswith("SIG") else f"SIG{name}", signal.SIGTERM)
        self.signal(unit, signo)

    def signal(self, unit: Unit, signo: int) -> None:
        if unit.wishes.running.whole_tree and unit.tree is not None:
            unit.tree.signal(signo)
            return
        try:
            self.engine.spawner.signal(unit.main.token, signo)
        except SpawnerError as error:
            log.debug("%s: %s", unit.name, error)

    def sweep(self, unit: Unit) -> None:
        """Ends what is there of a unit: SIGTERM, and after a while SIGKILL."""
        unit.start_deadline = unit.watchdog = 0.0
        unit.poll = None
        unit.stop_begun = True
        if unit.ordered:
            return
        left = unit.tree.look() if unit.tree is not None else ()
        if not left and (unit.main is None or not unit.main.alive):
            unit.look_at = 0.0
            return
        now = _boot()
        if not unit.look_at:
            unit.stop_deadline = now + unit.wishes.running.sweep_s
            unit.tree.signal(signal.SIGTERM)
        elif unit.stop_deadline and now >= unit.stop_deadline:
            self.kill(unit)
        unit.look_at = now + _LOOK_S

    def kill(self, unit: Unit) -> None:
        unit.killed = True
        if unit.tree is not None:
            unit.tree.signal(signal.SIGKILL)
        if unit.main is not None and unit.main.alive:
            try:
                self.engine.spawner.signal(unit.main.token, signal.SIGKILL, whole_group=True)
            except SpawnerError as error:
                log.debug("%s: %s", unit.name, error)

    def is_down(self, unit: Unit) -> None:
        """Nothing of it runs any more."""
        if unit.main is not None:
            unit.to_acknowledge.append(unit.main.token)
            unit.main = None
        unit.stop_begun = unit.stop_waits = False
        unit.stop_deadline = unit.look_at = 0.0
        self.close_run_channels(unit)

    # --- ends ---------------------------------------------

    def ended(self, unit: Unit, role: str, child: Record) -> None:
        if role == tokens.MAIN:
            self.main_ended(unit, child)
        else:
            self.helper_ended(unit, role, child)

    def main_ended(self, unit: Unit, child: Record) -> None:
        engine = self.engine
        if tokens.split(child.token)[1] != unit.status.run & tokens.RUNS:
            unit.to_acknowledge.append(child.token)
            return
        unit.ordered = False
        unit.main = child
        if unit.tree is None:
            unit.planted(child)
        self.last_words(unit)
        end = End(status=child.status, core=bool(child.flags & Flag.CORE))
        if unit.capture is not None:
            unit.capture.drain()
        one_shot = unit.wishes.running.kind == "one-shot"
        if "finish" in unit.view.methods:
            extra = {
                "KVOSHIM_EXIT_CODE": str(end.code if end.code is not None else ""),
                "KVOSHIM_EXIT_SIGNAL": str(end.signal or ""),
                "KVOSHIM_MAIN_PID": str(child.pid),
            }
            self.helper(unit, tokens.FINISH, unit.view.methods["finish"], extra)
        if unit.status.phase in STOPPING:
            if unit.killed:
                unit.words = "it did not end when it was asked to, and was killed"
                unit.set(reason=unit.status.reason or unit.words)
            unit.look_at = 0.0
            self.sweep(unit)
        elif one_shot and end.clean and unit.status.phase is Phase.STARTING:
            unit.look_at = 0.0
            unit.to_acknowledge.append(child.token)
            unit.main = None
            engine.apply(unit, Event.READY, "it has done its work")
        else:
            if end.clean and (left := unit.members()):
                some = "1 process of it lives" if left == 1 else f"{left} processes of it live"
                end = End(what=f"its main process ended with code 0 while {some} on: it has to stay in the foreground")
            engine.failed(unit, end)
        engine.look((unit.name,))

    def helper_ended(self, unit: Unit, role: str, child: Record) -> None:
        unit.helpers.pop(role, None)
        unit.helper_deadlines.pop(role, None)
        self.engine.acknowledge(child.token)
        end = End(status=child.status)
        if not end.clean and role != tokens.CHECK:
            unit.words = f"its method {role!r} {reason(child)}"
            unit.dirty = True
        self.after_helper(unit, role, end.clean, end.code)

    def after_helper(self, unit: Unit, role: str, good: bool, code: int | None) -> None:
        engine = self.engine
        if role == tokens.CHECK and unit.poll is not None:
            self.answer(unit, good)
        elif role == tokens.REFRESH and unit.status.phase is Phase.REFRESHING:
            if not good:
                engine.apply(unit, Event.UNWELL, f"its refresh failed: {unit.words}")
            elif not unit.wishes.running.reassert:
                self.refreshed(unit)
        elif role == tokens.STOP and unit.main is not None and unit.main.alive:
            if not good:  # what was to stop it cannot: a signal does
                self.signal(unit, signal.SIGTERM)
        elif role == tokens.FINISH and code == _NO_RETRY:
            engine.apply(unit, Event.GAVE_UP, "its method 'finish' says that it is not to be started again (code 125)")
        engine.look((unit.name,))

    # --- refreshing ---------------------------------------------

    def refresh(self, unit: Unit) -> None:
        method = unit.view.methods.get("refresh")
        unit.start_deadline = _boot() + method.timeout_s if method is not None and method.timeout_s else 0.0
        if method is None:
            self.engine.apply(unit, Event.RESTART, "its configuration has changed")
        elif method.exec[0] == ":kill":
            name = method.exec[1] if len(method.exec) > 1 else "SIGHUP"
            if unit.main is not None:
                self.signal(unit, getattr(signal, name, signal.SIGHUP))
            if not unit.wishes.running.reassert:
                self.refreshed(unit)
        elif not self.helper(unit, tokens.REFRESH, method):
            self.engine.apply(unit, Event.UNWELL, f"its refresh failed: {unit.words}")

    def refreshed(self, unit: Unit) -> None:
        unit.start_deadline = 0.0
        unit.set(applied=unit.revision)
        unit.runs_by = unit.view
        self.engine.apply(unit, Event.REFRESHED)

    # --- times ---------------------------------------------

    def times(self, unit: Unit) -> None:
        """What is due by now."""
        now, engine, status = _boot(), self.engine, unit.status
        if unit.start_deadline and now >= unit.start_deadline:
            unit.start_deadline = 0.0
            if status.phase is Phase.STARTING:
                limit = unit.view.methods["start"].timeout_s
                engine.failed(unit, End(what=f"it was not ready within {limit:g} s ({unit.wishes.running.ready})"))
            elif status.phase is Phase.REFRESHING:
                unit.set(applied=unit.revision)
                engine.apply(unit, Event.UNWELL, "its refresh took longer than it may")
        if unit.watchdog and now >= unit.watchdog and status.phase in UP:
            unit.watchdog = 0.0
            engine.failed(unit, End(what=f"watchdog: it gave no sign of life for {unit.watchdog_s:g} s"))
        if unit.look_at and now >= unit.look_at:
            self.sweep(unit)
        elif unit.stop_deadline and now >= unit.stop_deadline and unit.status.phase in STOPPING and not unit.killed:
            what = "it did not end within the time that it has for that, and was killed"
            unit.set(reason=f"{unit.status.reason}; {what}" if unit.status.reason else what)
            self.kill(unit)
        if unit.poll is not None and unit.status.phase in ALIVE - STOPPING:
            self._ask(unit, now)
        for role, deadline in list(unit.helper_deadlines.items()):
            record = unit.helpers.get(role)
            if deadline and now >= deadline and record is not None:
                unit.helper_deadlines[role] = now + 1.0
                try:
                    engine.spawner.signal(record.token, signal.SIGKILL, whole_group=True)
                except SpawnerError as error:
                    log.debug("%s: %s", unit.name, error)
        if status.phase in UP and status.ready and now - status.ready >= unit.wishes.policy.healthy_s:
            if unit.snapshots_due(True):
                unit.dirty = True

    def _ask(self, unit: Unit, now: float) -> None:
        if not unit.poll.due(now):
            return
        if unit.wishes.running.ready == "path":
            self.answer(unit, path_is_there(unit.wishes.running.ready_path))
        elif self.helper(unit, tokens.CHECK, unit.view.methods["check"]):
            unit.poll = unit.poll.ask(now)
        else:
            self.answer(unit, False)

    def answer(self, unit: Unit, good: bool) -> None:
        unit.poll = unit.poll.answer(good, _boot())
        if unit.poll.ready:
            self.engine.apply(unit, Event.READY)
            if unit.wishes.running.ready == "path":
                unit.poll = None
        elif unit.status.phase in UP:
            if not good and unit.poll.row == 0:
                self.engine.apply(unit, Event.UNWELL, f"its check has failed {unit.poll.tolerated} times in a row")

    def next_time(self, unit: Unit) -> float:
        """When something is due; 0.0: nothing is."""
        status = unit.status
        times = [unit.start_deadline, unit.stop_deadline, unit.watchdog, unit.look_at, *unit.helper_deadlines.values()]
        if status.phase in (Phase.BACKOFF, Phase.WAITING) and status.due > _boot():
            times.append(status.due)
        if unit.poll is not None and unit.poll.asked is None:
            times.append(unit.poll.wakes())
        if status.phase in UP and status.ready and unit.snapshots_due(True):
            times.append(status.ready + unit.wishes.policy.healthy_s)
        if status.phase is Phase.MAINTENANCE and unit.wishes.policy.clear_s and not unit.wishes.problem:
            times.append(_boot() + max(0.0, status.since + unit.wishes.policy.clear_s - time.time()))
        if unit.killed and status.phase in STOPPING:
            times = [one for one in times if one != unit.stop_deadline] + [_boot() + 1.0]
        return min((one for one in times if one), default=0.0)


