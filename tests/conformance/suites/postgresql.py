"""PostgreSQL on a Unix socket: its own regression tests, of its Debian source package, and those of two Python drivers."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

from conformance.obtain import apt_install, build, debian, debian_source, once, python_with, sdist
from conformance.scenes.scene import World, run_as
from conformance.suite import Result, Suite, execute, unittest_results

_SETTINGS = {"listen_addresses": "", "fsync": "off", "max_connections": "60", "max_prepared_transactions": "10",
             "log_min_messages": "fatal"}
#: What is built of the sources, in this order: only what the tests need beside the installed server.
_PARTS = ("src/backend generated-headers", "src/port all", "src/common all", "src/interfaces/libpq all", "src/test/regress all",
          "src/test/isolation all", "src/test/modules/libpq_pipeline all")


def _programs() -> Path | None:
    """The folder of the newest installed server's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda p: int(p.parts[4]))
    return found[-1].parent if found else None


class PostgreSQL(Suite):
    """A suite whose server is a new cluster."""

    #: What is copied from the sources, so that server and clients can write there.
    folders: tuple[str, ...] = ()

    def install(self) -> None:
        if not _programs():
            apt_install(["postgresql"])
        self.bin = _programs()
        debian(setpriv="util-linux")

    def build(self) -> None:
        """The tests that PostgreSQL's sources bring along."""
        version = self.bin.parts[4]
        source = debian_source(f"postgresql-{version}", f"postgresql-{version}")
        debian(make="make", cc="gcc")
        with once("postgresql-tests") as (folder, fresh):
            if fresh:
                shutil.copytree(source, folder / "source", symlinks=True)
                build(folder / "source", "PostgreSQL's tests", "./configure -q --without-readline --without-zlib",
                      *(f"make -s -j{os.cpu_count()} -C {part}" for part in _PARTS))
        self.source = folder / "source"

    @contextlib.contextmanager
    def serving(self, world: World):
        """A new cluster with a running server; yields the folder of its socket. Server and clients are one user, who
        owns all of `home`, where the tests lie too."""
        home = world.new_dir("pg")
        for folder in self.folders:
            shutil.copytree(self.source / folder, home / folder, ignore=shutil.ignore_patterns("*.o", "*.c"))
        self.become = run_as("postgres")
        if self.become:
            subprocess.run(["chown", "-R", "postgres:", home], check=True)
        data = home / "data"
        words = ["-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C"]
        made = execute([*self.become, self.bin / "initdb", "-D", data, *words], world.environment, world.directory, 200, cwd=home)
        assert made.status == 0, made.text
        with open(data / "postgresql.conf", "a") as file:
            settings = {**_SETTINGS, "unix_socket_directories": home}
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
        # PGHOST: dblink and postgres_fdw make the server a client of itself.
        with world.serve([*self.become, self.bin / "postgres", "-D", data], cwd=home, stop_signal=signal.SIGINT,
                         PGHOST=str(home)) as server:
            server.wait_until(lambda: "ready" in _content(data / "postmaster.pid"))
            yield home

    def run(self, environment, directory, only=None) -> Result:
        world = World(environment, directory, "both")
        with self.serving(world) as home:
            return self.tests(world, home, {**world.environment, "PGHOST": str(home), "PGUSER": "postgres"}, only)

    def tests(self, world: World, home: Path, environment: dict[str, str], only: set[str] | None) -> Result:
        raise NotImplementedError


class Regress(PostgreSQL):
    """A schedule of pg_regress, or a list of its tests; they depend on each other, so that they are always run all."""

    def __init__(self, name: str, about: str, folder: str, words: list[str], accelerates: int):
        self.name, self.about, self.folder, self.words = f"postgresql/{name}", about, folder, words
        self.folders = tuple({"src/test/regress", "src/test/isolation", folder})
        self.accelerates = accelerates

    def install(self) -> None:
        super().install()
        self.build()

    def tests(self, world, home, environment, only) -> Result:
        kind = "isolation" if "isolation" in self.folder else "regress"
        program = home / "src/test" / kind / ("pg_isolation_regress" if kind == "isolation" else "pg_regress")
        folder = home / self.folder
        ended = execute([*self.become, program, f"--inputdir={folder}", f"--outputdir={folder}", f"--bindir={self.bin}",
                         f"--dlpath={home}/src/test/regress", "--max-concurrent-tests=20", *self.words], environment,
                        world.directory, self.limit, cwd=folder)
        result = Result(text=ended.text + _content(folder / "regression.diffs"))
        for test, how in re.findall(r"^(?:test|   ) +(\S+) +\.\.\. (ok|FAILED|failed)", ended.text, re.M):
            (result.passed if how == "ok" else result.failed).add(test)
        return result


class Pipeline(PostgreSQL):
    """libpq's tests of its pipeline mode, with non-blocking sockets."""

    name = "postgresql/libpq-pipeline"
    about = "PostgreSQL's tests of libpq's pipeline mode"
    folders = ("src/test/modules/libpq_pipeline",)
    accelerates = 10

    def install(self) -> None:
        super().install()
        self.build()

    def tests(self, world, home, environment, only) -> Result:
        program = home / self.folders[0] / "libpq_pipeline"
        result = Result()
        names = execute([program, "tests"], environment, world.directory, 60).text.split()
        for test in sorted(set(names) & only) if only else names:
            ended = execute([*self.become, program, test, f"host={home} user=postgres dbname=postgres"], environment,
                            world.directory, 120)
            result.text += ended.text
            (result.failed if ended.status else result.passed).add(test)
        return result


class Driver(PostgreSQL):
    """The tests of a Python driver, which are in its source distribution; the driver itself is PyPI's wheel."""

    def __init__(self, name: str, version: str, wheel: str, words: list[str], accelerates: int, *also: str):
        self.name, self.about, self.words, self.accelerates = f"postgresql/{name}", f"{name} {version}'s own tests", words, accelerates
        self.sources, self.requirements = f"{name}=={version}", (f"{wheel}=={version}", *also)

    def install(self) -> None:
        super().install()
        name = self.name.split("/")[1]
        self.source = sdist(self.sources, name)
        self.python = python_with(f"{name}-venv", *self.requirements)

    def tests(self, world, home, environment, only) -> Result:
        # A copy, since beside its sources Python would import those instead of the wheel.
        shutil.copytree(self.source / "tests", world / "tests")
        execute([self.bin / "createdb", "psycopg2_test"], environment, world.directory, 60)
        ended = execute([self.python, "-X", "faulthandler", *self.words],
                        {**environment, "PSYCOPG2_TESTDB_HOST": str(home), "PSYCOPG2_TESTDB_USER": "postgres"},
                        world.directory, self.limit)
        passed, failed = unittest_results(ended.text)
        return Result(passed, failed, ended.text)


def _content(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


SUITES = [
    Regress("regress", "PostgreSQL's regression tests", "src/test/regress", ["--schedule=parallel_schedule"], 220),
    Regress("isolation", "PostgreSQL's tests of concurrent sessions", "src/test/isolation",
            ["--schedule=isolation_schedule"], 350),
    Regress("dblink", "dblink: the server is its own client", "contrib/dblink", ["--dbname=contrib_regression", "dblink"], 15),
    Regress("postgres-fdw", "postgres_fdw: the server is its own client", "contrib/postgres_fdw",
            ["--dbname=contrib_regression", "postgres_fdw"], 40),
    Pipeline(),
    Driver("asyncpg", "0.32.0", "asyncpg", ["-m", "unittest", "-v"], 250, "distro"),
    Driver("psycopg2", "2.9.13", "psycopg2-binary",
           ["-c", "import tests; tests.unittest.main(defaultTest='tests.test_suite', argv=['tests', '-v'])"], 600),
]
