"""nginx in front of Python application servers on a Unix socket, asked by wrk over TCP.

nginx is the shim's client. In placement 0-1 the application server has the first CPU, nginx and wrk share the second.
"""

import re
import signal
import socket
import sys
from pathlib import Path

from kvoshim.bench.applications.load import figures, lacking, load, program
from kvoshim.bench.build import HERE
from kvoshim.bench.drivers import Context, environment, with_proof
from kvoshim.bench.model import Case
from kvoshim.bench.processes import RunError, Running, Stage, clean_environment, listens, stage

PROGRAMS = {"nginx": "nginx-light", "wrk": "wrk"}
MODULES = {"uvicorn": ("uvicorn",), "gunicorn": ("gunicorn",), "uwsgi": ()}
CLIENTS = 16

CONFIGURATION = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log; {user}
events {{ worker_connections 512; }}
http {{
  access_log off;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; uwsgi_temp_path {folder}/t3;
  fastcgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  upstream kept {{ server unix:{path}; keepalive {clients}; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{ {passing} }}
  }}
}}
"""
KEPT = 'proxy_pass http://kept; proxy_http_version 1.1; proxy_set_header Connection "";'
PARAMETERS = ("QUERY_STRING $query_string", "REQUEST_METHOD $request_method", "PATH_INFO $document_uri")


def missing(case: Case) -> str | None:
    """What must be installed, or None if it is all there."""
    needed = PROGRAMS | ({"uwsgi_python3": "uwsgi-core uwsgi-plugin-python3"} if case.mode == "uwsgi" else {})
    return lacking(needed, MODULES[case.mode])


def server_command(case: Case, path: str, folder: Path) -> list:
    """The application server's command line."""
    drivers = HERE / "py"
    if case.mode == "uvicorn":
        return [sys.executable, "-m", "uvicorn", "--uds", path, "--app-dir", drivers, "web:asgi", "--log-level", "error"]
    if case.mode == "gunicorn":
        command = [sys.executable, "-m", "gunicorn", "-b", f"unix:{path}", "-w", "1", "-k", "gthread", "--threads", CLIENTS]
        command += ["--keep-alive", "30", "--chdir", drivers, "--worker-tmp-dir", folder, "--log-level", "error"]
        return [*command, "--no-control-socket", "web:wsgi"]
    command = [program("uwsgi_python3"), "--socket", path, "--chmod-socket=666", "--pythonpath", drivers, "--module", "web:wsgi"]
    return [*command, "--master", "--processes", "1", "--die-on-term", "--need-app", "--disable-logging"]


def free_port() -> int:
    """A port that nobody has at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port: int) -> bool:
    """Whether somebody accepts connections there."""
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except ConnectionRefusedError:
        return False
    return True


def start_nginx(run: Stage, case: Case, path: str, variables: dict[str, str], cpu: int | None, root: bool) -> tuple[Running, int]:
    """nginx in front of the server at `path`; its port. Its workers are of this user: a stranger's offers are not taken."""
    port, configuration = free_port(), run.folder / "nginx.conf"
    parameters = " ".join(f"uwsgi_param {one};" for one in PARAMETERS)
    passing = f"{parameters} uwsgi_pass unix:{path};" if case.mode == "uwsgi" else KEPT
    text = CONFIGURATION.format(
        folder=run.folder, path=path, port=port, clients=CLIENTS, passing=passing, user="user root;" if root else ""
    )
    configuration.write_text(text)
    command = [program("nginx"), "-p", run.folder, "-e", run.folder / "nginx.log", "-c", configuration]
    nginx = run.start("nginx", command, variables, cpu=cpu, gentle=signal.SIGQUIT)
    run.await_condition(nginx, "listening", lambda: answers(port))
    return nginx, port


def run(context: Context, case: Case, size: int, placement: str, subject: str) -> dict[str, object]:
    """Pages of `size` bytes. Raises RunError."""
    server_cpu, client_cpu = context.placed(placement)
    with stage() as run:
        path = str(run.folder / "s")
        variables = environment(context, case, subject, run, path)
        variables["SIZE"] = str(size)
        server = run.start("server", server_command(case, path, run.folder), variables, cpu=server_cpu)
        run.await_condition(server, "listening", lambda: listens(path))
        nginx, port = start_nginx(run, case, path, variables, client_cpu, context.root)
        seconds = max(1, round(3 * context.seconds))
        command = [program("wrk"), "-t", "1", "-c", str(CLIENTS), "-d", f"{seconds}s", "--latency", f"http://127.0.0.1:{port}/"]
        text, cost = load(context, run, [server, nginx], command, clean_environment(), client_cpu)
        found = read(text, cost)
        nginx.end()
        server.end()
        return with_proof(found, case, subject, run, path)


def read(text: str, cost: dict[str, float]) -> dict[str, object]:
    """The figures in wrk's report. Raises RunError if there are none, or if requests failed."""
    rate = re.search(r"^Requests/sec:\s+([\d.]+)", text, re.MULTILINE)
    wrong = re.search(r"Socket errors.*|Non-2xx.*", text)
    if not rate or not float(rate[1]) or wrong:
        raise RunError(f"wrk: no clean report: {wrong[0] if wrong else text.strip()[-200:]}")
    units = {"us": 1e3, "ms": 1e6, "s": 1e9}
    times = {}
    for name, percent in (("median", 50), ("p99", 99)):
        if found := re.search(rf"^\s+{percent}%\s+([\d.]+)(us|ms|s)$", text, re.MULTILINE):
            times[f"{name}_ns"] = float(found[1]) * units[found[2]]
    return figures("web", float(rate[1]), cost, **times)
