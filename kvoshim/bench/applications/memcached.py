"""memcached, asked for one value by the project's own load generator."""

import socket

from kvoshim.bench.applications.load import figures, lacking, load, program
from kvoshim.bench.drivers import Context, environment, with_proof
from kvoshim.bench.model import Case
from kvoshim.bench.processes import RunError, listens, stage


def missing(_case: Case) -> str | None:
    """What must be installed, or None if it is all there."""
    return lacking({"memcached": "memcached"})


def keep(path: str, value: bytes) -> int:
    """Keeps a value under the key k. Returns how many bytes the answer to `get k` has. Raises RunError."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(path)
        connection.sendall(b"set k 0 0 %d\r\n%s\r\n" % (len(value), value))
        if (said := connection.recv(100)) != b"STORED\r\n":
            raise RunError(f"memcached: keeps no value: {said!r}")
    return len(b"VALUE k 0 %d\r\n%s\r\nEND\r\n" % (len(value), value))


def run(context: Context, case: Case, size: int, placement: str, subject: str) -> dict[str, object]:
    """Values of `size` bytes. Raises RunError."""
    server_cpu, client_cpu = context.placed(placement)
    clients = str(max(case.connections, 1))
    with stage() as run:
        path = str(run.folder / "s")
        variables = environment(context, case, subject, run, path)
        command = [program("memcached"), "-s", path, "-m", "64", "-U", "0", *(["-u", "root"] if context.root else [])]
        server = run.start("memcached", command, variables, cpu=server_cpu)
        run.await_condition(server, "listening", lambda: listens(path))
        answer = keep(path, b"x" * size)
        command = [context.programs / "load", "client", "--path", path, "--connections", clients, "--request", "get k\\r\\n"]
        command += ["--answer", str(answer), "--seconds", str(max(context.seconds, 0.1))]
        text, cost = load(context, run, [server], command, variables, client_cpu)
        own = run.running[-1].result()
        server.end()
        times = {name: own[name] for name in ("median_ns", "p99_ns", "p999_ns", "quantiles_ns")}
        found = figures("memcached", own["messages_per_s"], cost, **times)
        return with_proof(found, case, subject, run, path)
