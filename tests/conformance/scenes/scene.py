"""What scenes share. A scene drives real servers and clients, and notes each thing that it sees.

Each note is a test of the suite: its name holds what was seen, so that a note that is different under the library is a
test that passes on kernel sockets only. Because a library that always falls back would pass that, a scene also says how
many connections it opens on which path, and these counts are tests too: on kernel sockets they hold by definition, under the
library its log must name just as many.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import sys
import time
from pathlib import Path

import shimlib
from conformance.obtain import program
from conformance.suite import Result

PROGRAMS = Path(__file__).parent.parent / "programs"


class Side:
    """How programs of one side (servers or clients) are started under the library; the `shim` of shimlib's functions."""

    def __init__(self, environment: dict[str, str], log: shimlib.Log):
        self.environment, self.log = environment, log

    def env(self, **extra: str) -> dict[str, str]:
        return {**self.environment, **extra}


class World:
    """One run of one scene: its directory, which sides are under the library ("both", "server", "client"; of importance
    only where the environment preloads it), and what was seen so far. environment: the one that was given, with a library
    that every user can load."""

    def __init__(self, environment: dict[str, str], directory: Path, sides: str):
        self.directory, self.sides = directory, sides
        self.log, side = None, None
        if "LD_PRELOAD" in environment:
            self.log = shimlib.Log(Path(environment["KVOSHIM_LOG_FILE"]))
            # Users of all kinds must be able to load the library, wherever the project's virtual environment lies.
            library = shutil.copy(environment["LD_PRELOAD"], directory / "libkvoshim.so")
            side = Side({**environment, "LD_PRELOAD": str(library)}, self.log)
        self.environment = side.environment if side else environment
        self.server_side = side if sides in ("both", "server") else None
        self.client_side = side if sides in ("both", "client") else None
        self.result = Result()
        self._outputs = 0

    def __truediv__(self, name: str) -> Path:
        return self.directory / name

    def new_dir(self, name: str) -> Path:
        """A directory in which a server of any user may make its socket."""
        path = self / name
        path.mkdir()
        path.chmod(0o777)
        return path

    def step(self, name: str, seen: object) -> None:
        """Note what was seen; the directory's name, which differs from run to run, is taken out."""
        if isinstance(seen, bytes):
            seen = seen.decode(errors="backslashreplace")
        text = str(seen).replace(str(self.directory), "HERE")
        self.result.text += f"{name}: {text}\n"
        if len(text) > 200:
            text = f"{text[:150]!r}... ({len(text)} characters, {hashlib.sha256(text.encode()).hexdigest()[:16]})"
        self.result.passed.add(f"{name}: {text}")

    def serve(self, cmd: list, **options) -> shimlib.Server:
        """A server, for the length of a `with` block."""
        return self._start(cmd, self.server_side, options)

    def stay(self, cmd: list, **options) -> shimlib.Server:
        """A client that stays, for the length of a `with` block."""
        return self._start(cmd, self.client_side, options)

    def _start(self, cmd: list, side: Side | None, options: dict) -> shimlib.Server:
        self._outputs += 1
        cmd = [str(word) for word in cmd]
        return shimlib.Server(cmd, side, self / f"{Path(cmd[0]).name}{self._outputs}.out", **options)

    def ask(self, cmd: list, **options) -> shimlib.Result:
        """Run a client to its end."""
        return shimlib.run([str(word) for word in cmd], self.client_side, **options)

    def script(self, name: str, *words: object, timeout: float = 100) -> None:
        """Run the client programs/NAME.py; each line that it prints is noted."""
        done = self.ask([sys.executable, PROGRAMS / f"{name}.py", *words], timeout=timeout).check()
        for line in done.out.decode().splitlines():
            self.step(name, line)

    def opened(self, path: Path | str, count: int, *sides: str, more: int = 0, early: bool = False) -> None:
        """State that the scene has opened `count` connections (`more` at most beyond that) on a path, and that each is to
        be seen switched by `sides` (default both). With the library on one side only, none may be. early: their server
        shuts them down behind the only answer, so whether they had switched before is a matter of who was faster; those
        that had not must be logged with that reason, and some must have switched. One that carries a single answer is
        switched by its client alone: count such a one there."""
        for side in sides or ("client", "server"):
            name = f"connections on {Path(path).name}, {side}: as many accelerated as opened"
            fail = ""
            if self.log and self.sides == "both":
                got = self.log.wait_accelerated(count, side, timeout=1 if early else 10, path=str(path))
                if early and got:
                    got += self.log.plain_reasons(side, path=str(path)).get("withdrawn", 0)
                if not count <= got <= count + more:
                    fail = f"{got} of {count}, plain: {self.log.plain_reasons(side, path=str(path))}"
            elif self.log and (got := self.log.accelerated(side, path=str(path))):
                fail = f"{got} accelerated with the library on one side only"
            (self.result.failed if fail else self.result.passed).add(name)
            self.result.text += f"{name}: {fail or 'yes'}\n"

    def refused(self, path: Path | str, side: str, reason: str, least: int = 1) -> None:
        """State that connections on a path stay on the kernel with both ends under the library, as `side` says, and why."""
        name = f"connections on {Path(path).name}, {side}: plain, {reason}"
        reasons = self.log.plain_reasons(side, path=str(path)) if self.log and self.sides == "both" else {reason: least}
        right = set(reasons) == {reason} and reasons[reason] >= least
        (self.result.passed if right else self.result.failed).add(name)
        self.result.text += f"{name}: {reasons}\n"


def wait_for(what: str, ready, timeout: float = 30) -> None:
    """Wait until ready() is true. Raises AssertionError after `timeout` seconds."""
    end = time.monotonic() + timeout
    while not ready():
        assert time.monotonic() < end, f"{what}: not within {timeout} s"
        time.sleep(0.01)


def listens(path: object) -> bool:
    """Whether a stream socket listens on this path (a leading @ stands for an abstract name); bound is not enough."""
    lines = (line.split(None, 7) for line in Path("/proc/net/unix").read_text().splitlines())
    return any(len(words) == 8 and words[7] == str(path) and int(words[3], 16) & 0x10000 for words in lines)


def run_as(user: str) -> list[str]:
    """Words before a command that make it run as `user`; none where we are not root, so that there is no choice."""
    if os.geteuid() != 0:
        return []
    entry = pwd.getpwnam(user)
    return [program("setpriv"), f"--reuid={user}", f"--regid={entry.pw_gid}", "--init-groups", "--"]
