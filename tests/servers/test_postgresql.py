"""PostgreSQL, its server under a user of its own and its clients under another, unmodified, through shared memory.

One cluster on kernel sockets and one under the library live through the same things; what they hold is compared.
"""

import hashlib
import os
import re
import shutil
from pathlib import Path

import pytest
import shimlib

pytestmark = [pytest.mark.servers, pytest.mark.watchdog(420)]

#: About 100 MB in COPY's text form.
ROWS = 900_000


class Cluster:
    """One server and the ways to talk to it."""

    def __init__(self, postgres, sockets: Path, shim: shimlib.Shim | None, place: shimlib.Place, pid: int = 0):
        self.postgres, self.sockets, self.shim, self.place, self.pid = postgres, sockets, shim, place, pid

    @property
    def path(self) -> str:
        return str(self.sockets / ".s.PGSQL.5432")

    def run(self, program: str, *words: str, stdin: bytes | None = None, timeout: float = 100) -> str:
        cmd = [self.postgres.program(program), "-h", str(self.sockets), "-U", "postgres", *words]
        return shimlib.run(cmd, self.shim, stdin=stdin, timeout=timeout, cwd=self.place.dir).check().out.decode()

    def ask(self, *statements: str) -> str:
        """One session of psql, a statement a line."""
        return self.run("psql", "-X", "-At", "-d", "bench", "-v", "ON_ERROR_STOP=1", stdin="\n".join(statements).encode())

    def accelerated(self, side: str) -> int:
        return self.shim.log.accelerated(side, path=self.path)


@pytest.fixture(scope="module")
def clusters(postgres):
    """(plain, shimmed): two servers, each with a database that pgbench -i has filled."""
    place = shimlib.Place()
    # The server's user must be able to read the library, wherever the project's virtual environment lies.
    shim = place.shim(f"{place.dir}/*")
    copy = shutil.copy(shim.library, place / "libkvoshim.so")
    shim.library = Path(copy)
    try:
        with postgres.serving(place, None, "k") as plain, postgres.serving(place, shim, "s") as shimmed:
            made = [Cluster(postgres, sockets, use, place, server.pid)
                    for (sockets, server), use in ((plain, None), (shimmed, shim))]
            for cluster in made:
                cluster.run("createdb", "bench")
                cluster.run("pgbench", "-i", "-q", "-s", "2", "bench")
            yield made
    finally:
        place.remove()


def both(clusters, what):
    """what(cluster) for the plain and for the shimmed one; how many connections the latter accelerated on each side."""
    plain, shimmed = clusters
    wanted = what(plain)
    before = [shimmed.accelerated(side) for side in ("client", "server")]
    got = what(shimmed)
    return wanted, got, [shimmed.accelerated(side) - n for side, n in zip(("client", "server"), before)]


def test_initdb_createdb_and_pgbench_initialisation(clusters):
    _, shimmed = clusters
    if shimmed.postgres.user:            # the server is somebody else than its clients
        assert os.stat(f"/proc/{shimmed.pid}").st_uid != os.getuid()
    wanted, got, counted = both(clusters, lambda c: c.ask(
        "SELECT count(*), sum(abalance), min(aid), max(aid), md5(string_agg(filler, '' ORDER BY aid)) FROM pgbench_accounts;",
        "SELECT count(*) FROM pgbench_tellers;", "SELECT datname FROM pg_database ORDER BY 1;"))
    assert got == wanted
    assert counted == [1, 1]
    # createdb and pgbench -i had been there before.
    assert shimmed.accelerated("client") >= 3, shimmed.shim.log.text()[-3000:]
    assert shimmed.accelerated("server") >= 3


@pytest.mark.parametrize("clients", [1, 8])
@pytest.mark.parametrize("script", ["select", "tpcb"])
@pytest.mark.parametrize("protocol", ["simple", "prepared"])
def test_pgbench(clusters, clients, script, protocol):
    transactions = 20000 // clients if script == "select" else 5000 // clients
    words = ["-n", "-c", str(clients), "-j", "2" if clients > 1 else "1", "-t", str(transactions), "-M", protocol,
             "--random-seed=42", *(["-S"] if script == "select" else []), "bench"]
    sums = "SELECT sum(abalance), md5(string_agg(aid || ':' || abalance, ',' ORDER BY aid)) FROM pgbench_accounts;"

    def work(cluster):
        out = cluster.run("pgbench", *words)
        done = re.search(r"transactions actually processed: (\d+)/(\d+)", out)
        assert done and done[1] == done[2] == str(transactions * clients), out
        assert "number of failed transactions: 0 " in out, out
        cluster.ask("VACUUM pgbench_branches;")
        return cluster.ask(sums, "SELECT sum(tbalance) FROM pgbench_tellers;", "SELECT sum(bbalance) FROM pgbench_branches;",
                           "SELECT count(*), sum(delta) FROM pgbench_history;")

    wanted, got, counted = both(clusters, work)
    assert got == wanted                 # the same seed: the same accounts, the same sums
    # pgbench asks for the scale over one connection of its own, psql came twice.
    assert min(counted) >= clients + 1, clusters[1].shim.log.plain_reasons()
    assert counted[0] == counted[1]


def test_copy_of_a_large_table_out_and_in(clusters):
    def work(cluster):
        out = cluster.place / f"out-{cluster.sockets.parent.name}"
        again = cluster.place / f"again-{cluster.sockets.parent.name}"
        text = cluster.ask(
            "CREATE TABLE big AS SELECT g AS id, md5(g::text) AS a, md5((g * 7)::text) || md5((g * 13)::text) AS b, g * 0.5 AS c "
            f"FROM generate_series(1, {ROWS}) g;",
            f"\\copy big TO '{out}'",
            "CREATE TABLE back (LIKE big);",
            f"\\copy back FROM '{out}'",
            f"\\copy (SELECT * FROM back ORDER BY id) TO '{again}'",
            f"\\copy (SELECT * FROM back WHERE id <= 1000) TO '{again}.csv' CSV HEADER",
            "SELECT count(*), sum(id), md5(string_agg(md5(back::text), '' ORDER BY id)) FROM back;",
            "SELECT count(*) FROM (SELECT * FROM big EXCEPT ALL SELECT * FROM back WHERE id <= 200000) x WHERE id <= 200000;",
            "DROP TABLE big, back;")
        digests = []
        for path in (out, again, Path(f"{again}.csv")):
            with open(path, "rb") as f:
                digests.append(hashlib.file_digest(f, "sha256").hexdigest())
        size = out.stat().st_size
        for path in (out, again, Path(f"{again}.csv")):
            path.unlink()
        return text, digests, size

    wanted, got, counted = both(clusters, work)
    assert got == wanted
    assert got[1][0] == got[1][1]        # what came back in is what went out
    assert got[2] > 100_000_000
    assert counted == [1, 1]


def test_errors_notices_and_notifications(clusters):
    def work(cluster):
        cmd = [cluster.postgres.program("psql"), "-X", "-At", "-h", str(cluster.sockets), "-U", "postgres", "-d", "bench"]
        script = "\n".join([
            "SELECT 1/0;", "LISTEN news;", "NOTIFY news, 'payload';", "SELECT 'x';", "DO $$ BEGIN RAISE NOTICE 'noted'; END $$;",
            "SELECT repeat('y', 5000000);", "BEGIN;", "SELECT nonsense;", "SELECT 1;", "ROLLBACK;", "\\conninfo",
            "SET statement_timeout = 100;", "SELECT pg_sleep(20);", "SELECT 'still there';"])
        done = shimlib.run(cmd, cluster.shim, stdin=script.encode(), timeout=60)
        clean = [re.sub(rb"PID \d+|\"/tmp[^\"]*\"|kvo-[^/]*/\w", b"?", text) for text in (done.out, done.err)]
        return done.status, clean

    wanted, got, counted = both(clusters, work)
    assert got == wanted
    assert counted == [1, 1]


def test_terminated_and_cancelled_backends(clusters):
    """Another session ends a backend; its client is told, by the same words as on the kernel."""
    def work(cluster):
        words = ["-X", "-At", "-d", "bench"]
        cmd = [cluster.postgres.program("psql"), "-h", str(cluster.sockets), "-U", "postgres", *words]
        with shimlib.Server([*cmd, "-c", "SELECT 1", "-c", "SELECT pg_sleep(60)"], cluster.shim,
                            cluster.place / "victim.out") as victim:
            find = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)';"
            victim.wait_until(lambda: cluster.ask(find).strip() == "1")
            ended = cluster.ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                                "WHERE query = 'SELECT pg_sleep(60)';")
            status = victim.wait()
            return ended, status, victim.output.read_text()

    wanted, got, _ = both(clusters, work)
    assert got == wanted


def test_plain_client_and_shimmed_client_with_the_other_server(clusters):
    plain, shimmed = clusters
    question = ["SELECT string_agg(g::text, ',') FROM generate_series(1, 200000) g;", "SELECT version() IS NOT NULL;"]
    wanted = plain.ask(*question)
    before = shimmed.shim.log.accelerated()
    crossed = [Cluster(plain.postgres, plain.sockets, shimmed.shim, plain.place),
               Cluster(plain.postgres, shimmed.sockets, None, plain.place)]
    assert [c.ask(*question) for c in crossed] == [wanted, wanted]
    for c in crossed:
        c.run("pgbench", "-n", "-S", "-c", "2", "-t", "300", "bench")
    assert shimmed.shim.log.accelerated() == before
