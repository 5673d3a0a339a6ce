"""Everyday programs under the library, all paths selected: they must not notice."""

import ctypes
import re
import subprocess
import sys

import pytest
import shimlib
import snippetlib

COMMANDS = {
    "echo": ["/bin/echo", "hi"],
    "bash-descriptor": ["bash", "-c", "exec 3>&1; echo hi >&3"],
    "bash-redirections": ["bash", "-c", "exec 5<>/dev/null 6>&1; echo a >&6; exec 6>&-; cat <<<here; read x < <(echo sub); echo $x"],
    "pipeline": ["sh", "-c", "seq 1 100000 | sort -r | tail -3 | tr '\\n' ' ' | wc -c; echo $?"],
    "background": ["bash", "-c", "(sleep 0.05; echo late) & echo early; wait; trap 'echo trapped' EXIT"],
    "coprocess": ["bash", "-c", "coproc cat; echo x >&${COPROC[1]}; read -u ${COPROC[0]} y; echo got $y"],
    "python": [sys.executable, "-c", "import subprocess; print(subprocess.check_output(['echo', 'from python']))"],
    "python-socketpair": [sys.executable, "-c", "import socket; a, b = socket.socketpair(); a.sendall(b'x' * 9); print(b.recv(99))"],
    "python-multiprocessing": [sys.executable, "-c", "import multiprocessing as m; p = m.get_context('fork').Pool(2);"
                               "print(p.map(abs, range(-9, 9))); p.close(); p.join()"],
    "python-spawn": [sys.executable, "-c", "import concurrent.futures as f, operator as o\nif __name__ == '__main__':\n"
                     " with f.ThreadPoolExecutor(4) as p: print(list(p.map(o.neg, range(5))))"],
    "exit-status": ["sh", "-c", "exit 42"],
    "signal": ["bash", "-c", "kill -TERM $$"],
    "closed-stdout": ["bash", "-c", "exec >&-; echo hi; exit 3"],
    "find": ["find", "/etc", "-maxdepth", "1", "-name", "passwd"],
    "tar": ["sh", "-c", "tar cf - /etc/passwd 2>/dev/null | tar tf -"],
    "dd": ["sh", "-c", "dd if=/dev/zero bs=1000 count=1000 2>/dev/null | cksum"],
    "env-survives": ["sh", "-c", "env | grep -c KVOSHIM_PATHS || true"],
    "missing": ["sh", "-c", "no-such-command-here 2>/dev/null; echo $?"],
    "perl": ["perl", "-e", "open(F, '|cat'); print F \"through a pipe\\n\"; close(F); print $?"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_program_does_not_notice(place, name):
    shim = place.shim("*")
    plain = shimlib.run(COMMANDS[name], None, KVOSHIM_PATHS="*" if name == "env-survives" else "")
    shimmed = shimlib.run(COMMANDS[name], shim)
    assert (plain.status, plain.out, plain.err) == (shimmed.status, shimmed.out, shimmed.err)


def test_library_prints_nothing_unless_asked(place):
    env = shimlib.plain_env(LD_PRELOAD=str(shimlib.library()), KVOSHIM_PATHS="*")
    done = subprocess.run(["/bin/echo", "hi"], env=env, capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"hi\n", b"")


def test_library_needs_no_python():
    undefined = subprocess.run(["nm", "-D", "--undefined-only", str(shimlib.library())], capture_output=True, text=True, check=True)
    assert undefined.stdout.strip()
    assert not re.findall(r"\b_?Py\w*", undefined.stdout)
    needed = subprocess.run(["readelf", "-d", str(shimlib.library())], capture_output=True, text=True, check=True)
    assert "libpython" not in needed.stdout


def test_library_exports_only_interposed_calls_of_libc():
    """Every exported name is one of libc's, or plainly ours: anything else could clash with a program's own."""
    exported = subprocess.run(["nm", "-D", "--defined-only", str(shimlib.library())], capture_output=True, text=True, check=True)
    names = {line.split()[-1].split("@")[0] for line in exported.stdout.splitlines()}
    assert {"connect", "accept4", "read", "epoll_wait", "fcntl64"} <= names
    libc = ctypes.CDLL(None)
    strange = {n for n in names if not hasattr(libc, n) and not n.startswith("kvoshim_")}
    assert not strange, f"exported, but not names of libc: {sorted(strange)}"


def test_demonstrably_intercepts(place):
    """The control: the same way of starting a program does accelerate a connection."""
    _, _, shim = snippetlib.run_both(place, "server_first", SNIPPET_MODE="process")
    assert shim.log.accelerated("client") == 1
