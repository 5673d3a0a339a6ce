"""One run of what the shim costs where it carries no bytes: others' calls, a free lock, many idle connections."""

import re
import resource
import subprocess
import sys
from pathlib import Path

from kvoshim.bench.build import HERE, MODULE, READ_MODULE
from kvoshim.bench.drivers import Context, environment, idle_figures, pinned, timed, with_proof
from kvoshim.bench.model import Case
from kvoshim.bench.processes import clean_environment, listens, stage

LOCK_DRIVER = HERE / "py" / "lock.py"
READ_DRIVER = HERE / "py" / "read.py"
# Where a process's stack happens to lie shifts a call by ten nanoseconds: the least of so many processes counts.
PROCESSES = 5
# Descriptors that each end of a crowd needs besides two a connection, and seconds that it may take to gather.
SPARE = 64
GATHERING = 300


def run_calls_once(context: Context, case: Case, placement: str, subject: str) -> dict[str, object]:
    """One process of run_calls."""
    _server, cpu = context.placed(placement)
    with stage() as run:
        path = str(run.folder / "s")
        command = [context.programs / "calls", case.mode, "--path", path, "--seconds", str(context.seconds / PROCESSES)]
        calls = run.start("calls", command + pinned(cpu), environment(context, case, subject, run, path))
        calls.wait(context.patience)
        return with_proof(timed(calls.result(), case.shape), case, subject, run, path)


def run_calls(context: Context, case: Case, size: int, placement: str, subject: str) -> dict[str, object]:
    """One call on descriptors that are not ours, in a process that has a connection: of several processes the one that
    proves no acceleration, or else the fastest. Raises RunError."""
    runs = [run_calls_once(context, case, placement, subject) for _ in range(PROCESSES)]
    return min(runs, key=lambda figures: ("proof" not in figures or figures["proof"]["holds"], figures["time_ns"]))


def missing(context: Context) -> str | None:
    """What run_lock and run_read lack here, or None."""
    if not all((context.programs / name).exists() for name in (MODULE, READ_MODULE)):
        return "needs kvoshim's source tree, where scripts/bench is"
    return None


def run_lock(context: Context, case: Case, size: int, placement: str, subject: str) -> dict[str, object]:
    """The core's table look-up and lock. The mode is the number of the process's threads. Raises RunError."""
    _server, cpu = context.placed(placement)
    command = [sys.executable, LOCK_DRIVER, "--module", context.programs / MODULE, "--threads", case.mode]
    command += ["--seconds", str(context.seconds), *pinned(cpu)]
    with stage() as run:
        lock = run.start("lock", command, clean_environment() | {"KVOSHIM_STATS": "off"})
        lock.wait(context.patience)
        return timed(lock.result(), case.shape)


def run_read(context: Context, case: Case, size: int, placement: str, subject: str) -> dict[str, object]:
    """A value of Key-Value Observation, read in C. Raises RunError."""
    _server, cpu = context.placed(placement)
    command = [sys.executable, READ_DRIVER, "--module", context.programs / READ_MODULE]
    with stage() as run:
        read = run.start("read", [*command, "--seconds", str(context.seconds), *pinned(cpu)], clean_environment())
        read.wait(context.patience)
        return timed(read.result(), case.shape)


def memory(pid: int) -> dict[str, int]:
    """Bytes of memory that a process has touched (shared pages divided among their users), by kind."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    kilobytes = dict(re.findall(r"^(Pss|Pss_Anon|Pss_File|Pss_Shmem):\s+(\d+) kB$", rollup, re.MULTILINE))
    status = Path(f"/proc/{pid}/status").read_text()
    kilobytes["page_tables"] = re.search(r"^VmPTE:\s+(\d+) kB$", status, re.MULTILINE)[1]
    return {name.lower(): 1024 * int(amount) for name, amount in kilobytes.items()}


def crowd_size(wanted: int) -> int:
    """How many connections the descriptors suffice for: an accelerated one holds its socket and its memory."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if hard == resource.RLIM_INFINITY else max(1, min(wanted, (hard - SPARE) // 2))


def run_crowd(context: Context, case: Case, size: int, placement: str, subject: str) -> dict[str, object]:
    """`size` connections that have all been used and are idle now: memory and CPU of both ends. Raises RunError."""
    connections = crowd_size(size)
    server_cpu, client_cpu = context.placed(placement)
    with stage() as run:
        path = str(run.folder / "s")
        variables = environment(context, case, subject, run, path)
        words = ["--path", path, "--connections", str(connections)]
        program = context.programs / "crowd"
        server = run.start(
            "server", [program, "server", *words, *pinned(server_cpu)], variables, many_files=True
        )
        run.await_condition(server, "listening", lambda: listens(path))
        client = run.start(
            "client",
            [program, "client", *words, *pinned(client_cpu)],
            variables,
            stdin=subprocess.PIPE,
            many_files=True,
        )
        run.await_condition(client, "ready", lambda: client.out.read_text() == "ready\n", GATHERING)
        figures = idle_figures(client, server, 1.0)
        parts = [memory(running.process.pid) for running in (client, server)]
        client.process.stdin.close()
        client.wait(context.patience)
        server.wait(context.patience)
        total = {name: sum(part[name] for part in parts) for name in parts[0]}
        figures |= {"what": "crowd", "connections": connections, "memory": total}
        figures["bytes_per_connection"] = (total["pss"] + total["page_tables"]) / connections
        return with_proof(figures, case, subject, run, path, connections)
