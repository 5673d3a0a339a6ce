"""One run of many connections or many processes at a time."""

from kvoshim.bench.costs import crowd_size
from kvoshim.bench.drivers import Context, environment, finish, pinned, timed, with_proof
from kvoshim.bench.model import ALONE, SHIM, Case
from kvoshim.bench.processes import listens, stage

# Seconds that it may take to open the connections.
GATHERING = 120


def run_load(context: Context, case: Case, size: int, placement: str, subject: str) -> dict[str, object]:
    """`size` connections between two programs, a request in flight on all of them, or (mode one) on a single one.

    The subject ALONE is the shim with that one connection and no other. Raises RunError.
    """
    alone = subject == ALONE
    connections = 1 if alone else crowd_size(size)
    subject = SHIM if alone else subject
    server_cpu, client_cpu = context.placed(placement)
    with stage() as run:
        path = str(run.folder / "s")
        variables = environment(context, case, subject, run, path)
        common = ["--path", path, "--connections", str(connections)]
        serve = [context.programs / "load", "server", *common, *pinned(server_cpu)]
        ask = [context.programs / "load", "client", *common, "--seconds", str(context.seconds), *pinned(client_cpu)]
        if case.api == "threads":
            serve.append("--threads")
        if case.mode == "one":
            ask += ["--active", "1"]
        server = run.start("server", serve, variables, many_files=True)
        run.await_condition(server, "listening", lambda: listens(path))
        client = run.start("client", ask, variables, many_files=True)
        finish(context, server, client, GATHERING)
        figures = timed(client.result(), case.shape) | {"connections": connections}
        return with_proof(figures, case, subject, run, path, connections)


def run_pairs(context: Context, case: Case, size: int, placement: str, subject: str) -> dict[str, object]:
    """`size` pairs of processes at the same time. fair: what the slowest pair got done / the fastest. Raises RunError."""
    with stage() as run:
        path = str(run.folder / "s")
        variables = environment(context, case, subject, run, path)
        command = [context.programs / "pairs", "--path", path, "--pairs", str(size), "--seconds", str(2 * context.seconds)]
        pairs = run.start("pairs", command, variables)
        pairs.wait(context.patience)
        figures = timed(pairs.result(), case.shape)
        figures["fair"] = figures["min_ns"] / figures["quantiles_ns"][-1]
        return with_proof(figures, case, subject, run, path, size)
