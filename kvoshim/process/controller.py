"""Brings a process up, keeps it, ends it: everything of a daemon that is not its own work. The steps are in launch.py.

    main() -> Controller.run() --owns--> loop, log, PID file, signals, control channel
                                            ConfigurationManager --owns--> Context
                                            Process
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import msgspec

from kvoshim.errors import ConfigurationError, ControlError, KvoshimError, LaunchError
from kvoshim.process import builtin, launch
from kvoshim.process.access import Caller, Policy, Role
from kvoshim.process.channel import Channel
from kvoshim.process.command import Table, commands_of
from kvoshim.process.envelope import Answer, Request
from kvoshim.process.logs import Log
from kvoshim.process.manager import ConfigurationManager, Context
from kvoshim.process.model import plain
from kvoshim.process.pidfile import PidFile
from kvoshim.process.process import Process, Shutdown
from kvoshim.process.readiness import Notifier
from kvoshim.process.redaction import Redactor, uncovered
from kvoshim.process.signals import Event, SignalQueue
from kvoshim.process.statistics import Statistics

log = logging.getLogger("kvoshim.process")

_FREE_FORM = ("user-context/*",)  # of every daemon's section


class Controller:
    """One daemon, from its command line to its exit code. prog: how it is called in messages."""

    def __init__(self, kind: type[Process], arguments: argparse.Namespace, prog: str = "") -> None:
        self._redactor = Redactor((*kind.secrets, *_FREE_FORM))
        if missing := uncovered(kind.configuration, (*kind.secrets, *_FREE_FORM)):
            raise TypeError(f"{kind.__name__}.secrets does not declare {', '.join(missing)}")
        self.kind = kind
        self.arguments = arguments
        self.prog = prog or kind.name
        self.since = time.time()
        self.state = "starting"
        self.statistics = Statistics()
        self.manager: ConfigurationManager = ConfigurationManager(
            kind.name, kind.configuration, arguments.config or "", self._redactor, self._check, self._apply
        )
        self.log = Log(("kvoshim", kind.name), foreground=not arguments.detach)
        self.table = Table()
        self._exit_code: int = launch.Exit.ENDED
        self._how: Shutdown = "normal"
        self._failure = ""
        self._end = contextlib.ExitStack()  # what is undone at the end, in reverse

    # --- launch ---------------------------------------------

    def read_configuration(self) -> None:
        """Step 2, and the end of step 1. LaunchError."""
        if self.kind.needs_file and not self.manager.path:
            raise launch.CommandLineError("a configuration file is needed: --config FILE")
        with _step(launch.ConfigurationFileError):
            self.manager.propose(self.manager.read)

    def run(self, ready: Callable[[], None] = lambda: None) -> int:
        """Steps 3 to 8, in order; returns the exit code when the daemon has ended. ready: called before the loop
        runs. LaunchError."""
        with self._end:
            try:
                self._launch(ready)
            except LaunchError as error:
                log.error("%s: step %d of the launch: %s", self.prog, error.step, error)
                raise
        return self._exit_code

    def _launch(self, ready: Callable[[], None]) -> None:
        settings = self.manager.proposed.settings
        self.notifier = Notifier(self.arguments.ready_fd)
        with _step(launch.LogError):
            self._end.callback(self.log.close)
            self.log.configure(settings.logging)
        with _step(launch.PidFileError):
            path = self.arguments.pid_file or self.kind.paths(self.arguments)[1]
            self.pid_file = PidFile(path, self.prog)
            self._end.callback(lambda: self.pid_file.release())  # a process may have taken another one
        with _step(launch.SignalError):
            self.loop = self.kind.loop_factory()
            self._end.callback(self.loop.close)
            signals = SignalQueue(self.loop, {number: self._on_signal for number in _SIGNALS})
            self._end.callback(signals.close)
        with _step(launch.StartError):
            self.process = self.kind(self)
            signals.add(self.process.signals())
            self.table.add(self, commands_of(builtin))
            self.table.add(self.process, commands_of(self.kind))
            self._end.callback(self._stop_process)
            self.statistics.keep(settings.statistic_samples)
            self.process.configure(settings, None)
            self.process.start()
            self.manager.accept()
        with _step(launch.ControlChannelError):
            self.channel = Channel(self.loop, self._execute, self.log.clean)
            self._end.callback(self.channel.close)
            self.channel.configure(settings.control_socket, self._control_path(settings))
        self.statistics.measure("signals", lambda: signals.count)
        self.statistics.measure("control-clients", lambda: len(self.channel.clients))
        self._watchdog()
        ready()
        self.state = "running"
        self.notifier.ready(f"serving, control socket {self.channel.path}")
        log.info("%s of PID %d is ready, control socket %s", self.prog, os.getpid(), self.channel.path)
        with _step(launch.RunError):
            self.loop.run_forever()
            if self._failure:
                raise KvoshimError(self._failure)
        log.info("%s ends: %s", self.prog, self.state)

    def _control_path(self, settings: Any) -> str:
        return os.path.abspath(settings.control_socket.path or self.kind.paths(self.arguments)[0])

    def _watchdog(self) -> None:
        if self.notifier.watchdog_s:
            self.notifier.alive()
            self.loop.call_later(self.notifier.watchdog_s, self._watchdog)

    # --- configuration ---------------------------------------------

    def _secrets(self, context: Context | None) -> list[Any]:
        return [] if context is None else self._redactor.secrets(plain(context.settings))

    def _check(self, context: Context) -> None:
        # Those so far as well: what still works with them may have something to say.
        self.log.mask(self._secrets(self.manager.current) + self._secrets(context))
        Policy(context.settings.control_socket.access)
        self.kind.check(context.settings)

    def _apply(self, new: Context, old: Context) -> None:
        """A new configuration for a running daemon."""
        self.log.configure(new.settings.logging)
        self.channel.configure(new.settings.control_socket, self._control_path(new.settings))
        self.statistics.keep(new.settings.statistic_samples)
        self.process.settings = new.settings
        self.process.configure(new.settings, old.settings)

    def change(self, prepare: Callable[[], Context]) -> Context:
        """Puts the context that prepare() gives in force. ConfigurationError: the old one still is."""
        self.notifier.reloading()
        try:
            context = self.manager.change(prepare)
            self.statistics.add("configurations")
            return context
        except ConfigurationError as error:
            self.statistics.add("configurations-refused")
            log.error("the new configuration is not in force, the old one is: %s", error)
            raise
        finally:
            self.notifier.reloaded(f"serving, control socket {self.channel.path}")

    # --- events ---------------------------------------------

    def _on_signal(self, event: Event) -> None:
        if event.number != signal.SIGHUP:
            self.shutdown("now" if self.state == "draining" else "normal")
        elif not self.manager.path:
            log.warning("there is no configuration file to read again")
        else:
            with contextlib.suppress(ConfigurationError):  # it is in the log, and in the answer of status-get
                self.change(self.manager.read)

    def role_of(self, caller: Caller) -> Role:
        """What the caller may do by the rules in force."""
        return self.channel.policy.role_of(caller)

    def _execute(self, request: Request, caller: Caller, role: Role) -> Answer:
        if request.service and self.kind.name not in request.service:
            raise ControlError(f"this is {self.kind.name!r}; the command is meant for {', '.join(request.service)[:64]!r}")
        self.statistics.add("commands")
        try:
            answer = self.table.execute(request.command, request.arguments, caller, role)
        except Exception as error:
            self.statistics.add("commands-refused")
            log.info("command %r of %s refused: %s", request.command[:64], caller, error)
            raise
        level = logging.INFO if self.table.changes(request.command) else logging.DEBUG  # reading is not to fill the log
        log.log(level, "command %r of %s: result %d", request.command, caller, answer.result)
        if role < Role.WRITE:
            answer = Answer(answer.result, self.log.clean(answer.text), _cleaned(answer.arguments, self.log.clean))
        return answer

    # --- the end ---------------------------------------------

    def shutdown(self, how: Shutdown = "normal", exit_code: int = launch.Exit.ENDED) -> None:
        """Ends the daemon after the event that is being handled. how: see the command."""
        self._how, self._exit_code = how, exit_code
        self.notifier.stopping()
        if how == "drain" and self.state != "draining":
            self.state = "draining"
            if not self.process.drain():
                return
        self.end()

    def end(self) -> None:
        """Ends the daemon: a process that drains says that nothing is left to do."""
        self.state = "stopping"
        self.loop.call_soon(self.loop.stop)  # first the answer to the command that asked for it

    def fail(self, problem: str) -> None:
        """Ends the daemon because it cannot go on."""
        self._failure = problem
        self.end()

    def _stop_process(self) -> None:
        try:
            self.process.stop(self._how)
        except Exception:
            log.exception("%s did not end in order", self.prog)


_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def _step(kind: type[LaunchError]):
    """Whatever goes wrong in a step of the launch is that step's exception."""
    try:
        yield
    except LaunchError:
        raise
    except (KvoshimError, OSError, ValueError) as error:
        raise kind(str(error)) from error
    except Exception as error:
        raise kind(f"{type(error).__name__}: {error}") from error


def _cleaned(value: Any, clean: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, msgspec.Struct):
        value = msgspec.to_builtins(value)
    if isinstance(value, dict):
        return {key: _cleaned(item, clean) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(item, clean) for item in value]
    return value
