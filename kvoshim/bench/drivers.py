"""One run of one case with the project's own drivers: start server and client, return the figures."""

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kvoshim.bench import proof
from kvoshim.bench.build import HERE
from kvoshim.bench.model import CONTROL, SHIM, Case
from kvoshim.bench.processes import RunError, Running, Stage, clean_environment, listens, stage

PYTHON_DRIVER, LOOP_DRIVER = HERE / "py" / "stream.py", HERE / "py" / "loops.py"
WARM_BYTES = 256 << 20
# What keeps a CPU busy.
BURNER = ("sh", "-c", "while :; do :; done")
LOG = "shim.log"
# A floor of spinning looks with a CPU each; hand-over at once on one CPU; unpinned it may be either.
YIELD_AFTER = {"0-1": -1, "0-0": 0, "any": 100}


@dataclass(frozen=True)
class Context:
    """What all runs share. library: the preload library, or None. settings: for the shim."""

    programs: Path
    cpus: tuple[int, ...]
    library: Path | None
    settings: dict[str, str]
    seconds: float

    def placed(self, placement: str) -> tuple[int | None, int | None]:
        """CPU of the server and of the client; None: unpinned."""
        if placement == "any":
            return None, None
        first, second = (int(index) for index in placement.split("-"))
        return self.cpus[first], self.cpus[second]

    @property
    def root(self) -> bool:
        """Whether this is root: some servers then want a user to be named."""
        return os.geteuid() == 0

    @property
    def patience(self) -> float:
        """Seconds after which a run hangs. Generous: the machine may be busy."""
        return 30 + 20 * self.seconds


def loadable(library: Path, run: Stage, foreign: bool) -> Path:
    """A name for the library that LD_PRELOAD can carry and that another user can open."""
    if foreign or set(str(library)) & set(" :"):
        copy = run.folder / "libkvoshim.so"
        shutil.copyfile(library, copy)
        copy.chmod(0o755)
        return copy
    return library


def environment(
    context: Context, case: Case, subject: str, run: Stage, path: str, foreign: bool = False
) -> dict[str, str]:
    """The environment of both programs for this subject. foreign: one of them runs as another user."""
    variables = clean_environment()
    if subject == CONTROL:
        variables["LD_PRELOAD"] = "libm.so.6"
    if subject == SHIM:
        variables |= context.settings
        variables["KVOSHIM_PATHS"] = path
        if case.connections:
            log = run.folder / LOG
            log.touch()
            log.chmod(0o666)
            variables |= {"KVOSHIM_LOG": "debug", "KVOSHIM_LOG_FILE": str(log)}
        if case.shim == "preload":
            assert context.library is not None
            variables["LD_PRELOAD"] = str(loadable(context.library, run, foreign))
    return variables


def forget_proof(run: Stage) -> None:
    """What the shim has logged so far was about a trial."""
    if (run.folder / LOG).exists():
        os.truncate(run.folder / LOG, 0)


def with_proof(
    figures: dict[str, object], case: Case, subject: str, run: Stage, path: str, connections: int | None = None
) -> dict[str, object]:
    """Adds what the shim's log says, of so many connections or the case's; nothing where no proof is asked."""
    if subject == SHIM and case.connections:
        found = proof.read_log(run.folder / LOG, path)
        holds = found.holds(connections or max(case.connections, 1))
        figures["proof"] = found.summary() | {"words": found.words(), "holds": holds}
    return figures


def pinned(cpu: int | None) -> list[str]:
    """The argument by which a driver pins itself."""
    return [] if cpu is None else ["--cpu", str(cpu)]


def run_floor(context: Context, mode: str, size: int, placement: str) -> dict[str, object]:
    """The bare ring (mode rtt or oneway), L (mode line), or copying alone (mode copy). Raises RunError."""
    server, client = context.placed(placement)
    command = [
        context.programs / "floor",
        mode,
        "--size",
        str(size),
        "--yield-after",
        str(YIELD_AFTER[placement]),
    ]
    command += ["--seconds", str(min(context.seconds, 0.1))]
    if server is not None:
        command += ["--cpus", f"{server},{client}"]
    rate = mode in ("oneway", "copy")
    if rate:
        command += ["--capacity", str(4 * 1024 * 1024)]
    with stage() as run:
        running = run.start("floor", command, clean_environment())
        running.wait(context.patience)
        return timed(running.result(), "rate" if rate else "trip")


def timed(figures: dict[str, object], shape: str) -> dict[str, object]:
    """Adds what is compared: time_ns of one operation, and CPU seconds of both sides, a second and an operation."""
    if shape == "rate":
        figures["time_ns"] = 1e9 / figures["messages_per_s"]
    else:
        figures["time_ns"] = figures["min_ns" if shape == "call" else "median_ns"]
    cpu = figures["cpu_client_s"] + figures["cpu_server_s"]
    figures["cpu_per_s"] = cpu / figures["seconds"]
    if "count" in figures:
        figures["cpu_per_op_s"] = cpu / figures["count"]
    return figures


@contextmanager
def company(context: Context, case: Case, run: Stage) -> Iterator[None]:
    """A program that computes on each CPU, where the case asks for it."""
    burners = [
        run.start(f"burner{cpu}", BURNER, clean_environment(), cpu=cpu) for cpu in context.cpus if case.busy
    ]
    yield
    for burner in burners:
        burner.end()


def commands(
    context: Context, case: Case, size: int, placement: str, subject: str, path: str
) -> tuple[list, list]:
    """The command lines of server and client."""
    server_cpu, client_cpu = context.placed(placement)
    common = ["--path", path]
    inside = subject == SHIM and case.shim == "module"
    if case.program == "loops":
        loop, style = case.api.split("-")
        common += ["--loop", loop, "--style", style, "--module", "kvoshim" if inside else "socket"]
        server, client = [sys.executable, LOOP_DRIVER, "server"], [sys.executable, LOOP_DRIVER, "client"]
    elif case.program == "python":
        common += ["--module", "kvoshim.socket" if inside else "socket"]
        server, client = [sys.executable, PYTHON_DRIVER, "server"], [sys.executable, PYTHON_DRIVER, "client"]
    else:
        common += ["--api", case.api]
        server, client = [context.programs / "server"], [context.programs / "client"]
        if case.mode == "connect":
            server.append("--connections")
        if case.take == "any":
            client += ["--take", "any"]
        # Enough to switch and to have touched the memory; large messages take their time.
        client += ["--warm", str(max(50, min(5000, WARM_BYTES // max(size, 1))))]
    client += ["--mode", case.mode]
    if case.unit == "us":
        client += ["--size", "8", "--think-us", str(size)]
    else:
        client += ["--size", str(size)]
    # A paced run makes 1000 samples a second, and needs some for its CPU time to mean anything.
    seconds = max(5 * context.seconds, 0.3) if case.mode in ("paced", "think") else context.seconds
    client += ["--seconds", str(seconds)]
    return server + common + pinned(server_cpu), client + common + pinned(client_cpu)


def finish(context: Context, server: Running, client: Running, longer: float = 0) -> None:
    """Waits for the ends of client and server, for so much longer than usual. Raises RunError with the words of the one
    that is to blame."""
    try:
        client.wait(context.patience + longer)
    except RunError as error:
        code = server.process.poll()
        raise RunError(f"{error}; {server.said()}" if code else str(error)) from None
    server.wait(10)


def run_stream(context: Context, case: Case, size: int, placement: str, subject: str) -> dict[str, object]:
    """The C, Python or event loop drivers, one connection. Raises RunError."""
    with stage() as run:
        path = str(run.folder / "s")
        variables = environment(context, case, subject, run, path)
        server_command, client_command = commands(context, case, size, placement, subject, path)
        server = run.start("server", server_command, variables)
        run.await_condition(server, "listening", lambda: listens(path))
        with company(context, case, run):
            client = run.start("client", client_command, variables)
            finish(context, server, client)
        return with_proof(timed(client.result(), case.shape), case, subject, run, path)


def missing(case: Case) -> str | None:
    """What the project's own drivers lack here for this case, or None."""
    if case.api.startswith("uvloop") and importlib.util.find_spec("uvloop") is None:
        return "uvloop is not installed: pip install uvloop (or 'kvoshim[bench]')"
    return None


def scheduled(pid: int) -> tuple[float, int]:
    """CPU seconds of a process and how often it was given a CPU, all threads, from the scheduler's books."""
    nanoseconds, slices = 0, 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        ran, _waited, times = (task / "schedstat").read_text().split()
        nanoseconds += int(ran)
        slices += int(times)
    return nanoseconds / 1e9, slices


def idle_figures(client: Running, server: Running, seconds: float) -> dict[str, object]:
    """What two processes use while nothing happens between them, for so long, as this process sees it."""
    time.sleep(0.2)  # whatever spinning comes before sleep belongs to the traffic, not to idling
    before = [scheduled(running.process.pid) for running in (client, server)]
    time.sleep(seconds)
    after = [scheduled(running.process.pid) for running in (client, server)]
    cpu = [end[0] - start[0] for start, end in zip(before, after, strict=True)]
    return {
        "what": "idle",
        "seconds": seconds,
        "cpu_client_s": cpu[0],
        "cpu_server_s": cpu[1],
        "cpu_s": sum(cpu),
        "cpu_per_s": sum(cpu) / seconds,
        "wake_ups": sum(end[1] - start[1] for start, end in zip(before, after, strict=True)),
    }


def run_idle(context: Context, case: Case, size: int, placement: str, subject: str) -> dict[str, object]:
    """A connection with nobody talking: both sides wait, this process reads their CPU time."""
    with stage() as run:
        path = str(run.folder / "s")
        variables = environment(context, case, subject, run, path)
        server_command, client_command = commands(context, case, size, placement, subject, path)
        server = run.start("server", server_command, variables)
        run.await_condition(server, "listening", lambda: listens(path))
        client = run.start("client", client_command, variables, stdin=subprocess.PIPE)
        run.await_condition(client, "ready", lambda: client.out.read_text() == "ready\n", context.patience)
        figures = idle_figures(client, server, max(10 * context.seconds, 0.5))
        client.process.stdin.close()
        client.wait(10)
        server.wait(10)
        return with_proof(figures, case, subject, run, path)
