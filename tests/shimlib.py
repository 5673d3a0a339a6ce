"""What tests of the preload library share: start programs plain or shimmed, read the library's log, compare.

A test runs one and the same program twice, on kernel sockets and under the library, and compares everything that it
printed; and because a library that always falls back would pass that, it also counts the connections that the library
says it accelerated.
"""

from __future__ import annotations

import collections
import importlib.resources
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

#: Variables that would change what a program under test does.
_SCRUBBED = ("LD_PRELOAD", "USE_TSSX")


def library() -> Path:
    """The installed preload library.

    Raises FileNotFoundError if the package was built without it.
    """
    path = Path(str(importlib.resources.files("kvoshim") / "libkvoshim.so"))
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: run scripts/setup")
    return path


#: What goes into LD_PRELOAD beside the library: the runtime of scripts/sanitize, which says there which comes first.
_RUNTIME = os.environ.get("SANITIZER_RUNTIME", "")
_RUNTIME_FIRST = os.environ.get("SANITIZER") == "address"


def plain_env(**extra: str) -> dict[str, str]:
    """This process's environment without anything that concerns the shim, plus `extra`. Connections switch at their first
    bytes, unless `extra` says otherwise, since tests talk little. A sanitizer's runtime stays in LD_PRELOAD, beside what `extra`
    names there."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("KVOSHIM_") and k not in _SCRUBBED}
    env["KVOSHIM_WARMUP"] = "0"
    env.update(extra)
    if _RUNTIME:
        both = (_RUNTIME, env.get("LD_PRELOAD", ""))
        env["LD_PRELOAD"] = ":".join(filter(None, both if _RUNTIME_FIRST else reversed(both)))
    return env


_LINE = re.compile(r"^kvoshim\[(?P<pid>\d+) (?P<comm>.*?)\] (?P<event>\w+)(?P<rest>.*)$")
_FIELD = re.compile(r"(\w+)=(\"[^\"]*\"|\S*)")


@dataclass(frozen=True)
class Event:
    """One line of the library's log."""

    pid: int
    comm: str
    kind: str
    fields: dict[str, str] = field(hash=False)
    text: str = ""

    @property
    def side(self) -> str:
        return self.fields.get("side", "")

    @property
    def path(self) -> str:
        return self.fields.get("path", "")


class Log:
    """The file that KVOSHIM_LOG_FILE names; writable for every user, because servers run as users of their own."""

    def __init__(self, path: Path):
        self.path = path
        path.touch()
        path.chmod(0o666)

    def text(self) -> str:
        return self.path.read_text(errors="replace")

    def events(self, kind: str | None = None, *, side: str | None = None, path: str | None = None,
               comm: str | None = None) -> list[Event]:
        found = []
        for line in self.text().splitlines():
            if not (m := _LINE.match(line)):
                continue
            fields = {k: v.strip('"') for k, v in _FIELD.findall(m["rest"])}
            e = Event(int(m["pid"]), m["comm"], m["event"], fields, line)
            if ((kind is None or e.kind == kind) and (side is None or e.side == side)
                    and (path is None or e.path == path) and (comm is None or e.comm == comm)):
                found.append(e)
        return found

    def accelerated(self, side: str | None = None, **match: str) -> int:
        """How many connections went over to the rings, as `side` ("client", "server") saw it."""
        return len(self.events("accelerated", side=side, **match))

    def wait_accelerated(self, count: int, side: str, timeout: float = 10, **match: str) -> int:
        """Wait until at least `count` connections are accelerated, and return the number."""
        end = time.monotonic() + timeout
        while (n := self.accelerated(side, **match)) < count and time.monotonic() < end:
            time.sleep(0.01)
        return n

    def plain_reasons(self, side: str | None = None, **match: str) -> dict[str, int]:
        """Counted reasons of the connections that stayed on the kernel."""
        return dict(collections.Counter(e.fields.get("reason", "?") for e in self.events("plain", side=side, **match)))


class Place:
    """A short directory that every user may enter: sockets, logs and data of one test live here."""

    def __init__(self) -> None:
        self.dir = Path(tempfile.mkdtemp(prefix="kvo-", dir="/tmp"))
        self.dir.chmod(0o755)
        self._logs = 0

    def __truediv__(self, name: str) -> Path:
        return self.dir / name

    def new_dir(self, name: str) -> Path:
        path = self.dir / name
        path.mkdir()
        return path

    def shim(self, paths: str | None = None, **extra: str) -> Shim:
        """A way to run programs under the library; `paths` is KVOSHIM_PATHS (default: all below this place)."""
        self._logs += 1
        log = Log(self.dir / f"shim{self._logs}.log")
        return Shim(paths if paths is not None else f"{self.dir}/*", log, extra)

    def remove(self) -> None:
        shutil.rmtree(self.dir, ignore_errors=True)


class Shim:
    """The library with one setting and one log: `env()` is the environment of a program under it."""

    def __init__(self, paths: str, log: Log, extra: dict[str, str] | None = None):
        self.paths = paths
        self.log = log
        self.extra = extra or {}
        self.library = library()

    def env(self, **extra: str) -> dict[str, str]:
        settings = {"KVOSHIM_PATHS": self.paths, "KVOSHIM_LOG": "debug", "KVOSHIM_LOG_FILE": str(self.log.path)}
        return plain_env(LD_PRELOAD=str(self.library), **(settings | self.extra | extra))


def env_of(shim: Shim | None, **extra: str) -> dict[str, str]:
    """The environment of a program under `shim`, or on kernel sockets if that is None."""
    return shim.env(**extra) if shim else plain_env(**extra)


@dataclass
class Result:
    """How a program ended: exit status (negative: the signal that ended it) and what it wrote."""

    status: int
    out: bytes
    err: bytes

    def check(self) -> Result:
        """Raise AssertionError, with all output, unless the program exited with 0."""
        assert self.status == 0, f"exit status {self.status}\n{self.err.decode(errors='replace')[-4000:]}\n" \
                                 f"{self.out.decode(errors='replace')[-4000:]}"
        return self


def run(cmd: list[str], shim: Shim | None = None, *, stdin: bytes | None = None, timeout: float = 60,
        cwd: Path | None = None, **env: str) -> Result:
    """Run a program to its end. After `timeout` seconds its whole process group is killed and the test fails."""
    with tempfile.TemporaryFile() as given:
        if stdin:
            given.write(stdin)
            given.seek(0)
        process = subprocess.Popen(cmd, env=env_of(shim, **env), stdin=given, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, cwd=cwd, start_new_session=True)
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException as problem:
            where = describe_group(process.pid)
            process.terminate()  # a snippet prints on this how far it came
            try:
                process.wait(1)
            except subprocess.TimeoutExpired:
                pass
            end_group(process)
            out, err = process.communicate()
            if isinstance(problem, subprocess.TimeoutExpired):
                kind = "shimmed" if shim else "plain"
                raise AssertionError(f"hangs ({kind}, {timeout} s): {' '.join(map(str, cmd))}\n{where}\n"
                                     f"{out.decode(errors='replace')[-2000:]}\n{err.decode(errors='replace')[-2000:]}\n"
                                     f"{shim.log.text()[-2000:] if shim else ''}") from None
            raise
        return Result(process.returncode, out, err)


def describe_group(leader: int) -> str:
    """One line for each process of a group: name, state, and where in the kernel it is."""
    lines = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            stat = Path(f"/proc/{entry}/stat").read_text()
            name, rest = stat[stat.index("(") + 1:stat.rindex(")")], stat[stat.rindex(")") + 2:].split()
            if int(rest[2]) == leader:
                wchan = Path(f"/proc/{entry}/wchan").read_text()
                call = Path(f"/proc/{entry}/syscall").read_text().split()[0]
                lines.append(f"  pid {entry} ({name}) state {rest[0]} wchan {wchan} syscall {call}")
        except OSError:
            continue
    return "\n".join(lines)


def end_group(process: subprocess.Popen) -> None:
    """Kill a program that was started as leader of its own session, with all its children."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.kill()


class Server:
    """A program that runs in the background until the end of the `with` block.

    Its standard output and error go to `output` (a file). On leaving the block it gets SIGTERM (`stop_signal`) and has
    `grace` seconds to end; afterwards it is killed and the test fails.
    """

    def __init__(self, cmd: list[str], shim: Shim | None, output: Path, *, cwd: Path | None = None,
                 stop_signal: int = signal.SIGTERM, grace: float = 20, **env: str):
        self.output = output
        self.stop_signal = stop_signal
        self.grace = grace
        with open(output, "wb") as sink:
            self.process = subprocess.Popen(cmd, env=env_of(shim, **env), stdin=subprocess.DEVNULL, stdout=sink,
                                            stderr=subprocess.STDOUT, cwd=cwd, start_new_session=True)

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_until(self, ready, timeout: float = 30) -> Server:
        """Poll `ready()` until it is true; fail if the program ends before or `timeout` seconds have passed."""
        end = time.monotonic() + timeout
        while not ready():
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"{self.process.args}: not ready (status {self.process.poll()})\n"
                                     f"{self.output.read_text(errors='replace')[-4000:]}")
            time.sleep(0.01)
        return self

    def wait(self, timeout: float = 20) -> int:
        """Wait until the program has ended by itself; its exit status."""
        return self.process.wait(timeout)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind, *_) -> None:
        if self.process.poll() is None:
            self.process.send_signal(self.stop_signal)
        try:
            self.process.wait(self.grace)
        except subprocess.TimeoutExpired:
            where = describe_group(self.pid)
            end_group(self.process)
            self.process.wait()
            if kind is None:
                raise AssertionError(f"{self.process.args} did not end on signal {self.stop_signal}\n{where}") from None
        finally:
            end_group(self.process)


def cpu_and_switches(pid: int) -> tuple[float, int]:
    """CPU seconds (user and system) and voluntary context switches of all threads of a process, so far."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    rest = stat[stat.rindex(")") + 2:].split()
    seconds = (int(rest[11]) + int(rest[12])) / os.sysconf("SC_CLK_TCK")
    switches = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        for line in (task / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                switches += int(line.split()[1])
    return seconds, switches
