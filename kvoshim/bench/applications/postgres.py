"""PostgreSQL with pgbench."""

import os
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kvoshim.bench.applications.load import figures, load
from kvoshim.bench.drivers import Context, environment, with_proof
from kvoshim.bench.model import Case
from kvoshim.bench.processes import RunError, Running, Stage, clean_environment, stage

PORT = "5432"
DATABASE = "bench"


def missing(_case: Case) -> str | None:
    """What must be installed, or None if it is all there."""
    if postgres_folder() is None:
        return "PostgreSQL's server and pgbench are not installed (Debian: postgresql)"
    if os.geteuid() == 0 and not user_exists("postgres"):
        return "there is no user 'postgres' to run the server (it refuses to run as root)"
    return None


def user_exists(name: str) -> bool:
    """Whether the system has this user."""
    import pwd

    return any(entry.pw_name == name for entry in pwd.getpwall())


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
