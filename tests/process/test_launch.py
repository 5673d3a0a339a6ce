"""The steps of a launch: what each one's failure looks like, what is left behind, and who is told when it is over."""

import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading

import daemons
import pytest
from process_harness import WAIT_S, until

from kvoshim import process
from kvoshim.errors import LaunchError
from kvoshim.process import Exit, launch
from kvoshim.process.pidfile import PidFile


def test_each_step_has_an_exception_and_each_exception_an_exit_code():
    assert [kind.step for kind in launch.STEPS] == list(range(1, 9))
    kinds = {launch.AlreadyRunningError, *launch.STEPS}
    assert all(issubclass(kind, LaunchError) for kind in kinds)
    assert sorted(kind.exit_code for kind in kinds) == [code for code in Exit if code is not Exit.ENDED]
    assert all(code.meaning for code in Exit)


def failed(place, *options, code, message, **environment):
    done = place.run(*options, **environment)
    assert done.returncode == code, done.stderr
    assert message in done.stderr and "Traceback" not in done.stderr, done.stderr
    left = sorted(path.name for path in place.directory.rglob("*") if path.suffix in (".ctl", ".pid"))
    assert left == [], "a launch that fails leaves nothing behind"


def test_step_1_the_command_line(place):
    failed(place, "--no-such-option", code=Exit.COMMAND_LINE, message="--no-such-option")
    failed(place, code=Exit.COMMAND_LINE, message="a configuration file is needed")


def test_step_2_the_configuration(place):
    file = place.write('{"greeter": {"greeting":\n 5}}')
    message = f"greeter: {file}:1:14: greeting: Expected `str`, got `int`\n"
    failed(place, "-c", file, code=Exit.CONFIGURATION, message=message)
    failed(place, "-c", file, "--check", code=Exit.CONFIGURATION, message=message)
    failed(place, "-c", f"{file}x", code=Exit.CONFIGURATION, message="No such file")
    place.write(refuse="check", database={"password": "hunter2hunter2"})
    failed(place, "-c", file, "--check", code=Exit.CONFIGURATION, message="no use for 'hello' and *****\n")
    place.write(**{"control-socket": {"access": [{"user": "no-such-user", "role": "read"}]}})
    failed(place, "-c", file, "--check", code=Exit.CONFIGURATION, message="there is no user 'no-such-user'")


def test_check_only_has_no_effects(place):
    file = place.write("# fine\n" + '{"greeter": {"refuse": "start"}, "other": 1}')
    before = sorted(path for path in place.directory.rglob("*"))
    done = place.run("-c", file, "--check", KVOSHIM_LOG_FILE=str(place.directory / "none" / "log"))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"greeter: {file} is valid\n", "")
    assert sorted(path for path in place.directory.rglob("*")) == before


def test_step_3_the_log(place):
    file = place.write(logging={"file": f"{place.directory}/none/log"})
    failed(place, "-c", file, code=Exit.LOG, message="none/log cannot be opened: No such file")


def test_a_log_that_only_the_environment_asks_for_is_no_condition(place):
    place.write(refuse="run")
    done = place.run("-c", str(place.file), KVOSHIM_LOG_FILE=str(place.directory / "none" / "log"))
    assert done.returncode == Exit.RUN, "it came as far as running"
    assert "none/log cannot be opened" in done.stderr and "is ready" in done.stderr


def test_step_4_the_pid_file(place, daemon):
    pid_file = place.runtime / "kvoshim" / "greeter.pid"
    assert pid_file.read_text() == f"{daemon.process.pid}\n"
    second = place.run("-c", str(place.file))
    assert second.returncode == Exit.ALREADY_RUNNING
    assert f"greeter already runs, PID {daemon.process.pid}" in second.stderr
    assert daemon.call("greet"), "the first one goes on"
    third = place.run("-c", str(place.file), "--pid-file", f"{place.directory}/none/pid")
    assert third.returncode == Exit.PID_FILE and "No such file" in third.stderr
    daemon.process.terminate()
    assert daemon.end()[0] == 0 and not pid_file.exists()


def test_what_a_killed_daemon_left_is_no_hindrance(place, daemon):
    daemon.process.kill()
    daemon.end()
    left = sorted(path.name for path in (place.runtime / "kvoshim").iterdir())
    assert left == ["greeter.ctl", "greeter.pid"]
    assert place.start().call("greet") == {"greeting": "hello"}


def test_step_5_signals_outside_the_main_thread(place):
    code = (
        "import sys, threading; sys.path.insert(0, sys.argv.pop(1)); import daemons\nfrom kvoshim import process\n"
        "t = threading.Thread(target=lambda: print(process.main(daemons.Greeter, sys.argv[1:])))\nt.start(); t.join()"
    )
    command = [sys.executable, "-P", "-c", code, os.path.dirname(__file__), "-c", place.write()]
    done = subprocess.run(command, env=place.environment, capture_output=True, text=True, timeout=WAIT_S, check=True)
    assert done.stdout == f"{int(Exit.SIGNALS)}\n" and "main thread" in done.stderr
    assert list((place.runtime / "kvoshim").iterdir()) == []


@pytest.mark.parametrize(
    "refuse, message", [("start", "RuntimeError: no start"), ("configure", "'hello' cannot be said with *****")]
)
def test_step_6_the_process(place, refuse, message):
    file = place.write(refuse=refuse, database={"password": "hunter2hunter2"})
    failed(place, "-c", file, code=Exit.NOT_STARTED, message=message)
    failed(place, "-c", file, "--detach", code=Exit.NOT_STARTED, message=message)
    assert "step 6 of the launch" in place.log.read_text() and "hunter2" not in place.log.read_text()


def test_step_7_the_control_channel(place):
    file = place.write(**{"control-socket": {"path": f"{place.directory}/none/ctl"}})
    failed(place, "-c", file, code=Exit.CONTROL_CHANNEL, message="none/ctl cannot be bound: No such file")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(f"{place.directory}/other")
        other.listen()
        file = place.write(**{"control-socket": {"path": f"{place.directory}/other"}})
        failed(place, "-c", file, code=Exit.CONTROL_CHANNEL, message="Address already in use")
        assert os.path.exists(f"{place.directory}/other"), "another program's socket is left alone"
    file = place.write(**{"control-socket": {"path": "/tmp/" + "x" * 120}})
    failed(place, "-c", file, code=Exit.CONTROL_CHANNEL, message="longer than 107 bytes")


def test_step_8_the_run(place):
    file = place.write(refuse="run")
    done = place.run("-c", file)
    assert done.returncode == Exit.RUN and "lost what it needs" in done.stderr
    assert done.stdout == "stopped: normal\n" and list((place.runtime / "kvoshim").iterdir()) == []


def test_a_daemon_that_needs_no_file(place):
    optional = subprocess.Popen(place.command("optional"), env=place.environment, stderr=subprocess.PIPE, text=True,
                               stdout=subprocess.DEVNULL)  # fmt: skip
    try:
        assert "ready" in optional.stderr.readline()
        done = place.kvoshim("ctl", "greeter", "config-reload")
        assert done.returncode == 1 and "without a configuration file" in done.stderr
        optional.send_signal(signal.SIGHUP)  # nothing to read again
        assert place.kvoshim("ctl", "greeter", "shutdown", "exit-value=7").returncode == 0
        assert optional.wait(WAIT_S) == 7
    finally:
        optional.kill()
        optional.communicate()


def test_a_process_that_forgets_to_declare_a_secret_is_not_made():
    class Forgetful(daemons.Greeter):
        secrets = ("host",)

    with pytest.raises(TypeError, match=r"Forgetful.secrets does not declare database/password$"):
        process.main(Forgetful, ["--check", "--config", "none"])


# --- readiness ---------------------------------------------


def test_a_newline_on_a_descriptor_when_ready(place):
    reader, writer = os.pipe()
    daemon = place.start("--ready-fd", str(writer), pass_fds=(writer,))
    os.close(writer)
    with os.fdopen(reader, "rb") as told:
        assert told.read() == b"\n", "one newline, and then the descriptor is closed"
    assert daemon.call("greet")


@pytest.mark.parametrize("abstract", [False, True])
def test_sd_notify(place, abstract):
    name = f"{place.directory}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(WAIT_S)
        manager.bind(f"\0{name}" if abstract else name)
        daemon = place.start(NOTIFY_SOCKET=f"@{name}" if abstract else name, WATCHDOG_USEC="20000")

        def next_but_watchdog():
            while (message := manager.recv(4096).decode()) == "WATCHDOG=1":
                pass
            return message

        ready = next_but_watchdog().split("\n")
        assert ready[0] == "READY=1" and f"MAINPID={daemon.process.pid}" in ready
        assert "greeter.ctl" in ready[1]
        while manager.recv(4096) != b"WATCHDOG=1":
            pass
        daemon.process.send_signal(signal.SIGHUP)
        assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", next_but_watchdog())
        assert next_but_watchdog().startswith("READY=1\n")
        daemon.process.terminate()
        assert next_but_watchdog() == "STOPPING=1"
        assert daemon.end()[0] == 0


def test_a_service_manager_that_is_gone_is_no_hindrance(place):
    daemon = place.start(NOTIFY_SOCKET=f"{place.directory}/nobody")
    assert daemon.call("greet")
    assert "cannot be told READY=1" in daemon.log()


def test_detached(place):
    done = place.run("-c", place.write(), "--detach")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    pid = int((place.runtime / "kvoshim" / "greeter.pid").read_text())
    try:
        assert os.getsid(pid) == pid, "it has a session of its own"
        assert {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (0, 1, 2)} == {"/dev/null"}
        assert place.run("-c", str(place.file), "--detach").returncode == Exit.ALREADY_RUNNING
    finally:
        os.kill(pid, signal.SIGTERM)
        until(lambda: not list((place.runtime / "kvoshim").iterdir()), "it ends")


def test_build_report(place):
    done = place.run("--build-report")
    assert done.returncode == 0
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["greeter", "kvoshim", "msgspec", "Python", "system"]


# --- the PID file ---------------------------------------------


def test_of_many_that_want_a_pid_file_one_gets_it(tmp_path):
    path = str(tmp_path / "pid")
    held, refused, errors = [], [], []
    start, tried = threading.Barrier(8), threading.Barrier(8)

    def take():
        try:
            for _ in range(50):
                start.wait(WAIT_S)
                try:
                    held.append(PidFile(path, "it"))
                except launch.AlreadyRunningError:
                    refused.append(1)
                if tried.wait(WAIT_S) == 0:
                    assert len(held) == 1
                    held.pop().release()
        except BaseException as error:
            errors.append(error)
            start.abort()
            tried.abort()

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    for one in held:
        one.release()
    assert not errors and len(refused) == 50 * 7


def test_a_pid_file_is_no_way_to_another_file(tmp_path):
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "pid").symlink_to(tmp_path / "victim")
    with pytest.raises(launch.PidFileError):
        PidFile(str(tmp_path / "pid"), "it")
    assert (tmp_path / "victim").read_text() == "precious"
    file = PidFile(str(tmp_path / "fresh"), "it")
    assert stat.S_IMODE(os.stat(file.path).st_mode) & 0o022 == 0
    file.release()
    file.release()
