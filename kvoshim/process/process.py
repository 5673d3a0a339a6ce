"""What a daemon's author writes: a subclass of Process that names its configuration model.

    class Settings(process.Configuration, frozen=True, kw_only=True):
        greeting: str = "hello"

    class Greeter(process.Process[Settings]):
        name = "greeter"
        configuration = Settings

    sys.exit(process.main(Greeter))

Everything here is called on the loop's thread, one call at a time. None of it is thread-safe: another thread uses
`loop.call_soon_threadsafe`.
"""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal

from kvoshim.directories import private_directory
from kvoshim.process.loop import Loop
from kvoshim.process.model import Configuration, Model
from kvoshim.process.signals import Handler

if TYPE_CHECKING:
    from kvoshim.process.controller import Controller

Shutdown = Literal["normal", "drain", "now"]


class Process(Generic[Model]):
    """One event-driven program under a controller. The class's attributes say what it is."""

    name: ClassVar[str]  # of its section in the configuration, its sockets and its logger
    configuration: ClassVar[type[Configuration]] = Configuration
    needs_file: ClassVar[bool] = True  # False: it can run by the defaults of its model
    secrets: ClassVar[tuple[str, ...]] = ()  # where its section holds secrets: see process/redaction.py
    loop_factory: ClassVar[Any] = Loop  # or one that gives an asyncio loop

    def __init__(self, controller: Controller) -> None:
        self.controller = controller
        self.arguments = controller.arguments  # the command line's
        self.loop = controller.loop
        self.statistics = controller.statistics
        self.settings: Model = controller.manager.proposed.settings

    # --- before there is a process ---------------------------------------------

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        """Adds options of its own to the command line."""

    @classmethod
    def paths(cls, arguments: argparse.Namespace) -> tuple[str, str]:
        """Where the control socket and the PID file are, unless configuration and command line say otherwise."""
        base = os.path.join(private_directory(), cls.name)
        return f"{base}.ctl", f"{base}.pid"

    @classmethod
    def check(cls, settings: Model) -> None:
        """Refuses, by any exception, what the model lets pass. Has no effects: it is called for config-test and
        --check too, where no process may exist."""

    # --- life ---------------------------------------------

    def configure(self, settings: Model, old: Model | None) -> None:
        """Puts settings in force; old: those so far, None at the start. If it raises, it is called again with the
        two exchanged."""

    def start(self) -> None:
        """Begins work: binds, opens, adds readers and timers to the loop. If it raises, the daemon does not come
        up."""

    def drain(self) -> bool:
        """Takes no new work. True: nothing is under way; otherwise the process calls controller.end() when all is
        done."""
        return True

    def stop(self, how: Shutdown) -> None:
        """Ends everything that configure() and start() began, also when one of them failed half-way. how "now": without
        waiting for anybody."""

    # --- for the world ---------------------------------------------

    def signals(self) -> dict[int, Handler]:
        """Signals that it handles beside SIGHUP, SIGINT and SIGTERM."""
        return {}

    def announcement(self) -> str:
        """What is printed when the daemon is ready, after its name."""
        return f"ready, control socket {self.controller.channel.path}"

    def status(self) -> dict[str, Any]:
        """What status-get tells beyond what it tells of every daemon."""
        return {}
