"""What all applications share: finding them, data kept between runs, a server under load and the CPU time of both sides."""

import importlib.util
import os
import pwd
import resource
import shutil
import time
from contextlib import ExitStack
from pathlib import Path

import psutil

from kvoshim.bench.drivers import Context
from kvoshim.bench.processes import RunError, Running, Stage, stage


def program(name: str) -> str | None:
    """A program's path, also of one that only root has on its PATH; None if it is not installed."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]))


def user_exists(name: str) -> bool:
    """Whether the system has this user."""
    return any(entry.pw_name == name for entry in pwd.getpwall())


def lacking(programs: dict[str, str], modules: tuple[str, ...] = (), user: str | None = None) -> str | None:
    """What is not there of these programs (with Debian's packages for them) and Python modules, and of the user that a
    server runs as where this is root. None: nothing."""
    words = [f"{name} is not installed (Debian: {package})" for name, package in programs.items() if not program(name)]
    words += [f"{name} is not installed (pip install {name})" for name in modules if not importlib.util.find_spec(name)]
    if user and os.geteuid() == 0 and not user_exists(user):
        words.append(f"there is no user '{user}' to run the server (it refuses to run as root)")
    return "; ".join(words) or None


class Kept:
    """A server's data for the whole benchmark, made on first use and removed by close()."""

    user_name: str

    def __init__(self) -> None:
        self.user = self.user_name if os.geteuid() == 0 else None
        self.stack = ExitStack()
        self.folder: Path | None = None

    def fill(self, run: Stage, context: Context) -> Path:
        """Makes the data in the stage's folder. Raises RunError."""
        raise NotImplementedError

    def folder_for(self, context: Context) -> Path:
        """The data folder. Raises RunError if it cannot be made."""
        if self.folder is None:
            run = self.stack.enter_context(stage())
            if self.user:
                shutil.chown(run.folder, self.user)
            self.folder = self.fill(run, context)
        return self.folder

    def close(self) -> None:
        """Removes the data."""
        self.stack.close()
        self.folder = None


def tree_cpu(pid: int) -> float:
    """CPU seconds of a process and all below it, so far; of those that have ended, what their parents have heard."""
    total = 0.0
    try:
        root = psutil.Process(pid)
        processes = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return total
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def children_cpu() -> float:
    """CPU seconds of this process's children that it has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def load(
    context: Context,
    run: Stage,
    servers: list[Running],
    command: list[str | Path],
    variables: dict[str, str],
    cpu: int | None,
) -> tuple[str, dict[str, float]]:
    """Runs a load generator to its end. Returns what it printed, and the CPU time that both sides used. Raises RunError."""
    before, waited, start = sum(tree_cpu(one.process.pid) for one in servers), children_cpu(), time.monotonic()
    client = run.start(Path(command[0]).name, command, variables, cpu=cpu)
    try:
        client.wait(context.patience)
    except RunError as error:
        ended = [one.said() for one in servers if one.process.poll() is not None]
        raise RunError("; ".join([str(error), *ended])) from None
    return client.out.read_text(), {
        "seconds": time.monotonic() - start,
        "cpu_client_s": children_cpu() - waited,
        "cpu_server_s": sum(tree_cpu(one.process.pid) for one in servers) - before,
    }


def figures(what: str, rate: float, cost: dict[str, float], **more: object) -> dict[str, object]:
    """What a run gives: so many operations a second, at that cost."""
    cpu = cost["cpu_client_s"] + cost["cpu_server_s"]
    found = {"what": what, "messages_per_s": rate, "time_ns": 1e9 / rate, "cpu_per_s": cpu / cost["seconds"]}
    return found | {"cpu_per_op_s": cpu / (rate * cost["seconds"])} | cost | more
