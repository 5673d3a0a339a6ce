"""PostgreSQL with pgbench."""

import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kvoshim.bench.applications.load import Kept, figures, lacking, load
from kvoshim.bench.drivers import Context, environment, with_proof
from kvoshim.bench.model import Case
from kvoshim.bench.processes import RunError, Running, Stage, clean_environment, stage

PORT = "5432"
DATABASE = "bench"


def missing(_case: Case) -> str | None:
    """What must be installed, or None if it is all there."""
    if postgres_folder() is None:
        return "PostgreSQL's server and pgbench are not installed (Debian: postgresql)"
    return lacking({}, user="postgres")


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


class Postgres(Kept):
    """A database cluster for the whole benchmark. The server runs as the user postgres when this is root, so server and
    client are different users."""

    user_name = "postgres"

    def __init__(self) -> None:
        super().__init__()
        self.programs = postgres_folder()

    def fill(self, run: Stage, context: Context) -> Path:
        """pgbench's tables."""
        data = run.folder / "data"
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
        return data

    @contextmanager
    def server(self, run: Stage, data: Path, variables: dict[str, str], cpu: int | None) -> Iterator[Running]:
        """A running server whose socket lies in the stage's folder. Raises RunError."""
        command = [self.programs / "postgres", "-D", data, "-k", run.folder, "-p", PORT]
        command += ["-c", "listen_addresses=", "-c", "fsync=off"]
        # SIGINT is PostgreSQL's fast shutdown: SIGTERM would wait for the clients.
        server = run.start("postgres", command, variables, cpu=cpu, user=self.user, gentle=signal.SIGINT)
        status = data / "postmaster.pid"
        try:
            run.await_condition(server, "accepting connections", lambda: says_ready(status))
            yield server
        finally:
            server.end()
            run.running.remove(server)

    def run(self, context: Context, case: Case, size: int, placement: str, subject: str) -> dict[str, object]:
        """pgbench's SELECT on one connection, prepared. Raises RunError."""
        data = self.folder_for(context)
        server_cpu, client_cpu = context.placed(placement)
        with stage() as run:
            if self.user:
                shutil.chown(run.folder, self.user)
            path = str(run.folder / f".s.PGSQL.{PORT}")
            variables = environment(context, case, subject, run, path, foreign=self.user is not None)
            with self.server(run, data, variables, server_cpu) as server:
                seconds = max(1, round(3 * context.seconds))
                command = [self.programs / "pgbench", "-h", run.folder, "-p", PORT, "-U", "bench", "-n", "-S"]
                command += ["-M", "prepared", "-c", "1", "-T", str(seconds), DATABASE]
                text, cost = load(context, run, [server], command, variables, client_cpu)
            return with_proof(read(text, cost), case, subject, run, path)


def read(text: str, cost: dict[str, float]) -> dict[str, object]:
    """The figures in pgbench's report. Raises RunError if there are none, or if transactions failed."""
    rate = re.search(r"^tps = ([\d.]+)", text, re.MULTILINE)
    failed = re.search(r"^number of failed transactions: (\d+)", text, re.MULTILINE)
    if not rate or (failed and int(failed[1])):
        raise RunError(f"pgbench: no clean report: {text.strip()[-200:]}")
    return figures("pgbench", float(rate[1]), cost)
