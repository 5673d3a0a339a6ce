"""`kvoshim svc`, as a person uses it: its verbs, the shipped services, and a stack of one's own."""

import contextlib
import json
import os
import pwd
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from startdlib import SLEEP, Services, service

from kvoshim.services import stack
from kvoshim.services.core import manifests
from kvoshim.services.core.model import Repository
from kvoshim.services.core.states import UP, Phase
from kvoshim.services.core.transacting import transact


def svc(*words, code=0, json_=False, stdin=None):
    command = [sys.executable, "-P", "-m", "kvoshim", "svc", *(["--json"] if json_ else []), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False, input=stdin)
    assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout) if json_ else done.stdout + done.stderr


def write(path, *definitions):
    repository, _ = transact(Repository(), definitions, taken=0.0)
    path.write_text(manifests.export(repository))
    return path


def test_the_verbs(services, place):
    file = write(
        place / "m.json",
        service("db", *SLEEP, config={"port": 1}),
        service("web", "/bin/sh", "-c", "echo hello; exec sleep 1000", needs=["db"]),
        service("off", *SLEEP, enabled=False),
    )
    assert "3 manifests are valid" in svc("import", "--check", file)
    svc("import", file)
    svc("restart", "db", "--wait", 30)
    rows = {row["name"]: row for row in svc("list", json_=True)}
    assert rows["off:default"]["state"] == "disabled" and rows["db:default"]["state"] == "online"
    assert "online" in svc("list") and "NAME" in svc("list", "--faults")
    svc("start", "off", "--wait", 30)
    svc("stop", "off", "--wait", 30)
    assert svc("status", "off", json_=True)["enabled"] is False
    services.online("web")
    services.until(lambda: services.log_of("web").endswith("hello\n"), "no log")
    assert svc("log", "web", "-n", 1) == "hello\n"
    assert "depends-on  require-all db (restart)" in svc("status", "web")
    # What a change would do, and that it does just this.
    assert "nothing would be" in svc("plan", "refresh")
    svc("set", "db", "config/port", 2)
    steps = svc("plan", "refresh", json_=True)
    assert [(one["name"], one["what"]) for one in steps] == [("db:default", "restart"), ("web:default", "restart")]
    assert "restart  db:default  (groups/config/port)" in svc("plan", "refresh", "db")
    assert "stop     db:default" in svc("plan", "disable", "db")
    runs = (services.status("db").run, services.status("off").run)
    svc("snapshot", "db:default", "mine")
    svc("refresh", "db:default", "--wait", 30)
    assert (services.status("db").run, services.status("off").run) == (runs[0] + 1, runs[1])
    names = {row["name"] for row in svc("snapshot", "db", json_=True)}
    assert {"initial", "running", "previous", "start", "mine"} <= names
    svc("revert", "db", "mine", "--refresh")
    svc("snapshot", "db", "mine", "--drop")
    assert '"port": 1' in svc("export", "db")
    # Marks, and what is held back.
    services.online("db")
    svc("mark", "db", "maintenance", "somebody works here")
    services.wait_for("db", Phase.MAINTENANCE)
    services.wait_for("web", Phase.WAITING, reason="maintenance")
    told = svc("explain", "web")
    assert "root cause: db:default" in told and "somebody works here" in told and "it holds back: 1 (web:default)" in told
    assert svc("explain", json_=True)[0]["holds_back"] == ["web:default"]
    svc("clear", "db", "--wait", 30)
    services.online("web")
    assert "all that is enabled runs" in svc("explain")
    svc("disable", "web", "--wait", 30)
    svc("enable", "web", "--wait", 30)


def test_what_is_wrong_is_said(services, place):
    services.add(service("web", *SLEEP), service("bad", "/nonexistent"))
    assert "did you mean web:default?" in svc("status", "wbe", code=1)
    assert "is no name of a service" in svc("restart", "..", code=1)
    broken = place / "broken.json"
    broken.write_text('{"service": "x", "methods": {"start": {"exec": []}}}')
    assert "exec names no program" in svc("import", broken, code=1)
    broken.write_text('{"service": ')
    assert str(broken) in svc("import", broken, code=1)
    assert "cannot be read" in svc("import", place / "none.json", code=1)
    services.wait_for("bad", Phase.MAINTENANCE)
    assert "bad:default is maintenance" in svc("clear", "bad", "--wait", 1, code=3)
    assert "there is no service y" in svc("export", "y", code=1)


def test_without_a_restarter_the_command_says_what_to_do(place, monkeypatch):
    Services(place, monkeypatch)
    assert "no configd answers" in svc("list", code=1)


@pytest.fixture
def alone(place, monkeypatch):
    """Services that nobody has started; what `svc up` starts is stopped."""
    one = Services(place, monkeypatch)
    yield one
    if one.client is not None:
        one.client.close()
    svc("down", code=0)


APPLICATION = '''
import socket
def application(environ, start):
    with socket.socket(socket.AF_UNIX) as redis:
        redis.settimeout(10)
        redis.connect({redis!r})
        redis.sendall(b"INCR hits\\r\\n")
        body = redis.recv(100).strip(b":\\r\\n")
    start("200 OK", [("Content-Length", str(len(body)))])
    return [body]
'''

NGINX = """
user {user}; daemon off; worker_processes 1; pid {place}/nginx.pid; error_log stderr warn;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {place}/t1; proxy_temp_path {place}/t2; uwsgi_temp_path {place}/t3;
  fastcgi_temp_path {place}/t4; scgi_temp_path {place}/t5;
  upstream workers {{ server unix:{place}/one.sock; server unix:{place}/two.sock; }}
  server {{ listen unix:{place}/front.sock; location / {{ proxy_pass http://workers; proxy_next_upstream error timeout http_500; }} }}
}}
"""


def users_stack(place):
    """nginx, two gunicorn workers, Redis; our transport on the sockets between them."""
    (place / "application.py").write_text(APPLICATION.format(redis=f"{place}/redis.sock"))
    (place / "nginx.conf").write_text(NGINX.format(place=place, user=pwd.getpwuid(os.geteuid()).pw_name))
    run = ["%{python}", "-P", "-m", "kvoshim", "run", "--paths", f"{place}/redis.sock:{place}/one.sock:{place}/two.sock", "--"]
    on = {"groups": {"general": {"enabled": True}}}
    quick = {"delay-s": 0.05, "limit": 5}
    gunicorn = [
        *run, "%{python}", "-m", "gunicorn", "--chdir", str(place), "--workers", "1", "--worker-tmp-dir", str(place), "--bind",
        f"unix:{place}/%{{config/name}}.sock", "application:application",
    ]  # fmt: skip
    worker = {
        name: {"groups": {**on["groups"], "config": {"name": name}, "startd": {"ready": "path", "ready-path": f"{place}/{name}.sock"}}}
        for name in ("one", "two")
    }
    redis = [*run, "redis-server", "--port", "0", "--unixsocket", f"{place}/redis.sock", "--save", "", "--dir", str(place)]
    return [
        {"service": "site/redis", "methods": {"start": {"exec": redis}}, "instances": {"default": on},
         "groups": {"startd": {"ready": "path", "ready-path": f"{place}/redis.sock"}, "restart": quick}},
        {"service": "site/worker", "methods": {"start": {"exec": gunicorn}}, "instances": worker, "groups": {"restart": quick},
         "dependencies": {"redis": {"grouping": "require-all", "targets": ["site/redis"]}}},
        {"service": "site/nginx", "methods": {"start": {"exec": [*run, "nginx", "-c", f"{place}/nginx.conf", "-e", "stderr"]},
                                              "finish": {"exec": ["/bin/rm", "-f", f"{place}/front.sock"]}},  # killed, it leaves that
         "groups": {"startd": {"ready": "path", "ready-path": f"{place}/front.sock"}, "restart": quick}, "instances": {"default": on},
         "dependencies": {"workers": {"grouping": "require-any", "targets": ["site/worker:one", "site/worker:two"]}}},
    ]  # fmt: skip


def get(place) -> int:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(f"{place}/front.sock")
        client.sendall(b"GET / HTTP/1.0\r\nHost: here\r\n\r\n")
        answer = b""
        while data := client.recv(4096):
            answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b" 200 " in head.splitlines()[0], answer
    return int(body)


def daemons(spawner: psutil.Process, name: str) -> list[psutil.Process]:
    found = []
    for child in spawner.children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if name in child.cmdline():
                found.append(child)
    return found


def test_a_users_stack_comes_up_with_one_command_survives_kills_and_explains_itself(alone, place, monkeypatch):
    monkeypatch.setenv("PATH", os.environ["PATH"] + ":/usr/sbin")
    place = Path(place / "manifests").parent
    folder = place / "manifests"
    folder.mkdir()
    for number, one in enumerate(users_stack(place)):
        (folder / f"{number}.json").write_text(json.dumps(one))
    said = svc("up", folder, "--shipped")
    assert "6 of 6 enabled services run" in said
    assert get(place) == 1
    names = {row["name"]: row for row in svc("list", json_=True)}
    assert {"kvoshim/controller:default", "kvoshim/registry:default", "site/nginx:default", "site/worker:two"} <= set(names)
    assert "libkvoshim" in Path(f"/proc/{names['site/nginx:default']['pid']}/maps").read_text()
    from kvoshim.services.configd.client import Client

    alone.client = Client(alone.directory)
    alone.said = lambda: ""
    last = 1
    members = ["site/redis:default", "site/worker:one", "site/worker:two", "site/nginx:default"]
    for name in (*members, "kvoshim/controller:default", "kvoshim/registry:default"):
        before = alone.nodes()[name].status
        os.kill(before.pid, signal.SIGKILL)
        alone.wait(lambda nodes, name=name, before=before: nodes[name].status.run > before.run and nodes[name].status.phase in UP)
        hits = get(place)
        assert hits > last or name == "site/redis:default"
        last = hits
    for daemon in ("configd", "startd"):  # nobody else notices
        running = {name: node.status.pid for name, node in alone.nodes().items()}
        spawner = psutil.Process(running["site/redis:default"]).parent()
        [before] = daemons(spawner, daemon)
        before.kill()
        deadline = time.monotonic() + 30
        while not [one for one in daemons(spawner, daemon) if one != before]:
            assert time.monotonic() < deadline, f"{daemon} is not started again"
            time.sleep(0.01)
        assert svc("up").startswith("6 of 6")
        assert get(place) > last
        alone.client.close()
        alone.client = Client(alone.directory)
        assert running == {name: node.status.pid for name, node in alone.nodes().items()}
    assert svc("up", folder).startswith("6 of 6")  # once more changes nothing
    runs = {name: node.status.run for name, node in alone.nodes().items()}
    time.sleep(0.2)
    assert runs == {name: node.status.run for name, node in alone.nodes().items()}
    # Broken on purpose.
    alone.enable("site/redis", False)
    alone.wait(lambda nodes: nodes["site/redis:default"].status.phase is Phase.DISABLED)
    svc("restart", "site/worker:one")
    alone.wait(lambda nodes: "redis" in nodes["site/worker:one"].status.reason)
    told = svc("explain", "site/worker:one")
    assert "root cause: site/redis:default" in told and "disabled" in told
    pids = [node.status.pid for node in alone.nodes().values() if node.status.pid]
    svc("down")
    assert not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids)


def test_the_shipped_manifests_are_valid():
    files = stack.manifests_of([stack.shipped()])
    found = [one.service for path in files for one in manifests.parse(Path(path).read_text(), path)]
    assert sorted(found) == ["kvoshim/controller", "kvoshim/registry"]
