"""redis-server with redis-benchmark."""

import csv

from kvoshim.bench.applications.load import figures, lacking, load
from kvoshim.bench.drivers import Context, environment, forget_proof, with_proof
from kvoshim.bench.model import Case
from kvoshim.bench.processes import RunError, listens, stage

# Requests of a first, short run for each that is in flight on a connection; its rate says how many the run proper takes.
TRIAL = 3000
SHORTEST = 0.3  # seconds: redis-benchmark's clock counts milliseconds


def missing(_case: Case) -> str | None:
    """What must be installed, or None if it is all there."""
    return lacking({"redis-server": "redis-server", "redis-benchmark": "redis-tools"})


def run(context: Context, case: Case, size: int, placement: str, subject: str) -> dict[str, object]:
    """`size` bytes a value. Raises RunError."""
    server_cpu, client_cpu = context.placed(placement)
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
        command = ["redis-benchmark", "-s", path, "-t", case.mode, "-c", str(max(case.connections, 1)), "-P", str(case.pipeline)]
        command += ["-d", str(size), "--csv", "-n"]

        def measured(count: int) -> dict[str, object]:
            forget_proof(run)
            return read(*load(context, run, [server], [*command, str(count)], variables, client_cpu))

        trial = TRIAL * case.pipeline
        rate = measured(trial)["messages_per_s"]
        found = measured(max(trial, int(rate * max(context.seconds, SHORTEST))))
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
