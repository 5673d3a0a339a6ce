"""Real servers: found where Debian puts them, started on sockets and data of the test's own.

Servers that are missing are a loud skip on a developer's machine and a failure in continuous integration (CI=true).
"""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest
import shimlib

_ALSO = ("/usr/sbin", "/sbin", "/usr/local/sbin")


def find_program(name: str, *folders: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), *folders, *_ALSO]))


def missing(what: str) -> None:
    """Skip, with a message that says what to do; fail where nothing may be skipped."""
    message = f"{what}; run scripts/install-servers"
    if os.environ.get("CI", "").lower() in ("1", "true", "yes"):
        pytest.fail(message + " (CI is set: nothing may be skipped)")
    pytest.skip(message)


class Redis:
    """Programs of Redis, and a server of one's own."""

    def __init__(self, server: str, cli: str, benchmark: str):
        self.server, self.cli, self.benchmark = server, cli, benchmark

    @contextlib.contextmanager
    def serving(self, place: shimlib.Place, shim: shimlib.Shim | None, name: str = "redis"):
        """A server on `place`/NAME.sock for the length of the block; yields (socket path, shimlib.Server)."""
        path = place / f"{name}.sock"
        cmd = [self.server, "--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly", "no", "--dir",
               str(place.dir), "--proto-max-bulk-len", "64mb", "--client-output-buffer-limit", "pubsub 0 0 0"]
        with shimlib.Server(cmd, shim, place / f"{name}.out") as server:
            server.wait_until(path.exists)
            yield path, server
        path.unlink(missing_ok=True)


@pytest.fixture(scope="session")
def redis() -> Redis:
    programs = [find_program(p) for p in ("redis-server", "redis-cli", "redis-benchmark")]
    if None in programs:
        missing("redis-server, redis-cli or redis-benchmark not found")
    return Redis(*programs)


class Postgres:
    """Programs of PostgreSQL and the user that its server runs as."""

    def __init__(self, folder: Path, user: str | None, become: list[str]):
        self.folder, self.user, self.become = folder, user, become

    def program(self, name: str) -> str:
        return str(self.folder / name)

    @contextlib.contextmanager
    def serving(self, place: shimlib.Place, shim: shimlib.Shim | None, name: str):
        """A new cluster with a running server; yields (socket directory, shimlib.Server). Clients are user postgres."""
        home = place.new_dir(name)
        data, sockets = home / "data", home / "s"
        sockets.mkdir()
        if self.user:
            owner = pwd.getpwnam(self.user)
            for folder in (home, sockets):
                os.chown(folder, owner.pw_uid, owner.pw_gid)
        sockets.chmod(0o755)
        made = shimlib.run([*self.become, self.program("initdb"), "-D", str(data), "-U", "postgres", "-A", "trust",
                            "--no-sync", "-E", "UTF8", "--locale=C"], shim, timeout=110, cwd=home)
        made.check()
        settings = {"listen_addresses": "", "unix_socket_directories": str(sockets), "fsync": "off",
                    "full_page_writes": "off", "wal_level": "minimal", "max_wal_senders": "0", "autovacuum": "off",
                    "synchronous_commit": "off", "max_connections": "40", "log_min_messages": "warning"}
        with open(data / "postgresql.conf", "a") as f:
            f.writelines(f"{k} = '{v}'\n" for k, v in settings.items())
        cmd = [*self.become, self.program("postgres"), "-D", str(data)]
        with shimlib.Server(cmd, shim, place / f"{name}.out", cwd=home, stop_signal=signal.SIGINT) as server:
            server.wait_until(lambda: accepts(sockets / ".s.PGSQL.5432"))
            yield sockets, server


def accepts(path: Path) -> bool:
    """Whether a server listens on a socket."""
    with socket.socket(socket.AF_UNIX) as s:
        try:
            s.connect(str(path))
        except OSError:
            return False
        return True


@pytest.fixture(scope="session")
def postgres() -> Postgres:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda p: int(p.parts[4].split(".")[0]))
    program = found[-1] if found else find_program("postgres")
    if not program:
        missing("PostgreSQL's server not found (Debian: /usr/lib/postgresql/*/bin)")
    folder = Path(program).resolve().parent
    for name in ("initdb", "createdb", "pgbench", "psql"):
        if not (folder / name).exists():
            missing(f"{folder / name} not found")
    if os.geteuid() != 0:
        return Postgres(folder, None, [])            # no second user without root: server and clients are the same
    try:
        pwd.getpwnam("postgres")
    except KeyError:
        missing("no user postgres on this machine")
    setpriv = find_program("setpriv")
    if not setpriv:
        missing("setpriv (util-linux) not found, which starts the server as its own user")
    return Postgres(folder, "postgres", [setpriv, "--reuid=postgres", "--regid=postgres", "--init-groups", "--"])


def version_of(program: str) -> str:
    return subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.strip()
