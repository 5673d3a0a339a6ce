"""MariaDB with sysbench's point SELECT."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kvoshim.bench.applications.load import Kept, figures, lacking, load, program
from kvoshim.bench.drivers import Context, environment, with_proof
from kvoshim.bench.model import Case
from kvoshim.bench.processes import RunError, Running, Stage, clean_environment, listens, stage

PROGRAMS = {
    "mariadbd": "mariadb-server",
    "mariadb-install-db": "mariadb-server",
    "mariadb": "mariadb-client",
    "sysbench": "sysbench",
}


def missing(_case: Case) -> str | None:
    """What must be installed, or None if it is all there."""
    return lacking(PROGRAMS, user="mysql")


def sysbench(path: str, *words: str) -> list[str]:
    """A sysbench command line."""
    command = [program("sysbench"), "oltp_point_select", f"--mysql-socket={path}", "--mysql-user=root", "--mysql-db=bench"]
    return [*command, "--db-driver=mysql", "--tables=1", "--table-size=10000", "--threads=1", *words]


class MariaDB(Kept):
    """A data folder for the whole benchmark. The server runs as the user mysql when this is root."""

    user_name = "mysql"

    def fill(self, run: Stage, context: Context) -> Path:
        """A database with a table."""
        data, path = run.folder / "data", str(run.folder / "s")
        command = [program("mariadb-install-db"), "--no-defaults", f"--datadir={data}", "--skip-test-db"]
        command += ["--auth-root-authentication-method=normal"]
        variables = clean_environment() | {"TMPDIR": str(run.folder)}
        run.start("install-db", command, variables, user=self.user).wait(120)
        with self.server(run, data, path, clean_environment(), None):
            create = [program("mariadb"), "--no-defaults", f"--socket={path}", "--user=root", "-e", "CREATE DATABASE bench"]
            run.start("mariadb", create, clean_environment()).wait(60)
            run.start("prepare", sysbench(path, "prepare"), clean_environment()).wait(120)
        return data

    @contextmanager
    def server(self, run: Stage, data: Path, path: str, variables: dict[str, str], cpu: int | None) -> Iterator[Running]:
        """A running server. Raises RunError."""
        command = [program("mariadbd"), "--no-defaults", f"--datadir={data}", f"--socket={path}", "--skip-networking"]
        command += [f"--pid-file={run.folder}/pid", f"--tmpdir={run.folder}", "--innodb-flush-log-at-trx-commit=0"]
        server = run.start("mariadbd", command, variables, cpu=cpu, user=self.user)
        try:
            run.await_condition(server, "listening", lambda: listens(path), 120)
            yield server
        finally:
            server.end()
            run.running.remove(server)

    def run(self, context: Context, case: Case, size: int, placement: str, subject: str) -> dict[str, object]:
        """SELECT of one row by its key, on one connection. Raises RunError."""
        data = self.folder_for(context)
        server_cpu, client_cpu = context.placed(placement)
        with stage() as run:
            if self.user:
                shutil.chown(run.folder, self.user)
            path = str(run.folder / "s")
            variables = environment(context, case, subject, run, path, foreign=self.user is not None)
            with self.server(run, data, path, variables, server_cpu) as server:
                seconds = max(1, round(3 * context.seconds))
                command = sysbench(path, f"--time={seconds}", "--percentile=99", "run")
                text, cost = load(context, run, [server], command, variables, client_cpu)
            return with_proof(read(text, cost), case, subject, run, path)


def read(text: str, cost: dict[str, float]) -> dict[str, object]:
    """The figures in sysbench's report. Raises RunError if there are none, or if something failed."""
    rate = re.search(r"transactions:\s+\d+\s+\(([\d.]+) per sec\.\)", text)
    errors = re.search(r"ignored errors:\s+(\d+)", text)
    if not rate or not float(rate[1]) or (errors and int(errors[1])):
        raise RunError(f"sysbench: no clean report: {text.strip()[-200:]}")
    tail = re.search(r"99th percentile:\s+([\d.]+)", text)
    return figures("mariadb", float(rate[1]), cost, **({"p99_ns": float(tail[1]) * 1e6} if tail else {}))
