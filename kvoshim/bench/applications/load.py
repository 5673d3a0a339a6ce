"""What all applications share: a server under the load of a client, and the CPU time of both."""

import resource
import time
from pathlib import Path

import psutil

from kvoshim.bench.drivers import Context
from kvoshim.bench.processes import RunError, Running, Stage


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


def figures(what: str, rate: float, cost: dict[str, float], **more: float) -> dict[str, object]:
    """What a run gives: so many operations a second, at that cost."""
    cpu = cost["cpu_client_s"] + cost["cpu_server_s"]
    found = {"what": what, "messages_per_s": rate, "time_ns": 1e9 / rate, "cpu_per_s": cpu / cost["seconds"]}
    return found | {"cpu_per_op_s": cpu / (rate * cost["seconds"])} | cost | more
