"""Starting programs for one measured run, waiting for them, and ending all of them, whatever happens."""

import json
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from kvoshim.launcher import library_path


class RunError(Exception):
    """A run did not produce a figure: which program, how it ended, what it last said."""


def clean_environment() -> dict[str, str]:
    """This process's environment without what would put a shim under the plain side."""
    ours = ("KVOSHIM_", "LD_PRELOAD", "USE_TSSX")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def installed_library() -> Path | None:
    """The installed preload library; None if the package has none."""
    try:
        return Path(library_path())
    except FileNotFoundError:
        return None


def listens(path: str) -> bool:
    """Whether a process listens on this socket path, read from the kernel's table.

    A trial connection would tell as well, but the server would count it, and a shim would log it.
    """
    with open("/proc/net/unix") as table:
        next(table)
        for line in table:
            fields = line.split()
            if len(fields) > 7 and fields[7] == path and int(fields[3], 16) & 0x10000:
                return True
    return False


class Running:
    """One started program, in a session of its own, with its output in files."""

    def __init__(self, process: subprocess.Popen, name: str, folder: Path, gentle: signal.Signals) -> None:
        self.process = process
        self.name = name
        self.gentle = gentle
        self.out = folder / f"{name}.out"
        self.err = folder / f"{name}.err"

    def said(self) -> str:
        """How it ended, with the last words of its standard error (or output)."""
        code = self.process.poll()
        if code is None:
            end = "still running"
        elif code < 0:
            end = f"killed by {signal.Signals(-code).name}"
        else:
            end = f"exit code {code}"
        words = self.err.read_text(errors="replace").strip() or self.out.read_text(errors="replace").strip()
        return f"{self.name}: {end}" + (f": {words[-400:]}" if words else "")

    def wait(self, seconds: float) -> None:
        """Waits for a clean exit. Raises RunError if it hangs or fails."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise RunError(f"{self.name}: hangs (no end within {seconds:.0f} s)") from None
        if code:
            raise RunError(self.said())

    def result(self) -> dict[str, object]:
        """The last line that it printed, as JSON. Raises RunError if that is none."""
        lines = self.out.read_text().splitlines()
        try:
            return json.loads(lines[-1])
        except (IndexError, json.JSONDecodeError):
            raise RunError(f"{self.said()}: printed no result") from None

    def end(self) -> None:
        """Asks it to end, then kills its whole session. Never raises."""
        if self.process.poll() is None:
            self.process.send_signal(self.gentle)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                pass
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        self.process.wait()
        if self.process.stdin:
            self.process.stdin.close()


class Stage:
    """A folder and the programs that one run started in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: list[Running] = []

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        environment: Mapping[str, str],
        *,
        cpu: int | None = None,
        many_files: bool = False,
        user: str | None = None,
        stdin: int = subprocess.DEVNULL,
        gentle: signal.Signals = signal.SIGTERM,
    ) -> Running:
        """Starts a program. cpu pins programs that cannot pin themselves; many_files: with as many descriptors as
        the hard limit allows; user needs root."""

        def prepare() -> None:
            if cpu is not None:
                os.sched_setaffinity(0, {cpu})
            if many_files:
                resource.setrlimit(resource.RLIMIT_NOFILE, 2 * resource.getrlimit(resource.RLIMIT_NOFILE)[1:])

        with open(self.folder / f"{name}.out", "wb") as out, open(self.folder / f"{name}.err", "wb") as err:
            process = subprocess.Popen(
                [str(word) for word in command],
                env=dict(environment),
                stdin=stdin,
                stdout=out,
                stderr=err,
                cwd=self.folder,
                start_new_session=True,
                preexec_fn=prepare if many_files or cpu is not None else None,
                user=user,
                extra_groups=[] if user else None,
            )
        running = Running(process, name, self.folder, gentle)
        self.running.append(running)
        return running

    def await_condition(
        self, running: Running, what: str, holds: Callable[[], bool], seconds: float = 30
    ) -> None:
        """Waits until `holds`, while the program lives. Raises RunError with `what` was waited for."""
        deadline = time.monotonic() + seconds
        while not holds():
            if running.process.poll() is not None:
                raise RunError(f"{running.said()} (before {what})")
            if time.monotonic() > deadline:
                raise RunError(f"{running.name}: hangs (not {what} within {seconds:.0f} s)")
            time.sleep(0.002)

    def close(self) -> None:
        """Ends every program, the last started first."""
        while self.running:
            self.running.pop().end()


def base_folder() -> str:
    """Where the runs' folders are made: TMPDIR if it is short, since a socket path has room for 107 bytes only."""
    folder = os.environ.get("TMPDIR", "")
    return folder if folder.startswith("/") and len(folder) <= 40 else "/tmp"


@contextmanager
def stage() -> Iterator[Stage]:
    """A fresh folder that other users can enter; its programs end and it is removed with the block."""
    folder = Path(tempfile.mkdtemp(prefix="kvoshim-bench-", dir=base_folder()))
    folder.chmod(0o755)
    run = Stage(folder)
    try:
        yield run
    finally:
        run.close()
        shutil.rmtree(folder, ignore_errors=True)
