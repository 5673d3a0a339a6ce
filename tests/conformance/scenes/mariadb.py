"""MariaDB on a Unix socket, as a user of its own, under load and with large answers and files."""

import hashlib
import re

from conformance.obtain import program
from conformance.scenes.scene import World, run_as

PACKAGES = {"mariadbd": "mariadb-server", "mariadb-slap": "mariadb-client", "mariadb-install-db": "mariadb-server",
            "sysbench": "sysbench", "setpriv": "util-linux"}

#: Rows of the file that is loaded, and bytes of the largest value.
_ROWS, _LARGE = 400_000, 48_000_000


class Client:
    """Ways to ask one server."""

    def __init__(self, world: World, socket):
        self.world, self.socket, self.runs = world, socket, 0

    def ask(self, name: str, *options: str) -> str:
        """Run a client program, which opens one connection, to its end; its output."""
        return self.start(name, *options).check().out.decode()

    def start(self, name: str, *options: str):
        self.runs += 1
        cmd = [program(name), "--no-defaults", f"--socket={self.socket}", "--user=root", *options]
        return self.world.ask(cmd, timeout=100)

    def sql(self, *statements: str) -> str:
        return self.ask("mariadb", "--max-allowed-packet=64M", "--local-infile=1", "-N", "-B", "-D", "test", "-e",
                        ";".join(statements))

    def sysbench(self, threads: int, what: str, *options: str) -> str:
        cmd = [program("sysbench"), what, f"--mysql-socket={self.socket}", "--mysql-user=root", "--mysql-db=test", "--tables=2",
               "--table-size=5000", "--rand-seed=42", f"--threads={threads}", "--db-driver=mysql", *options]
        return self.world.ask(cmd, timeout=100).check().out.decode()

    def sums(self) -> str:
        return self.sql("CHECKSUM TABLE sbtest1, sbtest2", "SELECT count(*), sum(k) FROM sbtest1")


def mariadb(world: World) -> None:
    """MariaDB under mariadb-slap and sysbench, with large packets and LOAD DATA."""
    home = world.new_dir("m")
    as_mysql = run_as("mysql")
    world.ask([*as_mysql, program("mariadb-install-db"), "--no-defaults", f"--datadir={home}/data", "--skip-test-db",
               "--auth-root-authentication-method=normal"], timeout=100).check()
    socket = home / "s"
    cmd = [*as_mysql, program("mariadbd"), "--no-defaults", f"--datadir={home}/data", f"--socket={socket}", "--skip-networking",
           "--max-allowed-packet=64M", "--local-infile=1", f"--pid-file={home}/pid", "--innodb-flush-log-at-trx-commit=0"]
    with world.serve(cmd, grace=60) as server:
        server.wait_until(socket.exists)
        client = Client(world, socket)
        client.ask("mariadb", "-e", "CREATE DATABASE test")
        _large(world, client)
        _files(world, client)
        slap = client.ask("mariadb-slap", "--auto-generate-sql", "--concurrency=16", "--number-of-queries=4000",
                          "--auto-generate-sql-load-type=mixed", "--auto-generate-sql-write-number=100")
        world.step("mariadb-slap", re.findall(r"Number of clients.*", slap))
        _sysbench(world, client)
        # mariadb-slap opens 16 more, sysbench one for each of its threads: eight in the last of five runs, one in the others.
        world.opened(socket, client.runs + 16 + 12)
    world.step("MariaDB ended with", server.process.returncode)


def _large(world: World, client: Client) -> None:
    world.step("a large answer", hashlib.sha256(client.sql(f"SELECT repeat('0123456789abcdef', {_LARGE // 16})").encode()).hexdigest())
    (world / "large.sql").write_text(f"SELECT length('{'x' * _LARGE}'), md5('{'y' * 1_000_000}');\n" * 2)
    world.step("large requests", client.sql(f"source {world.directory}/large.sql"))
    world.step("many answers", hashlib.sha256(client.sql("SELECT seq, md5(seq) FROM seq_1_to_300000").encode()).hexdigest())


def _files(world: World, client: Client) -> None:
    """LOAD DATA LOCAL: the server asks its client for a file in the middle of a request."""
    source = world / "rows.txt"
    source.write_text("".join(f"{i}\t{hashlib.md5(str(i).encode()).hexdigest() * 3}\n" for i in range(_ROWS)))
    load = f"LOAD DATA LOCAL INFILE '{source}' INTO TABLE t"
    world.step("LOAD DATA", client.sql("CREATE TABLE t (a INT PRIMARY KEY, b VARCHAR(100))", load, "SELECT row_count()",
                                       "CHECKSUM TABLE t", "SELECT count(*), sum(a), min(b), max(b) FROM t"))
    dump = client.ask("mariadb-dump", "--skip-comments", "--skip-dump-date", "test", "t")
    world.step("dump", hashlib.sha256(dump.encode()).hexdigest())
    wrong = client.start("mariadb", "--local-infile=1", "-f", "-D", "test", "-e",
                         load.replace(source.name, "none") + "; SELECT count(*) FROM t")
    world.step("LOAD DATA of no file", (wrong.status, wrong.out, wrong.err))


def _sysbench(world: World, client: Client) -> None:
    client.sysbench(1, "oltp_read_write", "prepare")
    world.step("sysbench, prepared", client.sums())
    for what in ("oltp_read_write", "oltp_point_select", "oltp_update_index"):
        done = client.sysbench(1, what, "--events=500", "--time=0", "run")
        world.step(what, [*re.findall(r"total:\s+\d+|(?:transactions|queries):\s+\d+|errors:\s+\d+", done), client.sums()])
    done = client.sysbench(8, "oltp_read_only", "--events=1000", "--time=0", "run")
    world.step("oltp_read_only, 8 clients", re.findall(r"transactions:\s+\d+|errors:\s+\d+", done))


SCENES = [(mariadb, 30, True)]
