"""redis-server with redis-benchmark."""

import csv

from kvoshim.bench.applications.load import figures, lacking, load
from kvoshim.bench.drivers import Context, environment, with_proof
from kvoshim.bench.model import Case
from kvoshim.bench.processes import RunError, listens, stage

# Requests for one second on a fast machine, by clients and pipeline; a run takes its share.
PACE = {(1, 1): 60_000, (50, 1): 150_000, (1, 16): 400_000, (50, 16): 1_000_000}
# Bytes of values that pass in a second besides.
BANDWIDTH = 2_000_000_000


def missing(_case: Case) -> str | None:
    """What must be installed, or None if it is all there."""
    return lacking({"redis-server": "redis-server", "redis-benchmark": "redis-tools"})


def run(context: Context, case: Case, size: int, placement: str, subject: str) -> dict[str, object]:
    """`size` bytes a value. Raises RunError."""
    server_cpu, client_cpu = context.placed(placement)
    clients = max(case.connections, 1)
    with stage() as run:
        path = str(run.folder / "s")
        variables = environment(context, case, subject, run, path)
        server = run.start(
            "redis-server",
            ["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no"],
            variables,
            cpu=server_cpu,
        )
        run.await_condition(server, "listening", lambda: listens(path))
        # Its clock counts milliseconds: the fastest run must last some hundred of them.
        pace = min(PACE[clients, case.pipeline], BANDWIDTH // size)
        command = ["redis-benchmark", "-s", path, "-t", case.mode, "-n", str(int(pace * max(context.seconds, 0.3)))]
        command += ["-c", str(clients), "-P", str(case.pipeline), "-d", str(size), "--csv"]
        text, cost = load(context, run, [server], command, variables, client_cpu)
        found = read(text, cost)
        server.end()
        return with_proof(found, case, subject, run, path)


def read(text: str, cost: dict[str, float]) -> dict[str, object]:
    """The figures in redis-benchmark's CSV of one test. Raises RunError if there are none."""
    rows = [row for row in csv.reader(text.splitlines()) if len(row) > 6]
    if len(rows) < 2 or rows[0][:2] != ["test", "rps"]:
        raise RunError(f"redis-benchmark: printed no table: {text.strip()[-200:]}")
    row = dict(zip(rows[0], rows[1], strict=False))
    times = {f"{name}_ns": float(row[f"{column}_latency_ms"]) * 1e6 for name, column in (("median", "p50"), ("p99", "p99"))}
    return figures(row["test"], float(row["rps"]), cost, **times)
