"""`kvoshim run` and `kvoshim env`: a command under the library, with a shell's own exit statuses."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import shimlib
import snippetlib

KVOSHIM = str(Path(sys.executable).parent / "kvoshim")


def launch(*words: str, **env: str) -> shimlib.Result:
    return shimlib.run([KVOSHIM, "run", *words], None, **env)


@pytest.mark.parametrize("words, status", [
    (["--", "true"], 0), (["--", "sh", "-c", "exit 42"], 42), (["--", "no-such-command-anywhere"], 127),
    (["--", "/no/such/file"], 127), (["--", "/etc/passwd"], 126), (["--", "/tmp"], 126), ([], 2), (["--paths"], 2),
])
def test_exit_status(words, status):
    done = launch(*words)
    assert done.status == status
    if status in (126, 127):
        message = done.err.decode()
        assert message.count("\n") == 1 and words[-1] in message, message
        assert "Traceback" not in message


def test_command_killed_by_a_signal_ends_so():
    """The command replaces the launcher, so its death by a signal is seen as such."""
    assert launch("--", "sh", "-c", "kill -TERM $$").status == -signal.SIGTERM


def test_input_output_and_arguments_pass_through():
    done = shimlib.run([KVOSHIM, "run", "--", "sh", "-c", 'cat; echo "$1|$2"; echo problem >&2', "sh", "two words", "--paths"],
                       None, stdin=b"from stdin\n")
    assert (done.status, done.out, done.err) == (0, b"from stdin\ntwo words|--paths\n", b"problem\n")


@pytest.mark.parametrize("options", [[], ["--paths", "{dir}/*"], ["--paths", "/nowhere:{dir}/s.sock", "--spin-us", "0"],
                                     ["--ring-size", "65536", "--spin-us", "20"]])
def test_connections_are_accelerated(place, options):
    log = shimlib.Log(place / "log")
    done = launch(*(o.format(dir=place.dir) for o in options), "--", *snippetlib.command("io_calls"),
                  SNIPPET_PATH=str(place / "s.sock"), KVOSHIM_LOG="debug", KVOSHIM_LOG_FILE=str(log.path)).check()
    assert b"FAILED" not in done.out
    assert (log.accelerated("client"), log.accelerated("server")) == (1, 1)


def test_unselected_paths_stay_on_the_kernel(place):
    log = shimlib.Log(place / "log")
    launch("--paths", "/nowhere/*", "--", *snippetlib.command("io_calls"), SNIPPET_PATH=str(place / "s.sock"),
           KVOSHIM_LOG="debug", KVOSHIM_LOG_FILE=str(log.path)).check()
    assert log.accelerated() == 0


def test_environment_for_a_shell(place):
    log = shimlib.Log(place / "log")
    env = shimlib.plain_env(SNIPPET_PATH=str(place / "s.sock"), KVOSHIM_LOG="debug", KVOSHIM_LOG_FILE=str(log.path))
    script = f'eval "$({KVOSHIM} env)" && exec {" ".join(snippetlib.command("io_calls"))}'
    subprocess.run(["sh", "-c", script], env=env, check=True, capture_output=True, timeout=30)
    assert (log.accelerated("client"), log.accelerated("server")) == (1, 1)
