"""nginx in front of application servers: it is their client on Unix sockets, and a server on one of its own."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
from pathlib import Path

from conformance.obtain import debian, program, python_with
from conformance.scenes.scene import PROGRAMS, World, run_as, wait_for

PACKAGES = {"nginx": "nginx-light", "wrk": "wrk", "curl": "curl", "setpriv": "util-linux"}

_CONF = """
worker_processes 2; daemon off; pid {home}/nginx.pid; error_log {home}/error.log notice;
events {{ worker_connections 512; }}
http {{
  log_format upstream '$upstream_addr $status';
  access_log {home}/access.log upstream;
  client_body_temp_path {home}/t1; proxy_temp_path {home}/t2; uwsgi_temp_path {home}/t3;
  fastcgi_temp_path {home}/t4; scgi_temp_path {home}/t5;
  client_max_body_size 50m; sendfile on; server_tokens off;
  proxy_ignore_client_abort on; uwsgi_ignore_client_abort on;
  upstream kept {{ server unix:{backend}; keepalive 8; }}
  server {{
    listen 127.0.0.1:{port}; listen unix:{home}/front.sock;
    location /files/ {{ alias {files}/; }}
    location /each/ {{ proxy_pass http://unix:{backend}; proxy_set_header Host here; }}
    location /kept/ {{ proxy_pass http://kept; proxy_http_version 1.1; proxy_set_header Connection ""; }}
    location /uwsgi/ {{ include /etc/nginx/uwsgi_params; uwsgi_pass unix:{backend}; }}
    location /self/ {{ proxy_pass http://unix:{home}/front.sock:/files/; }}
  }}
}}
"""


def _python() -> Path:
    return python_with("web", "gunicorn", "uvicorn")


def install() -> None:
    _python()
    debian(uwsgi="uwsgi-core", uwsgi_python3="uwsgi-plugin-python3")


def _content(path: Path) -> str:
    """What a file holds; nothing where there is none."""
    return path.read_text().strip() if path.exists() else ""


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Front:
    """nginx with one application server behind it."""

    def __init__(self, world: World, home: Path, port: int, pid: int):
        self.world, self.home, self.port, self.pid = world, home, port, pid
        self.socket = home / "front.sock"

    def get(self, what: str, *options: str, over_unix: bool = False) -> None:
        """Note status, length and digest of an answer."""
        way = ["--unix-socket", self.socket, f"http://here{what}"] if over_unix else [f"http://127.0.0.1:{self.port}{what}"]
        body = self.world / "body"
        done = self.world.ask([program("curl"), "-s", "-S", "-m", "60", "-o", body, "-w", "%{http_code} %{size_download}",
                               *options, *way])
        digest = self.world.ask(["sha256sum"], stdin=body.read_bytes() if body.exists() else b"").out[:16]
        body.unlink(missing_ok=True)
        self.world.step(f"{'unix ' if over_unix else ''}{what} {' '.join(o for o in options if '/' not in o)}",
                        (done.status, done.out, digest, done.err))

    def load(self, what: str, seconds: int = 2, clients: int = 16) -> None:
        done = self.world.ask([program("wrk"), "-t", "2", "-c", str(clients), "-d", str(seconds), "--timeout", "30",
                               f"http://127.0.0.1:{self.port}{what}"]).check()
        text = done.out.decode()
        requests = int(re.search(r"(\d+) requests in", text)[1])
        self.world.step(f"wrk {what}", re.findall(r"Socket errors.*|Non-2xx.*", text) + ["many" if requests > 50 else text])

    def lines(self, upstream: Path) -> int:
        """How many requests nginx has passed on to an upstream, by its own log."""
        return (self.home / "access.log").read_text().count(f"unix:{upstream} ")


#: Runs its words in the background and ends when there is a file called by the first one: a parent that leaves.
_LEAVE = ["sh", "-c", 'file=$1; shift; "$@" & until [ -e "$file" ]; do sleep 0.05; done', "sh"]


@contextlib.contextmanager
def _nginx(world: World, backend: Path, start, leave: Path | None = None):
    """nginx, started by `start`: World.stay where it is to be the client of `backend`, else World.serve. leave: its parent
    ends when this file is made, as one does that starts a daemon."""
    home, files = world.new_dir("nginx"), world.new_dir("files")
    for size in (0, 1, 5000, 300_000, 12_000_000):
        (files / str(size)).write_bytes(bytes(i * 7 % 251 for i in range(1000)) * (size // 1000) + b"x" * (size % 1000))
    port = _free_port()
    conf = home / "nginx.conf"
    conf.write_text(_CONF.format(home=home, files=files, port=port, backend=backend))
    # Its workers run as the user who listens. (Where root listens for workers of another user, no client takes their offers.)
    cmd = [*run_as("nobody"), program("nginx"), "-p", home, "-e", home / "error.log", "-c", conf]
    with start([*_LEAVE, leave, *cmd] if leave else cmd, stop_signal=signal.SIGQUIT) as server:
        server.wait_until((home / "front.sock").exists)
        server.wait_until(lambda: _content(home / "nginx.pid"))
        yield Front(world, home, port, int(_content(home / "nginx.pid")))
    world.step("nginx ended with", server.process.returncode)
    complaints = re.findall(r"\[(?:error|crit|alert|emerg)\].*", (home / "error.log").read_text())
    world.step("nginx complains", [re.sub(r"\d+#\d+: |\*\d+ |:\d{4,}", "", c) for c in complaints])


def _behind(world: World, cmd: list, backend: Path, location: str, kept: str | None = None, early: bool = False) -> None:
    """What is asked of each application server."""
    with world.serve(cmd, cwd=world.directory) as server:
        server.wait_until(backend.exists)
        with _nginx(world, backend, world.stay) as front:
            for what in ("bytes/0", "bytes/1", "bytes/5000", "bytes/1000000", "bytes/20000000", "parts/3", "parts/2000", "none"):
                front.get(f"/{location}/{what}")
            for size in (0, 1000, 100_000, 10_000_000):
                (world / "upload").write_bytes(b"up" * (size // 2))
                front.get(f"/{location}/echo", "--data-binary", f"@{world.directory}/upload")
            front.load(f"/{location}/bytes/2000")
            front.load(f"/{location}/bytes/200000", clients=4)
            if kept:
                front.load(f"/{kept}/bytes/2000")
                front.get(f"/{kept}/echo", "-d", "posted")
        sent = front.lines(backend)
        # With connections kept, far fewer are opened than requests sent; nginx does not say how many.
        world.opened(backend, sent if not kept else 1, "client", more=0 if not kept else sent, early=early)
    world.step("server ended with", server.process.returncode)


def nginx_gunicorn(world: World) -> None:
    """nginx to gunicorn, a connection for each request."""
    backend = world.new_dir("b") / "gunicorn.sock"
    cmd = [_python(), "-m", "gunicorn", "-b", f"unix:{backend}", "-w", "2", "--chdir", PROGRAMS, "web_app:wsgi",
           "--worker-tmp-dir", world.directory, "--graceful-timeout", "5", "--no-control-socket"]
    _behind(world, cmd, backend, "each", early=True)


def nginx_gunicorn_threads(world: World) -> None:
    """nginx to gunicorn with threads, some connections kept."""
    backend = world.new_dir("b") / "gunicorn.sock"
    cmd = [_python(), "-m", "gunicorn", "-b", f"unix:{backend}", "-w", "1", "-k", "gthread", "--threads", "4",
           "--keep-alive", "5", "--chdir", PROGRAMS, "web_app:wsgi", "--worker-tmp-dir", world.directory,
           "--graceful-timeout", "5", "--no-control-socket"]
    _behind(world, cmd, backend, "each", "kept", early=True)


def nginx_uvicorn(world: World) -> None:
    """nginx to uvicorn (asyncio), a connection for each request."""
    backend = world.new_dir("b") / "uvicorn.sock"
    cmd = [_python(), "-m", "uvicorn", "--uds", backend, "--app-dir", PROGRAMS, "web_app:asgi", "--log-level", "warning"]
    _behind(world, cmd, backend, "each")


def nginx_uvicorn_kept(world: World) -> None:
    """nginx to uvicorn (asyncio), some connections kept."""
    backend = world.new_dir("b") / "uvicorn.sock"
    cmd = [_python(), "-m", "uvicorn", "--uds", backend, "--app-dir", PROGRAMS, "web_app:asgi", "--log-level", "warning"]
    _behind(world, cmd, backend, "each", "kept")


def nginx_uwsgi(world: World) -> None:
    """nginx to uWSGI by the uwsgi protocol."""
    backend = world.new_dir("b") / "uwsgi.sock"
    cmd = [program("uwsgi_python3"), "--socket", backend, "--chmod-socket=666", "--master", "--processes", "2",
           "--pythonpath", PROGRAMS, "--module", "web_app:wsgi", "--die-on-term", "--need-app", "--disable-logging"]
    _behind(world, cmd, backend, "uwsgi")


def nginx_unix(world: World) -> None:
    """nginx listening on a Unix socket, to curl and to itself."""
    with _nginx(world, world / "nobody.sock", world.serve) as front:
        # With the library on one side only it is not asked by itself, since both ends would be on that side.
        alone = world.sides != "both"
        for what in ("0", "1", "5000", "300000", "12000000", "absent"):
            front.get(f"/files/{what}", over_unix=True)
            if not alone:
                front.get(f"/self/{what}")
        front.get("/files/12000000", "-r", "1000000-5999999", over_unix=True)
        front.get("/each/x", over_unix=True)
        if not alone:
            front.load("/self/5000")
            front.load("/self/300000", clients=4)
    # curl's eight connections are not among nginx's own.
    world.opened(front.socket, front.lines(front.socket) + 8, "client")


def nginx_upgrade(world: World) -> None:
    """nginx replaces its binary (USR2): the new one has lost the environment, and with it the library."""
    leave = world / "leave"
    with _nginx(world, world / "nobody.sock", world.serve, leave) as front:
        front.get("/files/300000", over_unix=True)
        parent = _parent(front.pid)
        leave.touch()            # nginx does as USR2 says only once the parent that started it has ended
        wait_for("nginx's parent's end", lambda: _parent(front.pid) != parent)
        os.kill(front.pid, signal.SIGUSR2)
        old, new = front.home / "nginx.pid.oldbin", front.home / "nginx.pid"
        wait_for("the new binary", lambda: _content(old) and _content(new))
        for _ in range(10):      # either of them answers
            front.get("/files/300000", over_unix=True)
            front.get("/self/5000")
        successor = int(_content(new))
        os.kill(int(_content(old)), signal.SIGWINCH)
        os.kill(int(_content(old)), signal.SIGQUIT)
        wait_for("the old binary's end", lambda: not old.exists())
        for _ in range(5):
            front.get("/files/300000", over_unix=True)
            front.get("/self/5000")
        front.load("/self/5000")
        world.step("library in the new binary", "libkvoshim" in Path(f"/proc/{successor}/maps").read_text())
        os.kill(successor, signal.SIGQUIT)
        wait_for("the new binary's end", lambda: _ended(successor))
    world.opened(front.socket, 1, "client", more=10_000)


def _stat(pid: int) -> list[str]:
    """State, parent and so on, of a process that may be a zombie."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")")[-1].split()


def _parent(pid: int) -> int:
    return int(_stat(pid)[1])


def _ended(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists() or _stat(pid)[0] == "Z"


# gunicorn's workers shut each connection down behind its only answer: how many switch before is a matter of who is faster.
SCENES = [(nginx_gunicorn, 10, True), (nginx_gunicorn_threads, 100, False), (nginx_uvicorn, 1000, True),
          (nginx_uvicorn_kept, 100, False), (nginx_uwsgi, 1000, True), (nginx_unix, 1000, True), (nginx_upgrade, 1, False)]
