"""Settings that cannot be used: one clear line in the log, and the program runs on kernel sockets."""

import subprocess

import pytest
import shimlib
import snippetlib

BAD = {
    "ring-word": ("KVOSHIM_RING_SIZE", "large"),
    "ring-zero": ("KVOSHIM_RING_SIZE", "0"),
    "ring-negative": ("KVOSHIM_RING_SIZE", "-4096"),
    "ring-huge": ("KVOSHIM_RING_SIZE", "99999999999999999999999"),
    "ring-too-large": ("KVOSHIM_RING_SIZE", str(1 << 50)),
    "ring-trailing": ("KVOSHIM_RING_SIZE", "4096x"),
    "spin-word": ("KVOSHIM_SPIN_US", "fast"),
    "spin-negative": ("KVOSHIM_SPIN_US", "-1"),
    "spin-huge": ("KVOSHIM_SPIN_US", "99999999999999999999999"),
    "spin-fraction": ("KVOSHIM_SPIN_US", "1.5"),
    "stats": ("KVOSHIM_STATS", "sometimes"),
    "paths-bracket": ("KVOSHIM_PATHS", "/tmp/[unclosed"),
    "paths-empty": ("KVOSHIM_PATHS", ":: :"),
    "paths-too-long": ("KVOSHIM_PATHS", "/tmp/" + "x" * 5000),
}


@pytest.mark.parametrize("case", BAD)
def test_unusable_setting_is_logged_once_and_the_kernel_is_used(place, case):
    variable, value = BAD[case]
    shim = place.shim()
    where = place.new_dir("run")
    env = {variable: value}
    if variable == "KVOSHIM_PATHS":
        shim.paths = value
        env = {}
    done = shimlib.run(snippetlib.command("io_calls"), shim, SNIPPET_PATH=str(where / "s.sock"), SNIPPET_MODE="thread", **env)
    plain = shimlib.run(snippetlib.command("io_calls"), None, SNIPPET_PATH=str(where / "t.sock"), SNIPPET_MODE="thread")
    assert (done.status, done.out, done.err) == (plain.status, plain.out, plain.err)
    lines = shim.log.events("config")
    assert len(lines) == 1, shim.log.text()
    assert lines[0].fields["variable"] == variable
    assert lines[0].fields.get("reason"), lines[0].text
    assert shim.log.accelerated() == 0


@pytest.mark.parametrize("case", ["ring-word", "spin-negative"])
def test_unusable_setting_without_a_log_stays_silent(place, case):
    variable, value = BAD[case]
    env = shimlib.plain_env(LD_PRELOAD=str(shimlib.library()), KVOSHIM_PATHS="*", **{variable: value})
    done = subprocess.run(["/bin/echo", "hi"], env=env, capture_output=True, check=True)
    assert done.stdout == b"hi\n"
    assert done.stderr == b""


@pytest.mark.parametrize("paths, accelerated", [
    ("", 0), ("/nowhere/at/all", 0), ("{dir}/s.sock", 1), ("/nowhere {dir}/s.*", 1), ("/nowhere:{dir}/?.sock", 1),
    ("*", 1), ("{dir}/[a-z].sock", 1), ("{dir}/[!s].sock", 0), ("@{dir}/s.sock", 0),
])
def test_selection(place, paths, accelerated):
    where = place.new_dir("run")
    shim = place.shim(paths.format(dir=where))
    shimlib.run(snippetlib.command("io_calls"), shim, SNIPPET_PATH=str(where / "s.sock"), SNIPPET_MODE="process").check()
    assert (shim.log.accelerated("client"), shim.log.accelerated("server")) == (accelerated, accelerated)
    assert not shim.log.events("config")


def test_alias_of_the_ancestor(place):
    where = place.new_dir("run")
    shim = place.shim()
    env = shim.env(SNIPPET_PATH=str(where / "s.sock"), USE_TSSX=f"{where}/*")
    del env["KVOSHIM_PATHS"]
    subprocess.run(snippetlib.command("io_calls"), env=env, check=True, capture_output=True, timeout=30)
    assert shim.log.accelerated("client") == 1


def test_without_paths_nothing_is_selected(place):
    where = place.new_dir("run")
    shim = place.shim()
    env = shim.env(SNIPPET_PATH=str(where / "s.sock"))
    del env["KVOSHIM_PATHS"]
    subprocess.run(snippetlib.command("io_calls"), env=env, check=True, capture_output=True, timeout=30)
    assert shim.log.accelerated() == 0


@pytest.mark.parametrize("target", ["/no/such/folder/shim.log", "/dev/full", "/"])
def test_unwritable_log_file_harms_nobody(place, target):
    where = place.new_dir("run")
    shim = place.shim()
    env = shim.env(SNIPPET_PATH=str(where / "s.sock"))
    env["KVOSHIM_LOG_FILE"] = target
    plain = shimlib.run(snippetlib.command("io_calls"), None, SNIPPET_PATH=str(where / "t.sock"))
    done = subprocess.run(snippetlib.command("io_calls"), env=env, check=True, capture_output=True, timeout=30)
    assert done.stdout == plain.out
