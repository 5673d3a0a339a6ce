"""One run of a real server with its own benchmark client: Redis, PostgreSQL. Skipped where not installed."""

import csv
import os
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.cases import Case
from bench.drivers import Context, environment, with_proof
from bench.processes import RunError, Stage, clean_environment, listens, stage

# Requests for one second on a fast machine; a run takes its share.
REDIS_PACE = {(1, 1): 60_000, (50, 1): 150_000, (1, 16): 400_000}
PORT = "5432"
DATABASE = "bench"


def missing(case: Case) -> str | None:
    """What must be installed for this case, or None if it is all there."""
    if case.program == "redis" and not (shutil.which("redis-server") and shutil.which("redis-benchmark")):
        return "redis-server and redis-benchmark are not installed (Debian: redis-server, redis-tools)"
    if case.program == "pgbench":
        if postgres_folder() is None:
            return "PostgreSQL's server and pgbench are not installed (Debian: postgresql)"
        if os.geteuid() == 0 and not user_exists("postgres"):
            return "there is no user 'postgres' to run the server (it refuses to run as root)"
    return None


def user_exists(name: str) -> bool:
    """Whether the system has this user."""
    import pwd

    return any(entry.pw_name == name for entry in pwd.getpwall())


def run_redis(context: Context, case: Case, size: int, placement: str, subject: str) -> dict[str, object]:
    """redis-server with redis-benchmark, `size` bytes a value. Raises RunError."""
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
        requests = int(REDIS_PACE[clients, case.pipeline] * max(context.seconds, 0.3))
        command = ["redis-benchmark", "-s", path, "-t", case.mode, "-n", str(requests), "-c", str(clients)]
        command += ["-P", str(case.pipeline), "-d", str(size), "--csv"]
        client = run.start("redis-benchmark", command, variables, cpu=client_cpu)
        client.wait(context.patience)
        figures = redis_figures(client.out.read_text())
        server.end()
        return with_proof(figures, case, subject, run, path)


def redis_figures(text: str) -> dict[str, object]:
    """The figures in redis-benchmark's CSV of one test. Raises RunError if there are none."""
    rows = [row for row in csv.reader(text.splitlines()) if len(row) > 6]
    if len(rows) < 2 or rows[0][:2] != ["test", "rps"]:
        raise RunError(f"redis-benchmark: printed no table: {text.strip()[-200:]}")
    row = dict(zip(rows[0], rows[1], strict=False))
    rate = float(row["rps"])
    return {
        "what": row["test"],
        "messages_per_s": rate,
        "time_ns": 1e9 / rate,
        "median_ns": float(row["p50_latency_ms"]) * 1e6,
        "p99_ns": float(row["p99_latency_ms"]) * 1e6,
    }


def postgres_folder() -> Path | None:
    """The folder of PostgreSQL's server programs; Debian keeps them out of PATH."""
    found = shutil.which("postgres")
    folders = [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    needed = ("postgres", "initdb", "psql", "pgbench")
    usable = [folder for folder in folders if all((folder / name).exists() for name in needed)]
    return usable[-1] if usable else None


def says_ready(status: Path) -> bool:
    """Whether PostgreSQL's own status file says that it takes connections (its last line, once complete)."""
    return status.exists() and status.read_text().rstrip().endswith("ready")


class Postgres:
    """A database cluster for the whole benchmark, made on first use and removed by close().

    The server runs as the user postgres when this is root, so server and client are different users.
    """

    def __init__(self) -> None:
        self.user = "postgres" if os.geteuid() == 0 else None
        self.programs = postgres_folder()
        self.opened = None
        self.folder: Path | None = None

    def cluster(self, context: Context) -> Path:
        """The data folder. Raises RunError if it cannot be made."""
        if self.folder is None:
            self.opened = stage()
            run = self.opened.__enter__()
            data = run.folder / "data"
            if self.user:
                shutil.chown(run.folder, self.user)
            arguments = ["-D", data, "-A", "trust", "-U", "bench", "-E", "UTF8", "--locale=C", "--no-sync"]
            command = [self.programs / "initdb", *arguments]
            run.start("initdb", command, clean_environment(), user=self.user).wait(120)
            filling = {
                "psql": ["-c", f"create database {DATABASE}", "postgres"],
                "pgbench": ["-i", "-q", DATABASE],
            }
            with self.server(run, data, clean_environment(), None):
                for name, extra in filling.items():
                    command = [self.programs / name, "-h", run.folder, "-p", PORT, "-U", "bench", *extra]
                    run.start(name, command, clean_environment()).wait(120)
            self.folder = data
        return self.folder

    @contextmanager
    def server(self, run: Stage, data: Path, variables: dict[str, str], cpu: int | None) -> Iterator[None]:
        """A running server whose socket lies in the stage's folder. Raises RunError."""
        command = [self.programs / "postgres", "-D", data, "-k", run.folder, "-p", PORT]
        command += ["-c", "listen_addresses=", "-c", "fsync=off"]
        # SIGINT is PostgreSQL's fast shutdown: SIGTERM would wait for the clients.
        server = run.start("postgres", command, variables, cpu=cpu, user=self.user, gentle=signal.SIGINT)
        status = data / "postmaster.pid"
        try:
            run.await_condition(server, "accepting connections", lambda: says_ready(status))
            yield
        finally:
            server.end()
            run.running.remove(server)

    def close(self) -> None:
        """Removes the cluster."""
        if self.opened is not None:
            self.opened.__exit__(None, None, None)
            self.opened = self.folder = None

    def run(self, context: Context, case: Case, size: int, placement: str, subject: str) -> dict[str, object]:
        """pgbench's SELECT on one connection, prepared. Raises RunError."""
        data = self.cluster(context)
        server_cpu, client_cpu = context.placed(placement)
        with stage() as run:
            if self.user:
                shutil.chown(run.folder, self.user)
            path = str(run.folder / f".s.PGSQL.{PORT}")
            variables = environment(context, case, subject, run, path, foreign=self.user is not None)
            with self.server(run, data, variables, server_cpu):
                seconds = max(1, round(3 * context.seconds))
                command = [self.programs / "pgbench", "-h", run.folder, "-p", PORT, "-U", "bench", "-n", "-S"]
                command += ["-M", "prepared", "-c", "1", "-T", str(seconds), DATABASE]
                client = run.start("pgbench", command, variables, cpu=client_cpu)
                client.wait(context.patience)
                text = client.out.read_text()
            return with_proof(pgbench_figures(text), case, subject, run, path)


def pgbench_figures(text: str) -> dict[str, object]:
    """The figures in pgbench's report. Raises RunError if there are none, or if transactions failed."""
    rate = re.search(r"^tps = ([\d.]+)", text, re.MULTILINE)
    failed = re.search(r"^number of failed transactions: (\d+)", text, re.MULTILINE)
    if not rate or (failed and int(failed[1])):
        raise RunError(f"pgbench: no clean report: {text.strip()[-200:]}")
    return {"what": "pgbench", "messages_per_s": float(rate[1]), "time_ns": 1e9 / float(rate[1])}
