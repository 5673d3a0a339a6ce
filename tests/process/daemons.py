"""A daemon that the tests of the process layer start as a program of its own: `python daemons.py KIND [OPTIONS]`."""

import asyncio
import selectors as standard
import signal
import sys

from kvoshim import process, selectors


class Database(process.Section, frozen=True, kw_only=True):
    host: str = "localhost"
    password: str = ""


class Settings(process.Configuration, frozen=True, kw_only=True):
    greeting: str = "hello"
    database: Database = Database()
    refuse: str = ""  # "check", "configure", "both ways", "start", "run": where to fail


class Fill(process.Arguments):
    size: int


class Greeter(process.Process[Settings]):
    """Greets, and fails where it is told to."""

    name = "greeter"
    configuration = Settings
    secrets = ("database",)

    @classmethod
    def check(cls, settings):
        if settings.refuse == "check":
            raise ValueError(f"no use for {settings.greeting!r} and {settings.database.password}")

    def configure(self, settings, old):
        if settings.refuse == "configure" or settings.refuse == "both ways" and old is not None:
            raise OSError(f"{settings.greeting!r} cannot be said with {settings.database.password}")
        if old is not None and old.refuse == "both ways":
            raise OSError("nor taken back")

    def start(self):
        if self.settings.refuse == "start":
            raise RuntimeError("no start")
        if self.settings.refuse == "run":
            self.loop.call_soon(self.controller.fail, "lost what it needs")
        self.events = []

    def drain(self):
        return self.settings.greeting != "wait"

    def stop(self, how):
        print(f"stopped: {how}", flush=True)

    def signals(self):
        return {signal.SIGUSR1: self.on_usr1, signal.SIGUSR2: self.on_usr2}

    def on_usr1(self, event):
        self.events.append([event.sequence, event.name])

    def on_usr2(self, event):
        raise RuntimeError("a handler's own fault")

    def status(self):
        return {"events": self.events}

    @process.command("greet", access="read", brief="Says the greeting.", returns="{greeting}")
    def greet(self, arguments, caller):
        return {"greeting": self.settings.greeting}

    @process.command("leak", access="read", brief="Tells what it must not.")
    def leak(self, arguments, caller):
        return {"told": [f"the password is {self.settings.database.password}"]}

    @process.command("fill", access="read", brief="Gives a large answer.", arguments=Fill)
    def fill(self, arguments, caller):
        return {"text": "x" * arguments.size}

    @process.command("crash", access="write", brief="Meets a bug.")
    def crash(self, arguments, caller):
        raise ZeroDivisionError(f"with {self.settings.database.password}")

    @process.command("done", access="write", brief="Says that draining is over.")
    def done(self, arguments, caller):
        self.controller.end()

    @process.command("not-json", access="read", brief="Answers what is no JSON.")
    def not_json(self, arguments, caller):
        return {"x": object()}


class OnAsyncio(Greeter):
    """The same on an asyncio loop."""

    @staticmethod
    def loop_factory():
        return asyncio.SelectorEventLoop(selectors.DefaultSelector())


class OnStandardSelector(Greeter):
    """The same on a loop that cannot see whether a ring has room."""

    @staticmethod
    def loop_factory():
        return process.Loop(standard.DefaultSelector())


class OnUvloop(Greeter):
    """The same on uvloop, which has its own ways with signals and descriptors."""

    @staticmethod
    def loop_factory():
        import uvloop

        return uvloop.new_event_loop()


class Optional(Greeter):
    """The same, but it can run without a file."""

    needs_file = False


KINDS = {
    "greeter": Greeter,
    "asyncio": OnAsyncio,
    "standard": OnStandardSelector,
    "uvloop": OnUvloop,
    "optional": Optional,
}

if __name__ == "__main__":
    sys.exit(process.main(KINDS[sys.argv[1]], sys.argv[2:]))
