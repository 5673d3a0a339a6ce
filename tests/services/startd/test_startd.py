"""Real services under a real spawner, configd and startd: what they may do to a restarter, and what it makes of that."""

import contextlib
import os
import signal
import socket
import time

import psutil
import pytest
from startdlib import SLEEP, python, service

from kvoshim.services.core.model import Method
from kvoshim.services.core.operations import Delete, Refresh, SetProperty
from kvoshim.services.core.states import UP, Phase

NOTIFY = """
import os, socket, time, signal
def say(text):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.connect(os.environ["NOTIFY_SOCKET"]); s.send(text.encode()); s.close()
"""


def test_services_start_in_order_and_stop_in_the_other_and_a_milestone_says_when_all_are_there(services, place):
    trace = place / "trace"
    program = f"trap 'echo stop $KVOSHIM_INSTANCE >> {trace}; exit' TERM; echo start $KVOSHIM_INSTANCE >> {trace}; sleep 1000 & wait"
    services.add(
        service("all", needs=["web"]),
        service("web", "/bin/sh", "-c", program, needs=["app"]),
        service("app", "/bin/sh", "-c", program, needs=["db"]),
        service("db", "/bin/sh", "-c", program),
    )
    services.online("all")
    services.until(lambda: trace.read_text().count("start") == 3, "not all have started")
    services.order("restart", target="db")
    services.online("all")
    services.wait_for("web", Phase.ONLINE, run=2)
    services.until(lambda: trace.read_text().count("start") == 6, "not all have started again")
    services.order("close")
    assert services.spawner.wait(30) == 0
    stops = [line for line in trace.read_text().splitlines() if line.startswith("stop")]
    assert stops == ["stop web:default", "stop app:default", "stop db:default"] * 2


def test_what_fails_waits_longer_each_time_and_then_needs_help_and_can_be_cleared(services):
    services.add(service("bad", "/bin/false"), service("after", *SLEEP, needs=["bad"], restart_on="error"))
    status = services.wait_for("bad", Phase.MAINTENANCE)
    assert status.reason == "4 failures within 600 s; the latest: its main process ended with code 1"
    assert status.run == 4
    services.wait_for("after", Phase.WAITING)  # it may have begun in a moment in which the other one ran
    found = services.explain("after")
    assert (found.root.name, found.holds_back) == ("bad:default", ("after:default",))
    services.order("clear", target="bad")
    assert services.wait_for("bad", Phase.MAINTENANCE, run=8).run == 8


def test_a_program_that_cannot_be_run_counts_as_a_failure(services):
    services.add(service("none", "/nonexistent/program"))
    reason = services.wait_for("none", Phase.MAINTENANCE).reason
    assert "the program cannot be run: No such file or directory" in reason


@pytest.mark.parametrize("code", [95, 125])
def test_a_code_for_permanent_failure_needs_help_at_once(services, code):
    services.add(service("bad", "/bin/sh", "-c", f"exit {code}"))
    status = services.wait_for("bad", Phase.MAINTENANCE)
    assert status.run == 1 and f"ended with code {code}" in status.reason


def test_a_killed_service_starts_again_and_an_operators_stop_does_not(services):
    services.add(service("a", *SLEEP, log={"size": 1000, "keep": 1}))
    first = services.online("a")["a:default"].status
    os.kill(first.pid, signal.SIGKILL)
    second = services.wait_for("a", Phase.ONLINE, run=first.run + 1)
    assert second.pid != first.pid and second.row == 1
    services.enable("a", False)
    status = services.wait_for("a", Phase.DISABLED)
    assert status.row == 1 and not psutil.pid_exists(second.pid)
    services.enable("a", True, temporary=True)
    assert services.wait_for("a", Phase.ONLINE).row == 0


def test_ready_by_sd_notify_newline_check_and_path(services, place):
    flag = place / "flag"
    code = NOTIFY + "time.sleep(.2); say('READY=1\\nSTATUS=all is well'); time.sleep(1000)"
    by_path = {"ready": "path", "ready-path": str(flag)}
    services.add(
        service("notify", *python(code), startd={"ready": "notify"}),
        service("newline", "/bin/sh", "-c", "sleep 0.2; echo >&3; exec sleep 1000", startd={"ready": "newline"}),
        service("path", "/bin/sh", "-c", f"sleep 0.2; echo x > {flag}; exec sleep 1000", startd=by_path),
        service(
            "check", *SLEEP, methods={"check": Method(exec=("/usr/bin/test", "-s", str(flag)))},
            startd={"ready": "check", "check-every-s": 0.05, "check-tolerated": 2},
        ),
    )  # fmt: skip
    nodes = services.online("notify", "newline", "path", "check")
    assert all(node.status.ready - node.status.started >= 0.15 for name, node in nodes.items() if name != "check:default")
    flag.unlink()
    assert "failed 2 times in a row" in services.wait_for("check", Phase.DEGRADED).reason
    flag.write_text("x")
    services.wait_for("check", Phase.ONLINE)

    def words():
        return services.client.read("notify").services["notify"].instances["default"].volatile["restarter"].get("words")

    services.until(lambda: words() == "all is well", "what it says of itself is not told")


def test_never_ready_ignoring_sigterm_and_forking_away_each_have_a_clear_reason(services, place):
    marker = f"31{os.getpid() % 10000:04}"  # seconds of a sleep that nobody else sleeps
    stop = Method(exec=(":kill", "SIGTERM"), timeout_s=0.3)
    services.add(
        service("never", *SLEEP, startd={"ready": "notify"}, timeout_s=0.2),
        service("deaf", "/bin/sh", "-c", "trap '' TERM; while :; do sleep 0.1; done", methods={"stop": stop}),
        service("fork", "/bin/sh", "-c", f"setsid sleep {marker} & exit 0", startd={"sweep-s": 0.2}),
    )  # fmt: skip
    assert "it was not ready within 0.2 s (notify)" in services.wait_for("never", Phase.MAINTENANCE).reason
    assert "it has to stay in the foreground" in services.wait_for("fork", Phase.MAINTENANCE).reason
    left = [p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", marker]]
    assert not left
    pid = services.online("deaf")["deaf:default"].status.pid
    services.enable("deaf", False)
    assert "was killed" in services.wait_for("deaf", Phase.DISABLED).reason
    assert not psutil.pid_exists(pid)


def test_the_control_channel_answers_while_services_flap_and_flood(services):
    policy = {"delay-s": 0.02, "factor": 1.0, "cap-s": 0.02, "limit": 0}
    services.add(
        *(service(f"flap{n}", "/bin/false", restart=policy) for n in range(10)),
        service("flood", "/bin/sh", "-c", "exec yes", log={"size": 100_000, "keep": 1}),
    )
    services.wait(lambda nodes: all(nodes[f"flap{n}:default"].status.run > 10 for n in range(10)))
    took = sorted(services.answers() for _ in range(50))
    print(f"\nanswers while 10 services flap: median {took[25] * 1000:.1f} ms, worst {took[-1] * 1000:.1f} ms")
    files = sorted(p for p in os.listdir(os.path.join(services.directory, "logs")) if p.startswith("flood"))
    assert "flood:default.log.1" in files and set(files) <= {"flood:default.log", "flood:default.log.1"}
    for one in files:
        with contextlib.suppress(FileNotFoundError):  # it is being rotated
            assert os.path.getsize(os.path.join(services.directory, "logs", one)) <= 100_000


def test_a_watchdog_that_hears_nothing_restarts(services):
    code = NOTIFY + "say('READY=1')\nfor n in range(5): time.sleep(.05); say('WATCHDOG=1')\ntime.sleep(1000)"
    services.add(service("quiet", *python(code), startd={"ready": "notify", "watchdog-s": 0.3}))
    status = services.wait_for("quiet", Phase.ONLINE, run=2)
    assert status.failures
    assert status.failures[0] - services.status("quiet").started > -5


def test_a_one_shot_service_is_online_when_it_is_done_and_hooks_know_how_it_ended(services, place):
    told = place / "told"
    finish = Method(exec=("/bin/sh", "-c", f"echo code=$KVOSHIM_EXIT_CODE signal=$KVOSHIM_EXIT_SIGNAL >> {told}"))
    services.add(
        service("once", "/bin/sh", "-c", "echo done", startd={"kind": "one-shot"}),
        service("hooked", "/bin/sh", "-c", "exit 7", methods={"finish": finish}),
        service("no-more", "/bin/false", methods={"finish": Method(exec=("/bin/sh", "-c", "exit 125"))}),
    )
    assert services.wait_for("once", Phase.ONLINE).reason == "it has done its work"
    services.wait_for("hooked", Phase.MAINTENANCE)
    services.until(lambda: told.exists() and told.read_text() == "code=7 signal=\n" * 4, "the hook was not run four times")
    assert services.wait_for("no-more", Phase.MAINTENANCE).run == 1
    assert services.log_of("once") == "done\n"


def test_circles_files_and_broken_groups_have_a_reason(services, place):
    needed = place / "needed"
    services.add(
        service("a", *SLEEP, needs=["b"]),
        service("b", *SLEEP, needs=["a"]),
        service("file", *SLEEP, needs=[f"file:{needed}"]),
        service("wrong", *SLEEP, startd={"ready": "soon"}),
    )
    assert "it depends on itself: a:default -> b:default -> a:default" in services.wait_for("a", Phase.MAINTENANCE).reason
    assert "'startd' is not valid" in services.wait_for("wrong", Phase.MAINTENANCE).reason
    assert "is not there" in services.wait_for("file", Phase.WAITING, reason="not there").reason
    needed.write_text("")
    services.online("file")


def test_excluding_services_do_not_run_together(services):
    services.add(service("one", *SLEEP), service("other", *SLEEP, needs=["one"], grouping="exclude-all", enabled=True))
    services.online("one")
    assert "excludes it" in services.wait_for("other", Phase.WAITING, reason="excludes").reason
    services.enable("one", False)
    services.online("other")
    services.enable("one", True)
    services.wait(lambda nodes: nodes["one:default"].status.phase in UP and nodes["other:default"].status.phase is Phase.WAITING)


def test_a_refresh_takes_in_what_it_can_and_restarts_where_it_must(services, place):
    seen = place / "seen"
    refresh = Method(exec=("/bin/sh", "-c", f"echo %{{config/port}} >> {seen}"))
    services.add(
        service("web", *SLEEP, methods={"refresh": refresh}, config={"port": 1}),
        service("along", *SLEEP, needs=["web"], restart_on="refresh"),
        service("apart", *SLEEP, needs=["web"], restart_on="restart"),
    )
    services.online("web", "along", "apart")
    target = "web:default"
    services.client.transact(SetProperty(target=target, group="config", name="port", value=2), Refresh(target=target))
    services.wait_for("along", Phase.ONLINE, run=2)
    assert seen.read_text() == "2\n"
    assert (services.status("web").run, services.status("apart").run) == (1, 1)
    services.client.transact(SetProperty(target=target, group="startd", name="sweep-s", value=1.0), Refresh(target=target))
    services.wait_for("apart", Phase.ONLINE, run=2)
    assert services.status("web").run == 2


def test_a_refresh_waits_until_the_service_says_again_that_it_is_ready(services):
    code = NOTIFY + (
        "def hup(*a): say('RELOADING=1'); time.sleep(.3); say('READY=1')\n"
        "signal.signal(signal.SIGHUP, hup); say('READY=1')\nwhile True: time.sleep(1)"
    )
    reload = {"refresh": Method(exec=(":kill", "SIGHUP"), timeout_s=10)}
    services.add(service("web", *python(code), methods=reload, startd={"ready": "notify", "reassert": True}))
    services.online("web")
    services.client.transact(Refresh(target="web:default"))
    began = services.wait_for("web", Phase.REFRESHING).since
    assert services.wait_for("web", Phase.ONLINE).since - began >= 0.25


def test_a_listening_socket_and_stored_descriptors_survive_restarts(services, place):
    path = str(place / "listen.sock")
    code = NOTIFY + (
        "import array\n"
        "names = os.environ['LISTEN_FDNAMES'].split(':'); assert int(os.environ['LISTEN_PID']) == os.getpid()\n"
        "listener = socket.socket(fileno=3)\n"
        "if 'kept' not in names:\n"
        "    r, w = os.pipe(); os.write(w, b'from the first run')\n"
        "    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.connect(os.environ['NOTIFY_SOCKET'])\n"
        "    socket.send_fds(s, [b'FDSTORE=1\\nFDNAME=kept'], [r]); text = b'first'\n"
        "else: text = os.read(3 + names.index('kept'), 100)\n"
        "say('READY=1')\n"
        "while True: c, _ = listener.accept(); c.sendall(str(os.getpid()).encode() + b' ' + text); c.close()"
    )
    services.add(service("web", *python(code), sockets={"http": path}, startd={"ready": "notify"}, timeout_s=10.0))

    def ask():
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(30)
            client.connect(path)
            return client.recv(100).split(b" ", 1)

    first = services.online("web")["web:default"].status
    assert ask() == [str(first.pid).encode(), b"first"]
    os.kill(first.pid, signal.SIGSTOP)
    services.until(lambda: psutil.Process(first.pid).status() == psutil.STATUS_STOPPED, "it has not stopped")
    with socket.socket(socket.AF_UNIX) as waiting:  # connects while nobody accepts, and is served by the next one
        waiting.settimeout(30)
        waiting.connect(path)
        os.kill(first.pid, signal.SIGKILL)
        second = services.wait_for("web", Phase.ONLINE, run=2)
        assert waiting.recv(100) == f"{second.pid} from the first run".encode()


def test_limits_environment_and_marks(services):
    code = "ulimit -n; echo $X; exec sleep 1000"
    services.add(service("a", "/bin/sh", "-c", code, env={"X": "%{config/x}"}, limits={"nofile": "77:99"}, config={"x": 5}))
    services.online("a")
    services.until(lambda: services.log_of("a") == "77\n5\n", "its log is not there")
    services.order("mark", target="a", state="degraded", reason="by hand")
    assert services.wait_for("a", Phase.DEGRADED).reason == "by hand"
    services.order("clear", target="a")
    services.wait_for("a", Phase.ONLINE)
    services.order("mark", target="a", state="maintenance")
    assert services.wait_for("a", Phase.MAINTENANCE).reason == "an operator has marked it so"


def test_shutdown_pre_empts_start(services):
    services.add(service("slow", *SLEEP, startd={"ready": "notify"}, timeout_s=1000), service("later", *SLEEP, needs=["slow"]))
    services.wait_for("slow", Phase.STARTING)
    services.wait_for("later", Phase.WAITING, reason="waits")
    services.order("close")
    assert services.spawner.wait(30) == 0


def test_a_deleted_service_is_stopped_and_a_delegated_one_is_left_to_its_restarter(services):
    services.add(
        service("a", *SLEEP),
        service("mine", *SLEEP, general={"restarter": "other:default"}),
        service("needs", *SLEEP, needs=["mine"]),
    )
    pid = services.online("a")["a:default"].status.pid
    services.client.transact(Delete(target="a"))
    services.until(lambda: not psutil.pid_exists(pid), "it runs on")
    services.wait_for("needs", Phase.WAITING, reason="mine")
    from kvoshim.services.core.operations import Report

    services.client.transact(Report(target="mine:default", properties={"phase": "online", "state": "online"}))
    services.online("needs")
    assert services.status("mine").pid == 0


def test_configd_may_be_killed_and_services_go_on(services):
    services.add(service("a", *SLEEP))
    first = services.online("a")["a:default"].status
    daemon = next(p for p in psutil.Process(services.spawner.pid).children() if "configd" in p.cmdline())
    services.client.close()
    daemon.kill()
    os.kill(first.pid, signal.SIGKILL)
    time.sleep(0.05)

    def again():
        from kvoshim.errors import KvoshimError
        from kvoshim.services.configd.client import Client

        try:
            services.client = Client(services.directory)
            return True
        except KvoshimError:
            return False

    services.client = None
    services.until(again, "configd does not come back")
    second = services.wait_for("a", Phase.ONLINE, run=2)
    assert second.pid != first.pid
